"""Every recorded exchange with a real service, through both doors and over both APIs.

The endpoint is nameless, so nothing is known of the service but what it sends.
What is expected is read from the bytes by `plain_chat` and `plain_responses`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from typing import Any

import plain_chat
import pytest
import recorded
from recorded import OTHER, Player, Record, connection, each, is_fault, run

from allos.client import AsyncClient, Client
from allos.dropin import AsyncOpenAI, OpenAI
from allos.failures import IncompleteReplyError

# Exchanges that no door but the drop-in's own wire has a call for: it passes them through untouched.
NO_ANSWER = {
    "openai-chat-n-getchatcompletionmessageswithcancellationtok-9aad3d": "lists the messages of a stored completion",
    "openai-chat-n-getchatcompletionswithminimallimits-f808ff": "lists stored completions",
    "openai-responses-n-cancompactconversation-d56534": "compacts a conversation",
    "openai-responses-n-candeleteresponse-86dda2": "asks for a stored response that is not there",
    "openai-responses-n-count-tokens-037139": "counts tokens",
    "openai-responses-n-responses-input-items-e7e0a4": "lists the input of a stored response",
}

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
