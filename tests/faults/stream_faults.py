"""What goes wrong in a stream: rows S1 to S9."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from typing import Any

import answers
import openai
from raw_server import HOLD, RESET, Forever, Script, Trickle, chunked
from scenario import (
    HTML,
    INVALID,
    JSON,
    KEPT,
    RETRIES,
    SSE,
    Fails,
    Right,
    Scenario,
    Scripts,
    body,
    events,
    head,
    in_streams,
    in_wholes,
    lines,
    problem,
    said,
    sized,
    stream_of,
    streamed,
    then_good,
    until_third,
)

__all__ = ["STREAMS"]


def _edited(edit: Callable[[str], str], before: bytes = b"") -> Scripts:
    return stream_of(lambda said, wire: streamed([before, edit("".join(f"{line}\n\n" for line in said)).encode()]))


def _over_lines(said: list[str], wire: str) -> bytes:
    """JSON over several `data:` lines."""
    made = []
    for line in said:
        start, data, rest = line.partition("data: ")
        made.append(f"{start}{data}{rest.replace(', ', ',' + chr(10) + 'data: ', 1)}" if rest != "[DONE]" else line)
    return streamed(events(made))


def _huge(said: list[str], wire: str) -> bytes:
    return streamed(events([*said[:-1], f": {'x' * (4 << 20)}", said[-1]]))


def _many(said: list[str], wire: str) -> bytes:
    return streamed([b"".join(events(lines(wire, *["word "] * 5000)))])


def _in_one(*more: str, packed: Callable[[bytes], bytes] = bytes, version: str = "1.1") -> Scripts:
    """All in one packet that ends with the connection."""
    return stream_of(lambda said, wire: head(200, SSE, *more, version=version) + packed(b"".join(events(said))))


NOVELTY = '\n\nevent: novelty\ndata: {"type":"x.new"}\n\n'
FORMATS = {
    "crlf": _edited(lambda text: text.replace("\n", "\r\n")),
    "lone cr": _edited(lambda text: text.replace("\n", "\r")),
    "mixed line ends": _edited(lambda text: text.replace("\n\n", "\r\n\n", 3)),
    "bom": _edited(lambda text: text, before=b"\xef\xbb\xbf"),
    "comments": _edited(lambda text: ": OPENROUTER PROCESSING\n\n" + text.replace("\n\n", "\n\n: ping\n\n")),
    "blank events": _edited(lambda text: "\n\n" + text.replace("\n\n", "\n\n\n\n")),
    "id and retry": _edited(lambda text: text.replace("data: ", "id: 7\nretry: 10\nunknown: x\ndata: ")),
    "no space": _edited(lambda text: text.replace("data: ", "data:")),
    "no blank line at the end": _edited(lambda text: text.rstrip("\n")),
    "several data lines": stream_of(_over_lines),
    "one byte a packet": stream_of(lambda said, wire: [head(200, SSE), Trickle(b"".join(events(said)))]),
    "one packet": _in_one(),
    "a line of 4 MiB": stream_of(_huge),
    "gzip": _in_one("Content-Encoding: gzip", packed=gzip.compress),
    "http 1.0": _in_one(version="1.0"),
}


def _formats() -> list[Scenario]:
    unknown = _edited(lambda text: text.replace("\n\n", NOVELTY, 1))
    return [
        *(in_streams("S1", name, scripts, Right()) for name, scripts in FORMATS.items()),
        in_streams("S1", "5,000 deltas", stream_of(_many), Right("word " * 5000)),
        in_streams("S1", "unknown event", unknown, Right(), wires=("responses",)),
    ]


def _within(at: str, count: int) -> Scripts:
    """A cut so many bytes into these characters of the third piece's event."""

    def change(said: list[str], wire: str) -> bytes:
        whole = until_third(said)
        half = said[len(whole)].encode()
        return streamed([*events(whole), half[: half.index(at.encode()) + count]])

    return stream_of(change)


def _in_call(wire: str, way: str) -> Sequence[Script]:
    said = answers.call_stream(wire, ("call_1", "look", '{"city": "Paris"}'))
    first_half = {"chat": 3, "responses": 4}[wire]
    return [[streamed(events(said[:first_half]))]]


