"""Every recorded exchange with a real service, through both doors and over both APIs.

The endpoint is nameless, so nothing is known of the service but what it sends.
What is expected is read from the bytes by `plain_chat` and `plain_responses`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from functools import cache, partial
from typing import Any

import openai
import plain_chat
import plain_errors
import pytest
import recorded
from recorded import NO_ANSWER, OTHER, PLAIN, Player, Record, connection, each, is_fault, run

from allos.client import AsyncClient, Client
from allos.dropin import AsyncOpenAI, OpenAI
from allos.errors import WireError
from allos.exchange import Exchange, Receipt
from allos.failures import IncompleteReplyError
from allos.wire.answer import Answer

BASE = "http://recorded.test/v1"
PLAYER = Player()


def answers(record: Record) -> bool:
    return record["id"] not in NO_ANSWER and not is_fault(record)


def whole(record: Record) -> bool:
    return answers(record) and not record["streaming"]


def streamed(record: Record) -> bool:
    return answers(record) and record["streaming"]


@cache
def client(wire: str, colour: str = "sync") -> Any:
    """The unified client of an endpoint that speaks this API."""
    kind = Client if colour == "sync" else AsyncClient
    made = kind("chat_completions", "m", base_url=BASE, api_key="sk-mock", wire=wire, max_retries=0,
                http_client=connection(colour, PLAYER))  # fmt: skip
    assert made.target.endpoint.generic
    return made


@cache
def dropin(wire: str, colour: str = "sync") -> Any:
    """The drop-in client of an endpoint that speaks this API."""
    kind = OpenAI if colour == "sync" else AsyncOpenAI
    return kind("chat_completions", base_url=BASE, api_key="sk-mock", wire=wire, max_retries=0,
                http_client=connection(colour, PLAYER))  # fmt: skip


# Asking


def unified(wire: str, *, stream: bool, colour: str = "sync") -> Any:
    """The `Reply` to a question; a streamed one is checked against its deltas."""
    asker = client(wire, colour)
    if not stream:
        return asker.chat("?") if colour == "sync" else run(asker.chat("?"))
    steps = asker.stream("?")
    deltas = list(steps) if colour == "sync" else run(listed(steps))
    first = [delta for delta in deltas if delta.choice == 0]
    assert "".join(delta.text for delta in first) == steps.reply.text
    return steps.reply


async def listed(steps: Any) -> list[Any]:
    return [step async for step in steps]


def official(client: Any, asked: str, body: Record | None = None, **options: Any) -> Any:
    """One call of the official API by an official method; `body` is what a program once said there."""
    if asked == "chat":
        return client.chat.completions.create(model="m", messages=[], extra_body=body, **options)
    return client.responses.create(model="m", extra_body=body or {"input": "?"}, **options)


def told(wire: str, answer: Any, *, stream: bool) -> dict[str, Any]:
    """What the official objects say."""
    of = {
        ("chat", False): recorded.of_completion,
        ("chat", True): recorded.of_chunks,
        ("responses", False): recorded.of_response,
        ("responses", True): recorded.of_events,
    }
    return of[wire, stream](answer)


def through(wire: str, asked: str, *, stream: bool, colour: str = "sync", body: Record | None = None) -> dict[str, Any]:
    """What the drop-in's answer says; `wire` is what the endpoint speaks."""
    options: dict[str, Any] = {"stream": True} if stream else {}
    if stream and asked == "chat":
        options["stream_options"] = {"include_usage": True}
    answer = official(dropin(wire, colour), asked, body, **options)
    if colour == "async":
        answer = run(answer)
        return told(asked, run(listed(answer)) if stream else answer, stream=stream)
    return told(asked, list(answer) if stream else answer, stream=stream)


# What counts as the same


def same(got: dict[str, Any], want: dict[str, Any], *, strict: bool = True) -> None:
    """Assert that both say the same; an id is ours where the service sent none.

    Not `strict`, counts that are required stand as zero where the service named none.
    """
    got, want = json.loads(json.dumps(got)), json.loads(json.dumps(want))
    for mine, theirs in zip(got["choices"], want["choices"], strict=True):
        assert len(mine["calls"]) == len(theirs["calls"])
        for call, other in zip(mine["calls"], theirs["calls"], strict=True):
            if not other[0]:
                assert call[0] == "" or call[0].startswith("call_")
                other[0] = call[0]
    for mine, theirs in zip(got["choices"], want["choices"], strict=True):
        if not strict:  # what stands between two thoughts
            mine["reasoning"], theirs["reasoning"] = ("".join(said["reasoning"].split()) for said in (mine, theirs))
        assert {name: mine[name] for name in mine if mine[name] != theirs[name]} == {
            name: theirs[name] for name in mine if mine[name] != theirs[name]
        }
    if strict or want["usage"] is None or got["usage"] is None:
        assert got["usage"] == want["usage"]
    else:
        assert all(mine == (theirs or 0) for mine, theirs in zip(got["usage"], want["usage"], strict=True) if mine)


