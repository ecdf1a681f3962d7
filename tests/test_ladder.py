"""An object of a schema from any service: each way down the ladder, what is learned, and what is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import answers
import openai
import pytest
from doors import asked, http
from pydantic import BaseModel

import allos
from allos import endpoints, ladder
from allos.wire.dialect import Dialect, ResponsesDialect
from allos.wire.objects import extracted
from allos.wire.schema import problem


class Place(BaseModel):
    city: str


PARIS = '{"city": "Paris"}'
STANDARD = ("json_schema", "tool", "json_object", "prompt")


@pytest.fixture(autouse=True)
def nothing_kept():
    """What one test taught or registered is unknown to the next."""
    yield
    ladder._learned.clear()
    for name in ("plain", "poor"):
        endpoints._registered.pop(name, None)
    endpoints._table.cache_clear()


@pytest.fixture(params=[False, True], ids=["whole", "stream"])
def streamed(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def way_of(body: dict[str, Any]) -> str:
    """The way in which a request asks for its object."""
    form = body.get("response_format") or (body.get("text") or {}).get("format") or {}
    if body.get("tool_choice") not in (None, "auto"):
        return "tool"
    return form.get("type") or ("prompt" if '"city"' in json.dumps(body).replace("\\", "") else "none")


class Service:
    """Refuses some ways, and answers the others with what it is told to say."""

    def __init__(self, refuses: tuple[str, ...] = (), say: Callable[[int], str] = lambda count: PARIS) -> None:
        self.ways: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self._refuses, self._say = refuses, say

    def __call__(self, request: Any) -> Any:
        body = answers.body(request)
        self.ways.append(way_of(body))
        self.bodies.append(body)
        if self.ways[-1] in self._refuses:
            return http.Response(400, json={"error": {"message": f"{self.ways[-1]}: this schema is not supported"}})
        text = self._say(len(self.ways))
        if self.ways[-1] == "tool":
            return answers.call(request, ("call_1", "Place", text))
        return answers.answer(request, *text.partition("city"))


@pytest.mark.parametrize(
    ("refuses", "ways"),
    [
        ((), ["json_schema"]),
        (("json_schema",), ["json_schema", "tool"]),
        (("json_schema", "tool"), ["json_schema", "tool", "prompt"]),
    ],
)
async def test_a_refused_way_is_followed_by_the_next_and_remembered(mock_door, wire, streamed, refuses, ways):
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
    assert service.ways == [*ways, ways[-1]]


async def test_the_deltas_of_a_forced_call_are_the_text(mock_door, wire):
    door = mock_door(Service(("json_schema",)), wire=wire)
    steps = door.stream("Where?", schema=Place)
    deltas = [delta async for delta in steps]
    assert json.loads("".join(delta.text for delta in deltas)) == {"city": "Paris"}
    assert not any(delta.tool_call for delta in deltas)


async def test_at_most_three_requests_are_made(mock_door, wire):
    service = Service(STANDARD)
    with pytest.raises(openai.BadRequestError):
        await mock_door(service, wire=wire).chat("Where?", schema=Place)
    assert len(service.ways) == 3
    service = Service(("json_schema",), say=lambda count: "no")
    ladder._learned.clear()
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


async def test_prose_says_that_the_way_is_ignored_and_the_next_is_taken(mock_door, wire):
    service = Service(say=lambda count: "Paris, I think." if count == 1 else PARIS)
    door = mock_door(service, wire=wire)
    reply = await door.chat("Where?", schema=Place)
    assert reply.parsed == Place(city="Paris")
    assert service.ways == ["json_schema", "tool"]
    await door.chat("Where?", schema=Place)
    assert service.ways[2:] == ["tool"]


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
        (Dialect(structured=("tool",)), "chat", ("tool",)),
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


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (PARIS, PARIS),
        (f" {PARIS}\n", PARIS),
        ("[1, 2]", "[1, 2]"),
        ("nothing", None),
        ("{broken", None),
        ("{city} is " + PARIS, PARIS),
        ('{"a": 1} and {"a": {"b": 2}}', '{"a": {"b": 2}}'),
        ("```\n[1]\n```", "[1]"),
        ("{" * 100_000, None),
        ('{"a":' * 5_000, None),
    ],
)
def test_the_object_in_a_text_is_the_longest(text, found):
    assert extracted(text) == found


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"n": 1, "tags": ["a"]}, None),
        ({"n": None, "tags": []}, None),
        ([], "the answer is no object"),
        ({"tags": []}, "the answer lacks 'n'"),
        ({"n": True, "tags": []}, "n is no integer or null"),
        ({"n": 1, "tags": ["a", 2]}, "tags[1] is no string"),
        ({"n": 1, "tags": ["z"]}, "tags[0] is none of ['a', 'b']"),
    ],
)
def test_what_breaks_a_schema_is_said_with_its_place(value, said):
    tags = {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}}
    schema = {"type": "object", "properties": {"n": {"type": ["integer", "null"]}, "tags": tags}, "required": ["n"]}
    assert problem(value, schema) == said


# The drop-in, where the table knows that the service does not do it


ROWS = {"json_object": {"response_format": ["json_object"]}, "prompt": {"response_format": []}}


@pytest.fixture(params=ROWS)
def poor(request: pytest.FixtureRequest, mock_transport: Callable[[Any], Any]) -> Callable[[str], allos.OpenAI]:
    """`poor(text)`: a drop-in client of a service that obeys no schema and answers with that text."""
    allos.register(
        "poor", base_url="http://poor.test/v1", responses=False, key_variables=[], quirks=ROWS[request.param]
    )

    def make(text: str) -> allos.OpenAI:
        def server(sent: Any) -> Any:
            assert way_of(answers.body(sent)) == request.param
            return answers.answer(sent, text[:5], text[5:20], text[20:])

        return allos.OpenAI("poor", http_client=mock_transport(server), max_retries=0)

    return make


@pytest.fixture
def mock_transport() -> Callable[[Any], Any]:
    return lambda server: openai.DefaultHttpxClient(transport=http.MockTransport(server))


WORDY = [PARIS, f"Sure!\n```json\n{PARIS}\n```\nEnjoy.", f"It is {PARIS}.", f"{PARIS}\n\nThat was it."]


@pytest.mark.parametrize("text", WORDY)
def test_parse_works_where_the_service_obeys_no_schema(poor, text):
    client = poor(text)
    messages: Any = [{"role": "user", "content": "Where?"}]
    completion = client.chat.completions.parse(model="m", messages=messages, response_format=Place)
    assert completion.choices[0].message.parsed == Place(city="Paris")
    response = client.responses.parse(model="m", input="Where?", text_format=Place)
    assert response.output_parsed == Place(city="Paris")
    told = {note.what for note in allos.receipt(response).notes}
    assert told & {"response_format", "text"}


@pytest.mark.parametrize("text", WORDY)
def test_a_stream_is_parsed_where_the_service_obeys_no_schema(poor, text):
    client = poor(text)
    messages: Any = [{"role": "user", "content": "Where?"}]
    with client.chat.completions.stream(model="m", messages=messages, response_format=Place) as stream:
        completion = stream.get_final_completion()
    assert completion.choices[0].message.parsed == Place(city="Paris")
    with client.responses.stream(model="m", input="Where?", text_format=Place) as events:
        deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
        response = events.get_final_response()
    assert "".join(deltas).strip() == PARIS
    assert response.output_parsed == Place(city="Paris")


def test_a_text_without_an_object_stays_as_it_was(poor):
    form: Any = {"type": "json_schema", "json_schema": {"name": "place", "schema": Place.model_json_schema()}}
    messages: Any = [{"role": "user", "content": "Where?"}]
    made = poor("I don't know.").chat.completions.create(model="m", messages=messages, response_format=form)
    assert made.choices[0].message.content == "I don't know."


@pytest.mark.parametrize(
    ("reason", "error"),
    [("length", openai.LengthFinishReasonError), ("content_filter", openai.ContentFilterFinishReasonError)],
)
@pytest.mark.parametrize("spoken", ["chat", "responses"])
def test_a_cut_answer_is_the_official_error_through_any_translation(mock_transport, spoken, reason, error):
    def server(request: Any) -> Any:
        return http.Response(200, json=answers.cut(spoken, '{"city": "Pa', reason))

    client = allos.OpenAI(
        "chat_completions",
        base_url="http://mock.test/v1",
        api_key="k",
        wire=spoken,
        http_client=mock_transport(server),
        max_retries=0,
    )
    messages: Any = [{"role": "user", "content": "Where?"}]
    with pytest.raises(error):
        client.chat.completions.parse(model="m", messages=messages, response_format=Place)
