"""Arguments of the wrong kind: refused before anything is sent, in words that name the argument."""

from __future__ import annotations

import inspect
import json
from dataclasses import fields
from pathlib import Path

import answers
import pytest
from doors import asked

import allos
from allos import arguments


def test_every_keyword_of_a_call_knows_what_it_takes():
    judged_elsewhere = {"tools", "deadline"}
    of_a_call = inspect.signature(allos.Client.chat).parameters.keys() - {"self", "messages", "options"}
    of_a_request = {field.name for field in fields(allos.Request)} - {"messages", "stream"}
    assert (of_a_call | of_a_request) - judged_elsewhere <= arguments._TAKES.keys()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"stop": 3}, r"stop= takes a text or a list of texts, not 3 \(int\)\."),
        ({"stop": ["a", 3]}, r"stop= takes .*, not \['a', 3\] \(list\)"),
        ({"extra": 3}, r"extra= takes a dict with texts as keys, not 3 \(int\)"),
        ({"metadata": {3: 4}}, r"metadata= takes a dict with texts as keys, not \{3: 4\}"),
        ({"system": 3}, "system= takes a text, not 3"),
        ({"model": 3}, "model= takes a text, not 3"),
        ({"max_steps": "x"}, "max_steps= takes a whole number above zero, not 'x'"),
        ({"max_steps": 0}, "max_steps= takes a whole number above zero, not 0"),
        ({"max_tokens": 1.5}, "max_tokens= takes a whole number, not 1.5"),
        ({"seed": object()}, r"seed= takes a whole number, not <object .*> \(object\)"),
        ({"temperature": "hot"}, "temperature= takes a number, not 'hot'"),
        ({"temperature": True}, "temperature= takes a number, not True"),
        ({"top_p": float("nan")}, "top_p= takes a number, not nan"),
        ({"logprobs": 1}, "logprobs= takes true or false, not 1"),
        ({"tool_choice": 3}, "tool_choice= takes a text, an allos.ToolChoice or a dict, not 3"),
        ({"format": "json"}, "format= takes an allos.OutputFormat, not 'json'"),
        (
            {"schema": print},
            "schema= takes a pydantic model, another type or a JSON schema, not <built-in function print>",
        ),
        ({"schema": "City"}, "schema= takes .*, not 'City'"),
        ({"schema": 3}, "schema=3 can't be a schema: 3 has no JSON schema. Pass a pydantic model"),
        ({"schema": {"type": int}}, "schema=.* can't be a schema: Object of type type is not JSON"),
        ({"max_output_tokens": 3}, "max_output_tokens= is not taken here; use max_tokens= for it."),
        ({"max_completion_tokens": 3}, "max_completion_tokens= is not taken here; use max_tokens= for it."),
        ({"deadline": "soon"}, "deadline='soon' is not a number of seconds"),
        ({"user": "x" * 200, "service_tier": ["x" * 200]}, r"service_tier= takes a text, not \['x{60,80}… \(list\)"),
    ],
)
async def test_an_argument_of_the_wrong_kind_is_refused_in_one_way(mock_door, streamed, options, words):
    with pytest.raises(allos.ConfigurationError, match=words) as caught:
        await asked(mock_door(lambda request: None), "hi", streamed=streamed, **options)
    assert "pydantic_core" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"extra": {"top_k": object()}}, "top_k= holds what JSON can't say: Object of type object"),
        ({"user": {1, 2}}, "user= holds .* Object of type set"),
        ({"metadata": {"a": float("inf")}}, "metadata= holds .* Out of range float"),
        ({"tools": [allos.Tool("look", None, {"type": int})]}, "tools= holds .* Object of type type"),
        ({"messages": [allos.Message.user([allos.Image(Path("a.png"))])]}, "(messages|input)= holds .*PosixPath"),
        ({"messages": {"role": "user", "content": [{"type": "text", "text": b"hi"}]}}, "messages= holds .* bytes"),
        ({"messages": "half a smile: \ud83d"}, "(messages|input)= holds .* surrogates not allowed"),
    ],
)
async def test_what_json_can_not_say_is_refused_like_any_argument(mock_door, wire, streamed, options, words):
    door = mock_door(lambda request: answers.answer(request, "hi"), wire=wire)
    with pytest.raises(allos.ConfigurationError, match=words):
        await asked(door, **{"messages": "hi"} | options, streamed=streamed)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"env_file": 3}, r"env_file= takes the path of a file, not 3 \(int\)"),
        ({"on_retry": 3}, r"on_retry= takes a function, not 3 \(int\)"),
        ({"http_client": "x"}, r"http_client= takes an httpx2?\.(Async)?Client, not 'x' \(str\)"),
        ({"api_key": b"sk-secret"}, "Can't use api_key from the api_key argument: it takes a text"),
        ({"timeout": "x"}, "Can't use timeout='x' from the timeout argument: it takes a number"),
        ({"max_retries": "x"}, "Can't use max_retries='x' from the max_retries argument: it takes a whole number"),
        ({"fallback": 3}, "Can't use fallback=3 from the fallback argument: it takes a list of texts"),
    ],
)
@pytest.mark.parametrize("kind", [allos.Client, allos.AsyncClient])
def test_an_argument_of_the_wrong_kind_makes_no_client(kind, options, words):
    with pytest.raises(allos.ConfigurationError, match=words) as caught:
        kind("groq", **{"api_key": "gsk_k"} | options)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("options", [{"stop": {"a"}}, {"stop": ("a",)}, {"max_tokens": 5.0}, {"seed": 1e3}])
async def test_what_says_the_same_in_another_kind_is_taken(mock_door, options):
    door = mock_door(lambda request: answers.answer(request, "hi"), wire="chat")
    assert (await asked(door, "hi", **options, streamed=False)).text == "hi"


def test_an_error_of_another_is_not_blamed_on_an_argument():
    def broken(request):
        raise ValueError("my hook broke")

    with pytest.raises(ValueError, match="my hook broke"), arguments.sayable({"extra": object()}):
        broken(None)
    with (
        pytest.raises(allos.ConfigurationError, match="extra= holds what JSON can't say"),
        arguments.sayable({"extra": object()}),
    ):
        json.dumps(object())
