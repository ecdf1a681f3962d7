"""Load with one wire, dump with the other: what could not be said is refused by name or noted, never just gone."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import test_chat
import test_responses
from hypothesis import given, settings
from recorded import each

from allos.errors import Unsupported
from allos.messages import (
    Audio,
    Choice,
    File,
    Image,
    Message,
    Note,
    OutputFormat,
    Reasoning,
    Refusal,
    Reply,
    Request,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Usage,
)
from allos.wire import chat, responses

CODECS = {"chat": chat, "responses": responses}
SCALARS = (
    "model", "max_tokens", "temperature", "top_p", "seed", "n", "stop", "top_logprobs", "parallel_tool_calls",
    "reasoning_effort", "reasoning_summary", "verbosity", "metadata", "store", "service_tier", "stream",
)  # fmt: skip

# What means the same as leaving it out.
DEFAULTS = {
    "truncation": "disabled",
    "background": False,
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "function_call": "auto",
}


def part_meaning(part: Any) -> Any:
    """A part without its ids and without what only says how a wire wrote it."""
    match part:
        case Text() | Refusal():
            return type(part).__name__, part.text
        case ToolCall():
            return "call", part.id, part.name, part.arguments, part.kind
        case ToolResult():
            return "result", part.call_id, part.kind, tuple(map(part_meaning, part.parts))
        case Image():
            return "image", part.url, part.file_id, None if part.detail == "auto" else part.detail
        case File():
            return "file", part.data, part.filename, part.file_id, part.url
        case Audio():
            return "audio", part.data, part.format
        case Reasoning():
            return "reasoning", part.text or "\n\n".join(part.summary)
    return "item", part.data


def turns(request: Request) -> list[Any]:
    """Who says what, in order: a turn's parts one by one, since the wires cut turns at different places."""
    said = [("system", ("Text", request.instructions))] if request.instructions else []
    return said + [(message.role, part_meaning(part)) for message in request.messages for part in message.parts]


def meaning(request: Request) -> dict[str, Any]:
    """What a request asks, in a form in which the two wires can be compared."""
    found: dict[str, Any] = {name: getattr(request, name) for name in SCALARS}
    found["n"] = None if request.n == 1 else request.n
    found["logprobs"] = request.logprobs or None
    found["messages.name"] = [message.name for message in request.messages if message.name]
    said = turns(request)
    found["reasoning"] = [part for _, part in said if part[0] == "reasoning"]
    found["item"] = [part for _, part in said if part[0] == "item"]
    found["messages"] = [(role, part) for role, part in said if part[0] not in ("reasoning", "item")]
    found["tools"] = [
        (tool.kind, tool.name, tool.description, tool.parameters, bool(tool.strict), tool.format)
        for tool in request.tools
    ]
    choice = request.tool_choice
    found["tool_choice"] = choice and (choice.mode, choice.name, choice.names, choice.required)
    form = request.format
    name = form and form.kind == "json_schema" and (form.name or "answer")
    found["format"] = form and (form.kind, name, form.schema, form.strict, form.description)
    found |= {f"extra {name}": value for name, value in request.extra.items() if value != DEFAULTS.get(name)}
    return {name: value for name, value in found.items() if value not in (None, [], ())}


def lost(request: Request, target: str) -> dict[str, str]:
    """What of a request the other wire did not pass on, with the notes that tell of it."""
    notes: list[Note] = []
    body = json.loads(json.dumps(CODECS[target].dump_request(request, notes=notes)))
    before, after = meaning(request), meaning(CODECS[target].load_request(body))
    gone = {name for name in before if before[name] != after.get(name)}
    told = " ".join(note.what for note in notes)
    assert all(note.reason and note.what for note in notes)
    for name in gone:
        key = name.removeprefix("extra ").replace("_summary", ".summary").replace("item", "messages")
        assert key in told or key.partition(".")[2] in told.split(), f"{name} is gone without a word: {notes}"
    return dict.fromkeys(gone, told)


def try_across(request: Request, target: str) -> None:
    refused = None
    try:
        lost(request, target)
    except Unsupported as error:
        refused = error
    assert refused is None or (refused.param and str(refused)), "a refusal names its field"


@settings(max_examples=50)
@given(test_chat.requests)
def test_nothing_of_a_chat_request_is_lost_in_silence(request: Request) -> None:
    try_across(request, "responses")


@settings(max_examples=50)
@given(test_responses.requests)
def test_nothing_of_a_responses_request_is_lost_in_silence(request: Request) -> None:
    try_across(request, "chat")


