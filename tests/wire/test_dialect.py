"""What each quirk of an endpoint does to a request: what goes in, what is sent, what is noted."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from allos.errors import Unsupported
from allos.messages import Note
from allos.wire.dialect import Dialect, ResponsesDialect, apply


def chat(dialect: Dialect, /, **body: Any) -> tuple[dict[str, Any], list[Note]]:
    """What is sent for a Chat request, and the notes; the request itself must stay as it was."""
    return _applied(body, dialect, "chat")


def responses(dialect: ResponsesDialect, /, **body: Any) -> tuple[dict[str, Any], list[Note]]:
    return _applied(body, Dialect(responses=dialect), "responses")


def _applied(body, dialect, wire):
    before, notes = copy.deepcopy(body), []
    sent = apply(body, dialect, wire, notes)
    assert body == before
    return sent, notes


def said(notes: list[Note]) -> list[tuple[str, str]]:
    return [(note.action, note.what) for note in notes]


def user(content: Any = "hi", **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **more}


def system(content: Any, role: str = "system") -> dict[str, Any]:
    return {"role": role, "content": content}


def assistant(content: Any = None, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def call(id: str = "call_1", arguments: str = "{}") -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": "look", "arguments": arguments}}


def result(content: Any = "seen", id: str = "call_1") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id, "content": content}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def picture(url: str = "data:image/png;base64,AAAA") -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def tool(name: str = "look", **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object"}, **more}}


def flat(name: str = "look") -> dict[str, Any]:
    return {"type": "function", "name": name, "parameters": {"type": "object"}}


SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA}}
TEXT_FORMAT = {"format": {"type": "json_schema", "name": "place", "schema": SCHEMA}, "verbosity": "low"}


def test_an_endpoint_of_which_nothing_is_known_gets_the_standard_form():
    body = {
        "model": "m",
        "messages": [system("be brief", "developer"), user([text("look"), picture()], name="ada"), assistant("ok")],
        "tools": [tool(strict=True)],
        "tool_choice": {"type": "function", "function": {"name": "look"}},
        "response_format": FORMAT,
        "max_completion_tokens": 5,
        "temperature": 1.7,
        "stream_options": {"include_usage": True},
        "seed": 3,
    }
    assert _applied(body, Dialect(), "chat") == (body, [])
    native = {"input": [system("be brief", "developer")], "text": TEXT_FORMAT, "tool_choice": "none", "tools": [flat()]}
    assert _applied(native, Dialect(), "responses") == (native, [])


FIELDS = {
    "the token limit has one name": (
        Dialect(max_tokens_field="max_tokens"),
        {"max_completion_tokens": 5},
        {"max_tokens": 5},
        [("changed", "max_completion_tokens")],
    ),
    "the other way round too": (
        Dialect(max_tokens_field="max_completion_tokens"),
        {"max_tokens": 5},
        {"max_completion_tokens": 5},
        [("changed", "max_tokens")],
    ),
    "where both names are said, the right one counts": (
        Dialect(max_tokens_field="max_tokens"),
        {"max_completion_tokens": 5, "max_tokens": 9},
        {"max_tokens": 9},
        [("changed", "max_completion_tokens")],
    ),
    "a field with another name": (
        Dialect(rename={"seed": "random_seed"}),
        {"seed": 3},
        {"random_seed": 3},
        [("changed", "seed")],
    ),
    "a refused field is left out": (Dialect(drop=("store",)), {"store": True}, {}, [("left out", "store")]),
    "a null is left out without a word": (Dialect(drop=("store",)), {"store": None}, {}, []),
    "a refused field within each tool": (
        Dialect(drop=("tools[].function.strict",)),
        {"tools": [tool(strict=True), tool("other")]},
        {"tools": [tool(), tool("other")]},
        [("left out", "tools[].function.strict")],
    ),
    "only what is accepted": (
        Dialect(accepts=("model",)),
        {"model": "m", "user": "ada"},
        {"model": "m"},
        [("left out", "user")],
    ),
    "what is not obeyed is sent and noted": (
        Dialect(ignored=("seed", "tools[].function.strict")),
        {"seed": 3, "tools": [tool(strict=True)]},
        {"seed": 3, "tools": [tool(strict=True)]},
        [("ignored", "seed"), ("ignored", "tools[].function.strict")],
    ),
    "what was not said is not noted": (Dialect(ignored=("seed",)), {"model": "m"}, {"model": "m"}, []),
    "the highest temperature": (
        Dialect(temperature_max=1),
        {"temperature": 1.5},
        {"temperature": 1},
        [("changed", "temperature")],
    ),
    "a lower temperature stays": (Dialect(temperature_max=1), {"temperature": 0.5}, {"temperature": 0.5}, []),
    "the nearest effort": (
        Dialect(reasoning_effort=("none", "high")),
        {"reasoning_effort": "minimal"},
        {"reasoning_effort": "high"},
        [("changed", "reasoning_effort")],
    ),
    "of two as near, the higher effort": (
        Dialect(reasoning_effort=("low", "high")),
        {"reasoning_effort": "medium"},
        {"reasoning_effort": "high"},
        [("changed", "reasoning_effort")],
    ),
    "no effort is never made some": (
        Dialect(reasoning_effort=("low", "high")),
        {"reasoning_effort": "none"},
        {},
        [("left out", "reasoning_effort")],
    ),
    "stop as a list": (Dialect(stop_list=True), {"stop": "END"}, {"stop": ["END"]}, [("changed", "stop")]),
    "logprobs as a number": (
        Dialect(logprobs_integer=True),
        {"logprobs": True, "top_logprobs": 4},
        {"logprobs": 4},
        [("changed", "top_logprobs"), ("changed", "logprobs")],
    ),
    "no logprobs as no number": (
        Dialect(logprobs_integer=True),
        {"logprobs": False},
        {},
        [("changed", "logprobs")],
    ),
    "no stream options": (
        Dialect(stream_usage=False),
        {"stream": True, "stream_options": {"include_usage": True}},
        {"stream": True},
        [("changed", "stream_options")],
    ),
    "what a whole answer needs": (
        Dialect(whole_defaults={"enable_thinking": False}),
        {"model": "m"},
        {"model": "m", "enable_thinking": False},
        [("changed", "enable_thinking")],
    ),
    "a stream does not need it": (
        Dialect(whole_defaults={"enable_thinking": False}),
        {"stream": True},
        {"stream": True},
        [],
    ),
    "what the caller said about it stays": (
        Dialect(whole_defaults={"enable_thinking": False}),
        {"enable_thinking": True},
        {"enable_thinking": True},
        [],
    ),
    "no empty list of tools": (
        Dialect(empty_tools=False),
        {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True},
        {},
        [("changed", "tools")],
    ),
}


@pytest.mark.parametrize(("dialect", "body", "sent", "notes"), FIELDS.values(), ids=FIELDS)
def test_a_field_is_sent_as_the_service_takes_it(dialect, body, sent, notes):
    found, noted = chat(dialect, **body)
    assert found == sent
    assert said(noted) == notes


MESSAGES = {
    "developer is said as system": (
        Dialect(developer_role=False),
        [system("be brief", "developer"), user()],
        [system("be brief"), user()],
        ["messages[].role"],
    ),
    "system messages stand at the start": (
        Dialect(system_messages="first"),
        [user(), system("a"), assistant("b"), system("c", "developer")],
        [system("a"), system("c", "developer"), user(), assistant("b")],
        ["messages[]"],
    ),
    "one system message": (
        Dialect(system_messages="one"),
        [system("a"), user(), system([text("b"), text("c")])],
        [system("a\n\nbc"), user()],
        ["messages[]"],
    ),
    "one system message at the start stays": (
        Dialect(system_messages="one"),
        [system("a"), user()],
        [system("a"), user()],
        [],
    ),
    "neighbours are joined": (
        Dialect(alternation=True),
        [user("a"), user("b"), assistant("c"), assistant("d", tool_calls=[call()])],
        [user("a\n\nb"), assistant("c\n\nd", tool_calls=[call()])],
        ["messages[]"],
    ),
    "neighbours with pictures are joined": (
        Dialect(alternation=True),
        [user("a"), user([picture()])],
        [user([text("a"), picture()])],
        ["messages[]"],
    ),
    "results of tools are no neighbours": (
        Dialect(alternation=True),
        [result("a"), result("b", "call_2")],
        [result("a"), result("b", "call_2")],
        [],
    ),
    "text as a string": (
        Dialect(string_content=("user", "tool")),
        [system([text("a")]), user([text("b"), text("c")]), result([text("d")])],
        [system([text("a")]), user("bc"), result("d")],
        ["messages[].content"],
    ),
    "pictures stay in a list": (
        Dialect(string_content=("user",)),
        [user([text("b"), picture()])],
        [user([text("b"), picture()])],
        [],
    ),
    "no null": (
        Dialect(null_fields=False),
        [assistant(None, tool_calls=[call()], refusal=None)],
        [{"role": "assistant", "tool_calls": [call()]}],
        ["messages[]"],
    ),
    "no empty message of the assistant": (
        Dialect(empty_assistant=False),
        [user("a"), assistant(""), assistant(None, tool_calls=[call()])],
        [user("a"), assistant(None, tool_calls=[call()])],
        ["messages[]"],
    ),
    "a last message of the assistant is marked": (
        Dialect(prefix_field="prefix"),
        [user(), assistant("The")],
        [user(), assistant("The", prefix=True)],
        ["messages[]"],
    ),
    "one in the middle is not": (
        Dialect(prefix_field="prefix"),
        [assistant("The"), user()],
        [assistant("The"), user()],
        [],
    ),
    "missing reasoning is filled in beside a call": (
        Dialect(reasoning_replay="reasoning_content", reasoning_filler=" "),
        [assistant("a"), assistant(None, tool_calls=[call()])],
        [assistant("a"), assistant(None, tool_calls=[call()], reasoning_content=" ")],
        ["messages[].reasoning_content"],
    ),
    "reasoning that is there stays": (
        Dialect(reasoning_replay="reasoning_content", reasoning_filler=" "),
        [assistant(None, tool_calls=[call()], reasoning_content="hm")],
        [assistant(None, tool_calls=[call()], reasoning_content="hm")],
        [],
    ),
    "ids that fit stay, others get one that fits": (
        Dialect(tool_call_id_length=9),
        [assistant(None, tool_calls=[call("abcdefgh1")]), result(id="abcdefgh1")],
        [assistant(None, tool_calls=[call("abcdefgh1")]), result(id="abcdefgh1")],
        [],
    ),
    "arguments that are no JSON": (
        Dialect(json_arguments=False),
        [assistant(None, tool_calls=[call(arguments='{"a": '), call("call_2", '{"a": 1}')])],
        [assistant(None, tool_calls=[call(arguments='{"text": "{\\"a\\": "}'), call("call_2", '{"a": 1}')])],
        ["messages[].tool_calls[].function.arguments"],
    ),
    "a name that is refused": (
        Dialect(drop=("messages[].name",)),
        [user(name="ada")],
        [user()],
        ["messages[].name"],
    ),
    "a tool's picture follows in a message of the user": (
        Dialect(),
        [assistant(None, tool_calls=[call(), call("call_2")]), result([text("see"), picture()]), result("b", "call_2")],
        [
            assistant(None, tool_calls=[call(), call("call_2")]),
            result([text("see")]),
            result("b", "call_2"),
            user([text("The tool call call_1 also gave this:"), picture()]),
        ],
        ["messages[].content"],
    ),
}


@pytest.mark.parametrize(("dialect", "messages", "sent", "notes"), MESSAGES.values(), ids=MESSAGES)
def test_messages_are_sent_as_the_service_takes_them(dialect, messages, sent, notes):
    found, noted = chat(dialect, messages=messages)
    assert found["messages"] == sent
    assert [note.what for note in noted] == notes


def test_short_ids_tie_the_same_call_to_its_result_every_time():
    messages = [assistant(None, tool_calls=[call("call_1"), call("call_2")]), result(), result("b", "call_2")]
    sent, notes = chat(Dialect(tool_call_id_length=9), messages=messages)
    made = [entry["id"] for entry in sent["messages"][0]["tool_calls"]]
    assert all(len(id) == 9 and id.isascii() and id.isalnum() for id in made)
    assert len(set(made)) == 2
    assert [entry["tool_call_id"] for entry in sent["messages"][1:]] == made
    assert said(notes) == [("changed", "messages[].tool_calls[].id")]
    assert chat(Dialect(tool_call_id_length=9), messages=messages)[0] == sent


LOOK = {"type": "function", "function": {"name": "look"}}
ALLOWED = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [LOOK]}}
BOTH = [tool("look"), tool("go")]


@pytest.mark.parametrize(
    ("accepted", "choice", "tools", "sent"),
    [
        (("none", "auto", "required"), LOOK, ["look"], "required"),
        (("auto", "any"), "required", ["look", "go"], "any"),
        (("auto", "required"), "none", [], None),
        (("auto",), LOOK, ["look"], None),
        (("auto",), "required", ["look", "go"], None),
        (("auto", "required"), ALLOWED, ["look"], "auto"),
        ((), "auto", ["look", "go"], None),
        (("function",), LOOK, ["look", "go"], LOOK),
    ],
)
def test_a_tool_choice_is_said_in_a_form_that_the_service_takes(accepted, choice, tools, sent):
    found, notes = chat(Dialect(tool_choice=accepted), tools=BOTH, tool_choice=choice)
    assert [entry["function"]["name"] for entry in found.get("tools", [])] == tools
    assert found.get("tool_choice") == sent
    assert bool(notes) == (found != {"tools": BOTH, "tool_choice": choice})


@pytest.mark.parametrize(
    ("tools", "words"), [(BOTH, "names 'nope', but the tools are 'look', 'go'"), ([], "there are no tools")]
)
def test_the_name_of_a_tool_that_is_not_there_is_refused_where_it_can_not_be_said(tools, words):
    nope = {"type": "function", "function": {"name": "nope"}}
    for choice in (nope, {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [LOOK, nope]}}):
        with pytest.raises(Unsupported, match=words) as caught:
            chat(Dialect(tool_choice=("auto", "required")), tools=tools, tool_choice=choice)
        assert caught.value.param == "tool_choice"
        sent, notes = chat(Dialect(), tools=tools, tool_choice=choice)
        assert (sent["tool_choice"], notes) == (choice, [])


def test_a_service_that_can_not_be_made_to_call_is_told_of():
    _, notes = chat(Dialect(tool_choice=("auto",)), tools=BOTH, tool_choice="required")
    assert said(notes) == [("left out", "tool_choice")]


def test_a_tool_choice_is_said_so_on_responses_too():
    dialect = ResponsesDialect(tool_choice=("auto", "required"))
    sent, notes = responses(dialect, tools=[flat(), flat("go")], tool_choice={"type": "function", "name": "look"})
    assert sent == {"tools": [flat()], "tool_choice": "required"}
    assert [note.what for note in notes] == ["tools", "tool_choice"]


@pytest.mark.parametrize(
    ("accepted", "wanted", "sent"),
    [
        (("text", "json_object"), FORMAT, {"type": "json_object"}),
        ((), FORMAT, None),
        ((), {"type": "json_object"}, None),
    ],
)
def test_a_form_that_the_service_does_not_know_is_asked_for_in_the_prompt(accepted, wanted, sent):
    messages = [system("be brief"), user()]
    found, notes = chat(Dialect(response_format=accepted), messages=messages, response_format=wanted)
    assert found.get("response_format") == sent
    first, instruction, last = found["messages"]
    assert (first, last) == (messages[0], messages[1])
    assert instruction["role"] == "system"
    assert "JSON" in instruction["content"]
    assert (json.dumps(SCHEMA) in instruction["content"]) == (wanted is FORMAT)
    assert said(notes) == [("changed", "response_format"), ("changed", "messages")]


def test_json_object_is_said_as_the_schema_of_any_object_where_only_schemas_are_known():
    sent, notes = chat(Dialect(response_format=("json_schema",)), response_format={"type": "json_object"})
    assert sent["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert said(notes) == [("changed", "response_format")]


@pytest.mark.parametrize("wanted", [{"type": "text"}, FORMAT])
def test_a_form_that_the_service_knows_stays(wanted):
    body = {"messages": [user()], "response_format": wanted}
    assert chat(Dialect(response_format=("json_schema",)), **body) == (body, [])


def test_the_form_of_a_response_is_said_where_the_service_reads_it():
    sent, notes = responses(ResponsesDialect(format_field="response_format"), input="hi", text=TEXT_FORMAT)
    assert sent == {"input": "hi", "text": {"verbosity": "low"}, "response_format": FORMAT}
    assert said(notes) == [("changed", "text")]
    sent, notes = responses(ResponsesDialect(format_field="text_format"), input="hi", text=TEXT_FORMAT)
    assert sent == {"input": "hi", "text": {"verbosity": "low"}, "text_format": TEXT_FORMAT["format"]}


def test_the_form_of_a_response_goes_into_the_prompt_where_the_service_reads_none():
    sent, notes = responses(ResponsesDialect(response_format=()), input="hi", text={"format": TEXT_FORMAT["format"]})
    instruction, question = sent["input"]
    assert "text" not in sent
    assert json.dumps(SCHEMA) in instruction["content"]
    assert question["content"] == "hi"
    assert said(notes) == [("changed", "text"), ("changed", "input")]


def test_schemas_are_written_with_the_keywords_that_the_service_takes():
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {"place": {"$ref": "#/$defs/Place"}},
        "$defs": {"Place": {"type": "string"}},
    }
    plain = {"type": "object", "properties": {"place": {"type": "string"}}}
    body = {
        "tools": [tool(parameters=schema), tool("other")],
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}},
    }
    sent, notes = chat(Dialect(schema_refs=False, schema_drop=("$schema",)), **body)
    assert sent["tools"] == [tool(parameters=plain), tool("other")]
    assert sent["response_format"]["json_schema"]["schema"] == plain
    assert said(notes) == [
        ("changed", "tools[].function.parameters"),
        ("changed", "response_format.json_schema.schema"),
    ]


@pytest.mark.parametrize(
    ("dialect", "body", "param"),
    [
        (Dialect(refuse=("tools",)), {"tools": [tool()]}, "tools"),
        (Dialect(n_max=1), {"n": 2}, "n"),
        (Dialect(tool_kinds=("function",)), {"tools": [tool(), {"type": "custom", "custom": {}}]}, "tools[1]"),
        (Dialect(refused_parts=("file",)), {"messages": [user([{"type": "file"}])]}, "messages[0].content"),
        (Dialect(image_urls=False), {"messages": [user([picture("https://a.test/b")])]}, "messages[0].content"),
    ],
)
def test_what_would_change_the_answer_is_refused_with_its_place(dialect, body, param):
    with pytest.raises(Unsupported) as caught:
        chat(dialect, **body)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("dialect", "body"),
    [
        (Dialect(refuse=("tools",)), {"tools": []}),
        (Dialect(n_max=1), {"n": 1}),
        (Dialect(image_urls=False), {"messages": [user([picture()])]}),
    ],
)
def test_what_the_service_has_is_not_refused(dialect, body):
    assert chat(dialect, **body) == (body, [])


def test_the_responses_api_has_rules_of_its_own():
    dialect = ResponsesDialect(
        developer_role=False,
        item_status=False,
        drop=("metadata",),
        ignored=("truncation",),
        whole_defaults={"stream": False},
    )
    sent, notes = responses(
        dialect, input=[system("a", "developer") | {"status": "completed"}], metadata={"a": "b"}, truncation="auto"
    )
    assert sent == {"input": [system("a")], "truncation": "auto", "stream": False}
    assert said(notes) == [
        ("changed", "input[].role"),
        ("changed", "input[].status"),
        ("left out", "metadata"),
        ("ignored", "truncation"),
        ("changed", "stream"),
    ]
    with pytest.raises(Unsupported, match="prompt"):
        responses(ResponsesDialect(refuse=("prompt",)), prompt={"id": "p"})


@pytest.mark.parametrize("odd", [None, "text", 3, {"a": 1}, [None, 3, "x", {"role": "user", "content": [None, 3]}]])
def test_odd_bodies_are_left_to_the_service_to_refuse(odd):
    every = Dialect(
        developer_role=False, system_messages="one", alternation=True, string_content=("user",), image_urls=False,
        null_fields=False, empty_assistant=False, prefix_field="prefix", tool_call_id_length=9, json_arguments=False,
        empty_tools=False, schema_refs=False, response_format=(), tool_choice=("auto",), reasoning_filler=" ",
        drop=("messages[].name", "tools[].function.strict"), tool_kinds=("function",), refused_parts=("file",),
    )  # fmt: skip
    for name in ("messages", "tools", "tool_choice", "response_format"):
        try:
            chat(every, **{name: odd})
        except Unsupported as error:
            assert error.param  # noqa: PT017  # a refusal is as good as passing it on
