"""The form of a scenario, and the bytes that scenarios are made of."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import answers
import openai
from raw_server import Script, chunked

PIECES = ("Paris, ", "città ", "⛲ ", "bella.")
TEXT = "".join(PIECES)
KEPT = PIECES[0] + PIECES[1]  # what came where a stream breaks at its third piece
SSE, JSON, HTML, PLAIN = "text/event-stream", "application/json", "text/html", "text/plain"
WIRES, WAYS = ("chat", "responses"), ("whole", "stream")
INVALID = openai.APIResponseValidationError
RETRIES = {"max_retries": 2}

Scripts = Callable[[str, str], Sequence[Script]]


@dataclass(frozen=True)
class Right:
    """The whole answer; `calls` are tool calls as (name, arguments)."""

    text: str = TEXT
    calls: tuple[tuple[str, str], ...] = ()
    requests: int = 1
    status: int = 0  # of the command


@dataclass(frozen=True)
class Fails:
    """An error of this kind, whose message says all of these words; `kept` is the text that was shown."""

    kind: type[Exception] = openai.APIError
    says: tuple[str, ...] = ()
    kept: str | None = None
    requests: int = 1


@dataclass(frozen=True)
class Scenario:
    """One row: `options` are a client's arguments, `place` makes the base URL of the server's own."""

    row: str
    name: str
    scripts: Scripts
    expected: Right | Fails
    ways: tuple[str, ...] = WAYS
    wires: tuple[str, ...] = WIRES
    options: dict[str, Any] = field(default_factory=dict)
    place: Callable[[str], str] = str
    environ: dict[str, str] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None  # of the server
    helped: bool = True  # whether the SDK's stream helpers take part: theirs are errors of their own

    @property
    def id(self) -> str:
        return f"{self.row}-{self.name}".replace(" ", "-")


def in_streams(row: str, name: str, scripts: Scripts, expected: Right | Fails, **more: Any) -> Scenario:
    """A scenario that only a stream can play."""
    return Scenario(row, name, scripts, expected, ("stream",), **more)


def in_wholes(row: str, name: str, scripts: Scripts, expected: Right | Fails, **more: Any) -> Scenario:
    """A scenario that only a whole answer can play."""
    return Scenario(row, name, scripts, expected, ("whole",), **more)


# Bytes


def head(status: int = 200, kind: str = JSON, *more: str, version: str = "1.1") -> bytes:
    lines = [f"HTTP/{version} {status} Said", f"Content-Type: {kind}", *more, "Connection: close", "", ""]
    return "\r\n".join(lines).encode()


def sized(body: bytes, status: int = 200, kind: str = JSON, *more: str) -> bytes:
    return head(status, kind, f"Content-Length: {len(body)}", *more) + body


def streamed(pieces: Iterable[bytes], *more: str, end: bool = True) -> bytes:
    return head(200, SSE, "Transfer-Encoding: chunked", *more) + chunked(pieces, end=end)


def lines(wire: str, *pieces: str) -> list[str]:
    """The events of a good stream, each without the blank line behind it, in UTF-8 rather than escapes."""
    return [_unescaped(line) for line in answers.stream(wire, *(pieces or PIECES))]


def _unescaped(line: str) -> str:
    start, data, rest = line.partition("data: ")
    return line if rest == "[DONE]" else f"{start}{data}{json.dumps(json.loads(rest), ensure_ascii=False)}"


def events(said: Iterable[str]) -> list[bytes]:
    return [f"{line}\n\n".encode() for line in said]


def body(wire: str, text: str = TEXT) -> bytes:
    return json.dumps(answers.whole(wire, text), ensure_ascii=False).encode()


def good(wire: str, way: str) -> bytes:
    return sized(body(wire)) if way == "whole" else streamed(events(lines(wire)))


def good_answer(wire: str, way: str) -> Sequence[Script]:
    """What should come."""
    return [[good(wire, way)]]


def said(*steps: Any) -> Scripts:
    """The same script whatever the wire and the way."""
    return lambda wire, way: [list(steps)]


def stream_of(change: Callable[[list[str], str], Any]) -> Scripts:
    """A stream made of what `change` makes of the good events: bytes, or a script."""

    def scripts(wire: str, way: str) -> Sequence[Script]:
        made = change(lines(wire), wire)
        return [made if isinstance(made, list) else [made]]

    return scripts


def then_good(*first: bytes) -> Scripts:
    """These answers, and then the good one."""
    return lambda wire, way: [*([answer] for answer in first), [good(wire, way)]]


def refused(status: int, said: Any, *more: str, kind: str = JSON) -> bytes:
    text = said if isinstance(said, bytes) else json.dumps(said).encode()
    return sized(text, status, kind, *more)


def problem(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": "server_error", "param": None, "code": None, **more}}


def until_third(said: Sequence[str]) -> list[str]:
    """The events before the third piece of text."""
    return list(said[: next(index for index, line in enumerate(said) if PIECES[2] in line)])
