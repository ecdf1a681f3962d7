from __future__ import annotations

import json
import random
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import ResponseStreamEvent
from plain_responses import events as payloads
from recorded import each
from test_responses import json_values, replies, without_ids

from allos.errors import AllosError, BadData, Incomplete, ServerFault
from allos.messages import Choice, Delta, Message, Reasoning, Refusal, Reply, Request, Text, ToolCall, Usage
from allos.wire import responses, sse
from allos.wire.collect import Collector, deltas

# Looked up by its type, since trying all of the union takes long.
EVENTS = {
    kind: event
    for event in get_args(get_args(ResponseStreamEvent)[0])
    for kind in get_args(event.model_fields["type"].annotation)
}
TERMINAL = ("response.completed", "response.incomplete")


def is_good_stream(record: dict[str, Any]) -> bool:
    """A stream that ends well; those that report an error have a test of their own."""
    if record["api"] != "responses" or not record["streaming"] or record["response"]["status"] != 200:
        return False
    return any(payload.get("type") in TERMINAL for payload in payloads(record["response"]["body"]))


def read(pieces: Iterable[bytes]) -> tuple[list[Delta], Reply]:
    reader, decoder, found = sse.Reader(), responses.Decoder(), []
    for piece in pieces:
        for event in reader.feed(piece):
            found += decoder.feed(event)
    for event in reader.end():
        found += decoder.feed(event)
    return found, decoder.end()


def decode(*events: Any, think_tags: bool = False) -> Reply:
    """The reply of a stream with these payloads; a string is an event's data as it is."""
    decoder = responses.Decoder(think_tags=think_tags)
    for payload in events:
        decoder.feed(sse.Event("", payload if isinstance(payload, str) else json.dumps(payload)))
    return decoder.end()


# Recorded streams


@pytest.mark.parametrize("record", each(is_good_stream))
def test_a_recorded_stream_collected_equals_the_whole_that_it_ends_with(record: dict[str, Any]) -> None:
    events = payloads(record["response"]["body"])
    found, reply = read([record["response"]["body"].encode()])
    final = next(event["response"] for event in events if event["type"] in TERMINAL)
    if final.get("output"):
        assert reply == replace(responses.load_reply(final), id=found[0].head and found[0].head.id)
    collector = Collector()
    for delta in found:
        collector.feed(delta)
    collected = collector.reply()
    assert collected.text == reply.text
    assert collected.refusal == reply.refusal
    assert collected.tool_calls == reply.tool_calls
    assert (collected.finish_reason, collected.usage) == (reply.finish_reason, reply.usage)
    assert (collected.id, collected.model) == (reply.id, reply.model)


@pytest.mark.parametrize("record", each(is_good_stream))
def test_the_deltas_say_what_the_recorded_events_say(record: dict[str, Any]) -> None:
    found, _ = read([record["response"]["body"].encode()])
    said = {"response.output_text.delta": "", "response.refusal.delta": "", "response.reasoning_text.delta": ""}
    for event in payloads(record["response"]["body"]):
        if event["type"] in said:
            said[event["type"]] += event["delta"]
    told = "".join(delta.text for delta in found)
    assert told.startswith(said["response.output_text.delta"])
    assert "".join(delta.refusal for delta in found).startswith(said["response.refusal.delta"])
    if said["response.reasoning_text.delta"]:
        assert "".join(delta.reasoning for delta in found) == said["response.reasoning_text.delta"]
    assert [delta.head is not None for delta in found].count(True) == 1
    assert found[0].head is not None


