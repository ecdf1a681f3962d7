"""What a program writes against the official SDK: the same steps in either API, with a client of either colour."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
from doors import http
from pydantic import BaseModel

MODEL = "m"


class City(BaseModel):
    """What a structured answer is parsed into."""

    name: str
    country: str


class Weather(BaseModel):
    """The weather in a city."""

    city: str


async def done(value: Any) -> Any:
    """The value, awaited where it is to be."""
    return await value if inspect.isawaitable(value) else value


async def steps(iterator: Any) -> AsyncIterator[Any]:
    """What an iterator of either colour gives, one by one."""
    if hasattr(iterator, "__aiter__"):
        async for step in iterator:
            yield step
    else:
        for step in iterator:
            yield step


async def each(iterator: Any) -> list[Any]:
    """All that an iterator of either colour gives."""
    return [step async for step in steps(iterator)]


async def first(stream: Any) -> None:
    """Read one event and no more."""
    if hasattr(stream, "__aiter__"):
        async for _ in stream:
            break
    else:
        next(iter(stream))


def copies(client: Any) -> list[Any]:
    """This client copied in each way that there is."""
    return [client.copy(), client.with_options(timeout=5), client.with_options(max_retries=0).copy(timeout=3)]


class Pieces(http.SyncByteStream, http.AsyncByteStream):  # type: ignore[misc]  # of the SDK's own HTTP library
    """A body that comes line by line and says when it was closed."""

    def __init__(self, body: bytes, closed: Callable[[], None]) -> None:
        self._pieces, self._closed = body.splitlines(keepends=True), closed

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece

    def close(self) -> None:
        self._closed()

    async def aclose(self) -> None:
        self._closed()


@asynccontextmanager
async def opened(manager: Any) -> AsyncIterator[Any]:
    """A context manager of either colour."""
    if hasattr(manager, "__aenter__"):
        async with manager as inside:
            yield inside
    else:
        with manager as inside:
            yield inside


async def close(thing: Any) -> None:
    """Close a client, a stream or a response of either colour."""
    await done(thing.close())


class Program:
    """The steps of a program that writes against one API."""

    asked: str

    def __init__(self, client: Any, asks: Mapping[str, Any] | None = None) -> None:
        self.client = client
        self._asks = asks

    def asks(self, text: str) -> dict[str, Any]:
        """All that a call says: this text, or what this program asks whatever it is told."""
        return {"model": MODEL, **self.said(text)} if self._asks is None else dict(self._asks)

    @property
    def resource(self) -> Any:
        """Where the methods of the API are."""
        raise NotImplementedError

    def said(self, text: str) -> dict[str, Any]:
        """The arguments that ask this."""
        raise NotImplementedError

    async def create(self, text: str, **options: Any) -> Any:
        """A whole answer."""
        return await done(self.resource.create(**self.asks(text) | options))

    async def events(self, text: str, **options: Any) -> list[Any]:
        """All events of `create(stream=True)`."""
        return await each(await self.create(text, stream=True, **options))

    def helper(self, text: str, **options: Any) -> Any:
        """The manager that `.stream()` gives."""
        return self.resource.stream(**self.asks(text) | options)

    async def lines(self, text: str, **options: Any) -> list[str]:
        """The lines of the body as `with_streaming_response` hands them out."""
        call = self.resource.with_streaming_response.create(**self.asks(text) | {"stream": True} | options)
        async with opened(call) as response:
            return await each(response.iter_lines())


class ChatProgram(Program):
    """Chat Completions."""

    asked = "chat"
    tool = openai.pydantic_function_tool(Weather, name="get_weather")
    schema = "response_format"
    forced: Mapping[str, Any] = {"type": "function", "function": {"name": "get_weather"}}

    @property
    def resource(self) -> Any:
        return self.client.chat.completions

    def said(self, text: str) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": text}]}

    def limit(self, tokens: int) -> dict[str, Any]:
        return {"max_completion_tokens": tokens}

    def text(self, answer: Any) -> str:
        return str(answer.choices[0].message.content)

    def refusal(self, answer: Any) -> Any:
        return answer.choices[0].message.refusal

    def parsed(self, answer: Any) -> Any:
        return answer.choices[0].message.parsed

    def reasoning(self, answer: Any) -> Any:
        return answer.choices[0].message.reasoning_content

    def cut(self, answer: Any) -> bool:
        return bool(answer.choices[0].finish_reason == "length")

    def usage(self, answer: Any) -> tuple[int, int]:
        return answer.usage.prompt_tokens, answer.usage.completion_tokens

    def calls(self, answer: Any) -> list[tuple[str, str]]:
        return [(call.function.name, call.function.arguments) for call in answer.choices[0].message.tool_calls or []]

    def arguments(self, answer: Any) -> Any:
        return answer.choices[0].message.tool_calls[0].function.parsed_arguments

    def streamed_text(self, events: list[Any]) -> str:
        return "".join(event.choices[0].delta.content or "" for event in events if event.choices)

    def helped_text(self, events: list[Any]) -> str:
        return "".join(event.delta for event in events if event.type == "content.delta")

    async def final(self, stream: Any) -> Any:
        return await done(stream.get_final_completion())

    def next_turn(self, text: str, answer: Any, result: str) -> dict[str, Any]:
        calls = answer.choices[0].message.tool_calls
        results = [{"role": "tool", "tool_call_id": call.id, "content": result} for call in calls]
        said = answer.choices[0].message.model_dump(exclude_none=True)
        return {"messages": [{"role": "user", "content": text}, said, *results]}


class ResponsesProgram(Program):
    """The Responses API."""

    asked = "responses"
    tool: Mapping[str, Any] = {"type": "function", "name": "get_weather", "strict": True, "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
        "additionalProperties": False}}  # fmt: skip
    schema = "text_format"
    forced: Mapping[str, Any] = {"type": "function", "name": "get_weather"}

    @property
    def resource(self) -> Any:
        return self.client.responses

    def said(self, text: str) -> dict[str, Any]:
        return {"input": [{"role": "user", "content": text}]}

    def limit(self, tokens: int) -> dict[str, Any]:
        return {"max_output_tokens": tokens}

    def text(self, answer: Any) -> str:
        return str(answer.output_text)

    def refusal(self, answer: Any) -> Any:
        return answer.output[0].content[0].refusal

    def parsed(self, answer: Any) -> Any:
        return answer.output_parsed

    def reasoning(self, answer: Any) -> Any:
        return "".join(part.text for item in answer.output if item.type == "reasoning" for part in item.content)

    def cut(self, answer: Any) -> bool:
        return bool(answer.status == "incomplete")

    def usage(self, answer: Any) -> tuple[int, int]:
        return answer.usage.input_tokens, answer.usage.output_tokens

    def calls(self, answer: Any) -> list[tuple[str, str]]:
        return [(item.name, item.arguments) for item in answer.output if item.type == "function_call"]

    def arguments(self, answer: Any) -> Any:
        return next(item.parsed_arguments for item in answer.output if item.type == "function_call")

    def streamed_text(self, events: list[Any]) -> str:
        return "".join(event.delta for event in events if event.type == "response.output_text.delta")

    helped_text = streamed_text

    async def final(self, stream: Any) -> Any:
        return await done(stream.get_final_response())

    def next_turn(self, text: str, answer: Any, result: str) -> dict[str, Any]:
        called = [item for item in answer.output if item.type == "function_call"]
        results = [{"type": "function_call_output", "call_id": item.call_id, "output": result} for item in called]
        return {"input": [{"role": "user", "content": text}, *answer.output, *results]}


PROGRAMS: dict[str, Any] = {"chat": ChatProgram, "responses": ResponsesProgram}


def tool_runner(colour: str) -> Any:
    """The SDK's own runner of tools, with one that knows the weather; it speaks Responses."""
    module = pytest.importorskip("openai.lib.responses_tool_runner", reason="this SDK has no tool runner")
    tool = ResponsesProgram.tool
    if colour == "sync":
        known = module.RegisteredFunction(tool, lambda arguments: f"rain in {arguments['city']}")
        return module.ResponsesToolRunner(functions=[known])

    async def weather(arguments: dict[str, Any]) -> str:
        return f"rain in {arguments['city']}"

    return module.AsyncResponsesToolRunner(functions=[module.AsyncRegisteredFunction(tool, weather)])