def has_body(record: dict[str, Any]) -> bool:
    body = record["request"]["body"]
    if not isinstance(body, dict):
        return False
    return isinstance(body.get("messages"), list) if record["api"] == "chat" else "input" in body


@pytest.mark.parametrize("record", each(has_body))
def test_nothing_of_a_recorded_request_is_lost_in_silence(record: dict[str, Any]) -> None:
    api = record["api"]
    try_across(CODECS[api].load_request(record["request"]["body"]), "responses" if api == "chat" else "chat")


# What both can say arrives whole

BOTH = Request(
    (
        Message.system("Be brief."),
        Message.developer("Use the tool."),
        Message.user(["What?", Image("https://x.test/a.png", "low"), File("data:text/plain;base64,AA==", "a.txt")]),
        Message.assistant("I look.", tool_calls=[ToolCall("call_1", "look", "{}"), ToolCall("call_2", "look", "{}")]),
        Message.tool("call_1", "a cat"),
        Message.tool("call_2", "a dog"),
        Message.user("Which is bigger?"),
    ),
    model="m",
    tools=(Tool("look", "Looks.", {"type": "object", "properties": {}}, True),),
    tool_choice=ToolChoice("tool", "look"),
    parallel_tool_calls=False,
    format=OutputFormat("json_schema", "answer", {"type": "object"}, True, "An answer."),
    max_tokens=9,
    temperature=0.5,
    top_p=0.9,
    logprobs=True,
    top_logprobs=3,
    reasoning_effort="low",
    verbosity="low",
    metadata={"a": "b"},
    store=False,
    service_tier="flex",
    stream=True,
    extra={"top_k": 3, "prompt_cache_key": "x", "safety_identifier": "y"},
)  # fmt: skip


@pytest.mark.parametrize("target", ["chat", "responses"])
def test_what_both_apis_can_say_arrives_whole(target: str) -> None:
    assert lost(BOTH, target) == {}


@pytest.mark.parametrize(("first", "second"), [("chat", "responses"), ("responses", "chat")])
def test_a_request_that_both_can_say_survives_the_way_there_and_back(first: str, second: str) -> None:
    there = CODECS[second].load_request(
        CODECS[second].dump_request(CODECS[first].load_request(CODECS[first].dump_request(BOTH)))
    )
    back = CODECS[first].load_request(CODECS[first].dump_request(there))
    assert meaning(back) == meaning(BOTH)


@pytest.mark.parametrize(
    ("field", "body"),
    [
        ("response_format", {"type": "json_schema", "json_schema": {"name": "a", "schema": {}, "strict": True}}),
        ("response_format", {"type": "json_object"}),
        ("response_format", {"type": "text"}),
    ],
)
def test_response_format_and_text_format_are_the_same(field: str, body: dict[str, Any]) -> None:
    request = chat.load_request({"messages": [], field: body})
    form = responses.dump_request(request)["text"]["format"]
    assert form == {"type": body["type"], **body.get("json_schema", {})}
    assert chat.dump_request(responses.load_request({"text": {"format": form}}))[field] == body


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_every_name_of_the_token_limit_is_the_same(name: str) -> None:
    request = chat.load_request({"messages": [], name: 7})
    assert responses.dump_request(request)["max_output_tokens"] == 7
    assert chat.dump_request(responses.load_request({"max_output_tokens": 7}))["max_completion_tokens"] == 7


@pytest.mark.parametrize("kind", ["web_search", "file_search", "code_interpreter", "mcp", "image_generation"])
def test_a_built_in_tool_is_kept_on_responses_and_refused_in_words_on_chat(kind: str) -> None:
    request = responses.load_request({"input": "hi", "tools": [{"type": kind, "x": 1}]})
    assert responses.dump_request(request)["tools"] == [{"type": kind, "x": 1}]
    with pytest.raises(Unsupported, match=kind) as caught:
        chat.dump_request(request)
    assert caught.value.param == "tools[0]"


# Answers


FINISH = {
    "stop": ("completed", None),
    "tool_calls": ("completed", None),
    "length": ("incomplete", "max_output_tokens"),
    "content_filter": ("incomplete", "content_filter"),
}


