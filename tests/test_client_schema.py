"""`schema=`: the answer as an object, or an error that keeps the answer."""

from __future__ import annotations

import dataclasses
import re

import answers
import pydantic
import pytest
import typing_extensions
from doors import asked, http

import allos

PARIS = '{"name": "Paris", "people": 2100000}'


class City(pydantic.BaseModel):
    """A city."""

    name: str
    people: int


@dataclasses.dataclass
class CityData:
    name: str
    people: int


class CityDict(typing_extensions.TypedDict):
    name: str
    people: int


CITY_SCHEMA = {
    "title": "A city, and its people!",
    "type": "object",
    "properties": {"name": {"type": "string"}, "people": {"type": "integer"}},
    "required": ["name", "people"],
}


def says(text):
    return lambda request: answers.answer(request, text[:5], text[5:])


def format_of(body, wire):
    """The schema that a request asks for, in one form for both APIs."""
    return body["response_format"]["json_schema"] if wire == "chat" else body["text"]["format"]


@pytest.mark.parametrize(
    ("schema", "parsed", "name"),
    [
        (City, City(name="Paris", people=2100000), "City"),
        (CityData, CityData("Paris", 2100000), "CityData"),
        (CityDict, {"name": "Paris", "people": 2100000}, "CityDict"),
        (CITY_SCHEMA, {"name": "Paris", "people": 2100000}, "A_city_and_its_people_"),
    ],
    ids=["pydantic", "dataclass", "typed dict", "JSON schema"],
)
async def test_the_answer_is_an_object_of_the_schema(mock_door, wire, streamed, schema, parsed, name):
    sent = []

    def server(request):
        sent.append(answers.body(request))
        return answers.answer(request, PARIS[:5], PARIS[5:])

    reply = await asked(mock_door(server, wire=wire), "Paris?", schema=schema, streamed=streamed)
    assert reply.parsed == parsed
    assert type(reply.parsed) is type(parsed)
    assert reply.text == PARIS
    asked_for = format_of(sent[0], wire)
    assert asked_for["name"] == name
    assert set(asked_for["schema"]["properties"]) == {"name", "people"}
    assert asked_for.get("strict") == (True if schema is City else None)


async def test_without_a_schema_nothing_is_parsed(mock_door, streamed):
    reply = await asked(mock_door(says(PARIS)), "Paris?", streamed=streamed)
    assert reply.parsed is None


@pytest.mark.parametrize(
    ("schema", "text", "words"),
    [
        (City, '{"name": "Paris"}', "does not fit the schema City: people: Field required. It was"),
        (City, '{"name": 3, "people": "many"}', "name: Input should be a valid string (and 1 more)"),
        (City, "Paris has many people.", "does not fit the schema City: Invalid JSON"),
        (CITY_SCHEMA, '{"name": ', "it is no JSON"),
        (CITY_SCHEMA, "", "it is no JSON"),
    ],
)
async def test_an_answer_that_does_not_fit_is_an_error_that_keeps_it(mock_door, wire, streamed, schema, text, words):
    with pytest.raises(allos.ParseError, match=re.escape(words)) as caught:
        await asked(mock_door(says(text), wire=wire), "Paris?", schema=schema, streamed=streamed)
    assert caught.value.reply.text == text
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value.__cause__, ValueError)
    assert len(str(caught.value)) < 500


async def test_a_long_answer_that_does_not_fit_is_not_quoted_whole(mock_door):
    with pytest.raises(allos.ParseError) as caught:
        await mock_door(says("word " * 1000)).chat("Paris?", schema=City)
    assert len(str(caught.value)) < 500
    assert len(caught.value.reply.text) == 5000


@pytest.mark.parametrize(
    ("reason", "words"),
    [("length", "reached its token limit; `max_tokens=` sets a higher one"), ("content_filter", "content filter")],
)
async def test_a_cut_answer_is_an_error_even_where_it_would_fit(mock_door, wire, streamed, reason, words):
    door = mock_door(lambda request: http.Response(200, json=answers.cut(wire, PARIS, reason)), wire=wire)
    with pytest.raises(allos.ParseError, match=words) as caught:
        await asked(door, "Paris?", schema=City, streamed=streamed)
    assert caught.value.reply.text == PARIS
    assert caught.value.reply.finish_reason == reason


async def test_a_refusal_is_an_error_in_the_models_words(mock_door, wire, streamed):
    door = mock_door(lambda request: http.Response(200, json=answers.refusal(wire, "I would rather not.")), wire=wire)
    with pytest.raises(allos.ParseError, match="declined to answer: 'I would rather") as caught:
        await asked(door, "Paris?", schema=City, streamed=streamed)
    assert caught.value.reply.refusal == "I would rather not."


async def test_tools_run_before_the_answer_is_parsed(mock_door, wire, streamed):
    def people(city: str) -> int:
        return 2100000

    def server(request):
        if answers.results(request):
            return answers.answer(request, PARIS)
        return answers.call(request, ("call_1", "people", '{"city": "Paris"}'))

    reply = await asked(mock_door(server, wire=wire), "Paris?", schema=City, tools=[people], streamed=streamed)
    assert reply.parsed == City(name="Paris", people=2100000)


async def test_open_calls_are_handed_out_unparsed(mock_door, wire):
    door = mock_door(lambda request: answers.call(request, ("call_1", "elsewhere", "{}")), wire=wire)
    reply = await door.chat("Paris?", schema=City, tools=[allos.Tool("elsewhere", None, {"type": "object"})])
    assert reply.parsed is None
    assert reply.tool_calls


async def test_a_stream_that_does_not_fit_has_shown_its_text(mock_door, wire):
    steps = mock_door(says("no JSON at all"), wire=wire).stream("Paris?", schema=City)
    seen = []
    with pytest.raises(allos.ParseError):
        [seen.append(delta.text) async for delta in steps]
    assert "".join(seen) == "no JSON at all"
    assert steps.so_far.text == "no JSON at all"


async def test_a_form_without_a_schema_may_be_asked_for(mock_door, wire):
    sent = []

    def server(request):
        sent.append(answers.body(request))
        return answers.answer(request, "{}")

    await mock_door(server, wire=wire).chat("hi", format=allos.OutputFormat("json_object"))
    asked_for = sent[0]["response_format"] if wire == "chat" else sent[0]["text"]["format"]
    assert asked_for == {"type": "json_object"}


def test_a_type_without_a_json_schema_is_refused(mock_client):
    with mock_client(says(PARIS)) as client, pytest.raises(allos.ConfigurationError, match="can't be a schema"):
        client.chat("Paris?", schema=type("Odd", (), {}))
