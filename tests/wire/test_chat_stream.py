from __future__ import annotations

import json
import random
from collections.abc import Iterable
from typing import Any

import plain_chat as plain
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionChunk
from test_chat import answers, json_values, replies

from allos.errors import AllosError, BadData, Incomplete, ServerFault
from allos.messages import Choice, Delta, Item, Message, Reasoning, Reply, Request, Text, ToolCall, Usage
from allos.wire import chat, sse
from allos.wire.collect import Collector, deltas


def is_good_stream(record: dict[str, Any]) -> bool:
    """A stream without an error in it; those with one have a test of their own."""
    return record["streaming"] and record["response"]["status"] == 200 and "error" not in record["features"]


def read(pieces: Iterable[bytes]) -> tuple[list[Delta], Reply]:
    reader, decoder, found = sse.Reader(), chat.Decoder(), []
    for piece in pieces:
        for event in reader.feed(piece):
            found += decoder.feed(event)
    for event in reader.end():
        found += decoder.feed(event)
    return found, decoder.end()


def decode(*payloads: Any, done: bool = True, think_tags: bool = False) -> Reply:
    """The reply of a stream with these payloads; a string is an event's data as it is."""
    decoder = chat.Decoder(think_tags=think_tags)
    for payload in (*payloads, *(["[DONE]"] if done else [])):
        decoder.feed(sse.Event("", payload if isinstance(payload, str) else json.dumps(payload)))
    return decoder.end()


def chunk(delta: Any = None, finish: Any = None, **more: Any) -> dict[str, Any]:
    return {"id": "x", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}


STOP = chunk({}, "stop")
CALLED = chunk({}, "tool_calls")


# Recorded streams


@pytest.mark.parametrize("record", plain.recordings(is_good_stream))
def test_every_recorded_stream_says_what_its_bytes_say(record: dict[str, Any]) -> None:
    body = record["response"]["body"]
    found, reply = read([body.encode()])
    expected = plain.streamed(body)
    assert plain.without_own_ids(plain.said(reply), expected) == expected
    payloads = plain.chunks(body)
    for name in ("id", "model"):
        assert getattr(reply, name) == next((c[name] for c in payloads if c.get("choices") and c.get(name)), None)
    heads = [delta for delta in found if delta.head is not None]
    assert heads == [next(delta for delta in found if delta.usage is None)], "the head comes once, first"


@pytest.mark.parametrize("record", plain.recordings(is_good_stream))
def test_the_deltas_add_up_to_the_reply(record: dict[str, Any]) -> None:
    found, reply = read([record["response"]["body"].encode()])
    collector = Collector()
    for delta in found:
        collector.feed(delta)
    collected = collector.reply()
    assert [choice.message.parts for choice in collected.choices] == [choice.message.parts for choice in reply.choices]
    assert "".join(delta.text for delta in found if delta.choice == 0) == reply.text
    assert "".join(delta.reasoning for delta in found if delta.choice == 0) == reply.reasoning


