"""The value that was asked for, in what a model says around it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from allos.messages import Choice, Delta, Message, Refusal, Reply, Text, ToolCall
from allos.wire.objects import Objects, extracted, with_object

PARIS = '{"city": "Paris"}'
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
ANY = {"type": "object"}
CITIES = {"type": "array", "items": CITY}


@pytest.mark.parametrize(
    ("text", "schema", "found"),
    [
        (PARIS, CITY, PARIS),
        (f" {PARIS}\n", CITY, PARIS),
        ("[1, 2]", CITY, "[1, 2]"),
        ("nothing", CITY, None),
        ("{broken", CITY, None),
        ("{city} is " + PARIS, CITY, PARIS),
        ('{"city": "Rome"} no, {"city": "Paris"}', CITY, PARIS),
        ('{"city": 5} and {"town": "Rome"}', CITY, None),
        (f"The schema is {json.dumps(CITY)} so: {PARIS}", CITY, PARIS),
        (f"```json\n{PARIS}\n```", CITY, PARIS),
        (f'For example\n```\n{{"city": "Rome"}}\n```\nand yours\n```json\n{PARIS}\n```', CITY, PARIS),
        (f"Sure: [{PARIS}]", CITY, None),
        (f"Sure: [{PARIS}]", CITIES, f"[{PARIS}]"),
        ('It is\n```\n"a"\n```', {"enum": ["a"]}, '"a"'),
        ('<think>{"city": "Rome"}? No.</think>\n' + PARIS, CITY, PARIS),
        ('<think>{"city": "Rome"}? No.</think>\nHere: ' + PARIS + ".", CITY, PARIS),
        ('<think>{"city": "Rome"}? Perhaps', CITY, None),
        ('{"a": {"city": "Paris"}, "b": [1, ', ANY, None),
        ('{"a": {"city": "Paris"}, "b": "lo', ANY, None),
        ("{" * 100_000, CITY, None),
        ('{"a":' * 5_000, CITY, None),
        ('{"a":' * 200_000 + "1" + "}" * 200_000, CITY, None),
    ],
)
def test_the_value_in_a_text_is_the_last_that_fits(text, schema, found):
    assert extracted(text, schema) == found


def reply(text: str, finish: str | None = "stop", *others: Any, **said: Any) -> Reply:
    parts = (Text(text, **said), *others)
    return Reply(choices=(Choice(Message("assistant", parts), finish),))


@pytest.mark.parametrize(
    "answer",
    [
        reply(PARIS + "\n", logprobs=({"token": "{"},)),
        reply("It is Paris."),
        reply('{"a": {"city": "Paris"}, "b": 1', "length"),
        reply(f"Look at {PARIS} now", "tool_calls", ToolCall("c", "look", "{}")),
        reply(f"Not {PARIS}", "content_filter"),
        reply(f"Not {PARIS}", "stop", Refusal("No.")),
    ],
    ids=["bare", "words", "cut", "calls", "filtered", "refused"],
)
def test_what_is_no_object_among_words_stays_as_it_is(answer):
    assert with_object(answer, CITY) is answer


def test_what_was_said_of_a_text_stays_with_the_object_in_it():
    said = {"annotations": ({"type": "url_citation"},), "extra": {"item": {"id": "msg_1"}}}
    found = with_object(reply(f"It is {PARIS}!", logprobs=({"token": "It"},), **said), CITY)
    assert found.message.parts == (Text(PARIS, **said),)


def through(objects: Objects, *deltas: Delta) -> list[Delta]:
    """What comes of these deltas."""
    return [let for delta in deltas for let in objects.feed(delta)] + objects.end()


STOP = Delta(finish_reason="stop")


@pytest.mark.parametrize(
    ("pieces", "let", "is_whole"),
    [
        (["{", '"city": ', '"Paris"', "}"], PARIS, True),
        ([" ", "{", "  ", '"city": "Paris"}'], ' {  "city": "Paris"}', True),
        (['{"city": "}{"}', " Enjoy", "!"], '{"city": "}{"}', False),
        (["{", "city} is ", PARIS], PARIS, False),
        (["{x} marks ", "the spot"], "{x} marks the spot", True),
        (["Sure: ", PARIS], PARIS, False),
        (["Sure: ", '{"town": 1}'], 'Sure: {"town": 1}', True),
        (["Paris"], "Paris", True),
        (["{}"], "{}", True),
        (["{"], "{", True),
        ([], "", True),
    ],
)
def test_a_stream_lets_the_object_through_and_tells_what_it_let(pieces, let, is_whole):
    objects = Objects(CITY)
    found = through(objects, *map(Delta, pieces), STOP)
    assert "".join(delta.text for delta in found) == let
    assert objects.is_whole == is_whole
    assert objects.shown(reply("".join(pieces))).text == let


def test_a_cut_stream_keeps_its_words():
    objects = Objects(CITY)
    found = through(objects, Delta("Sure: "), Delta(PARIS), Delta(", and"), Delta(finish_reason="length"))
    assert "".join(delta.text for delta in found) == f"Sure: {PARIS}, and"


def test_probabilities_pass_with_what_passes_unchanged():
    first, second = through(Objects(CITY), Delta('{"a', logprobs=({"token": "x"},)), Delta('": 1} b', logprobs=({},)))
    assert first.logprobs == ({"token": "x"},)
    assert second.logprobs is None


def test_several_answers_are_told_apart():
    objects = Objects(CITY)
    found = through(objects, Delta('{"city"'), Delta("Sure ", choice=1), Delta(': "Paris"}'), Delta(PARIS, choice=1))
    texts = ["".join(delta.text for delta in found if delta.choice == choice) for choice in range(2)]
    assert texts == [PARIS.replace('" :', '":'), PARIS]
    both = replace(reply(""), choices=(reply("x").choices[0], replace(reply("y").choices[0], index=1)))
    assert [choice.message.text for choice in objects.shown(both).choices] == texts
