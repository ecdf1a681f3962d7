from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import plain_chat
import plain_responses as plain
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import Response
from recorded import each

from allos.errors import BadData, ServerFault, Unsupported
from allos.messages import (
    Audio,
    Choice,
    File,
    Image,
    Item,
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
from allos.wire import responses

# Recorded requests


def has_body(record: dict[str, Any]) -> bool:
    """Not the requests that only fetch a stored response."""
    return record["api"] == "responses" and isinstance(record["request"]["body"], dict)


def canonical(value: Any, key: str = "") -> Any:
    """The form in which two bodies that mean the same are equal. See each line for what it evens out."""
    if isinstance(value, list):
        return [canonical(entry, key) for entry in value]
    if not isinstance(value, dict) or key in ("parameters", "schema", "metadata"):
        return value
    value = {name: canonical(entry, name) for name, entry in value.items() if entry is not None}  # null is not said
    for name in ("tools", "include"):
        if value.get(name) == []:
            del value[name]  # none
    if "role" in value and "type" not in value:
        value["type"] = "message"  # what an input with a role is
    for name in ("content", "output"):
        if isinstance(value.get(name), str) and (name == "content" or "call_id" in value):
            value[name] = [{"type": "text", "text": value[name]}] if value[name] else []  # a text is a list of one
    if value.get("type") in ("input_text", "output_text") and "text" in value:
        value["type"] = "text"  # the role already says which
    if value.get("type") == "text" and not value.get("annotations", True):
        del value["annotations"]  # none
    if value.get("type") == "input_image":
        value.setdefault("detail", "auto")  # what leaving it out means
    if "input" in value and isinstance(value["input"], str):
        value["input"] = [{"type": "message", "role": "user", "content": [{"type": "text", "text": value["input"]}]}]
    return value


@pytest.mark.parametrize("record", each(has_body))
def test_every_recorded_request_survives_reading_and_writing(record: dict[str, Any]) -> None:
    body = record["request"]["body"]
    notes: list[Note] = []
    assert canonical(responses.dump_request(responses.load_request(body), notes=notes)) == canonical(body)
    assert not notes


@pytest.mark.parametrize("record", each(has_body))
def test_reading_a_written_request_changes_nothing(record: dict[str, Any]) -> None:
    request = responses.load_request(record["request"]["body"])
    assert responses.load_request(responses.dump_request(request)) == request


# Generated requests

words = st.text(min_size=1, max_size=12)
names = st.from_regex(r"[a-z_]{1,12}", fullmatch=True)
schemas = st.just({"type": "object", "properties": {"a": {"type": "integer", "default": None}}})
texts = st.builds(Text, words)
images = st.builds(Image, words, st.sampled_from([None, "low", "high"])) | st.builds(Image, file_id=words)
files = st.builds(File, words, words) | st.builds(File, file_id=words) | st.builds(File, url=words)
sounds = st.builds(Audio, words, st.sampled_from(["mp3", "wav"]))
contents = st.lists(texts | images | files | sounds, max_size=3).map(tuple)
kinds = st.sampled_from(["function", "custom"])
item_ids = st.none() | words
calls = st.builds(
    ToolCall, words, names, st.sampled_from(["{}", '{"a": 1}', "", "{no"]), st.just("function"), item_ids
) | st.builds(ToolCall, words, names, words, st.just("custom"), item_ids)
thoughts = st.builds(
    Reasoning,
    st.just("") | words,
    st.lists(words, max_size=2).map(tuple),
    st.none() | words,
    st.none(),
    words,
    extra=st.just({}) | st.just({"status": "completed"}),
)
logprobs = st.none() | st.just(({"token": "a", "bytes": [97], "logprob": -0.5, "top_logprobs": []},))
citations = st.lists(
    st.fixed_dictionaries({"type": st.just("url_citation"), "url": words, "title": words, "start_index": st.just(0),
                           "end_index": st.integers(0, 9)}),
    max_size=2,
).map(tuple)  # fmt: skip
searches = st.builds(
    lambda id: Item({"type": "web_search_call", "id": id, "status": "completed",
                     "action": {"type": "search", "query": "q", "queries": ["q"]}}),
    words,
)  # fmt: skip


@st.composite
def spoken(draw: st.DrawFn) -> tuple[Any, ...]:
    """The parts of one message of the assistant, tied to its id where it has one."""
    tie: dict[str, Any] = draw(st.just({}) | st.builds(lambda id: {"item": {"id": id, "status": "completed"}}, words))
    found: list[Any] = draw(st.lists(st.builds(Text, words, citations, logprobs, st.just(tie)), min_size=1, max_size=2))
    return (*found, *draw(st.lists(st.builds(Refusal, words, extra=st.just(tie)), max_size=1)))


turns = st.builds(
    lambda *groups: tuple(part for group in groups for part in group),
    st.just(()) | st.tuples(thoughts) | st.tuples(thoughts, searches),  # after a text, a search would be of its turn
    spoken(),
    st.lists(calls, max_size=3, unique_by=lambda call: call.id),
)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    found: list[Message] = []
    for role in draw(st.lists(st.sampled_from(["system", "developer", "user", "assistant"]), max_size=5)):
        if role != "assistant":
            found.append(Message(role, draw(contents)))
            continue
        found.append(Message(role, draw(turns)))
        for call in found[-1].tool_calls:
            parts = tuple(draw(st.lists(texts | images, max_size=2)))
            found.append(Message("tool", (ToolResult(call.id, parts, call.kind),)))
    return tuple(found)


tools = (
    st.builds(Tool, names, st.none() | words, st.none() | schemas, st.booleans())
    | st.builds(Tool, names, words, schemas, extra=st.just({"strict": None}))
    | st.builds(Tool, names, words, kind=st.just("custom"))
    | st.builds(
        Tool, names, kind=st.just("custom"), format=st.just({"type": "grammar", "syntax": "lark", "definition": "a"})
    )
    | st.sampled_from([
        Tool("web_search", kind="web_search", extra={"search_context_size": "low"}),
        Tool("mcp", kind="mcp", extra={"server_label": "x", "server_url": "https://x.test"}),
    ])
)  # fmt: skip
choices = (
    st.sampled_from([ToolChoice("auto"), ToolChoice("none"), ToolChoice("required")])
    | st.builds(ToolChoice, st.just("tool"), names, kinds)
    | st.builds(
        ToolChoice, st.just("allowed"), names=st.lists(names, min_size=1, max_size=2).map(tuple), required=st.booleans()
    )
    | st.just(ToolChoice("web_search", extra={"type": "web_search"}))
)
formats = st.sampled_from([OutputFormat("text"), OutputFormat("json_object")]) | st.builds(
    OutputFormat, st.just("json_schema"), names, schemas, st.none() | st.booleans(), st.none() | words
)
maybe_bool = st.none() | st.booleans()
extras = st.fixed_dictionaries(
    {},
    optional={
        "previous_response_id": words,
        "truncation": st.sampled_from(["auto", "disabled"]),
        "background": st.booleans(),
        "max_tool_calls": st.integers(1, 9),
        "prompt_cache_key": words,
        "top_k": st.integers(1, 9),
        "include": st.just(["reasoning.encrypted_content"]),
        "reasoning": st.just({"context": "all"}),
    },
)
requests = st.builds(
    Request,
    conversations(),
    model=st.none() | words,
    instructions=st.none() | words,
    tools=st.lists(tools, max_size=3).map(tuple),
    tool_choice=st.none() | choices,
    parallel_tool_calls=maybe_bool,
    format=st.none() | formats,
    max_tokens=st.none() | st.integers(1),
    temperature=st.none() | st.floats(0, 2),
    top_p=st.none() | st.floats(0, 1),
    logprobs=st.none() | st.just(True),
    top_logprobs=st.none() | st.integers(0, 20),
    reasoning_effort=st.none() | words,
    reasoning_summary=st.none() | words,
    verbosity=st.none() | words,
    metadata=st.none() | st.dictionaries(words, words),
    store=maybe_bool,
    service_tier=st.none() | words,
    stream=maybe_bool,
    extra=extras,
)


@given(requests)
def test_load_undoes_dump_for_any_request(request: Request) -> None:
    notes: list[Note] = []
    body = responses.dump_request(request, notes=notes)
    assert responses.load_request(json.loads(json.dumps(body))) == request
    assert not notes


# Forms of a request


def input_of(*messages: Message, **more: Any) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = responses.dump_request(Request(messages, **more))["input"]
    return items


def test_a_text_is_what_the_user_says() -> None:
    assert responses.load_request({"input": "hi"}).messages == (Message.user("hi"),)


def test_an_answer_in_items_is_one_turn_and_comes_back_in_the_same_items() -> None:
    items = [
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"},
        {"type": "message", "role": "assistant", "id": "msg_1", "content": [{"type": "output_text", "text": "I add."}]},
        {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "add", "arguments": "{}"},
        {"type": "function_call", "id": "fc_2", "call_id": "c2", "name": "add", "arguments": "{}"},
    ]
    [turn] = responses.load_request({"input": items}).messages
    assert [type(part) for part in turn.parts] == [Reasoning, Text, ToolCall, ToolCall]
    items[1]["content"][0]["annotations"] = []  # type: ignore[index]
    assert input_of(turn) == items


def test_two_answers_of_the_assistant_stay_two() -> None:
    said = input_of(Message.assistant("a"), Message.assistant("b"))
    assert responses.load_request({"input": said}).messages == (Message.assistant("a"), Message.assistant("b"))


def test_a_strict_tool_is_said_to_be_strict_or_not() -> None:
    """Left out it would mean true on this API, and false on Chat Completions."""
    strict = [tool.get("strict") for tool in responses.dump_request(
        Request(tools=(Tool("a", strict=True), Tool("b", strict=False), Tool("c")))
    )["tools"]]  # fmt: skip
    assert strict == [True, False, False]


def test_a_schema_without_a_name_gets_one() -> None:
    form = responses.dump_request(Request(format=OutputFormat("json_schema", schema={"type": "object"})))["text"]
    assert form["format"]["name"] == "answer"


@pytest.mark.parametrize(("field", "value"), [("n", 2), ("stop", ("x",))])
def test_what_only_chat_can_do_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(Unsupported) as caught:
        responses.dump_request(Request((Message.user("hi"),), **{field: value}))
    assert caught.value.param == field


def test_a_hint_that_only_chat_takes_is_left_out_with_a_note() -> None:
    notes: list[Note] = []
    body = responses.dump_request(Request((Message.user("hi"),), seed=3), notes=notes)
    assert body.keys() == {"input"}
    assert [(note.action, note.what) for note in notes] == [("left out", "seed")]


def test_a_name_of_a_message_is_noted() -> None:
    notes: list[Note] = []
    body = responses.dump_request(Request((Message("user", (Text("hi"),), "ada"),)), notes=notes)
    assert "ada" not in json.dumps(body)
    assert [note.what for note in notes] == ["messages.name"]


def test_thinking_that_came_in_a_chat_field_is_left_out_with_a_note() -> None:
    notes: list[Note] = []
    turn = Message("assistant", (Reasoning("hm", source="reasoning_content"), Text("a")))
    body = responses.dump_request(Request((turn,)), notes=notes)
    assert [item["type"] for item in body["input"]] == ["message"]
    assert [note.what for note in notes] == ["messages.reasoning"]


@pytest.mark.parametrize("part", [Reasoning("hm"), ToolCall("c", "f"), Item({"type": "thinking"}, "chat")])
def test_a_part_that_no_input_message_can_hold_is_refused(part: Any) -> None:
    with pytest.raises(Unsupported, match="can't be part of an input message"):
        input_of(Message("user", (part,)))


@pytest.mark.parametrize(
    "body",
    [{"input": 3}, {"input": ["hi"]}, {"input": [{"role": "user", "content": 3}]}, {"tools": "x"}, {"tools": ["x"]},
     {"text": "x"}, {"tool_choice": 3}, {"reasoning": "low"}, {"input": [{"role": "user", "content": [3]}]}],
)  # fmt: skip
def test_a_request_of_a_wrong_form_is_refused_with_its_place(body: Any) -> None:
    with pytest.raises(Unsupported) as caught:
        responses.load_request(body)
    assert str(caught.value.param).startswith(next(iter(body)))
    assert caught.value.code == "invalid_type"


# Recorded answers


def is_whole_answer(record: dict[str, Any]) -> bool:
    """A whole Response, and not one that says that it failed, nor a compacted conversation, which is another object."""
    if record["api"] != "responses" or record["streaming"] or record["response"]["status"] != 200:
        return False
    body = json.loads(record["response"]["body"])
    return isinstance(body.get("output"), list) and not body.get("error") and body["object"] == "response"


@pytest.mark.parametrize("record", each(is_whole_answer))
def test_every_recorded_answer_says_what_its_bytes_say(record: dict[str, Any]) -> None:
    body = json.loads(record["response"]["body"])
    reply = responses.load_reply(body)
    assert plain_chat.said(reply) == plain.whole(body)
    assert (reply.id, reply.model) == (body["id"], body["model"])
    assert reply.raw is body


def standard(body: dict[str, Any]) -> dict[str, Any]:
    """The answer without what the SDK's types can't hold: services' own tools and their calls, tiers and citations."""
    own = [item for item in body["output"] if item["type"] in ("message", "function_call", "reasoning")]
    for message in (item for item in own if item["type"] == "message"):
        message["content"] = [{**part, "annotations": []} for part in message["content"]]
    reasoning = body["reasoning"] if isinstance(body["reasoning"], dict) else None
    return {**body, "output": own, "tools": [], "service_tier": None, "reasoning": reasoning}


@pytest.mark.parametrize("record", each(is_whole_answer))
def test_every_recorded_answer_is_written_by_the_reference_and_reads_the_same(record: dict[str, Any]) -> None:
    reply = responses.load_reply(json.loads(record["response"]["body"]))
    dumped = json.loads(json.dumps(responses.dump_reply(reply)))
    again = responses.load_reply(dumped)
    assert (again.text, again.reasoning, again.refusal) == (reply.text, reply.reasoning, reply.refusal)
    assert (again.tool_calls, again.finish_reason) == (reply.tool_calls, reply.finish_reason)
    assert [type(part) for part in again.message.parts] == [type(part) for part in reply.message.parts]
    Response.model_validate(standard(dumped))


# Generated answers


@st.composite
def replies(draw: st.DrawFn) -> Reply:
    count = st.integers(0, 10**6)
    parts = draw(turns)
    reasons = ["length", "content_filter", "cancelled", "tool_calls" if draw(st.just(parts)) and any(
        isinstance(part, ToolCall) for part in parts) else "stop"]  # fmt: skip
    extra = st.fixed_dictionaries({}, optional={"cost": count, "output_tokens_details": st.just({"text_tokens": 3})})
    return Reply(
        (Choice(Message("assistant", parts), draw(st.sampled_from(reasons))),),
        draw(words),
        draw(words),
        draw(st.integers(0, 2**31)),
        draw(st.none() | st.builds(Usage, count, count, count, count, count, extra)),
        draw(st.sampled_from([None, "default", "flex", "priority"])),
        draw(st.dictionaries(st.sampled_from(["provider", "x_cost"]), words)),
    )


def without_ids(reply: Reply) -> Any:
    """The reply's values without the ids and states that an answer must have, and a reply need not."""

    def bare(part: Any) -> Any:
        if isinstance(part, Reasoning):
            return Reasoning(part.text, part.summary, part.encrypted)
        if isinstance(part, ToolCall):
            return ToolCall(part.id, part.name, part.arguments, part.kind)
        if isinstance(part, Text):
            return Text(part.text, part.annotations, part.logprobs or None)
        return Refusal(part.text) if isinstance(part, Refusal) else part

    parts = [bare(part) for part in reply.message.parts]
    return parts, reply.finish_reason, reply.id, reply.model, reply.created, reply.usage, reply.service_tier


@settings(max_examples=50)
@given(replies())
def test_load_undoes_dump_for_any_reply(reply: Reply) -> None:
    body = json.loads(json.dumps(responses.dump_reply(reply)))
    again = responses.load_reply(body)
    assert without_ids(again) == without_ids(reply)
    assert again.extra.items() >= reply.extra.items()
    Response.model_validate(body)


@settings(max_examples=50)
@given(replies())
def test_a_written_answer_has_every_field_that_the_reference_requires(reply: Reply) -> None:
    body = responses.dump_reply(reply)
    required = {name for name, field in Response.model_fields.items() if field.is_required()}
    assert required <= body.keys()
    items = [item for item in body["output"] if item["type"] != "reasoning"]
    assert all("id" in item and "status" in item for item in items)


def test_an_answer_repeats_what_was_asked() -> None:
    request = Request(
        (Message.user("hi"),), instructions="Be brief.", tools=(Tool("f"),), tool_choice=ToolChoice("required"),
        max_tokens=9, temperature=0.5, metadata={"a": "b"}, extra={"previous_response_id": "resp_0"},
    )  # fmt: skip
    body = responses.dump_reply(Reply((Choice(Message.assistant("a"), "stop"),)), request=request)
    said = {name: body[name] for name in ("instructions", "tool_choice", "max_output_tokens", "temperature")}
    assert list(said.values()) == ["Be brief.", "required", 9, 0.5]
    assert (body["metadata"], body["previous_response_id"]) == ({"a": "b"}, "resp_0")
    assert body["tools"][0]["name"] == "f"


def test_of_several_choices_the_first_is_said_and_the_rest_noted() -> None:
    notes: list[Note] = []
    both = Reply((Choice(Message.assistant("a"), "stop"), Choice(Message.assistant("b"), "stop", 1)))
    assert responses.load_reply(responses.dump_reply(both, notes=notes)).text == "a"
    assert [note.what for note in notes] == ["choices"]


# Answers that deviate


@pytest.mark.parametrize("body", [None, [], "ok", 3, {}, {"output": None}, {"output": "text"}, {"id": "x"}])
def test_what_is_no_answer_is_bad_data(body: Any) -> None:
    with pytest.raises(BadData):
        responses.load_reply(body)


@pytest.mark.parametrize(
    ("body", "message", "status"),
    [
        ({"error": {"message": "too busy", "code": 503}}, "too busy", 503),
        ({"error": "plain words"}, "plain words", None),
        ({"status": "failed", "output": [], "error": {"code": "server_error", "message": "broke"}}, "broke", 500),
        ({"status": "failed", "output": []}, "does not say why", None),
        ({"detail": "Not Found"}, "Not Found", None),
    ],
)
def test_an_error_inside_a_200_is_the_servers_fault(body: Any, message: str, status: int | None) -> None:
    with pytest.raises(ServerFault, match=message) as caught:
        responses.load_reply(body)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("status", "reason", "expected"),
    [("completed", None, "stop"), ("incomplete", "max_output_tokens", "length"), ("incomplete", "length", "length"),
     ("incomplete", "content_filter", "content_filter"), ("incomplete", None, "length"),
     ("incomplete", "odd", "odd"), ("cancelled", None, "cancelled"), ("in_progress", None, None), (None, None, "stop")],
)  # fmt: skip
def test_a_status_is_a_finish_reason_and_back(status: Any, reason: Any, expected: str | None) -> None:
    body: dict[str, Any] = {"output": [{"type": "message", "content": [{"type": "output_text", "text": "a"}]}]}
    body |= {"status": status, "incomplete_details": {"reason": reason} if reason else None}
    reply = responses.load_reply(body)
    assert reply.finish_reason == expected
    if expected is not None:
        assert responses.load_reply(responses.dump_reply(reply)).finish_reason == expected


