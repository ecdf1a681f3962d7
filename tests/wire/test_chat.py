from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import plain_chat as plain
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion

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
from allos.wire import chat, responses

# Recorded requests


def is_chat_request(record: dict[str, Any]) -> bool:
    """Not the few whose body is no Chat request at all; the services refused those with 401 and 422."""
    body = record["request"]["body"]
    return bool(body) and isinstance(body.get("messages"), list)


def canonical(value: Any, key: str = "") -> Any:
    """The form in which two bodies that mean the same are equal. See each line for what it evens out."""
    if isinstance(value, dict):
        if key in ("parameters", "schema", "metadata"):
            return value
        value = {k: canonical(v, k) for k, v in value.items() if v is not None}  # null is not said
        if value.get("tools") == []:
            del value["tools"]  # no tools
        if "role" in value:
            value = canonical_message(value)
        if value.get("type") == "image_url" and isinstance(value["image_url"], str):
            value["image_url"] = {"url": value["image_url"]}
        if key == "tools" and "function" in value:
            value.pop("name", None)  # a copy of function.name
            value["function"].pop("type", None)  # a copy of type
            value.setdefault("type", "function")
        return value
    if isinstance(value, list):
        return [canonical(entry, "" if key == "stop" else key) for entry in value]
    return [value] if key == "stop" and isinstance(value, str) else value  # one stop word is a list of one