@pytest.mark.parametrize("reason", FINISH)
def test_a_finish_reason_is_a_status_and_a_status_a_finish_reason(reason: str) -> None:
    calls = [ToolCall("call_1", "f", "{}")] if reason == "tool_calls" else []
    reply = Reply((Choice(Message.assistant("a", tool_calls=calls), reason),), "x", "m", 1)
    body = responses.dump_reply(chat.load_reply(chat.dump_reply(reply)))
    status, why = FINISH[reason]
    assert (body["status"], (body["incomplete_details"] or {}).get("reason")) == (status, why)
    assert chat.dump_reply(responses.load_reply(body))["choices"][0]["finish_reason"] == reason


def test_usage_is_told_in_full_on_both_sides() -> None:
    reply = Reply((Choice(Message.assistant("a"), "stop"),), "x", "m", 1, Usage(10, 5, 15, 4, 3))
    told = chat.dump_reply(responses.load_reply(responses.dump_reply(reply)))["usage"]
    assert told["prompt_tokens_details"]["cached_tokens"] == 4
    assert told["completion_tokens_details"]["reasoning_tokens"] == 3
    back = responses.dump_reply(chat.load_reply({**chat.dump_reply(reply), "usage": told}))["usage"]
    assert (back["input_tokens"], back["output_tokens"], back["total_tokens"]) == (10, 5, 15)
    assert back["input_tokens_details"]["cached_tokens"] == 4
    assert back["output_tokens_details"]["reasoning_tokens"] == 3


CITED = {"type": "url_citation", "url": "https://x.test", "title": "X", "start_index": 0, "end_index": 1}
LOGPROBS = ({"token": "a", "bytes": [97], "logprob": -0.5, "top_logprobs": []},)


@pytest.mark.parametrize(
    "parts",
    [
        (Text("a", (CITED,)),),
        (Text("a", (), LOGPROBS),),
        (Refusal("No."),),
        (Reasoning("hm"), Text("a")),
        (Text("a"), ToolCall("call_1", "f", '{"a":1}'), ToolCall("call_2", "g", "", "custom")),
    ],
    ids=["citation", "logprobs", "refusal", "reasoning", "calls"],
)
@pytest.mark.parametrize(("first", "second"), [("chat", "responses"), ("responses", "chat")])
def test_the_parts_of_an_answer_cross_over(parts: tuple[Any, ...], first: str, second: str) -> None:
    reply = Reply((Choice(Message("assistant", parts), "stop"),), "x", "m", 1)
    for name in (first, second):
        reply = CODECS[name].load_reply(json.loads(json.dumps(CODECS[name].dump_reply(reply))))
    assert list(map(part_meaning, reply.message.parts)) == list(map(part_meaning, parts))
    for part, expected in zip(reply.message.parts, parts, strict=True):
        if isinstance(part, Text):
            assert (part.annotations, part.logprobs or None) == (expected.annotations, expected.logprobs)


@settings(max_examples=50)
@given(test_chat.replies(most=1))
def test_any_chat_answer_is_a_response(reply: Reply) -> None:
    notes: list[Note] = []
    body = responses.dump_reply(reply, notes=notes)
    again = responses.load_reply(json.loads(json.dumps(body)))
    assert (again.text, again.refusal) == (reply.text, reply.refusal)
    assert [(call.id, call.name, call.arguments) for call in again.tool_calls] == [
        (call.id, call.name, call.arguments) for call in reply.tool_calls
    ]
    assert (again.id, again.model, again.created) == (reply.id, reply.model, reply.created)


@settings(max_examples=50)
@given(test_responses.replies())
def test_any_response_is_a_chat_answer(reply: Reply) -> None:
    notes: list[Note] = []
    again = chat.load_reply(json.loads(json.dumps(chat.dump_reply(reply, notes=notes))))
    assert (again.text, again.refusal) == (reply.text, reply.refusal)
    assert [(call.id, call.name, call.arguments) for call in again.tool_calls] == [
        (call.id, call.name, call.arguments) for call in reply.tool_calls
    ]
    assert (again.id, again.model) == (reply.id, reply.model)


def test_the_thinking_of_an_answer_goes_back_over_the_same_api_as_it_came() -> None:
    item = {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": "s"}],
        "encrypted_content": "gA",
    }
    answer = {"output": [item, {"type": "message", "role": "assistant", "content": "a"}], "status": "completed"}
    turn = responses.load_reply(answer).message
    assert responses.dump_request(Request((turn,)))["input"][0] == item
    field = {"role": "assistant", "content": "a", "reasoning_content": "hm"}
    turn = chat.load_reply({"choices": [{"message": field}]}).message
    assert chat.dump_request(Request((replace(turn),)))["messages"] == [field]
