"""Whatever bytes a server sends: an answer or an error of ours, soon, and without keeping more than came."""

from __future__ import annotations

import copy
import json
import tracemalloc
from typing import Any

import answers
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from allos.errors import BadData, WireError
from allos.exchange import Exchange, Guard, Receipt, StreamTranslation
from allos.messages import Wire
from allos.wire import answer, sse
from allos.wire.answer import CODECS, Answer, read_whole

WIRES: list[Wire] = ["chat", "responses"]
QUESTION = {"chat": {"messages": [{"role": "user", "content": "hi"}]}, "responses": {"input": "hi"}}


def exchange(asked: Wire, spoken: Wire, *, stream: bool = True) -> Exchange:
    body = {"model": "m", "stream": stream, **QUESTION[asked]}
    return Exchange(Receipt("e", None, asked, spoken), body, body, CODECS[asked].load_request(body))


# What a server may say: the fields of both APIs with any value in them, in any order.
KEYS = [
    "id", "object", "created", "model", "choices", "index", "delta", "message", "role", "content", "tool_calls", "type",
    "function", "name", "arguments", "finish_reason", "native_finish_reason", "usage", "prompt_tokens", "refusal",
    "reasoning", "reasoning_content", "reasoning_details", "error", "code", "logprobs", "text", "x_groq", "audio",
    "data", "images", "annotations", "function_call", "response", "output", "item", "item_id", "output_index",
    "content_index", "summary", "summary_index", "part", "status", "sequence_number", "incomplete_details", "reason",
    "encrypted_content", "call_id", "input", "thinking", "detail", "choice", "finish",
]  # fmt: skip
WORDS = [
    "", "a", "chat.completion", "chat.completion.chunk", "stop", "length", "error", "assistant", "function", "message",
    "reasoning", "function_call", "output_text", "text", "{", '{"a": 1}', "<think>", "</think>", "completed", "failed",
    "incomplete", "response", "in_progress", "400", "²", "4" * 5000, "\ud800",
]  # fmt: skip
TYPES = [
    "response.created", "response.in_progress", "response.output_item.added", "response.output_item.done",
    "response.content_part.added", "response.content_part.done", "response.output_text.delta", "error",
    "response.output_text.done", "response.function_call_arguments.delta", "response.function_call_arguments.done",
    "response.reasoning_text.delta", "response.reasoning_summary_text.delta", "response.reasoning_summary_part.added",
    "response.refusal.delta", "response.completed", "response.incomplete", "response.failed", "response.odd",
]  # fmt: skip
NUMBERS = [1e308, float("nan"), float("inf"), -float("inf"), 10**400, 0.5]
scalars = st.none() | st.booleans() | st.integers(-2, 3) | st.sampled_from(NUMBERS) | st.sampled_from(WORDS)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(st.sampled_from(KEYS), values, max_size=6)
events = st.builds(lambda body, kind: body | {"type": kind}, objects, st.sampled_from(TYPES))
chunks = st.builds(
    lambda delta, finish, more: {"choices": [{"index": 0, "delta": delta, "finish_reason": finish, **more}]},
    objects,
    st.sampled_from([None, "stop", "tool_calls", "odd"]),
    objects,
)
lines = st.one_of(
    st.builds(lambda payload: b"data: " + json.dumps(payload).encode(), chunks | events | objects | values),
    st.sampled_from(
        [b"data: [DONE]", b"data:", b"data: ", b": ping", b"event: error", b"error: {}", b"data: {", b"id: 1", b"\xff"]
    ),
    st.binary(max_size=12),
)
streams = st.builds(
    lambda parts, end: end.join([*parts, b""]),
    st.lists(lines, max_size=6),
    st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r", b"\n"]),
)
bodies = st.one_of(
    st.builds(lambda payload: json.dumps(payload).encode(), objects | values),
    st.builds(lambda said: json.dumps({"choices": [{"message": said, "finish_reason": "stop"}]}).encode(), objects),
    st.builds(
        lambda items: json.dumps({"output": items, "status": "completed"}).encode(), st.lists(objects, max_size=3)
    ),
    st.binary(max_size=40),
)