def splits(data: bytes) -> Iterable[list[bytes]]:
    """One byte a packet, and packets that end within every kind of place: a line, a name, a number, a character."""
    yield [data[at : at + 1] for at in range(len(data))]
    chance = random.Random(len(data))
    for size in (2, 3, 7, 64, 1000):
        yield [data[at : at + size] for at in range(0, len(data), size)]
    cuts = sorted(chance.sample(range(len(data)), min(50, len(data))))
    yield [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@pytest.mark.parametrize("record", plain.recordings(is_good_stream))
def test_any_split_of_the_bytes_gives_the_same_deltas(record: dict[str, Any]) -> None:
    data = record["response"]["body"].encode()
    whole = read([data])
    assert all(read(pieces) == whole for pieces in splits(data))


SMALL = [
    "gemini-chat-s-model-gemini-complete-say-hello-output-types-3",
    "ollama-chat-s-model-acomplete-ollama-return-true-output-ty-0",
]


def is_small(record: dict[str, Any]) -> bool:
    return is_good_stream(record) and record["id"].startswith(tuple(SMALL))


@pytest.mark.parametrize("record", plain.recordings(is_small))
def test_every_single_cut_in_two_gives_the_same_deltas(record: dict[str, Any]) -> None:
    data = record["response"]["body"].encode()
    whole = read([data])
    assert all(read([data[:at], data[at:]]) == whole for at in range(1, len(data)))


def has_finish(payload: Any) -> bool:
    return any(choice.get("finish_reason") for choice in payload.get("choices") or ())


@pytest.mark.parametrize("record", plain.recordings(is_good_stream))
def test_a_stream_cut_before_its_finish_reason_is_never_a_reply(record: dict[str, Any]) -> None:
    payloads = plain.chunks(record["response"]["body"])
    decoder = chat.Decoder()
    full = read([record["response"]["body"].encode()])[1]
    for payload in payloads:
        if has_finish(payload):
            break
        decoder.feed(sse.Event("", json.dumps(payload)))
        try:
            reply = decoder.end()
        except Incomplete as error:
            reply = error.reply
        except BadData:
            continue  # nothing that was an answer had come
        else:
            pytest.fail(f"passed for whole: {reply}")
        assert full.text.startswith(reply.text)
        assert full.reasoning.startswith(reply.reasoning)
        assert not reply.tool_calls
        assert decoder.so_far().text == reply.text


def is_faulty(record: dict[str, Any]) -> bool:
    return record["streaming"] and "error" in record["features"]


@pytest.mark.parametrize("record", plain.recordings(is_faulty))
def test_an_error_in_a_recorded_stream_comes_in_the_servers_words(record: dict[str, Any]) -> None:
    body = record["response"]["body"]
    payloads = plain.chunks(body)
    error = next(payload["error"] for payload in payloads if "error" in payload)
    with pytest.raises(ServerFault) as caught:
        read([body.encode()])
    assert str(caught.value) == error["message"]
    assert caught.value.body == error
    assert caught.value.status == 400
    assert caught.value.reply is not None
    assert caught.value.reply.reasoning == "".join(
        plain.thought(choice["delta"]) for payload in payloads for choice in payload.get("choices") or ()
    )


# Tool calls, numbered in every way


def call(index: Any = None, identity: Any = None, name: Any = None, arguments: Any = None) -> dict[str, Any]:
    """A piece of a call; None leaves a field out."""
    inner = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    outer = {key: value for key, value in (("index", index), ("id", identity)) if value is not None}
    return {**outer, "function": inner}


A, B = ("add", '{"a": 1}'), ("mul", '{"b": 2}')
WAYS: dict[str, list[list[dict[str, Any]]]] = {
    "by the reference": [[call(0, "i", "add", "")], [call(0, None, None, '{"a"')], [call(0, None, None, ": 1}")],
                         [call(1, "j", "mul", "")], [call(1, None, None, '{"b": 2}')]],
    "interleaved": [[call(0, "i", "add", "")], [call(1, "j", "mul", "")], [call(0, None, None, A[1])],
                    [call(1, None, None, B[1])]],
    "without index": [[call(None, "i", "add", "")], [call(None, None, None, '{"a"')], [call(None, None, None, ": 1}")],
                      [call(None, "j", "mul", "")], [call(None, None, None, '{"b": 2}')]],
    "without index, with ids, interleaved": [[call(None, "i", "add", "")], [call(None, "j", "mul", "")],
                                             [call(None, "i", None, A[1])], [call(None, "j", None, B[1])]],
    "whole, all with index 0": [[call(0, "i", *A)], [call(0, "j", *B)]],
    "whole, all with index 0 and no id": [[call(0, None, *A)], [call(0, None, *B)]],
    "pieces, all with index 0": [[call(0, "i", "add", "")], [call(0, None, None, '{"a"')],
                                 [call(0, None, None, ": 1}")], [call(0, "j", "mul", "")],
                                 [call(0, None, None, '{"b": 2}')]],
    "from 1 on": [[call(1, "i", "add", '{"a"')], [call(1, None, None, ": 1}")], [call(2, "j", *B)]],
    "without id": [[call(0, None, "add", "")], [call(0, None, None, A[1])], [call(1, None, *B)]],
    "with empty id": [[call(0, "", "add", '{"a"')], [call(0, "", None, ": 1}")], [call(1, "", *B)]],
    "id repeated": [[call(0, "i", "add", '{"a"')], [call(0, "i", "", ": 1}")], [call(1, "j", *B)]],
    "id and name repeated": [[call(0, "i", "add", '{"a"')], [call(0, "i", "add", ": 1}")], [call(1, "j", *B)]],
    "another id on each piece": [[call(0, "i", "add", '{"a"')], [call(0, "k", None, ": 1}")], [call(1, "j", *B)]],
    "another id on each piece, no index": [[call(None, "i", "add", '{"a"')], [call(None, "k", None, ": 1}")],
                                           [call(None, "j", *B)]],
    "whole in one chunk": [[call(0, "i", *A), call(1, "j", *B)]],
    "whole in one chunk without index": [[call(None, "i", *A), call(None, "j", *B)]],
    "whole in one chunk without anything": [[call(None, None, *A), call(None, None, *B)]],
    "arguments as an object": [[call(0, "i", "add", {"a": 1})], [call(1, "j", "mul", {"b": 2})]],
    "null for nothing": [[{"index": 0, "id": "i", "type": "function", "function": {"name": "add", "arguments": None}}],
                         [{"index": 0, "id": None, "type": None, "function": {"name": None, "arguments": A[1]}}],
                         [{"index": 1, "id": "j", "function": {"name": "mul", "arguments": B[1]}}]],
    "one id for both": [[call(0, "i", *A)], [call(1, "i", *B)]],
    "name in a piece of its own": [[call(0, "i")], [call(0, None, "add", A[1])], [call(1, "j", *B)]],
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_tool_calls_are_told_apart_however_they_are_numbered(way: str) -> None:
    reply = decode(*(chunk({"tool_calls": pieces}) for pieces in WAYS[way]), CALLED)
    found = [(found.name, json.loads(found.arguments)) for found in reply.tool_calls]
    assert found == [("add", {"a": 1}), ("mul", {"b": 2})]
    assert all(found.id for found in reply.tool_calls)
    if "one id" not in way:
        assert len({found.id for found in reply.tool_calls}) == 2


def test_parallel_calls_without_arguments_stay_apart() -> None:
    reply = decode(chunk({"tool_calls": [call(0, "i", "now", "")]}), chunk({"tool_calls": [call(0, "j", "now", "")]}),
                   CALLED)  # fmt: skip
    assert [found.id for found in reply.tool_calls] == ["i", "j"]


def test_the_old_function_call_is_a_tool_call() -> None:
    reply = decode(
        chunk({"function_call": {"name": "add", "arguments": ""}}),
        chunk({"function_call": {"arguments": "{}"}}),
        chunk({}, "function_call"),
    )
    assert [(found.name, found.arguments) for found in reply.tool_calls] == [("add", "{}")]
    assert reply.finish_reason == "tool_calls"


# Other deviations


@pytest.mark.parametrize(
    "noise",
    [{"id": "x", "choices": None}, {"id": "x", "choices": []}, {"id": "x"}, chunk(None), chunk({}),
     chunk({"role": None}), chunk({"role": "assistant", "content": ""}), chunk({"content": None, "tool_calls": None}),
     "null", "", " ",
     {"choices": [None]}, {"id": "other", "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": ""}]},
     chunk({"tool_calls": []}), chunk({}, usage={"prompt_tokens": None})],
)  # fmt: skip
def test_a_chunk_that_says_nothing_changes_nothing(noise: Any) -> None:
    plain_reply = decode(chunk({"content": "a"}), chunk({"content": "b"}), STOP)
    noisy = decode(noise, chunk({"content": "a"}), noise, chunk({"content": "b"}), noise, STOP, noise)
    assert (noisy.choices, noisy.usage) == (plain_reply.choices, plain_reply.usage)