def test_an_answer_of_eight_fields_is_read() -> None:
    """As llama.cpp's is; usage stays unknown where none came."""
    item = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a"}]}
    reply = responses.load_reply({"id": "r", "object": "response", "output": [item], "status": "completed"})
    assert (reply.text, reply.usage, reply.finish_reason) == ("a", None, "stop")


def test_think_tags_are_reasoning_only_where_asked() -> None:
    item = {"type": "message", "content": [{"type": "output_text", "text": "<think>hm</think>42"}]}
    body = {"output": [item]}
    assert responses.load_reply(body).text.startswith("<think>")
    reply = responses.load_reply(body, think_tags=True)
    assert (reply.reasoning, reply.text) == ("hm", "42")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["output", "content", "type", "role", "text", "id", "call_id", "name", "arguments", "summary", "status",
         "input", "usage", "input_tokens", "input_tokens_details", "error", "code", "incomplete_details", "reason",
         "annotations", "logprobs", "response", "delta", "item", "part", "output_index", "content_index", "item_id",
         "encrypted_content", "image_url", "message"]), inner | st.sampled_from(
             ["message", "function_call", "custom_tool_call", "reasoning", "output_text", "input_text", "input_image",
              "refusal", "assistant", "user"]), max_size=4),
    max_leaves=25,
)  # fmt: skip


