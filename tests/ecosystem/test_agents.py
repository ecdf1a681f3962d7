"""openai-agents on its Responses model, which needs a Responses API that the server doesn't have."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from chat_only import ChatOnly
from pydantic import BaseModel

import allos

agents = pytest.importorskip("agents", reason="`make test-ecosystem` installs openai-agents")
pytestmark = pytest.mark.filterwarnings("ignore::allos.UnsupportedWarning")


class City(BaseModel):
    name: str
    temperature: int


@agents.function_tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"Rain in {city}"


@pytest.fixture
async def model(server: ChatOnly) -> AsyncIterator[Any]:
    agents.set_tracing_disabled(True)
    async with allos.AsyncOpenAI("chat_completions", base_url=server.url) as client:
        yield agents.OpenAIResponsesModel("obvious", client)


async def test_an_agent_answers_from_a_tool(server: ChatOnly, model: Any) -> None:
    agent = agents.Agent("helper", instructions="Be brief.", model=model, tools=[get_weather])
    result = await agents.Runner.run(agent, "What is the weather in Paris?")
    assert result.final_output == "The tool said: Rain in Paris"
    assert server.paths == {"/v1/chat/completions"}
    assert server.said_to("system")[0]["content"] == "Be brief."


async def test_an_agent_streams(model: Any) -> None:
    agent = agents.Agent("helper", model=model, tools=[get_weather])
    run = agents.Runner.run_streamed(agent, "What is the weather in Paris?")
    pieces, items = [], []
    async for event in run.stream_events():
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            pieces.append(event.data.delta)
        elif event.type == "run_item_stream_event":
            items.append(event.name)
    assert "".join(pieces) == run.final_output == "The tool said: Rain in Paris"
    assert items == ["tool_called", "tool_output", "message_output_created"]


async def test_an_agent_gives_an_object(model: Any) -> None:
    agent = agents.Agent("helper", model=model, output_type=City)
    assert (await agents.Runner.run(agent, "Where?")).final_output == City(name="Paris", temperature=21)


async def test_an_agent_remembers_in_a_session(server: ChatOnly, model: Any, tmp_path: Path) -> None:
    agent, session = agents.Agent("helper", model=model), agents.SQLiteSession("one", tmp_path / "session.db")
    await agents.Runner.run(agent, "My name is Ada.", session=session)
    result = await agents.Runner.run(agent, "Who am I?", session=session)
    session.close()
    assert result.final_output == "You said: My name is Ada. / Who am I?"
    assert [message["role"] for message in server.asked[-1][1]["messages"]] == ["user", "assistant", "user"]


async def test_an_agent_goes_on_from_a_previous_response(server: ChatOnly, model: Any) -> None:
    agent = agents.Agent("helper", model=model)
    first = await agents.Runner.run(agent, "My name is Ada.")
    result = await agents.Runner.run(agent, "Who am I?", previous_response_id=first.last_response_id)
    assert result.final_output == "You said: My name is Ada. / Who am I?"


async def test_a_handoff_reaches_the_other_agent(model: Any) -> None:
    expert = agents.Agent("expert", model=model)
    agent = agents.Agent("desk", model=model, handoffs=[expert])
    result = await agents.Runner.run(agent, "Ask the expert.")
    assert result.last_agent is expert