def splits(data: bytes) -> Iterable[list[bytes]]:
    """One byte a packet, and packets that end within every kind of place: a line, a name, a number, a character."""
    if len(data) < 20_000:
        yield [data[at : at + 1] for at in range(len(data))]
    chance = random.Random(len(data))
    for size in (3, 64, 1000):
        yield [data[at : at + size] for at in range(0, len(data), size)]
    cuts = sorted(chance.sample(range(len(data)), min(50, len(data))))
    yield [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@pytest.mark.parametrize("record", each(is_good_stream))
def test_any_split_of_the_bytes_gives_the_same_deltas(record: dict[str, Any]) -> None:
    data = record["response"]["body"].encode()
    whole = read([data])
    assert all(read(pieces) == whole for pieces in splits(data))


@pytest.mark.parametrize("record", each(is_good_stream))
def test_a_recorded_stream_cut_before_its_end_is_never_a_reply(record: dict[str, Any]) -> None:
    full = read([record["response"]["body"].encode()])[1]
    decoder = responses.Decoder()
    finished: set[str] = set()
    for event in payloads(record["response"]["body"]):
        if event["type"] in TERMINAL:
            break
        decoder.feed(sse.Event("", json.dumps(event)))
        if event["type"] == "response.output_item.done":
            finished.add(str(event["item"].get("call_id")))
        with pytest.raises((Incomplete, BadData)) as caught:
            decoder.end()
        if isinstance(caught.value, Incomplete):
            came = caught.value.reply
            assert full.text.startswith(came.text)
            assert {call.id for call in came.tool_calls} <= finished, "a half tool call is never handed out"
            assert decoder.so_far() == came


def is_faulty(record: dict[str, Any]) -> bool:
    if record["api"] != "responses" or not record["streaming"] or record["response"]["status"] != 200:
        return False
    return any(event.get("type") in ("error", "response.failed") for event in payloads(record["response"]["body"]))


@pytest.mark.parametrize("record", each(is_faulty))
def test_an_error_in_a_recorded_stream_comes_in_the_servers_words(record: dict[str, Any]) -> None:
    body = record["response"]["body"]
    with pytest.raises(ServerFault) as caught:
        read([body.encode()])
    assert str(caught.value) in json.dumps(payloads(body), ensure_ascii=False)
    assert caught.value.reply is not None


# Writing a stream


def encode(found: Iterable[Delta], reply: Reply, request: Request | None = None) -> list[dict[str, Any]]:
    encoder = responses.Encoder(request=request)
    events = [payload for delta in found for payload in encoder.feed(delta)]
    told: list[dict[str, Any]] = json.loads(json.dumps([*events, *encoder.end(reply)]))
    return told


def check(events: list[dict[str, Any]]) -> None:
    """What the reference promises of a stream: types, numbers, and that everything begun is ended in order."""
    for event in events:
        EVENTS[event["type"]].model_validate(event)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[0]["type"] == "response.created"
    assert events[1]["type"] == "response.in_progress"
    assert [event["type"] in TERMINAL for event in events].count(True) == 1
    assert events[-1]["type"] in TERMINAL
    added = [event["output_index"] for event in events if event["type"] == "response.output_item.added"]
    done = [event for event in events if event["type"] == "response.output_item.done"]
    assert added == list(range(len(added)))
    assert [event["output_index"] for event in done] == added
    assert [event["item"] for event in done] == events[-1]["response"]["output"]
    check_items(events)


def check_items(events: list[dict[str, Any]]) -> None:
    open_items: dict[int, str] = {}
    open_parts: dict[int, int] = {}
    for event in events:
        kind, place = event["type"], event.get("output_index")
        if kind == "response.output_item.added":
            open_items[place] = event["item"]["id"]
        elif place is not None:
            assert place in open_items, f"{kind} before its item was added"
            assert event.get("item_id", open_items[place]) == open_items[place]
        if kind == "response.content_part.added":
            assert place not in open_parts
            open_parts[place] = event["content_index"]
        elif "content_index" in event:
            assert event["content_index"] == open_parts[place]
        if kind == "response.content_part.done":
            del open_parts[place]
        if kind == "response.output_item.done":
            assert place not in open_parts
            assert event["item"]["id"] == open_items.pop(place)
    assert not open_items


@settings(max_examples=50)
@given(replies())
def test_any_reply_written_as_a_stream_reads_the_same(reply: Reply) -> None:
    if reply.finish_reason == "cancelled":
        return
    events = encode(deltas(reply), reply)
    assert without_ids(decode(*events)) == without_ids(reply)
    check(events)


@settings(max_examples=50)
@given(replies())
def test_a_reply_whose_deltas_nobody_fed_is_written_at_the_end(reply: Reply) -> None:
    if reply.finish_reason == "cancelled":
        return
    events = encode([], reply)
    assert without_ids(decode(*events)) == without_ids(reply)
    check(events)


@st.composite
def grown(draw: st.DrawFn) -> tuple[list[Delta], Reply]:
    """A reply, and deltas of a few letters each that it grew from, as a chat stream brings them."""
    words = st.text(min_size=1, max_size=9)
    parts: list[Any] = []
    if draw(st.booleans()):
        parts.append(Reasoning(draw(words)))
    if draw(st.booleans()):
        parts.append(Text(draw(words)))
    if draw(st.booleans()):
        parts.append(Refusal(draw(words)))
    parts += [ToolCall(f"call_{n}", "f", draw(words)) for n in range(draw(st.integers(0, 3)))]
    size = draw(st.integers(1, 4))
    found: list[Delta] = [Delta(head=Reply(id="resp_1", model="m", created=1))]
    pieces: list[list[Delta]] = []
    for index, part in enumerate(parts):
        text = part.arguments if isinstance(part, ToolCall) else part.text
        cut = [text[at : at + size] for at in range(0, len(text), size)]
        match part:
            case ToolCall():
                begun = Delta(tool_call=ToolCall(part.id, part.name), index=index)
                pieces.append([begun, *(Delta(tool_call=ToolCall("", "", piece), index=index) for piece in cut)])
            case Reasoning():
                found += [Delta(reasoning=piece, index=index) for piece in cut]
            case Refusal():
                found += [Delta(refusal=piece, index=index) for piece in cut]
            case _:
                found += [Delta(piece, index=index) for piece in cut]
    while pieces := [queue for queue in pieces if queue]:  # parallel calls may come interleaved
        found.append(draw(st.sampled_from(pieces)).pop(0))
    reason = "tool_calls" if any(isinstance(part, ToolCall) for part in parts) else "stop"
    choice = Choice(Message("assistant", tuple(parts)), reason)
    return found, Reply((choice,), "resp_1", "m", 1, Usage(1, 2, 3, 0, 0))


@given(grown())
def test_any_growth_is_written_by_the_reference_and_reads_the_same(given: tuple[list[Delta], Reply]) -> None:
    found, reply = given
    events = encode(found, reply)
    read_again = decode(*events)
    assert read_again.text == reply.text
    assert read_again.reasoning == reply.reasoning
    assert read_again.refusal == reply.refusal
    told = sorted((call.id, call.name, call.arguments) for call in read_again.tool_calls)
    assert told == sorted((call.id, call.name, call.arguments) for call in reply.tool_calls)
    check(events)


def kinds_of(record: dict[str, Any]) -> set[str]:
    return {
        event["item"]["type"]
        for event in payloads(record["response"]["body"])
        if event["type"] == "response.output_item.done"
    }


def is_plain_stream(record: dict[str, Any]) -> bool:
    """A stream of messages, thoughts and function calls: the SDK's types can't hold every service's own items."""
    return is_good_stream(record) and kinds_of(record) <= {"message", "reasoning", "function_call"}


@pytest.mark.parametrize("record", each(is_plain_stream))
def test_every_recorded_stream_written_again_says_the_same(record: dict[str, Any]) -> None:
    found, reply = read([record["response"]["body"].encode()])
    request = Request(extra={"service_tier": None})
    events = encode(found, Reply(reply.choices, reply.id, reply.model, reply.created, reply.usage), request)
    again = decode(*events)
    assert (again.text, again.reasoning, again.refusal) == (reply.text, reply.reasoning, reply.refusal)
    assert [(call.id, call.arguments) for call in again.tool_calls] == [
        (call.id, call.arguments) for call in reply.tool_calls
    ]
    assert (again.id, again.model, again.finish_reason) == (reply.id, reply.model, reply.finish_reason)
    check(events)


def test_an_error_in_mid_stream_is_one_that_the_decoder_and_the_sdk_know() -> None:
    encoder = responses.Encoder()
    events = [*encoder.feed(Delta(head=Reply(id="resp_1", model="m", created=1))), *encoder.feed(Delta("Par"))]
    events += encoder.feed(Delta(tool_call=ToolCall("call_1", "f", '{"a'), index=1))
    reply = Reply((Choice(Message.assistant("Par"), "error"),), "resp_1")
    events += encoder.end(reply)
    for event in events:
        EVENTS[event["type"]].model_validate(event)
    assert [event["type"] for event in events][-2:] == ["error", "response.failed"]
    failed = events[-1]["response"]
    assert failed["status"] == "failed"
    assert [item["type"] for item in failed["output"]] == ["message"], "a half tool call is not shown"
    with pytest.raises(ServerFault, match="stopped with an error") as caught:
        decode(*events)
    assert caught.value.reply is not None
    assert caught.value.reply.text == "Par"


def test_frames_name_their_event_and_the_stream_has_no_tail() -> None:
    (event,) = sse.Reader().feed(responses.frame({"type": "response.created"}))
    assert event == sse.Event("response.created", '{"type":"response.created"}')
    assert responses.TAIL == b""


# Deviations


def part_of(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", **fields}


FINAL = {"id": "r", "model": "m", "status": "completed", "output": []}
ENDED = part_of("completed", response=FINAL)


def test_a_stream_without_numbers_places_and_item_is_read() -> None:
    """As llama.cpp's is: no `sequence_number`, `output_index` or `content_index`."""
    item = {"type": "message", "id": "msg_1", "role": "assistant", "content": []}
    reply = decode(
        part_of("created", response={"id": "r"}),
        part_of("output_item.added", item=item),
        part_of("output_text.delta", item_id="msg_1", delta="Par"),
        part_of("output_text.delta", item_id="msg_1", delta="is"),
        ENDED,
    )
    assert (reply.text, reply.id, reply.finish_reason) == ("Paris", "r", "stop")


def test_an_item_whose_id_changes_with_every_event_is_one_item() -> None:
    reply = decode(
        *(
            part_of("output_text.delta", item_id=f"msg_{n}", output_index=0, delta=piece)
            for n, piece in enumerate("abc")
        ),
        ENDED,
    )
    assert [part.text for part in reply.message.parts] == ["abc"]  # type: ignore[union-attr]


def test_a_text_that_comes_only_when_it_is_done_is_a_delta_too() -> None:
    done = part_of("output_text.done", output_index=0, content_index=0, text="Paris")
    assert decode(done, ENDED).text == "Paris"


def test_arguments_that_come_only_when_they_are_done_are_read() -> None:
    call = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": ""}
    reply = decode(
        part_of("output_item.added", output_index=0, item=call),
        part_of("function_call_arguments.done", output_index=0, item_id="fc_1", arguments='{"a":1}'),
        ENDED,
    )
    assert [(call.id, call.name, call.arguments) for call in reply.tool_calls] == [("call_1", "f", '{"a":1}')]
    assert reply.finish_reason == "tool_calls"


def test_the_type_of_an_event_may_stand_in_its_name_alone() -> None:
    decoder = responses.Decoder()
    (delta,) = decoder.feed(sse.Event("response.output_text.delta", '{"delta": "a"}'))
    assert delta.text == "a"


def test_an_unknown_event_is_handed_on() -> None:
    decoder = responses.Decoder()
    odd = part_of("mcp_call.in_progress", output_index=0)
    (delta,) = decoder.feed(sse.Event("", json.dumps(odd)))
    assert delta.extra == {"event": odd}


@pytest.mark.parametrize("status", ["completed", None, "in_progress"])
def test_the_name_of_the_last_event_says_how_it_ended(status: str | None) -> None:
    body = {**FINAL, "status": status}
    assert decode(part_of("output_text.delta", delta="a"), part_of("completed", response=body)).finish_reason == "stop"
    cut = decode(part_of("output_text.delta", delta="a"), part_of("incomplete", response={**body, "status": None}))
    assert cut.finish_reason == "length"


@pytest.mark.parametrize("end", [[], ["[DONE]"]])
def test_done_alone_ends_no_answer(end: list[str]) -> None:
    with pytest.raises(Incomplete) as caught:
        decode(part_of("output_text.delta", delta="Par"), *end)
    assert caught.value.reply.text == "Par"


@pytest.mark.parametrize("events", [[], ["[DONE]"], ["null"], [{"x": 1}]])
def test_a_stream_without_an_answer_is_bad_data(events: list[Any]) -> None:
    with pytest.raises(BadData):
        decode(*events)


@pytest.mark.parametrize(
    ("event", "message", "status"),
    [
        ({"type": "error", "code": "404", "message": "no model"}, "no model", 404),
        ({"type": "error", "error": {"message": "busy", "code": "rate_limit_exceeded"}}, "busy", 429),
        (
            {"type": "response.failed", "response": {"error": {"code": "server_error", "message": "broke"}}},
            "broke",
            500,
        ),
        ({"type": "response.completed", "response": {"status": "failed", "error": {"message": "no"}}}, "no", None),
        ({"error": {"message": "plain"}}, "plain", None),
    ],
)
def test_an_error_in_the_stream_is_the_servers_fault_and_the_text_is_kept(
    event: dict[str, Any], message: str, status: int | None
) -> None:
    decoder = responses.Decoder()
    decoder.feed(sse.Event("", json.dumps(part_of("output_text.delta", delta="a"))))
    with pytest.raises(ServerFault, match=message) as caught:
        decoder.feed(sse.Event("", json.dumps(event)))
    assert caught.value.status == status
    assert caught.value.reply is not None
    assert caught.value.reply.text == "a"
    assert decoder.done


# Anything at all


KINDS = st.sampled_from(
    ["response.created", "response.output_item.added", "response.output_item.done", "response.output_text.delta",
     "response.output_text.done", "response.function_call_arguments.delta", "response.reasoning_summary_text.delta",
     "response.refusal.delta", "response.completed", "response.failed", "response.output_text.annotation.added",
     "error"]
)  # fmt: skip


@st.composite
def odd_events(draw: st.DrawFn) -> Any:
    value = draw(json_values)
    event = value if isinstance(value, dict) else {"response": value, "item": value, "delta": value}
    return {**event, "type": draw(KINDS)}


@given(st.lists(json_values | odd_events(), max_size=5), st.booleans())
def test_no_stream_makes_the_decoder_fail_in_another_way(events: list[Any], think_tags: bool) -> None:
    try:
        decode(*events, think_tags=think_tags)
    except AllosError:
        return