@pytest.mark.parametrize("think_tags", [False, True])
@pytest.mark.parametrize("spoken", WIRES)
@settings(max_examples=60)
@given(body=bodies | streams)
def test_any_whole_answer_is_read_or_refused(spoken, think_tags, body):
    try:
        reply = read_whole(spoken, body, think_tags=think_tags)
        for asked in WIRES:
            json.dumps(exchange(asked, spoken, stream=False).dump(reply))
        exchange(spoken, spoken, stream=False).answer(body, think_tags=think_tags)
    except WireError:
        pass


def _flows(spoken: Wire, think_tags: bool) -> list[Any]:
    answers: list[Any] = [Answer(spoken, think_tags=think_tags), Guard(exchange(spoken, spoken), think_tags=think_tags)]
    return answers + [StreamTranslation(exchange(asked, spoken), think_tags=think_tags) for asked in WIRES]


@pytest.mark.parametrize("think_tags", [False, True])
@pytest.mark.parametrize("spoken", WIRES)
@settings(max_examples=60)
@given(body=streams | bodies, step=st.sampled_from([1, 7, 10_000]))
@example(body=b"data: [DONE]\ndata: [DONE]\n", step=1)
@example(
    body=b'data: {"choices": [{"index": 0, "delta": {}}]}\n\ndata: {"choices": [{"index": [], "delta": {}}]}\n\n',
    step=1,
)
@example(body=b'data: {"choices": [{"index": 0, "delta": {"id": [null, {}]}, "finish_reason": "stop"}]}\n\n', step=7)
def test_any_stream_is_read_or_refused_at_any_place(spoken, think_tags, body, step):
    for flow in _flows(spoken, think_tags):
        try:
            for start in range(0, len(body), step):
                flow.feed(body[start : start + step])
                flow.so_far()
            flow.end()
        except WireError:
            flow.so_far()


@given(body=st.binary(max_size=200) | streams, step=st.integers(1, 50))
def test_any_bytes_are_events_however_they_are_cut(body, step):
    whole, cut = sse.Reader(), sse.Reader()
    found = [event for start in range(0, len(body), step) for event in cut.feed(body[start : start + step])]
    assert whole.feed(body) + whole.end() == found + cut.end()


# Answers as they should be, with a few values wrong: what gets past the first look at an answer.

CALL = ("call_1", "look", '{"city": "Paris"}')
WHOLE = {
    wire: [
        answers.whole(wire, "Hello"),
        answers.calls(wire, CALL, ("call_2", "look", "{}")),
        answers.refusal(wire, "No"),
        answers.cut(wire, "Hel"),
    ]
    for wire in WIRES
}
WHOLE["chat"] += [
    {"choices": [{"message": {"content": "a", "reasoning_content": "b", "annotations": [{"type": "x"}]}}]},
    {"error": {"message": "no", "type": "t", "param": "p", "code": "400"}},
]
WHOLE["responses"] += [
    {"output": [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "b"}], "id": "rs"}]},
    {"output": [], "status": "failed", "error": {"message": "no", "code": "server_error"}},
]


def _payloads(made: list[str]) -> list[Any]:
    said = [line.partition("data: ")[2] for line in made]
    return [json.loads(line) for line in said if line != "[DONE]"]