def canonical_message(message: dict[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    if isinstance(content, list) and len(content) == 1 and content[0].keys() == {"type", "text"}:
        content = content[0]["text"]  # one text part is a string
    if not content and message["role"] == "assistant":
        message.pop("content", None)  # null, "" and [] all mean no text
    else:
        message["content"] = content
    for call in message.get("tool_calls", ()):
        call.pop("index", None)  # left over from a stream
    return message


@pytest.mark.parametrize("record", plain.recordings(is_chat_request))
def test_every_recorded_request_survives_reading_and_writing(record: dict[str, Any]) -> None:
    body = record["request"]["body"]
    notes: list[Note] = []
    assert canonical(chat.dump_request(chat.load_request(body), notes=notes)) == canonical(body)
    assert not notes


@pytest.mark.parametrize("record", plain.recordings(is_chat_request))
def test_reading_a_written_request_changes_nothing(record: dict[str, Any]) -> None:
    request = chat.load_request(record["request"]["body"])
    assert chat.load_request(chat.dump_request(request)) == request


# Generated requests

words = st.text(min_size=1, max_size=12)
names = st.from_regex(r"[a-z_]{1,12}", fullmatch=True)
schemas = st.just({"type": "object", "properties": {"a": {"type": "integer", "default": None}}})
texts = st.builds(Text, words)
cached_texts = st.builds(Text, words, extra=st.just({"cache_control": {"type": "ephemeral"}}))
images = st.builds(Image, words, st.sampled_from([None, "low", "high"]))
files = st.builds(File, words, words) | st.builds(File, file_id=words)
sounds = st.builds(Audio, words, st.sampled_from(["mp3", "wav"]))
contents = st.lists(texts | cached_texts | images | files | sounds, max_size=3).map(tuple)
calls = st.builds(ToolCall, words, names, st.sampled_from(["{}", '{"a": 1}', "", "{no"])) | st.builds(
    ToolCall, words, names, words, kind=st.just("custom")
)
thoughts = (
    st.builds(Reasoning, words, source=st.sampled_from(["reasoning_content", "reasoning", "thinking"]))
    | st.builds(lambda text: Reasoning(text, source="content"), words)
    | st.builds(
        lambda text, data, sign: Reasoning(
            text,
            encrypted=data,
            signature=sign,
            source="reasoning",
            extra={
                "reasoning_details": [
                    {"type": "reasoning.text", "text": text, "signature": sign, "index": 0},
                    {"type": "reasoning.encrypted", "data": data, "index": 1},
                ]
            },
        ),
        words,
        words,
        words,
    )
)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    found: list[Message] = []
    for role in draw(st.lists(st.sampled_from(["system", "developer", "user", "assistant"]), max_size=5)):
        name = draw(st.none() | names)
        if role != "assistant":
            found.append(Message(role, draw(contents), name))
            continue
        called = tuple(draw(st.lists(calls, max_size=3, unique_by=lambda call: call.id)))
        refused = draw(st.lists(st.builds(Refusal, words), max_size=1))
        thought = draw(st.lists(thoughts, max_size=1))
        spoken = draw(st.lists(texts, min_size=1, max_size=2))
        found.append(Message(role, (*thought, *spoken, *refused, *called), name))
        for call in called:
            parts = tuple(draw(st.lists(texts, max_size=2)))
            found.append(Message("tool", (ToolResult(call.id, parts, call.kind),)))
    return tuple(found)


tools = (
    st.builds(Tool, names, st.none() | words, st.none() | schemas, st.none() | st.booleans())
    | st.builds(Tool, names, words, kind=st.just("custom"))
    | st.builds(
        Tool, names, kind=st.just("custom"), format=st.just({"type": "grammar", "syntax": "lark", "definition": "a"})
    )
)
choices = (
    st.sampled_from([ToolChoice("auto"), ToolChoice("none"), ToolChoice("required")])
    | st.builds(ToolChoice, st.just("tool"), names, st.sampled_from(["function", "custom"]))
    | st.builds(
        ToolChoice,
        st.just("allowed"),
        names=st.lists(names, min_size=1, max_size=2).map(tuple),
        required=st.booleans(),
    )
)
formats = st.sampled_from([OutputFormat("text"), OutputFormat("json_object")]) | st.builds(
    OutputFormat, st.just("json_schema"), names, schemas, st.none() | st.booleans(), st.none() | words
)
maybe_bool = st.none() | st.booleans()
requests = st.builds(
    Request,
    conversations(),
    model=words,
    tools=st.lists(tools, max_size=3).map(tuple),
    tool_choice=st.none() | choices,
    parallel_tool_calls=maybe_bool,
    format=st.none() | formats,
    temperature=st.none() | st.floats(0, 2),
    top_p=st.none() | st.floats(0, 1),
    stop=st.none() | st.lists(words, max_size=2).map(tuple),
    seed=st.none() | st.integers(),
    n=st.none() | st.integers(1, 3),
    logprobs=maybe_bool,
    top_logprobs=st.none() | st.integers(0, 20),
    reasoning_effort=st.none() | words,
    verbosity=st.none() | words,
    metadata=st.none() | st.dictionaries(words, words),
    store=maybe_bool,
    service_tier=st.none() | words,
    stream=maybe_bool,
    include_usage=maybe_bool,
    extra=st.dictionaries(st.sampled_from(["top_k", "modalities", "logit_bias", "user"]), words),
) | st.builds(Request, max_tokens=st.integers(1), max_tokens_field=st.sampled_from([None, "max_tokens"]))


@given(requests)
def test_load_undoes_dump_for_any_request(request: Request) -> None:
    notes: list[Note] = []
    body = chat.dump_request(request, notes=notes)
    assert chat.load_request(json.loads(json.dumps(body))) == request
    assert not notes


# Forms of a request


def body_of(*messages: Message, **more: Any) -> dict[str, Any]:
    return chat.dump_request(Request(messages, **more))


def test_instructions_become_the_first_system_message() -> None:
    body = body_of(Message.user("hi"), Message.developer("later"), instructions="Be brief.")
    assert [message["role"] for message in body["messages"]] == ["system", "user", "developer"]
    assert body["messages"][0]["content"] == "Be brief."


def test_text_and_calls_of_one_turn_become_one_message() -> None:
    call = ToolCall("c1", "add", "{}")
    body = body_of(Message("assistant", (Text("I add."),)), Message("assistant", (call,)), Message.tool("c1", "3"))
    assert [message["role"] for message in body["messages"]] == ["assistant", "tool"]
    assert body["messages"][0]["content"] == "I add."
    assert body["messages"][0]["tool_calls"][0]["id"] == "c1"


def test_two_answers_in_a_row_stay_two() -> None:
    assert len(body_of(Message.assistant("a"), Message.assistant("b"))["messages"]) == 2


def test_several_results_in_one_message_become_one_message_each_in_order() -> None:
    results = (ToolResult("a", (Text("1"),)), ToolResult("b", (Text("2"),)))
    dumped = body_of(Message("tool", results))["messages"]
    assert [(message["tool_call_id"], message["content"]) for message in dumped] == [("a", "1"), ("b", "2")]


def test_the_mark_of_a_responses_item_is_not_sent() -> None:
    tie = {"item": {"id": "msg_1"}}
    dumped = body_of(Message("assistant", (Text("a", extra=tie), ToolCall("c", "f", "{}", extra=tie))))
    assert "msg_1" not in json.dumps(dumped)
    assert dumped["messages"][0]["content"] == "a"


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("source", {"reasoning_content": "hm"}),
        ("reasoning", {"reasoning": "hm"}),
        ("reasoning_details", {"reasoning_details": [{"type": "reasoning.text", "text": "hm", "index": 0}]}),
        ("thinking_blocks", {"thinking_blocks": [{"type": "thinking", "thinking": "hm"}]}),
        (None, {}),
        ("", {}),
    ],
)
def test_reasoning_goes_back_under_the_field_asked_for(field: str | None, expected: dict[str, Any]) -> None:
    message = Message("assistant", (Reasoning("hm", source="reasoning_content"), Text("a")))
    notes: list[Note] = []
    dumped = chat.dump_request(Request((message,)), notes=notes, reasoning=field)["messages"][0]
    assert dumped == {"role": "assistant", "content": "a", **expected}
    left_out, renamed = ["messages[0].reasoning"], ["messages[0].reasoning_content"]
    told = left_out if not expected else [] if "reasoning_content" in expected else renamed
    assert [note.what for note in notes] == told