@pytest.mark.parametrize(
    ("content", "text"), [([{"type": "text", "text": "b"}], "b"), ({"text": "b"}, "b"), ({"x": 1}, '{"x":1}'), (7, "7")]
)
def test_content_in_any_form_is_text(content: Any, text: str) -> None:
    assert decode(chunk({"content": "a"}), chunk({"content": content}), STOP).text == f"a{text}"


@pytest.mark.parametrize(
    "fields",
    [("reasoning_content",), ("reasoning",), ("thinking",), ("reasoning", "reasoning_content"),
     ("reasoning", "reasoning_details"), ("reasoning_details",), ("thinking_blocks",)],
)  # fmt: skip
def test_reasoning_in_any_field_is_read_once_and_goes_back_as_it_came(fields: tuple[str, ...]) -> None:
    def said(text: str) -> dict[str, Any]:
        forms = {
            "reasoning_details": [{"type": "reasoning.text", "text": text, "index": 0}],
            "thinking_blocks": [{"type": "thinking", "thinking": text}],
        }
        return {field: forms.get(field, text) for field in fields}

    reply = decode(chunk(said("h")), chunk(said("m")), chunk({"content": "a"}), STOP)
    assert reply.reasoning == "hm"
    assert reply.message == chat.load_reply({"choices": [{"message": {"content": "a", **said("hm")}}]}).message
    sent = chat.dump_request(Request((reply.message,)))["messages"][0]
    assert {field: sent[field] for field in fields} == said("hm")