def _body_cut(wire: str, way: str) -> Sequence[Script]:
    whole = body(wire)
    return [[head(200, JSON, f"Content-Length: {len(whole)}") + whole[: len(whole) // 2]]]


def _cuts() -> list[Scenario]:
    def third(end: Callable[[list[bytes]], Any]) -> Scripts:
        return stream_of(lambda said, wire: end(events(until_third(said))))

    no_done = stream_of(lambda said, wire: streamed(events([line for line in said if line != "data: [DONE]"])))
    gone = Fails(openai.APIError, ("incomplete",), KEPT)
    lost = Fails(openai.APIError, ("incomplete",))  # what is on its way may be lost with the connection
    return [
        in_streams("S2", "clean end", third(streamed), gone),
        in_streams("S2", "finish without DONE", no_done, Right()),
        in_streams("S3", "no last chunk", third(lambda came: streamed(came, end=False)), gone),
        in_streams("S3", "reset", third(lambda came: [streamed(came, end=False), RESET]), lost),
        in_streams("S3", "close delimited", third(lambda came: head(200, SSE) + b"".join(came)), gone),
        in_streams("S3", "in JSON", _within('"', 3), gone),
        in_streams("S3", "in a character", _within("⛲", 2), gone),
        in_streams("S3", "in a tool call", _in_call, Fails(openai.APIError, ("incomplete",), "")),
        in_wholes("S3", "whole body cut", _body_cut, Fails(openai.APIConnectionError, ("127.0.0.1",))),
    ]


def _broken_by(*lines: str) -> Scripts:
    """A stream in which these lines stand in the place of its third piece and of all that follows."""
    return stream_of(lambda said, wire: streamed(events([*until_third(said), *lines])))


def _finish_error(said: list[str], wire: str) -> bytes:
    chunk = json.loads(said[0].removeprefix("data: "))
    chunk["choices"][0] |= {"finish_reason": "error", "delta": {}}
    return streamed(events([*until_third(said), answers.event(chunk), "data: [DONE]"]))


def _failed(said: list[str], wire: str) -> bytes:
    why = {"status": "failed", "error": {"code": "server_error", "message": "GPU lost"}}
    broken = {"type": "response.failed", "response": answers.whole(wire, "") | why, "sequence_number": 90}
    return streamed(events([*until_third(said), answers.event(broken)]))


def _errors() -> list[Scenario]:
    nulls = stream_of(lambda said, wire: streamed(events(["data: null", *said])))
    invalid = stream_of(lambda said, wire: streamed([piece.replace("ù".encode(), b"\xff") for piece in events(said)]))
    overloaded = json.dumps(problem("overloaded", code=529, type="overloaded_error"))
    at_first = then_good(streamed(events([f"data: {overloaded}"])))
    field = json.dumps({"message": "GPU lost", "code": 500})
    no_json = Fails(openai.APIError, ("incomplete", "no JSON"), KEPT)
    words, reason = Fails(openai.APIError, ("GPU lost",), KEPT), Fails(openai.APIError, ("error",), KEPT)
    return [
        in_streams("S4", "no JSON", _broken_by("data: {not json}", "data: [DONE]"), no_json),
        in_streams("S4", "null", nulls, Right()),
        in_streams("S4", "invalid UTF-8", invalid, Right()),
        in_streams("S5", "error object", _broken_by(f"data: {json.dumps(problem('GPU lost'))}"), words),
        in_streams("S5", "error text", _broken_by('data: {"error": "GPU lost"}'), words),
        in_streams("S5", "error event", _broken_by('event: error\ndata: {"message": "GPU lost"}'), words),
        in_streams("S5", "error field", _broken_by(f"error: {field}"), words),
        in_streams("S5", "finish reason error", stream_of(_finish_error), reason, wires=("chat",)),
        in_streams("S5", "response.failed", stream_of(_failed), words, wires=("responses",)),
        in_streams("S5", "overloaded at first", at_first, Right(requests=2), options=RETRIES),
    ]


def _crossed() -> list[Scenario]:
    page = b"<!doctype html><html><head><title>Sign in</title></head><body>Please sign in</body></html>"
    error = json.dumps(problem("GPU lost")).encode()
    nothing = Fails(openai.APIError, ("127.0.0.1",), "")
    stays_open = stream_of(
        lambda said, wire: [head(200, SSE, "Transfer-Encoding: chunked") + chunked(events(said), end=False), HOLD]
    )
    return [
        in_streams("S6", "whole for a stream", lambda wire, way: [[sized(body(wire))]], Right()),
        in_wholes("S6", "stream for a whole", lambda wire, way: [[streamed(events(lines(wire)))]], Right()),
        in_streams("S7", "web page", said(sized(page, kind=HTML)), Fails(INVALID, ("web page", "base url"), "")),
        in_streams("S7", "no bytes", said(sized(b"", kind=SSE)), nothing),
        in_streams("S7", "204", said(head(204, SSE)), nothing),
        in_streams("S7", "only DONE", said(streamed([b"data: [DONE]\n\n"])), nothing),
        in_streams("S7", "JSON error", said(sized(error)), Fails(openai.APIError, ("GPU lost",), "")),
        in_streams("S8", "open after the end", stays_open, Right()),
    ]


def _silences() -> list[Scenario]:
    def then(step: Any) -> Scripts:
        return stream_of(lambda said, wire: [head(200, SSE) + b"".join(events(until_third(said))), step])

    quick = {"timeout": 0.3}
    late = Fails(openai.APITimeoutError, ("127.0.0.1",), KEPT)
    unanswered = Fails(openai.APITimeoutError, ("in time", "127.0.0.1"))
    chatter = Fails(openai.APITimeoutError, ("comments",), KEPT)
    return [
        in_streams("S9", "silence", then(HOLD), late, options=quick),
        in_streams("S9", "comments for ever", then(Forever(b": ping\n\n")), chatter, options=quick),
        Scenario("S9", "no first byte", said(HOLD), unanswered, options=quick),
    ]


STREAMS = [*_formats(), *_cuts(), *_errors(), *_crossed(), *_silences()]