# The unified client


@pytest.mark.parametrize("record", each(whole))
def test_the_unified_client_reads_a_whole_answer(record: Record) -> None:
    want = recorded.expected(record)
    for colour, stream in (("sync", False), ("async", False), ("sync", True)):
        PLAYER.play(record)
        same(plain_chat.said(unified(record["api"], stream=stream, colour=colour)), want)


@pytest.mark.parametrize("record", each(streamed))
def test_the_unified_client_reads_a_stream(record: Record) -> None:
    want = recorded.expected(record)
    for colour, stream in (("sync", True), ("async", True), ("sync", False)):
        PLAYER.play(record)
        same(plain_chat.said(unified(record["api"], stream=stream, colour=colour)), want)


# The drop-in


@pytest.mark.parametrize("record", each(whole))
def test_the_drop_in_reads_a_whole_answer_on_its_own_wire(record: Record) -> None:
    want, wire = recorded.expected(record), record["api"]
    for colour, stream in (("sync", False), ("async", False), ("sync", True)):
        PLAYER.play(record)
        same(through(wire, wire, stream=stream, colour=colour), want, strict=False)


@pytest.mark.parametrize("record", each(streamed))
def test_the_drop_in_reads_a_stream_on_its_own_wire(record: Record) -> None:
    want, wire = recorded.expected(record), record["api"]
    for colour, stream in (("sync", True), ("async", True), ("sync", False)):
        PLAYER.play(record)
        same(through(wire, wire, stream=stream, colour=colour), want, strict=False)


@pytest.mark.parametrize("record", each(whole))
def test_the_drop_in_translates_a_whole_answer(record: Record) -> None:
    translated(record, (("sync", False), ("async", True)))


@pytest.mark.parametrize("record", each(streamed))
def test_the_drop_in_translates_a_stream(record: Record) -> None:
    translated(record, (("sync", True), ("async", False)))


def translated(record: Record, ways: Iterable[tuple[str, bool]]) -> None:
    wire = record["api"]
    for colour, stream in ways:
        PLAYER.play(record)
        want = as_other(record, stream=stream)
        if want["choices"][0]["finish"] is None:  # a Response in the background: no completion can be one
            with pytest.raises(IncompleteReplyError):
                through(wire, OTHER[wire], stream=stream, colour=colour)
        else:
            same(through(wire, OTHER[wire], stream=stream, colour=colour), want, strict=False)


def as_other(record: Record, *, stream: bool) -> dict[str, Any]:
    """What an answer can say on the other API.

    A Response holds one choice (of a stream, the one that speaks first), names no end with tools, and has no sound.
    """
    said = recorded.expected(record)
    if record["api"] == "responses":
        return said
    place = plain_chat.first_to_speak(record["response"]["body"]) if stream and record["streaming"] else 0
    told = said["choices"][place]
    if told["finish"] == "stop" and told["calls"]:
        told = {**told, "finish": "tool_calls"}
    return {**said, "choices": [{**told, "text": told["text"] + told["spoken"], "spoken": ""}]}


# The SDK's own helper for streams


@pytest.mark.parametrize("record", each(streamed))
def test_the_stream_helper_of_the_sdk_ends_with_the_whole_answer(record: Record) -> None:
    wire = record["api"]
    PLAYER.play(record)
    same(helped(dropin(wire), wire), recorded.expected(record), strict=False)
    PLAYER.play(record)
    same(helped(dropin(wire), OTHER[wire]), as_other(record, stream=True), strict=False)


def helped(client: Any, asked: str) -> dict[str, Any]:
    """What the helper's final object says. At a limit it is in the SDK's error, or in the last event alone."""
    if asked == "chat":
        options = {"stream_options": {"include_usage": True}}
        with client.chat.completions.stream(model="m", messages=[], **options) as steps:
            try:
                return recorded.of_completion(steps.get_final_completion())
            except openai.LengthFinishReasonError as error:
                return recorded.of_completion(error.completion)
    with client.responses.stream(model="m", input="?") as steps:
        *_, last = steps
    return recorded.of_response(last.response)


# Streams that are cut