def test_encrypted_reasoning_comes_with_the_final_part() -> None:
    details = [{"type": "reasoning.encrypted", "data": "gAAA", "id": "rs_1", "index": 0}]
    reply = decode(chunk({"reasoning_details": details}), chunk({"content": "a"}), STOP)
    thought = reply.message.parts[0]
    assert isinstance(thought, Reasoning)
    assert (thought.encrypted, thought.id) == ("gAAA", "rs_1")
    assert chat.dump_request(Request((reply.message,)))["messages"][0]["reasoning_details"] == details


@given(st.text("<think>/ \na", max_size=20), st.integers(1, 5))
def test_think_tags_read_alike_whole_and_streamed(text: str, size: int) -> None:
    for whole in (text, f"<think>{text}</think>{text}"):
        pieces = [chunk({"content": whole[at : at + size]}) for at in range(0, len(whole), size)]
        reply = decode(*pieces, STOP, think_tags=True)
        expected = chat.load_reply({"choices": [{"message": {"content": whole}}]}, think_tags=True)
        assert (reply.reasoning, reply.text) == (expected.reasoning, expected.text)


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([{"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}, None, None], Usage(3, 1, 4)),
        ([None, {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}, None], Usage(3, 2, 5)),
        ([{"prompt_tokens": 3, "completion_tokens": None}, {"completion_tokens": 2, "total_tokens": 5}, None],
         Usage(3, 2, 5)),
        ([{"prompt_tokens": 3}, {"prompt_tokens": None}, {}], Usage(3)),
        ([None, None, None], None),
    ],
)  # fmt: skip
def test_usage_counts_wherever_it_comes(places: list[Any], expected: Usage | None) -> None:
    chunks = [chunk({"content": "a"}), chunk({}, "stop"), {"choices": []}]
    assert decode(*({**c, "usage": u} for c, u in zip(chunks, places, strict=True))).usage == expected


def test_groqs_own_place_for_usage_is_read() -> None:
    reply = decode(chunk({"content": "a"}), {**STOP, "x_groq": {"usage": {"prompt_tokens": 3, "total_tokens": 4}}})
    assert reply.usage == Usage(3, None, 4)


def test_the_first_id_counts_and_unknown_fields_are_kept() -> None:
    other = {**chunk({"content": "b", "channel": "final"}), "id": "y", "provider": "P", "citations": ["u"]}
    other["choices"][0]["stop_reason"] = 7
    reply = decode(chunk({"content": "a"}), other, STOP)
    assert (reply.id, reply.text) == ("x", "ab")
    assert reply.extra == {"provider": "P", "citations": ["u"]}
    assert reply.choices[0].extra == {"stop_reason": 7, "message": {"channel": "final"}}


def test_a_choice_with_another_index_is_still_the_answer() -> None:
    reply = decode({"choices": [{"index": 1, "delta": {"content": "a"}, "finish_reason": "stop"}]})
    assert reply.text == "a"


@pytest.mark.parametrize(
    ("words", "finish", "kept"),
    [(["stop", "stop"], "stop", {}), (["stop", "tool_calls"], "tool_calls", {}),
     (["tool_calls", "stop"], "tool_calls", {}),
     (["end_turn"], "stop", {"finish_reason": "end_turn"}), (["", "length"], "length", {}), (["odd"], "odd", {})],
)  # fmt: skip
def test_a_finish_reason_that_is_odd_empty_or_repeated(words: list[str], finish: str, kept: dict[str, str]) -> None:
    choice = decode(chunk({"content": "a"}), *(chunk({}, word) for word in words)).choices[0]
    assert (choice.finish_reason, choice.extra) == (finish, kept)


def test_text_after_a_foreign_part_is_a_part_of_its_own() -> None:
    cite = {"type": "reference", "reference_ids": [1]}
    reply = decode(chunk({"content": "a"}), chunk({"content": [cite, {"type": "text", "text": "b"}]}), STOP)
    assert reply.message.parts == (Text("a"), Item(cite, "chat"), Text("b"))


def test_spoken_pieces_are_put_together() -> None:
    reply = decode(
        chunk({"audio": {"id": "a1", "transcript": "Hel"}}),
        chunk({"audio": {"data": "AAA=", "transcript": "lo"}}),
        chunk({"audio": {"data": "AQ==", "expires_at": 9}}),
    )
    (audio,) = reply.message.parts
    assert (audio.id, audio.transcript, audio.data) == ("a1", "Hello", "AAAB")  # type: ignore[union-attr]


# The end of a stream


def test_a_finish_reason_without_done_is_complete() -> None:
    assert decode(chunk({"content": "a"}), STOP, done=False).text == "a"


def test_done_after_an_answer_without_finish_reason_is_complete() -> None:
    """Some services send none: text-generation-inference with tools, OpenAI with audio."""
    assert decode(chunk({"content": "a"})).finish_reason == "stop"
    assert decode(chunk({"tool_calls": [call(0, "i", *A)]})).finish_reason == "tool_calls"


@pytest.mark.parametrize("payloads", [[], [{"choices": []}], [{"id": "x", "choices": None}]])
def test_a_stream_without_an_answer_is_bad_data(payloads: list[Any]) -> None:
    with pytest.raises(BadData):
        decode(*payloads)


@pytest.mark.parametrize(
    ("payloads", "done"),
    [
        ([], False),
        ([chunk({"role": "assistant", "content": ""})], True),
        ([chunk({"content": "a"})], False),
        ([chunk({"tool_calls": [call(0, "i", "add", '{"a": ')]})], True),
        ([chunk({"content": "a"}, "stop"), {"choices": [{"index": 1, "delta": {"content": "b"}}]}], False),
    ],
)
def test_a_stream_that_stops_too_soon_is_incomplete(payloads: list[Any], done: bool) -> None:
    with pytest.raises(Incomplete) as caught:
        decode(*payloads, done=done)
    assert not caught.value.reply.tool_calls


def test_text_held_back_for_a_tag_is_in_an_incomplete_reply() -> None:
    with pytest.raises(Incomplete) as caught:
        decode(chunk({"content": "<thi"}), done=False, think_tags=True)
    assert caught.value.reply.text == "<thi"


@pytest.mark.parametrize("data", ["{not json}", '"ok"', "[1]", "3", "[" * 100_000])
def test_an_event_that_is_no_chunk_is_bad_data_and_the_text_is_kept(data: str) -> None:
    decoder = chat.Decoder()
    decoder.feed(sse.Event("", json.dumps(chunk({"content": "a"}))))
    with pytest.raises(BadData):
        decoder.feed(sse.Event("", data))
    assert decoder.so_far().text == "a"


@pytest.mark.parametrize(
    ("event", "message", "status"),
    [
        (sse.Event("", '{"error": {"message": "too busy", "code": 503}}'), "too busy", 503),
        (sse.Event("", '{"error": "plain"}'), "plain", None),
        (sse.Event("error", "plain"), "plain", None),
        (sse.Event("error", '{"code": 500, "message": "slot unavailable"}'), "slot unavailable", 500),
        (sse.Event("", '{"object": "error", "message": "gone", "code": 404}'), "gone", 404),
        (sse.Event("", json.dumps(chunk({"content": ""}, "error"))), "error", None),
        (sse.Event("", '{"choices": [{"delta": {}, "error": {"message": "up", "code": 502}}]}'), "up", 502),
    ],
)
def test_an_error_in_the_stream_is_the_servers_fault_and_the_text_is_kept(
    event: sse.Event, message: str, status: int | None
) -> None:
    decoder = chat.Decoder()
    decoder.feed(sse.Event("", json.dumps(chunk({"content": "a"}))))
    with pytest.raises(ServerFault, match=message) as caught:
        decoder.feed(event)
    assert caught.value.status == status
    assert caught.value.reply is not None
    assert caught.value.reply.text == "a"


def test_done_is_seen_at_the_end_and_not_before() -> None:
    decoder = chat.Decoder()
    decoder.feed(sse.Event("", json.dumps(STOP)))
    assert not decoder.done
    decoder.feed(sse.Event("", "[DONE]"))
    assert decoder.done


# Writing a stream


def encode(found: Iterable[Delta], reply: Reply, request: Request | None = None) -> list[dict[str, Any]]:
    encoder = chat.Encoder(request=request)
    chunks = [payload for delta in found for payload in encoder.feed(delta)]
    return json.loads(json.dumps([*chunks, *encoder.end(reply)]))


def check(chunks: list[dict[str, Any]]) -> None:
    """What the reference promises of a stream, and the SDK's types."""
    for payload in chunks:
        for choice in payload["choices"]:
            for piece in choice["delta"].get("tool_calls", ()):
                if "custom" in piece:  # the SDK has no type for streamed custom calls
                    piece["type"] = None
        ChatCompletionChunk.model_validate(payload, strict=True)
    assert len({(payload["id"], payload["model"], payload["created"]) for payload in chunks}) == 1
    seen: set[int] = set()
    for payload in chunks:
        for choice in payload["choices"]:
            assert ("role" in choice["delta"]) == (choice["index"] not in seen)
            seen.add(choice["index"])


@given(replies(), st.booleans())
def test_any_reply_written_as_a_stream_reads_the_same(reply: Reply, include_usage: bool) -> None:
    chunks = encode(deltas(reply), reply, Request(include_usage=include_usage))
    read_again = decode(*chunks)
    expected = reply if include_usage else Reply(**{**fields(reply), "usage": None})
    assert read_again == expected
    check(chunks)


def fields(reply: Reply) -> dict[str, Any]:
    return {name: getattr(reply, name) for name in ("choices", "id", "model", "created", "service_tier", "extra")}


@given(st.lists(answers, min_size=1, max_size=1))
def test_a_reply_whose_deltas_nobody_fed_is_written_at_the_end(parts: list[Any]) -> None:
    reply = Reply((Choice(Message("assistant", parts[0]), "stop"),), "x", "m", 1)
    assert decode(*encode([], reply)) == reply


@pytest.mark.parametrize("record", plain.recordings(is_good_stream))
def test_every_recorded_stream_written_again_says_the_same(record: dict[str, Any]) -> None:
    found, reply = read([record["response"]["body"].encode()])
    chunks = encode(found, reply, Request(include_usage=True))
    again = decode(*chunks)
    told, expected = plain.said(again), plain.said(reply)
    if reply.usage is not None and reply.usage.total_tokens is None:
        told["usage"] = expected["usage"]
    assert told == expected
    for payload in chunks:
        for choice in payload["choices"]:
            choice["delta"].pop("name", None)
    check(chunks)


def test_usage_is_told_only_where_it_was_asked_for() -> None:
    reply = Reply((Choice(Message.assistant("a"), "stop"),), "x", "m", 1, Usage(1, 2, 3))
    assert "usage" not in json.dumps(encode(deltas(reply), reply))
    *others, last = encode(deltas(reply), reply, Request(include_usage=True))
    assert last["choices"] == []
    assert last["usage"] == {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    assert all(payload["usage"] is None for payload in others)


def test_the_finish_reason_comes_last_and_alone() -> None:
    reply = Reply((Choice(Message("assistant", (Text("a"), ToolCall("c", "f", "{}"))), "tool_calls"),), "x", "m", 1)
    reasons = [payload["choices"][0]["finish_reason"] for payload in encode(deltas(reply), reply)]
    assert reasons == [None, None, "tool_calls"]


def test_the_old_functions_are_answered_in_the_old_form() -> None:
    request = chat.load_request({"messages": [], "functions": [{"name": "f"}]})
    reply = Reply((Choice(Message.assistant(tool_calls=[ToolCall("c", "f", "{}")]), "tool_calls"),))
    chunks = encode(deltas(reply), reply, request)
    assert chunks[0]["choices"][0]["delta"]["function_call"] == {"name": "f", "arguments": "{}"}
    assert chunks[-1]["choices"][0]["finish_reason"] == "function_call"


def test_frames_are_data_lines_and_the_tail_is_done() -> None:
    (event,) = sse.Reader().feed(chat.frame({"id": "x"}))
    assert event == sse.Event("", '{"id":"x"}')
    assert sse.Reader().feed(chat.TAIL) == [sse.Event("", "[DONE]")]


# Anything at all


@given(st.lists(json_values | st.builds(chunk, json_values, json_values), max_size=5), st.booleans(), st.booleans())
def test_no_stream_makes_the_decoder_fail_in_another_way(payloads: list[Any], done: bool, think_tags: bool) -> None:
    try:
        reply = decode(*payloads, done=done, think_tags=think_tags)
    except AllosError:
        return
    assert reply.finish_reason is not None