@pytest.mark.parametrize("role", [{}, {"role": None}, {"role": 5}])
def test_a_message_without_a_role_is_refused_and_not_given_one(role: dict[str, Any]) -> None:
    with pytest.raises(Unsupported, match="needs a 'role'"):
        responses.load_request({"input": [{"type": "message", "content": "Hi", **role}]})


def test_no_texts_to_stop_at_are_none() -> None:
    assert "stop" not in responses.dump_request(Request(messages=(Message.user("Hi"),), stop=()))


@given(json_values)
def test_no_json_makes_reading_a_request_fail_in_another_way(value: Any) -> None:
    fields = ("input", "tools", "tool_choice", "text", "reasoning", "include")
    for body in (
        *({name: value} for name in fields),
        {"input": [value]},
        {"input": [{"role": "user", "content": value}]},
    ):
        with suppress(Unsupported):
            responses.dump_request(responses.load_request(body))


@given(json_values, st.booleans())
def test_no_json_makes_the_reader_fail_in_another_way(value: Any, think_tags: bool) -> None:
    item = {"type": "message", "content": value} | (value if isinstance(value, dict) else {})
    body = {"output": [item], "usage": value, "incomplete_details": value}
    for case in (value, body, {"output": value}, {"output": [value]}):
        with suppress(BadData, ServerFault):
            responses.dump_reply(responses.load_reply(case, think_tags=think_tags))
