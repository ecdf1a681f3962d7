"""Our users' view of the types: checked by mypy, never run."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Iterator
from typing import assert_type

import openai
import pydantic
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

import allos


class Answer(pydantic.BaseModel):
    city: str


def weather(city: str) -> str:
    """The weather in a city."""
    return f"Sunny in {city}."


def unified() -> None:
    with allos.Client("groq", "openai/gpt-oss-20b", timeout=30, connect_timeout=5, deadline=60) as client:
        reply = client.chat(
            [allos.Message.user("Hi"), {"role": "user", "content": "there"}], tools=[weather], schema=Answer
        )
        assert_type(reply, allos.Reply)
        assert_type(reply.text, str)
        assert_type(reply.usage, allos.Usage | None)
        assert_type(client.models(), list[str])
        stream = client.stream("Hi", temperature=0.2, deadline=9.5)
        assert_type(iter(stream), Iterator[allos.Delta])
        assert_type(stream.reply.tool_calls, tuple[allos.ToolCall, ...])
    assert_type(allos.chat("Hi"), allos.Reply)


async def unified_async() -> None:
    async with allos.AsyncClient("groq") as client:
        assert_type(await client.chat("Hi"), allos.Reply)
        stream = client.stream("Hi")
        assert_type(aiter(stream), AsyncIterator[allos.Delta])


def conversation() -> None:
    """Every value that a caller builds or reads."""
    call = allos.ToolCall("call_1", "weather", '{"city": "Paris"}')
    picture, file, sound = allos.Image.from_bytes(b"png"), allos.File(file_id="file_1"), allos.Audio("AA==", "wav")
    messages: list[allos.Message | str] = [
        allos.Message.system("Be brief."),
        allos.Message.developer("Use the tool."),
        allos.Message.user(["What?", allos.Text("This:"), picture, file, sound]),
        allos.Message.assistant("I look.", tool_calls=[call]),
        allos.Message.tool(call.id, "Sunny"),
        allos.Message("tool", (allos.ToolResult(call.id, (allos.Text("Sunny"),)),)),
        "And tomorrow?",
    ]
    tool = allos.Tool("weather", "The weather in a city.", {"type": "object", "properties": {}}, strict=True)
    with allos.Client(
        base_url="http://localhost:8080/v1", wire="chat", on_unsupported="error", env_file=".env", system="Be brief."
    ) as client:
        reply = client.chat(
            messages,
            tools=[tool, weather, {"type": "web_search"}],
            tool_choice=allos.ToolChoice("tool", "weather"),
            format=allos.OutputFormat("json_object"),
            max_tokens=9,
            stop=["END"],
            extra={"top_k": 3},
            min_p=0.1,
        )
        stream: allos.Stream = client.stream(messages)
        assert_type([delta.text for delta in stream], list[str])
        assert_type(stream.so_far, allos.Reply)
    for part in reply.message.parts:
        if isinstance(part, allos.Reasoning):
            assert_type(part.summary, tuple[str, ...])
        elif isinstance(part, allos.Refusal):
            assert_type(part.text, str)
    request = allos.Request(messages=(allos.Message.user("Hi"),), temperature=0.5)
    assert_type(request.replace(seed=3), allos.Request)
    assert_type(reply.finish_reason, str | None)
    assert_type(allos.__version__, str)


async def asynchronous_stream(client: allos.AsyncClient) -> allos.Reply:
    stream: allos.AsyncStream = client.stream("Hi")
    async with stream:
        async for delta in stream:
            assert_type(delta, allos.Delta)
    return stream.reply


def table() -> None:
    row = allos.register("mine", base_url="https://llm.example.com/v1", key_variables=["MINE_API_KEY"])
    assert_type(row, allos.Endpoint)
    assert_type(row.default_model, str | None)


async def dropin_async() -> None:
    client = allos.AsyncOpenAI("groq")
    as_official: openai.AsyncOpenAI = client
    assert_type(await as_official.responses.create(model="m", input="Hi"), Response)


def told(receipt: allos.Receipt) -> None:
    assert_type(receipt.spoken, allos.Wire)


def dropin() -> None:
    client = allos.OpenAI("groq")
    as_official: openai.OpenAI = client
    assert_type(as_official.chat.completions.create(model="m", messages=[]), ChatCompletion)
    response = client.responses.create(model="m", input="Hi")
    assert_type(response, Response)
    receipt = allos.receipt(response)
    if receipt is not None:
        assert_type(receipt.spoken, allos.Wire)
    assert_type(client.with_options(timeout=3), allos.OpenAI)


def errors() -> None:
    try:
        unified()
    except allos.IncompleteReplyError as error:
        as_official: openai.APIError = error
        assert_type(error.reply, allos.Reply)
        print(as_official.message)
    except allos.ParseError as error:
        assert_type(error.reply, allos.Reply)
    except allos.KeyMissing as error:
        as_value_error: ValueError = error
        print(as_value_error)
    except allos.Unsupported as error:
        assert_type(error.param, str | None)
    except allos.ConfigurationError as error:
        ours: allos.AllosError = error
        print(ours)
    warnings.simplefilter("ignore", allos.UnsupportedWarning)