@pytest.mark.parametrize("record", each(streamed))
def test_a_stream_cut_after_any_event_is_never_a_whole_answer(record: Record) -> None:
    """Each flow is asked to end after every event; that leaves it as it is, since it never does before the answer."""
    wire, found = record["api"], recorded.events(record["response"]["body"])
    said, end = recorded.payloads(record), recorded.end_of(record)
    known = recorded.expected(record)["choices"][0]["calls"]
    flows = [Answer(wire), *(flow_of(wire, asked) for asked in (wire, OTHER[wire]))]
    for place, event in enumerate(found[:end], 1):
        for flow in flows:
            flow.feed(event)
        if place == end:
            break
        text = text_of(wire, said[:place])
        for flow in flows:
            with pytest.raises(WireError):
                flow.end()
            came = flow.so_far()
            assert came.text == text
            assert all((call.id, call.name, call.arguments) in known for call in came.tool_calls)
    assert all(flow.end() is not None for flow in flows)


def flow_of(wire: str, asked: str) -> Any:
    """What stands between the bytes of an endpoint and a program that asked in that API."""
    return Exchange(Receipt("x", BASE, asked, wire), {"stream": True}, {}).streamed()  # type: ignore[arg-type]


def text_of(wire: str, said: list[Any], choice: int = 0) -> str:
    """A choice's text in these payloads."""
    choices = PLAIN[wire].pieces([payload for payload in said if payload is not None])["choices"]
    return str(choices[choice]["text"]) if choice < len(choices) else ""


@pytest.mark.parametrize("record", each(streamed))
def test_a_cut_reaches_the_caller_as_an_error_with_the_text_so_far(record: Record) -> None:
    wire, said = record["api"], recorded.payloads(record)
    speaker = plain_chat.first_to_speak(record["response"]["body"]) if wire == "chat" else 0
    for whole, packets in cuts(record):
        text = text_of(wire, said[:whole])
        for ask in (ask_unified, ask_own, ask_other):
            spoken = text_of(wire, said[:whole], speaker) if ask is ask_other else text
            PLAYER.play(record, packets)
            shown: list[str] = []
            with pytest.raises(openai.APIError) as caught:
                ask(wire, shown)
            assert "".join(shown) == spoken
            if text:
                assert caught.type is IncompleteReplyError
                assert caught.value.reply.text == text


