"""What real servers answered, through both clients, over both APIs, whole and streamed.

Each test replays a cassette, so it also says what Allos sends: a request that changes finds no answer.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

import openai
import pytest
from doors import Door, asked
from pydantic import BaseModel

from allos.messages import Message, Reasoning, ToolResult

pytestmark = pytest.mark.cassette

SERVERS = ["llamacpp", "vllm", "ogx"]
WEATHER = {"Paris": "Rain, 11 degrees", "Rome": "Sun, 24 degrees"}

ServerDoor = Callable[..., Door]


@pytest.fixture(params=["whole", "stream"])
def way(request: pytest.FixtureRequest) -> str:
    """The answer is asked for as a whole or as a stream."""
    return str(request.param)


@pytest.mark.parametrize("server", SERVERS)
async def test_a_question_is_answered_with_its_usage(server: str, wire: str, way: str, server_door: ServerDoor) -> None:
    door = server_door(server, f"{wire}-text-{way}", wire=wire)
    messages = [Message.system("Answer with one word."), Message.user("What is the capital of France?")]
    reply = await asked(door, messages, streamed=way == "stream", max_tokens=20, temperature=0)
    assert reply.text.strip(" .") == "Paris"
    assert reply.finish_reason == "stop"
    assert reply.id
    assert reply.model
    assert reply.usage is not None
    assert reply.usage.input_tokens is not None
    assert reply.usage.output_tokens is not None
    assert 10 < reply.usage.input_tokens < 100
    assert 1 <= reply.usage.output_tokens <= 20
    assert reply.usage.total_tokens == reply.usage.input_tokens + reply.usage.output_tokens
    assert not reply.notes


@pytest.mark.parametrize("server", SERVERS)
async def test_a_conversation_goes_back_whole(server: str, wire: str, server_door: ServerDoor) -> None:
    door = server_door(server, f"{wire}-turns", wire=wire)
    messages = [
        Message.user("My name is Ada. Say hello."),
        Message.assistant("Hello, Ada!"),
        "What is my name? One word.",
    ]
    reply = await door.chat(messages, max_tokens=20, temperature=0)
    assert "Ada" in reply.text
    again = await door.chat([*messages, reply.message, "Spell it backwards."], max_tokens=20, temperature=0)
    assert again.text


@pytest.mark.parametrize(  # llama.cpp calls a cut answer of its Responses API completed
    ("server", "wire"),
    [("llamacpp", "chat"), ("vllm", "chat"), ("vllm", "responses"), ("ogx", "chat"), ("ogx", "responses")],
)
async def test_a_limit_is_a_finish_reason(server: str, wire: str, way: str, server_door: ServerDoor) -> None:
    door = server_door(server, f"{wire}-length-{way}", wire=wire)
    reply = await asked(door, "Count from one to a hundred.", streamed=way == "stream", max_tokens=16, temperature=0)
    assert reply.text
    assert reply.finish_reason == "length"


@pytest.mark.parametrize("server", SERVERS)
async def test_a_tool_is_called_and_its_result_is_used(
    server: str, wire: str, way: str, server_door: ServerDoor
) -> None:
    door = server_door(server, f"{wire}-tool-{way}", wire=wire)
    called = []

    def get_weather(city: str) -> str:
        """The weather in a city."""
        called.append(city)
        return WEATHER[city]

    question = "What is the weather in Paris?"
    reply = await asked(door, question, streamed=way == "stream", tools=[get_weather], max_tokens=100, temperature=0)
    assert called == ["Paris"]
    assert "11" in reply.text
    assert reply.finish_reason == "stop"


@pytest.mark.parametrize("server", ["llamacpp", "vllm"])  # behind OGX this model repeats its calls
async def test_parallel_calls_keep_their_order(server: str, wire: str, way: str, server_door: ServerDoor) -> None:
    door = server_door(server, f"{wire}-parallel-{way}", wire=wire)

    def get_weather(city: str) -> str:
        """The weather in a city."""
        return WEATHER[city]

    question = Message.user("Use the tool for each city: what is the weather in Paris and in Rome?")
    options = {"tools": [get_weather], "max_tokens": 100, "temperature": 0}
    streamed = way == "stream"
    calls = await asked(door, [question], streamed=streamed, max_steps=1, **options)
    assert calls.finish_reason == "tool_calls"
    assert [call.name for call in calls.tool_calls] == ["get_weather", "get_weather"]
    assert [call.parsed() for call in calls.tool_calls] == [{"city": "Paris"}, {"city": "Rome"}]
    assert len({call.id for call in calls.tool_calls}) == 2
    results = [Message.tool(call.id, WEATHER[call.parsed()["city"]]) for call in calls.tool_calls]
    reply = await asked(door, [question, calls.message, *results], streamed=streamed, **options)
    assert "11" in reply.text
    assert "24" in reply.text


class City(BaseModel):
    name: str
    country: str
    on_a_river: bool


@pytest.mark.parametrize(  # llama.cpp ignores the schema on its Responses API
    ("server", "wire"),
    [("llamacpp", "chat"), ("vllm", "chat"), ("vllm", "responses"), ("ogx", "chat"), ("ogx", "responses")],
)
async def test_a_schema_gives_a_parsed_object(server: str, wire: str, way: str, server_door: ServerDoor) -> None:
    door = server_door(server, f"{wire}-schema-{way}", wire=wire)
    question = "Describe Paris."
    reply = await asked(door, question, streamed=way == "stream", schema=City, max_tokens=60, temperature=0)
    assert isinstance(reply.parsed, City)
    assert reply.parsed.name == "Paris"
    assert reply.parsed.country == "France"


async def test_thinking_is_apart_from_the_answer(wire: str, way: str, server_door: ServerDoor) -> None:
    door = server_door("llamacpp-think", f"{wire}-reasoning-{way}", wire=wire)
    question = Message.user("What is the capital of France?")
    reply = await asked(door, [question], streamed=way == "stream", max_tokens=150, temperature=0)
    assert reply.reasoning
    assert "Paris" in reply.text
    assert "<think>" not in reply.text
    assert isinstance(reply.message.parts[0], Reasoning)
    again = await door.chat([question, reply.message, "And of Italy?"], max_tokens=150, temperature=0)
    assert "Rome" in again.text


@pytest.mark.parametrize("server", SERVERS)
async def test_models_are_listed(server: str, server_door: ServerDoor) -> None:
    door = server_door(server, "models")
    assert any("qwen2.5-coder" in name for name in await door.models())


@pytest.mark.parametrize("server", ["vllm", "ogx"])
async def test_an_unknown_model_names_those_that_are_there(
    server: str, wire: str, way: str, server_door: ServerDoor
) -> None:
    door = server_door(server, f"{wire}-no-such-model-{way}", wire=wire, model="no-such-model")
    with pytest.raises(openai.NotFoundError) as caught:
        await asked(door, "hi", streamed=way == "stream", max_tokens=16)
    assert "no-such-model" in str(caught.value)
    assert "qwen2.5-coder" in str(caught.value)
    assert caught.value.status_code == 404


async def test_a_wrong_key_says_where_it_came_from_and_went(wire: str, way: str, server_door: ServerDoor) -> None:
    key = "sk-wrong-key-0000"
    door = server_door("llamacpp-keyed", f"{wire}-wrong-key-{way}", wire=wire, api_key=key)
    with pytest.raises(openai.AuthenticationError) as caught:
        await asked(door, "hi", streamed=way == "stream", max_tokens=16)
    assert key not in str(caught.value)
    assert "The key came from" in str(caught.value)
    assert f"went to {urlsplit(door.client.target.base_url).hostname}" in str(caught.value)


@pytest.mark.parametrize("server", ["llamacpp", "vllm"])
async def test_too_long_a_prompt_is_said_to_be_too_long(
    server: str, wire: str, way: str, server_door: ServerDoor
) -> None:
    door = server_door(server, f"{wire}-too-long-{way}", wire=wire)
    with pytest.raises(openai.BadRequestError) as caught:
        await asked(door, "word " * 6000, streamed=way == "stream", max_tokens=16)
    assert "4096" in str(caught.value)
    assert "too long for the model" in str(caught.value)


async def test_a_fault_inside_a_stream_that_began_well_is_an_error(server_door: ServerDoor) -> None:
    door = server_door("ogx", "responses-too-long-stream", wire="responses")
    with pytest.raises(openai.APIError) as caught:
        await asked(door, "word " * 6000, streamed=True, max_tokens=16)
    assert "context" in str(caught.value)


@pytest.mark.parametrize("server", ["llamacpp", "ogx"])
async def test_a_base_url_with_a_wrong_path_gets_a_hint(server: str, wire: str, server_door: ServerDoor) -> None:
    door = server_door(server, f"{wire}-no-such-route", wire=wire, path="/v2")
    with pytest.raises(openai.NotFoundError) as caught:
        await door.chat("hi", max_tokens=16)
    assert "base URL" in str(caught.value)
    assert "/v2" in str(caught.value)


async def test_a_tool_result_carries_more_than_text(wire: str, server_door: ServerDoor) -> None:
    door = server_door("llamacpp", f"{wire}-tool-json", wire=wire)

    def get_weather(city: str) -> dict[str, object]:
        """The weather in a city."""
        return {"city": city, "degrees": 11, "sky": "rain"}

    reply = await door.chat("What is the weather in Paris?", tools=[get_weather], max_tokens=100, temperature=0)
    assert "11" in reply.text
    assert not any(isinstance(part, ToolResult) for part in reply.message.parts)