def test_reasoning_goes_into_the_content_where_the_service_keeps_it_there() -> None:
    message = Message("assistant", (Reasoning("hm"), Text("a")))
    dumped = chat.dump_request(Request((message,)), reasoning="content")["messages"][0]
    assert dumped["content"] == [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": "a"},
    ]


def test_reasoning_of_the_other_api_is_left_out_with_a_note() -> None:
    notes: list[Note] = []
    message = Message("assistant", (Reasoning(summary=("s",), encrypted="x", id="rs_1"), Text("a")))
    dumped = chat.dump_request(Request((message,)), notes=notes)["messages"][0]
    assert dumped == {"role": "assistant", "content": "a"}
    assert notes
    assert notes[0].what == "messages[0].reasoning"


def test_empty_reasoning_that_a_service_demands_back_is_kept() -> None:
    sent = {"role": "assistant", "content": "a", "reasoning_content": ""}
    assert body_of(*chat.load_request({"messages": [sent]}).messages)["messages"] == [sent]


@pytest.mark.parametrize("kind", ["web_search", "web_search_preview_2025_03_11", "mcp", "code_interpreter", "computer"])
def test_a_built_in_tool_is_refused_in_words(kind: str) -> None:
    with pytest.raises(Unsupported, match=kind) as caught:
        body_of(Message.user("hi"), tools=(Tool("f"), Tool(kind, kind=kind)))
    assert caught.value.param == "tools[1]"


def test_a_tool_of_the_service_itself_passes() -> None:
    tool = {"type": "browser_search"}
    assert chat.dump_request(chat.load_request({"messages": [], "tools": [tool]}))["tools"] == [tool]


def test_an_item_that_carries_meaning_is_refused_and_a_past_search_left_out() -> None:
    with pytest.raises(Unsupported, match="item_reference"):
        body_of(Message("assistant", (Item({"type": "item_reference", "id": "x"}),)))
    notes: list[Note] = []
    found = (Item({"type": "web_search_call", "id": "ws"}), Text("Paris"))
    dumped = chat.dump_request(Request((Message("assistant", found),)), notes=notes)
    assert dumped["messages"] == [{"role": "assistant", "content": "Paris"}]
    assert [note.action for note in notes] == ["left out"]