def cuts(record: Record) -> Iterator[tuple[int, list[bytes]]]:
    """Streams that stop after the first event, in the middle, just before the end, and within an event.

    With each, how many of its events are whole.
    """
    found, last = recorded.events(record["response"]["body"]), recorded.end_of(record) - 1
    for place in sorted({1, last // 2, last} & set(range(1, last + 1))):
        yield place, found[:place]
    event = found[last // 2]
    yield last // 2, [*found[: last // 2], event[: len(event) * 2 // 3]]


def ask_unified(wire: str, shown: list[str]) -> None:
    shown.extend(delta.text for delta in client(wire).stream("?") if delta.choice == 0)


def ask_own(wire: str, shown: list[str]) -> None:
    told_as(wire, official(dropin(wire), wire, stream=True), shown)


def ask_other(wire: str, shown: list[str]) -> None:
    told_as(OTHER[wire], official(dropin(wire), OTHER[wire], stream=True), shown)


def told_as(asked: str, steps: Iterable[Any], shown: list[str]) -> None:
    for step in steps:
        if asked == "responses":
            shown.append(step.delta if step.type == "response.output_text.delta" else "")
        else:
            shown.extend(choice.delta.content or "" for choice in step.choices if choice.index == 0)


# Bytes that come in any pieces


@pytest.mark.parametrize("record", each(streamed))
def test_any_split_of_the_bytes_says_the_same(record: Record) -> None:
    wire, data = record["api"], record["response"]["body"].encode()
    want = recorded.expected(record)
    for form in forms(data):
        PLAYER.play(record, recorded.torn(form))
        same(plain_chat.said(unified(wire, stream=True, colour="async")), want)
    PLAYER.play(record, recorded.torn(data))
    same(through(wire, wire, stream=True), want, strict=False)
    PLAYER.play(record, recorded.torn(data))
    same(through(wire, OTHER[wire], stream=True), as_other(record, stream=True), strict=False)


def forms(data: bytes) -> Iterator[bytes]:
    """The same stream in every form that the standard for event streams allows."""
    lines = data.replace(b"\r\n", b"\n")
    yield lines
    yield lines.replace(b"\n", b"\r\n")
    yield b"\xef\xbb\xbf: hello\r\r" + lines.replace(b"data: ", b"data:").replace(b"\n", b"\r")
    yield lines.replace(b"\n\n", b"\n\n: still here\n\nretry: 5\n\n").rstrip(b"\n")


@pytest.mark.parametrize("record", each(streamed))
def test_one_byte_a_packet_gives_the_same_steps(record: Record) -> None:
    data = record["response"]["body"].encode()
    assert steps(record["api"], [data[at : at + 1] for at in range(len(data))]) == steps(record["api"], [data])


def steps(wire: str, packets: Iterable[bytes]) -> list[Any]:
    answer = Answer(wire)  # type: ignore[arg-type]
    return [*(delta for packet in packets for delta in answer.feed(packet)), *answer.end()]


# Errors


@pytest.mark.parametrize("record", each(lambda record: is_fault(record) and record["id"] not in NO_ANSWER))
def test_an_error_comes_in_the_services_words_as_the_sdks_own_class(record: Record) -> None:
    want, wire = plain_errors.read(record), record["api"]
    for stream in (False, True):
        for ask in (
            partial(unified, wire),
            partial(unified, wire, colour="async"),
            partial(through, wire, wire),
            partial(through, wire, OTHER[wire]),
            partial(through, wire, OTHER[wire], colour="async"),
        ):
            PLAYER.play(record)
            with pytest.raises(openai.APIStatusError) as caught:
                ask(stream=stream)
            error = caught.value
            assert type(error) is CLASSES.get(want.status, openai.InternalServerError)
            assert error.status_code == want.status
            assert " ".join(want.words.split())[:200] in error.message
            if want.code is not None:
                assert str(error.code) == want.code
            if want.kind is not None:
                assert error.type == want.kind
            assert NEXT_STEPS.get(record["id"], "") in error.message


CLASSES = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    422: openai.UnprocessableEntityError,
    429: openai.RateLimitError,
}
TOO_LONG, NO_MODEL, NO_ROUTE = "too long for the model", "allos models", "Is the base URL"
NEXT_STEPS = {
    "azure-chat-n-c4f1ed": NO_ROUTE,
    "azure-chat-n-chat-real-error-scenarios-azure-grok-4-1-fas-4fc55f": "Too many requests. Try again in 1 s.",
    "groq-chat-n-gemma2-9b-it-streaming-481cb2": "Is it valid there?",
    "groq-chat-n-qwen-qwq-32b-usage-2f694d": NO_MODEL,
    "groq-chat-n-tool-regular-error-9948c0": NO_MODEL,
    "llamacpp-chat-n-context-overflow-blocking-4e5d00": TOO_LONG,
    "mistral-chat-n-bad-request-response-5a7cbb": NO_MODEL,
    "ollama-chat-n-chat-real-error-scenarios-ollama-cloud-gpt-o-f22c49": TOO_LONG,
    "openai-responses-s-stream-rate-limited-1-ea5673": "Too many requests. Try again later.",
    "openrouter-chat-n-chat-real-error-scenarios-openrouter-claude-794b3a": TOO_LONG,
    "openrouter-chat-n-mistralai-mistral-small-3-1-24b-instruct-too-bd1693": "The service failed",
    "venice-chat-n-nonexistent-model-error-preserves-status-and-bea909": NO_MODEL,
    "xai-chat-n-grok-beta-streaming-d0cf38": NO_MODEL,
    "xai-responses-n-provider-error-classifies-with-contract-but-4cbd8b": NO_MODEL,
}


# What is no answer


@pytest.mark.parametrize("record", each(lambda record: record["id"] in NO_ANSWER))
def test_what_is_no_answer_passes_through_the_drop_in(record: Record) -> None:
    made, body = dropin(record["api"]), record["response"]["body"]
    stored, kept = made.chat.completions.with_raw_response, made.responses.with_raw_response
    calls = {
        "lists the messages of a stored completion": partial(
            made.chat.completions.messages.with_raw_response.list, "x"
        ),
        "lists stored completions": stored.list,
        "compacts a conversation": partial(kept.compact, model="m"),
        "asks for a stored response that is not there": partial(kept.retrieve, "x"),
        "counts tokens": made.responses.input_tokens.with_raw_response.count,
        "lists the input of a stored response": partial(made.responses.input_items.with_raw_response.list, "x"),
    }
    call = calls[NO_ANSWER[record["id"]]]
    PLAYER.play(record)
    if is_fault(record):
        with pytest.raises(openai.NotFoundError, match=re.escape(plain_errors.read(record).words)):
            call()
    else:
        assert call().http_response.json() == json.loads(body)
    assert PLAYER.request.method == record["request"]["method"]
