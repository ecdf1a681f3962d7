"""An object of a schema from any service: each way down the ladder, what is learned, and what is told."""

from __future__ import annotations

import json
from typing import Any

import answers
import openai
import pytest
from doors import asked, http
from ladders import PARIS, STANDARD, Place, Service, way_of

import allos
from allos import endpoints, ladder
from allos.wire.dialect import Dialect, ResponsesDialect


@pytest.fixture(autouse=True)
def nothing_kept():
    """What one test taught or registered is unknown to the next."""
    yield
    for name in ("plain", "poor"):
        endpoints._registered.pop(name, None)
    endpoints._table.cache_clear()


@pytest.fixture(params=[False, True], ids=["whole", "stream"])
def streamed(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.mark.parametrize(
    ("refuses", "ways", "then"),
    [
        ((), ["json_schema"], "json_schema"),
        (("json_schema",), ["json_schema", "tool"], "tool"),
        (("json_schema", "tool"), ["json_schema", "tool", "prompt"], "json_object"),
    ],
)
async def test_a_refused_way_is_followed_by_the_next_and_remembered(mock_door, wire, streamed, refuses, ways, then):
    service = Service(refuses)
    door = mock_door(service, wire=wire)
    reply = await asked(door, "Where?", schema=Place, streamed=streamed)
    assert reply.parsed == Place(city="Paris")
    assert json.loads(reply.text) == {"city": "Paris"}
    assert reply.finish_reason == "stop"
    assert not reply.tool_calls
    assert service.ways == ways
    assert [note.what for note in reply.notes if note.action == "routed"] == ["schema"]
    again = await asked(door, "Where?", schema=Place, streamed=streamed)
    assert again.parsed == reply.parsed
    assert service.ways == [*ways, then]


async def test_the_deltas_of_a_forced_call_are_the_text(mock_door, wire):
    door = mock_door(Service(("json_schema",)), wire=wire)
    steps = door.stream("Where?", schema=Place)
    deltas = [delta async for delta in steps]
    assert json.loads("".join(delta.text for delta in deltas)) == {"city": "Paris"}
    assert not any(delta.tool_call for delta in deltas)


async def test_of_several_calls_where_one_is_forced_the_first_is_the_text_of_a_stream_too(mock_door, wire):
    def server(request: Any) -> Any:
        if way_of(answers.body(request)) == "json_schema":
            return http.Response(400, json={"error": {"message": "no json_schema here"}})
        return answers.call(request, ("call_1", "Place", PARIS), ("call_2", "Place", '{"city": "Rome"}'))

    steps = mock_door(server, wire=wire).stream("Where?", schema=Place)
    assert "".join([delta.text async for delta in steps]) == steps.reply.text == PARIS


async def test_at_most_three_requests_are_made(mock_door, wire, monkeypatch):
    service = Service(STANDARD)
    with pytest.raises(openai.BadRequestError):
        await mock_door(service, wire=wire).chat("Where?", schema=Place)
    assert len(service.ways) == 3
    service = Service(("json_schema",), say=lambda count: "no")
    monkeypatch.setattr(ladder, "_memory", ladder._Memory())
    with pytest.raises(allos.ParseError):
        await mock_door(service, wire=wire).chat("Where?", schema=Place)
    assert len(service.ways) == 3


@pytest.mark.parametrize("status", [401, 404, 429])
async def test_another_error_is_no_refusal_of_the_way(mock_door, status):
    def server(request: Any) -> Any:
        tries.append(request)
        return http.Response(status, json={"error": {"message": "model x does not exist" if status == 404 else "no"}})

    tries: list[Any] = []
    with pytest.raises(openai.APIStatusError):
        await mock_door(server).chat("Where?", schema=Place)
    assert len([request for request in tries if request.method == "POST"]) == 1


@pytest.mark.parametrize("message", ["maximum context length is 10 tokens for this schema", "temperature is too high"])
async def test_a_request_that_is_wrong_otherwise_is_not_asked_again(mock_door, message):
    def server(request: Any) -> Any:
        tries.append(request)
        return http.Response(400, json={"error": {"message": message}})

    tries: list[Any] = []
    with pytest.raises(openai.BadRequestError):
        await mock_door(server).chat("Where?", schema=Place)
    assert len(tries) == 1


async def test_an_answer_that_does_not_fit_is_asked_for_once_more_with_what_is_wrong(mock_door, wire):
    service = Service(say=lambda count: '{"town": "Paris"}' if count == 1 else PARIS)
    reply = await mock_door(service, wire=wire).chat("Where?", schema=Place)
    assert reply.parsed == Place(city="Paris")
    assert service.ways == ["json_schema", "json_schema"]
    assert "Field required" in json.dumps(service.bodies[1])
    assert ("repaired", "schema") in [(note.action, note.what) for note in reply.notes]


async def test_prose_says_that_the_way_is_ignored_and_two_calls_teach_to_leave_it(mock_door, wire):
    service = Service(say=lambda count: "Paris, I think." if count in (1, 3) else PARIS)
    door = mock_door(service, wire=wire)
    for _ in range(3):
        reply = await door.chat("Where?", schema=Place)
        assert reply.parsed == Place(city="Paris")
    assert service.ways == ["json_schema", "tool", "json_schema", "tool", "tool"]


async def test_where_schemas_and_forced_calls_are_ignored_the_prompt_asks_as_if_for_the_first_time(mock_door, wire):
    service = Service(say=lambda count: "Paris, I think." if count < 3 else PARIS)
    door = mock_door(service, wire=wire)
    reply = await door.chat("Where?", schema=Place)
    assert reply.parsed == Place(city="Paris")
    assert service.ways == ["json_schema", "tool", "prompt"]
    assert "Paris" not in json.dumps(service.bodies)


async def test_streams_that_are_ignored_lead_to_the_prompt_too(mock_door, wire):
    service = Service(say=lambda count: "Paris, I think." if count < 3 else PARIS)
    door = mock_door(service, wire=wire)
    for _ in range(2):
        with pytest.raises(allos.ParseError):
            await asked(door, "Where?", schema=Place, streamed=True)
    reply = await asked(door, "Where?", schema=Place, streamed=True)
    assert reply.parsed == Place(city="Paris")
    assert service.ways == ["json_schema", "tool", "prompt"]


async def test_a_text_instead_of_a_forced_call_says_that_forcing_is_ignored(mock_door, wire):
    def server(request: Any) -> Any:
        body = answers.body(request)
        ways.append(way_of(body))
        if ways[-1] == "json_schema":
            return http.Response(400, json={"error": {"message": "no json_schema here"}})
        text = '{"name": "Place", "arguments": {"city": "Paris"}}' if ways[-1] == "tool" else PARIS
        return answers.answer(request, text)

    ways: list[str] = []
    reply = await mock_door(server, wire=wire).chat("Where?", schema=Place)
    assert reply.parsed == Place(city="Paris")
    assert ways == ["json_schema", "tool", "prompt"]


async def test_an_answer_that_never_fits_is_an_error_that_keeps_it(mock_door, wire, streamed):
    service = Service(say=lambda count: '{"town": "Paris"}')
    with pytest.raises(allos.ParseError, match="city: Field required") as caught:
        await asked(mock_door(service, wire=wire), "Where?", schema=Place, streamed=streamed)
    assert caught.value.reply.text == '{"town": "Paris"}'
    assert len(service.ways) == (1 if streamed else 2), "what was shown can't be taken back"


@pytest.mark.parametrize("text", [f"Here it is:\n```json\n{PARIS}\n```\nEnjoy!", f"It is {PARIS}, of course."])
async def test_an_object_among_words_is_found(mock_door, wire, streamed, text):
    reply = await asked(mock_door(Service(say=lambda count: text), wire=wire), "?", schema=Place, streamed=streamed)
    assert reply.parsed == Place(city="Paris")


async def test_the_schema_as_a_dict_is_checked_too(mock_door):
    service = Service(say=lambda count: '{"city": 5}' if count == 1 else PARIS)
    schema = {"title": "Place", "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    reply = await mock_door(service).chat("Where?", schema=schema)
    assert reply.parsed == {"city": "Paris"}
    assert "city is no string" in json.dumps(service.bodies[1])


async def test_what_a_reference_of_the_schema_names_is_checked_too(mock_door):
    service = Service(say=lambda count: '{"town": {"city": 5}}' if count == 1 else f'{{"town": {PARIS}}}')
    properties = {"town": {"anyOf": [{"$ref": "#/$defs/Place"}, {"type": "null"}]}}
    schema = {"type": "object", "properties": properties, "$defs": {"Place": Place.model_json_schema()}}
    reply = await mock_door(service).chat("Where?", schema=schema)
    assert reply.parsed == {"town": {"city": "Paris"}}
    assert "town.city is no string" in json.dumps(service.bodies[1])


async def test_tools_of_the_caller_keep_the_call_from_being_forced(mock_door):
    def look(city: str) -> str:
        """Look at a city."""
        return city

    service = Service(("json_schema",))
    reply = await mock_door(service).chat("Where?", schema=Place, tools=[look])
    assert reply.parsed == Place(city="Paris")
    assert service.ways == ["json_schema", "json_object"]


async def test_the_table_says_where_to_begin(mock_client):
    allos.register("plain", base_url="http://plain.test/v1", key_variables=[], quirks={"structured": ["json_object"]})
    service = Service()
    client = mock_client(service, provider="plain", base_url=None, api_key=None)
    assert client.chat("Where?", schema=Place).parsed == Place(city="Paris")
    assert service.ways == ["json_object"]
    assert '"city"' in service.bodies[0]["messages"][0]["content"]


@pytest.mark.parametrize(
    ("dialect", "wire", "ways"),
    [
        (Dialect(), "chat", STANDARD),
        (Dialect(response_format=("json_object",)), "chat", ("tool", "json_object", "prompt")),
        (Dialect(response_format=(), tool_choice=("auto",)), "chat", ("prompt",)),
        (Dialect(refuse=("tools",)), "chat", ("json_schema", "json_object", "prompt")),
        (Dialect(structured=("tool",)), "chat", ("tool", "prompt")),
        (Dialect(structured=("tool",)), "responses", STANDARD),
        (Dialect(responses=ResponsesDialect(response_format=())), "responses", ("tool", "prompt")),
    ],
)
def test_the_ways_follow_from_what_the_row_says(dialect, wire, ways):
    assert ladder.rungs(dialect, wire) == ways


async def test_a_forced_call_asks_for_one_tool_by_name(mock_door):
    service = Service(("json_schema",))
    await mock_door(service).chat("Where?", schema=Place)
    body = service.bodies[-1]
    assert body["tool_choice"] == {"type": "function", "function": {"name": "Place"}}
    assert [tool["function"]["name"] for tool in body["tools"]] == ["Place"]


async def test_an_answer_that_came_is_not_lost_to_the_question_after_it(mock_door, wire):
    def server(request: Any) -> Any:
        tries.append(request)
        if len(tries) == 1:
            return answers.answer(request, '{"town": "Paris"}')
        return http.Response(400, json={"error": {"message": "maximum context length is 10 tokens"}})

    tries: list[Any] = []
    with pytest.raises(allos.ParseError, match="Field required") as caught:
        await mock_door(server, wire=wire).chat("Where?", schema=Place)
    assert caught.value.reply.text == '{"town": "Paris"}'
    assert len(tries) == 2