STREAMED = {
    wire: [
        _payloads(answers.stream(wire, "Hel", "lo")),
        _payloads(answers.call_stream(wire, CALL, ("call_2", "look", "{}"))),
        _payloads(answers.refusal_stream(wire, "N", "o")),
    ]
    for wire in WIRES
}


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Each container in a value with each of its keys."""
    keys: Any = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [place for key in keys for place in [(value, key), *_places(value[key])]]


@st.composite
def spoiled(draw: st.DrawFn, sound: list[Any]) -> Any:
    """One of the sound answers with up to three values replaced, left out or said twice."""
    made = copy.deepcopy(draw(st.sampled_from(sound)))
    for _ in range(draw(st.integers(1, 3))):
        places = _places(made)
        if not places:
            break
        container, key = places[draw(st.integers(0, len(places) - 1))]
        action = draw(st.sampled_from(["replace", "replace", "leave out", "twice"]))
        if action == "replace":
            container[key] = draw(values)
        elif action == "leave out":
            del container[key]
        elif isinstance(container, list):
            container.insert(key, copy.deepcopy(container[key]))
    return made


@pytest.mark.parametrize("think_tags", [False, True])
@pytest.mark.parametrize("spoken", WIRES)
@settings(max_examples=100)
@given(data=st.data())
def test_a_whole_answer_with_values_that_are_wrong_is_read_or_refused(spoken, think_tags, data):
    body = json.dumps(data.draw(spoiled(WHOLE[spoken]))).encode()
    for asked in WIRES:
        try:
            made, _, _ = exchange(asked, spoken, stream=False).answer(body, think_tags=think_tags)
            json.dumps(made)
        except WireError:
            pass


@pytest.mark.parametrize("think_tags", [False, True])
@pytest.mark.parametrize("spoken", WIRES)
@settings(max_examples=100)
@given(data=st.data())
def test_a_stream_with_values_that_are_wrong_is_read_or_refused(spoken, think_tags, data):
    body = b"".join(b"data: " + json.dumps(said).encode() + b"\n\n" for said in data.draw(spoiled(STREAMED[spoken])))
    body += data.draw(st.sampled_from([b"data: [DONE]\n\n", b""]))
    for flow in _flows(spoken, think_tags):
        try:
            flow.feed(body)
            flow.end()
        except WireError:
            pass
        flow.so_far()


# What the generators and a coverage-guided run found.

HEAD = (
    b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":'
    b'[{"index":0,"delta":{"content":"a"}'
)
FOUND = {
    "an event without data among chunks": HEAD + b',"finish_reason":null}]}\n\ndata: \n\n',
    "two words of the service for one finish": HEAD + b',"finish_reason":"odd","native_finish_reason":"eos"}]}\n\n',
    "an end that is spelled another way": b'data: {"type":"response.created"}\n\ndata: [DONE] now\n\n',
    "fields named as ours": HEAD
    + b',"finish_reason":"stop","choice":1,"finish":2,"logprobs":null}]}\n\ndata: [DONE]\n\n',
}


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("body", FOUND.values(), ids=FOUND)
def test_what_was_found_once_stays_mended(body, wire):
    for flow in _flows(wire, False):
        try:
            flow.feed(body)
            flow.end()
        except WireError:
            pass


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("depth", [500, 100_000])
def test_json_that_is_nested_too_deep_is_no_crash(wire, depth):
    deep = b"[" * depth + b"]" * depth
    for body in (
        deep,
        b'{"choices":' + deep + b"}",
        b"data: " + deep + b"\n\n",
        b'data: {"choices":' + deep + b"}\n\n",
    ):
        for flow in _flows(wire, False):
            try:
                flow.feed(body)
                flow.end()
            except WireError:
                pass


@pytest.mark.parametrize("start", [b"data: ", b"{", b": "])
def test_an_answer_without_end_is_ended(monkeypatch, start):
    monkeypatch.setattr(answer, "LARGEST", 100_000)
    reading = Answer("chat")
    for piece in [start, *[b"x" * 1000] * 99]:
        reading.feed(piece)
    with pytest.raises(BadData, match="too large"):
        reading.feed(b"x" * 1000)


def test_many_tiny_events_keep_no_more_than_a_few_times_their_bytes():
    chunk = HEAD + b',"finish_reason":null}]}\n\n'
    tracemalloc.start()
    try:
        for flow in (Answer("chat"), Guard(exchange("chat", "chat"))):
            before, _ = tracemalloc.get_traced_memory()
            for _ in range(50):
                flow.feed(chunk * 100)
            kept = tracemalloc.get_traced_memory()[0] - before
            assert kept < 3 * 5_000 * len(chunk)
    finally:
        tracemalloc.stop()
