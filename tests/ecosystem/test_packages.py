"""Packages that take a client object: they get ours, and the server has only Chat Completions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from chat_only import ChatOnly
from pydantic import BaseModel

import allos

pytestmark = [
    pytest.mark.filterwarnings("ignore::allos.UnsupportedWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of the packages themselves
]


class City(BaseModel):
    name: str
    temperature: int


PARIS = City(name="Paris", temperature=21)


def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"Rain in {city}"


@pytest.mark.parametrize("mode", ["TOOLS", "JSON_SCHEMA", "RESPONSES_TOOLS"])
def test_instructor_gives_an_object(server: ChatOnly, mode: str) -> None:
    instructor = pytest.importorskip("instructor", reason="`make test-ecosystem` installs instructor")
    client = instructor.from_openai(
        allos.OpenAI("chat_completions", base_url=server.url), mode=getattr(instructor.Mode, mode)
    )
    asked: dict[str, Any] = {"messages": [{"role": "user", "content": "Where?"}], "response_model": City}
    assert client.chat.completions.create(model="obvious", **asked).model_dump() == PARIS.model_dump()
    assert server.paths == {"/v1/chat/completions"}


@pytest.fixture(params=["OpenAIResponsesModel", "OpenAIChatModel"])
async def pydantic_ai_model(request: pytest.FixtureRequest, server: ChatOnly) -> AsyncIterator[Any]:
    models = pytest.importorskip("pydantic_ai.models.openai", reason="`make test-ecosystem` installs pydantic-ai")
    from pydantic_ai.providers.openai import OpenAIProvider

    async with allos.AsyncOpenAI("chat_completions", base_url=server.url) as client:
        yield getattr(models, request.param)("obvious", provider=OpenAIProvider(openai_client=client))


async def test_pydantic_ai_answers_from_a_tool(server: ChatOnly, pydantic_ai_model: Any) -> None:
    from pydantic_ai import Agent

    agent = Agent(pydantic_ai_model, instructions="Be brief.", tools=[get_weather])
    result = await agent.run("What is the weather in Paris?")
    assert result.output == "The tool said: Rain in Paris"
    assert result.usage.total_tokens == 20
    assert server.paths == {"/v1/chat/completions"}


async def test_pydantic_ai_streams(pydantic_ai_model: Any) -> None:
    from pydantic_ai import Agent

    async with Agent(pydantic_ai_model).run_stream("Hello") as run:
        assert [piece async for piece in run.stream_text(debounce_by=None)][-1] == "You said: Hello"


async def test_pydantic_ai_gives_an_object(pydantic_ai_model: Any) -> None:
    from pydantic_ai import Agent, NativeOutput

    assert (await Agent(pydantic_ai_model, output_type=City).run("Where?")).output == PARIS
    assert (await Agent(pydantic_ai_model, output_type=NativeOutput(City)).run("Where?")).output == PARIS


@pytest.fixture(params=[True, False], ids=["responses", "chat"])
def langchain(request: pytest.FixtureRequest, server: ChatOnly) -> Iterator[Any]:
    package = pytest.importorskip("langchain_openai", reason="`make test-ecosystem` installs langchain-openai")
    other = allos.AsyncOpenAI("chat_completions", base_url=server.url)
    with allos.OpenAI("chat_completions", base_url=server.url) as client:
        clients = {
            "root_client": client,
            "client": client.chat.completions,
            "root_async_client": other,
            "async_client": other.chat.completions,
        }
        yield package.ChatOpenAI(model="obvious", use_responses_api=request.param, **clients)


def test_langchain_answers_and_streams(server: ChatOnly, langchain: Any) -> None:
    assert langchain.invoke("Hello").text == "You said: Hello"
    pieces = [piece.text for piece in langchain.stream("Hello")]
    assert "".join(pieces) == "You said: Hello"
    assert server.paths == {"/v1/chat/completions"}


def test_langchain_calls_tools_and_gives_objects(langchain: Any) -> None:
    called = langchain.bind_tools([get_weather]).invoke("What is the weather in Paris?")
    assert [(call["name"], call["args"]) for call in called.tool_calls] == [("get_weather", {"city": "Paris"})]
    assert langchain.with_structured_output(City).invoke("Where?") == PARIS
