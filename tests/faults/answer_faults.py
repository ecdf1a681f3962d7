"""What goes wrong in an answer, whole or not: rows A1 to A7."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import answers
import openai
from raw_server import Script
from scenario import (
    HTML,
    INVALID,
    TEXT,
    Fails,
    Right,
    Scenario,
    Scripts,
    body,
    events,
    in_streams,
    in_wholes,
    problem,
    said,
    sized,
    stream_of,
    streamed,
)

__all__ = ["ANSWERS"]

PARIS, ROME = '{"city":"Paris"}', '{"city":"Rome"}'
ESCAPES = "a\x1b[31mb\u202ec\x00d\ud800e"


def _sent(made: Any) -> bytes:
    return sized(json.dumps(made).encode())


def _answer_with(chat: dict[str, Any], responses: dict[str, Any] | None = None) -> Scripts:
    """The good answer, but for these fields."""
    return lambda wire, way: [[_sent(answers.whole(wire, TEXT) | (chat if wire == "chat" else responses or {}))]]


def _empty() -> list[Scenario]:
    odd = Fails(INVALID, ("127.0.0.1",))
    no_message = [answers.whole("chat", TEXT)["choices"][0] | {"message": None}]
    bodies = {"null body": b"null", "list body": b"[]", "text body": b'"ok"', "empty body": b""}
    latin = body("chat", "città").decode().encode("latin-1"), body("responses", "città").decode().encode("latin-1")
    return [
        in_wholes("A1", "null", _answer_with({"choices": None}, {"output": None}), odd),
        in_wholes("A1", "no choices", _answer_with({"choices": []}), odd, wires=("chat",)),
        in_wholes("A1", "message null", _answer_with({"choices": no_message}), odd, wires=("chat",)),
        *(in_wholes("A1", name, said(sized(text)), odd) for name, text in bodies.items()),
        in_wholes("A1", "cut JSON", lambda wire, way: [[sized(body(wire)[:-20])]], odd),
        in_wholes("A1", "Latin-1", lambda wire, way: [[sized(latin[wire == "responses"])]], odd),
    ]


def _other() -> list[Scenario]:
    page = b"<html><head><title>Hotel Wi-Fi</title></head><body>Welcome</body></html>"
    told = Fails(openai.APIError, ("no GPU",))
    return [
        in_wholes("A2", "web page", said(sized(page, kind=HTML)), Fails(INVALID, ("web page", "base url", "hotel"))),
        in_wholes("A3", "error with 200", said(_sent(problem("no GPU"))), told),
        in_wholes("A3", "error text with 200", said(_sent({"error": "no GPU"})), told),
    ]


# Chunks of Chat Completions, each changed by one of these


def _without_head(chunk: dict[str, Any]) -> None:
    for name in ("id", "created", "object", "model"):
        del chunk[name]


def _null_delta(chunk: dict[str, Any]) -> None:
    for choice in chunk["choices"]:
        choice["delta"] = choice["delta"] or None


def _empty_finish(chunk: dict[str, Any]) -> None:
    for choice in chunk["choices"]:
        choice["finish_reason"] = choice["finish_reason"] or ""


def _novel_finish(chunk: dict[str, Any]) -> None:
    for choice in chunk["choices"]:
        choice["finish_reason"] = choice["finish_reason"] and "eos_token"


def _in_parts(chunk: dict[str, Any]) -> None:
    for choice in chunk["choices"]:
        if choice["delta"].get("content"):
            choice["delta"]["content"] = [{"type": "text", "text": choice["delta"]["content"]}]


def _null_counts(chunk: dict[str, Any]) -> None:
    if "usage" in chunk:
        chunk["usage"] = dict.fromkeys(chunk["usage"])


def _null_choices(chunk: dict[str, Any]) -> None:
    chunk["choices"] = chunk["choices"] or None


CHUNKS = {
    "choices null": _null_choices,
    "delta null": _null_delta,
    "finish empty": _empty_finish,
    "finish unknown": _novel_finish,
    "content as parts": _in_parts,
    "no id created or object": _without_head,
    "null counts": _null_counts,
}


def _chunks(edit: Callable[[dict[str, Any]], None]) -> Scripts:
    def change(said: list[str], wire: str) -> bytes:
        made = []
        for line in said[:-1]:
            chunk = json.loads(line.removeprefix("data: "))
            edit(chunk)
            made.append(answers.event(chunk))
        return streamed(events([*made, said[-1]]))

    return stream_of(change)


def _calls(change: Callable[[dict[str, Any]], None]) -> Scripts:
    """A Chat answer with one tool call, changed."""

    def scripts(wire: str, way: str) -> Sequence[Script]:
        made = answers.calls("chat", ("call_1", "look", PARIS))
        change(made["choices"][0]["message"]["tool_calls"][0])
        return [[_sent(made)]]

    return scripts


def _oddities() -> list[Scenario]:
    def as_object(call: dict[str, Any]) -> None:
        call["function"]["arguments"] = json.loads(PARIS)

    def without_id(call: dict[str, Any]) -> None:
        del call["id"]

    def no_json(call: dict[str, Any]) -> None:
        call["function"]["arguments"] = "{city: Paris"

    def twins(wire: str, way: str) -> Sequence[Script]:
        return [[_sent(answers.calls(wire, ("call_1", "look", PARIS), ("call_1", "look", ROME)))]]

    one, chat = Right("", (("look", PARIS),)), ("chat",)
    return [
        *(in_streams("A4", name, _chunks(edit), Right(), wires=chat) for name, edit in CHUNKS.items()),
        in_wholes("A4", "arguments as an object", _calls(as_object), one, wires=chat),
        in_wholes("A4", "call without id", _calls(without_id), one, wires=chat),
        in_wholes("A5", "arguments no JSON", _calls(no_json), Right("", (("look", "{city: Paris"),)), wires=chat),
        in_wholes("A5", "two calls of one id", twins, Right("", (("look", PARIS), ("look", ROME)))),
    ]


def _ended(reason: str) -> Scripts:
    """An answer that the service ended for that reason."""

    def last(wire: str) -> list[str]:
        whole = answers.cut(wire, TEXT, reason)
        if wire == "responses":
            return [answers.event({"type": "response.incomplete", "response": whole, "sequence_number": 90})]
        chunk = {key: whole[key] for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
        ended = {"index": 0, "delta": {}, "finish_reason": reason}
        return [answers.event(chunk | {"choices": [ended]}), "data: [DONE]"]

    def scripts(wire: str, way: str) -> Sequence[Script]:
        if way == "whole":
            return [[_sent(answers.cut(wire, TEXT, reason))]]
        said = answers.stream(wire, TEXT)
        before = said[:-1] if wire == "responses" else said[:2]
        return [[streamed(events([*before, *last(wire)]))]]

    return scripts


def _escaped(wire: str, way: str) -> Sequence[Script]:
    if way == "whole":
        return [[_sent(answers.whole(wire, ESCAPES))]]
    return [[streamed(events(answers.stream(wire, ESCAPES)))]]


def _shown() -> list[Scenario]:
    return [
        Scenario("A6", "length", _ended("length"), Right(status=7), helped=False),
        Scenario("A6", "content filter", _ended("content_filter"), Right(status=7), helped=False),
        Scenario("A7", "control characters", _escaped, Right(ESCAPES)),
    ]


ANSWERS = [*_empty(), *_other(), *_oddities(), *_shown()]