def test_what_an_earlier_answer_says_beside_its_text_is_left_out_with_a_note() -> None:
    item = {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed", "phase": "commentary"}
    request = responses.load_request({"input": [item | {"content": [{"type": "output_text", "text": "Paris"}]}]})
    notes: list[Note] = []
    assert chat.dump_request(request, notes=notes)["messages"] == [{"role": "assistant", "content": "Paris"}]
    assert [(note.action, note.what) for note in notes] == [("left out", "messages[0].phase")]


@pytest.mark.parametrize("part", [Image(file_id="file-1"), File(url="https://a.b/c.pdf")])
def test_a_part_that_chat_has_no_form_for_is_refused_with_its_place(part: Any) -> None:
    with pytest.raises(Unsupported) as caught:
        body_of(Message("user", (Text("see"), part)))
    assert caught.value.param == "messages[0].content[1]"


@pytest.mark.parametrize("field", ["previous_response_id", "background", "conversation"])
def test_what_only_responses_can_do_is_refused_by_name(field: str) -> None:
    with pytest.raises(Unsupported) as caught:
        body_of(Message.user("hi"), extra={field: "x"})
    assert caught.value.param == field


def test_a_hint_for_the_other_api_is_left_out_with_a_note() -> None:
    notes: list[Note] = []
    asked = Request((Message.user("hi"),), reasoning_summary="auto", extra={"include": ["x"]})
    assert chat.dump_request(asked, notes=notes).keys() == {"messages"}
    assert {note.what for note in notes} == {"reasoning.summary", "include"}


def test_the_old_functions_become_tools_and_are_written_as_functions_again() -> None:
    body = {
        "messages": [
            {"role": "user", "content": "weather?"},
            {"role": "assistant", "content": None, "function_call": {"name": "w", "arguments": "{}"}},
            {"role": "function", "name": "w", "content": "sunny"},
        ],
        "functions": [{"name": "w", "parameters": {"type": "object"}}],
        "function_call": {"name": "w"},
    }
    request = chat.load_request(body)
    call = request.messages[1].tool_calls[0]
    assert isinstance(request.messages[2].parts[0], ToolResult)
    assert request.messages[2].parts[0].call_id == call.id != ""
    assert request.tool_choice == ToolChoice("tool", "w")
    assert chat.dump_request(request) == body


def test_the_old_functions_get_their_answer_in_the_old_form() -> None:
    request = chat.load_request({"messages": [], "functions": [{"name": "w"}]})
    reply = Reply((Choice(Message.assistant(tool_calls=[ToolCall("c", "w", "{}")]), "tool_calls"),))
    choice = chat.dump_reply(reply, request=request)["choices"][0]
    assert choice["finish_reason"] == "function_call"
    assert choice["message"]["function_call"] == {"name": "w", "arguments": "{}"}


@pytest.mark.parametrize("messages", ["hi", ["hi"], [{"content": "no role"}], {"role": "user"}])
def test_messages_of_a_wrong_form_are_refused(messages: Any) -> None:
    with pytest.raises(Unsupported) as caught:
        chat.load_request({"messages": messages})
    assert caught.value.param
    assert caught.value.param.startswith("messages")


# Recorded answers


def is_whole_answer(record: dict[str, Any]) -> bool:
    """A whole answer with choices: not the lists of stored completions, nor the error that came with status 200."""
    if record["streaming"] or record["response"]["status"] != 200:
        return False
    return "choices" in json.loads(record["response"]["body"])


@pytest.mark.parametrize("record", plain.recordings(is_whole_answer))
def test_every_recorded_answer_says_what_its_bytes_say(record: dict[str, Any]) -> None:
    body = json.loads(record["response"]["body"])
    reply = chat.load_reply(body)
    expected = plain.whole(body)
    assert plain.without_own_ids(plain.said(reply), expected) == expected
    assert (reply.id or "", reply.model or "") == (body.get("id") or "", body.get("model") or "")
    assert reply.raw is body


def standard(body: dict[str, Any]) -> dict[str, Any]:
    """The answer without what the SDK's types can't hold: OpenRouter's `file` annotations, vision's old finish."""
    for choice in body["choices"]:
        notes = choice["message"].get("annotations")
        if notes:
            choice["message"]["annotations"] = [note for note in notes if note["type"] == "url_citation"]
    return body


@pytest.mark.parametrize("record", plain.recordings(is_whole_answer))
def test_every_recorded_answer_is_written_by_the_reference_and_reads_the_same(record: dict[str, Any]) -> None:
    reply = chat.load_reply(json.loads(record["response"]["body"]))
    dumped = json.loads(json.dumps(chat.dump_reply(reply)))
    again = chat.load_reply(dumped)
    assert plain.said(again) == plain.said(reply)
    sources = {part.source for part in reply.message.parts if isinstance(part, Reasoning)}
    if "content" not in sources:  # by the reference, an answer's content is no list: such thinking moves to a field
        assert again.message == reply.message
    ChatCompletion.model_validate(standard(dumped), strict=True)


logprobs = st.none() | st.just(({"token": "a", "bytes": [97], "logprob": -0.5, "top_logprobs": []},))
citations = st.lists(
    st.fixed_dictionaries({"type": st.just("url_citation"), "url": words, "title": words, "start_index": st.just(0),
                           "end_index": st.integers(0, 9)}),
    max_size=2,
).map(tuple)  # fmt: skip
answers = st.builds(
    lambda *parts: tuple(part for group in parts for part in group),
    st.lists(st.builds(Reasoning, words, source=st.just("reasoning_content")), max_size=1),
    st.lists(st.builds(Text, words, citations, logprobs), max_size=1),
    st.lists(st.builds(Refusal, words, logprobs), max_size=1),
    st.lists(st.builds(Image, words), max_size=1),
    st.lists(calls, max_size=3),
)


@st.composite
def replies(draw: st.DrawFn, parts: st.SearchStrategy[Any] = answers, most: int = 2) -> Reply:
    choices = []
    for index in range(draw(st.integers(1, most))):
        reason = draw(st.sampled_from(["stop", "length", "tool_calls", "content_filter"]))
        choices.append(Choice(Message("assistant", draw(parts)), reason, index))
    count = st.integers(0, 10**6)
    details = st.dictionaries(st.sampled_from(["audio_tokens", "text_tokens"]), count, min_size=1)
    extra = st.fixed_dictionaries({}, optional={"input_tokens_details": details, "cost": count})
    return Reply(
        tuple(choices),
        draw(words),
        draw(words),
        draw(st.integers(0, 2**31)),
        draw(st.none() | st.builds(Usage, count, count, count, st.none() | count, st.none() | count, extra)),
        draw(st.sampled_from([None, "default", "flex", "priority"])),
        draw(st.dictionaries(st.sampled_from(["system_fingerprint", "provider"]), words)),
    )


@given(replies())
def test_load_undoes_dump_for_any_reply(reply: Reply) -> None:
    body = json.loads(json.dumps(chat.dump_reply(reply)))
    assert chat.load_reply(body) == reply
    ChatCompletion.model_validate(body, strict=True)


# Answers that deviate


def answer(message: dict[str, Any], **choice: Any) -> Reply:
    return chat.load_reply({"id": "x", "choices": [{"message": message, **choice}]})


@pytest.mark.parametrize("body", [None, [], "ok", 3, {}, {"choices": None}, {"choices": []}, {"choices": [None]},
                                  {"choices": [{"message": None}]}, {"id": "x", "choices": None}])  # fmt: skip
def test_what_is_no_answer_is_bad_data(body: Any) -> None:
    with pytest.raises(BadData) as caught:
        chat.load_reply(body)
    assert caught.value.body == body


@pytest.mark.parametrize(
    ("body", "message", "status"),
    [
        ({"error": {"message": "too busy", "code": 503}}, "too busy", 503),
        ({"error": "plain words"}, "plain words", None),
        ({"error": {"message": "slow down", "type": "rate_limit_error"}, "choices": []}, "slow down", 429),
        ({"object": "error", "message": "no such model", "code": 404}, "no such model", 404),
        ({"detail": "Not Found"}, "Not Found", None),
        ({"choices": [{"message": {"content": "a"}, "error": {"message": "upstream", "code": 502}}]}, "upstream", 502),
    ],
)
def test_an_error_inside_a_200_is_the_servers_fault(body: Any, message: str, status: int | None) -> None:
    with pytest.raises(ServerFault, match=message) as caught:
        chat.load_reply(body)
    assert caught.value.status == status
    assert caught.value.body


@pytest.mark.parametrize("word", ["error", "network_error", "insufficient_system_resource"])
def test_an_answer_that_broke_off_never_passes_for_a_whole_one(word: str) -> None:
    with pytest.raises(ServerFault, match=word) as caught:
        answer({"content": "half"}, finish_reason=word)
    assert caught.value.reply
    assert caught.value.reply.text == "half"


@pytest.mark.parametrize(
    ("word", "expected"),
    [("end_turn", "stop"), ("STOP", "stop"), ("MAX_TOKENS", "length"), ("model_length", "length"),
     ("tool_use", "tool_calls"), ("sensitive", "content_filter"), ("", "stop"), ("odd", "odd")],
)  # fmt: skip
def test_an_odd_finish_reason_is_understood_and_kept(word: str, expected: str) -> None:
    choice = answer({"content": "a"}, finish_reason=word).choices[0]
    assert choice.finish_reason == expected
    assert choice.extra.get("finish_reason", choice.finish_reason) == word


def test_an_empty_finish_reason_with_calls_means_calls() -> None:
    reply = answer({"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]}, finish_reason="")
    assert reply.finish_reason == "tool_calls"


@pytest.mark.parametrize(
    ("content", "text"),
    [("a", "a"), (None, ""), ([{"type": "text", "text": "a"}, {"text": "b"}, "c"], "abc"), ({"text": "a"}, "a"),
     ({"x": 1}, '{"x":1}'), (7, "7"), ([], "")],
)  # fmt: skip
def test_content_in_any_form_is_text(content: Any, text: str) -> None:
    assert answer({"content": content}).text == text


@pytest.mark.parametrize(
    "fields",
    [{"reasoning_content": "hm"}, {"reasoning": "hm"}, {"thinking": "hm"}, {"reasoning": {"content": "hm"}},
     {"reasoning_details": [{"type": "reasoning.text", "text": "hm"}]},
     {"reasoning_details": [{"type": "reasoning.summary", "summary": "hm"}]},
     {"thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "s"}]},
     {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "a"}]},
     {"content": [{"type": "thinking", "thinking": "hm"}]},
     {"reasoning": "hm", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]},
     {"reasoning": "hm", "reasoning_content": "hm"}],
)  # fmt: skip
def test_reasoning_in_any_field_is_read_once_and_goes_back_as_it_came(fields: dict[str, Any]) -> None:
    reply = answer({"content": "a", **fields})
    assert reply.reasoning == "hm"
    sent = body_of(reply.message)["messages"][0]
    assert {name: sent[name] for name in fields} == fields


def test_think_tags_are_reasoning_only_where_asked() -> None:
    body = {"choices": [{"message": {"content": "<think>\nhm\n</think>\n\n42"}}]}
    assert chat.load_reply(body).text.startswith("<think>")
    reply = chat.load_reply(body, think_tags=True)
    assert (reply.reasoning, reply.text) == ("hm", "42")


def test_arguments_as_an_object_become_text_and_missing_ids_are_made_up_alike_each_time() -> None:
    message = {
        "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}, {"id": "", "function": {"name": "g"}}]
    }
    first, second = answer(message).tool_calls
    assert (first.arguments, second.arguments) == ('{"a":1}', "")
    assert first.id != second.id
    assert (first.id, second.id) == tuple(call.id for call in answer(message).tool_calls)


def test_two_calls_with_one_id_are_both_kept() -> None:
    call = {"id": "same", "function": {"name": "f", "arguments": "{not json"}}
    assert [c.arguments for c in answer({"tool_calls": [call, call]}).tool_calls] == ["{not json"] * 2


def test_missing_counts_stay_unknown() -> None:
    body: dict[str, Any] = {"choices": [{"message": {"content": "a"}}]}
    assert chat.load_reply(body).usage is None
    usage = chat.load_reply({**body, "usage": {"prompt_tokens": 3, "completion_tokens": None}}).usage
    assert usage == Usage(3)


def test_unknown_fields_are_kept_and_only_what_a_service_wants_back_is_sent_again() -> None:
    message = {"content": "a", "executed_tools": [1], "extra_content": {"google": {"thought_signature": "s"}}}
    reply = chat.load_reply({"choices": [{"message": message, "stop_reason": 7}], "citations": ["u"]})
    assert reply.extra == {"citations": ["u"]}
    assert reply.choices[0].extra == {"stop_reason": 7, "message": {"executed_tools": [1]}}
    sent = body_of(reply.message)["messages"][0]
    assert "executed_tools" not in sent
    assert sent["extra_content"] == message["extra_content"]
    assert chat.dump_reply(reply)["choices"][0]["message"]["executed_tools"] == [1]


def test_encrypted_thinking_of_the_other_api_comes_back_through_a_chat_client() -> None:
    thought = Reasoning(summary=("short",), encrypted="gAAA", id="rs_1")
    message = chat.dump_reply(Reply((Choice(Message("assistant", (thought, Text("a")))),)))["choices"][0]["message"]
    assert message["reasoning_content"] == "short"
    back = chat.load_request({"messages": [message]}).messages[0].parts[0]
    assert isinstance(back, Reasoning)
    assert (back.encrypted, back.id) == ("gAAA", "rs_1")


def test_fields_of_a_response_do_not_leak_into_a_chat_answer() -> None:
    reply = Reply((Choice(Message.assistant("a"), "stop"),), extra={"status": "completed", "provider": "p"})
    body = chat.dump_reply(reply)
    assert "status" not in body
    assert body["provider"] == "p"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["choices", "message", "delta", "content", "tool_calls", "function", "name", "arguments", "id", "index", "type",
         "text", "thinking", "reasoning", "reasoning_details", "usage", "prompt_tokens", "prompt_tokens_details",
         "finish_reason", "logprobs", "refusal", "audio", "data", "images", "image_url", "annotations", "error", "code",
         "custom", "input", "function_call", "created", "x_groq", "url_citation"]), inner, max_size=4),
    max_leaves=25,
)  # fmt: skip


@given(json_values, st.sampled_from(["user", "assistant", "tool", "function"]))
def test_no_json_makes_reading_a_request_fail_in_another_way(value: Any, role: str) -> None:
    message = {"role": role, "content": value} | (value if isinstance(value, dict) else {"tool_calls": value})
    fields = ("tools", "tool_choice", "response_format", "stop", "stream_options", "functions", "function_call")
    for body in ({"messages": value}, {"messages": [message]}, *({"messages": [], name: value} for name in fields)):
        with suppress(Unsupported):
            chat.dump_request(chat.load_request(body))


@given(json_values, st.booleans())
def test_no_json_makes_the_reader_fail_in_another_way(value: Any, think_tags: bool) -> None:
    body = {"choices": [{"message": value, "logprobs": value, "finish_reason": value}], "usage": value}
    for case in (value, body, {"choices": value}):
        with suppress(BadData, ServerFault):
            chat.dump_reply(chat.load_reply(case, think_tags=think_tags))


def test_audio_that_is_only_named_is_refused_and_not_sent_empty() -> None:
    with pytest.raises(Unsupported, match="as data, not by id"):
        chat.dump_request(Request(messages=(Message.user([Audio(id="audio_1")]),)))
