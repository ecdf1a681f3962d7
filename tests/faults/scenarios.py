"""What goes wrong, and what must then be seen: one row a scenario.

`row` is an id of the catalogue in `docs/reliability.md`.
"""

from __future__ import annotations

import gzip
import json
import ssl
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import answers
import openai
from doors_under_fire import KEY
from raw_server import HOLD, RESET, Forever, Script, Trickle, chunked, dead_port, server_tls

from allos.errors import ConfigurationError

PIECES = ("Paris, ", "città ", "⛲ ", "bella.")
TEXT = "".join(PIECES)
SSE, JSON, HTML, PLAIN = "text/event-stream", "application/json", "text/html", "text/plain"
WIRES, WAYS = ("chat", "responses"), ("whole", "stream")

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


INCOMPLETE = openai.APIError
INVALID = openai.APIResponseValidationError
RETRIES = {"max_retries": 2}


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


# Streams


def _formats() -> list[Scenario]:
    def plain(edit: Callable[[str], str], *, before: bytes = b"") -> Scripts:
        return stream_of(lambda said, wire: streamed([before, edit("".join(f"{line}\n\n" for line in said)).encode()]))

    def over_lines(said: list[str], wire: str) -> bytes:
        """JSON over several `data:` lines."""
        made = []
        for line in said:
            start, data, rest = line.partition("data: ")
            made.append(f"{start}{data}{rest.replace(', ', ',' + chr(10) + 'data: ', 1)}" if rest != "[DONE]" else line)
        return streamed(events(made))

    def huge(said: list[str], wire: str) -> bytes:
        return streamed(events([*said[:-1], f": {'x' * (4 << 20)}", said[-1]]))

    def many(said: list[str], wire: str) -> bytes:
        return streamed([b"".join(events(lines(wire, *["word "] * 5000)))])

    found = {
        "crlf": plain(lambda text: text.replace("\n", "\r\n")),
        "lone cr": plain(lambda text: text.replace("\n", "\r")),
        "mixed line ends": plain(lambda text: text.replace("\n\n", "\r\n\n", 3)),
        "bom": plain(lambda text: text, before=b"\xef\xbb\xbf"),
        "comments": plain(lambda text: ": OPENROUTER PROCESSING\n\n" + text.replace("\n\n", "\n\n: ping\n\n")),
        "blank events": plain(lambda text: "\n\n" + text.replace("\n\n", "\n\n\n\n")),
        "id and retry": plain(lambda text: text.replace("data: ", "id: 7\nretry: 10\nunknown: x\ndata: ")),
        "no space": plain(lambda text: text.replace("data: ", "data:")),
        "no blank line at the end": plain(lambda text: text.rstrip("\n")),
        "unknown event": plain(lambda text: text.replace("\n\n", '\n\nevent: novelty\ndata: {"type":"x.new"}\n\n', 1)),
        "several data lines": stream_of(over_lines),
        "one byte a packet": stream_of(lambda said, wire: [head(200, SSE), Trickle(b"".join(events(said)))]),
        "one packet": stream_of(lambda said, wire: head(200, SSE) + b"".join(events(said))),
        "a line of 4 MiB": stream_of(huge),
        "gzip": stream_of(
            lambda said, wire: head(200, SSE, "Content-Encoding: gzip") + gzip.compress(b"".join(events(said)))
        ),
        "http 1.0": stream_of(lambda said, wire: head(200, SSE, version="1.0") + b"".join(events(said))),
    }
    rows = [Scenario("S1", name, scripts, Right(), ("stream",)) for name, scripts in found.items()]
    rows.append(Scenario("S1", "5,000 deltas", stream_of(many), Right("word " * 5000), ("stream",)))
    return [row for row in rows if row.name != "unknown event"] + [
        Scenario("S1", "unknown event", found["unknown event"], Right(), ("stream",), ("responses",))
    ]


def _until(wire: str, word: str, said: list[str]) -> int:
    """The index of the event that says this piece of text."""
    return next(index for index, line in enumerate(said) if word in line)


def _cuts() -> list[Scenario]:
    kept = PIECES[0] + PIECES[1]
    gone = Fails(INCOMPLETE, ("incomplete",), kept)

    def two_pieces(said: list[str], wire: str) -> list[bytes]:
        return events(said[: _until(wire, "⛲", said)])

    def with_half(at: str, drop: int) -> Callable[[list[str], str], bytes]:
        def change(said: list[str], wire: str) -> bytes:
            index = _until(wire, "⛲", said)
            half = said[index].encode()
            return streamed([*events(said[:index]), half[: half.index(at.encode()) + drop]])

        return change

    def clean(said: list[str], wire: str) -> bytes:
        return streamed(two_pieces(said, wire))

    def cut(said: list[str], wire: str) -> bytes:
        return streamed(two_pieces(said, wire), end=False)

    def no_done(said: list[str], wire: str) -> bytes:
        return streamed(events([line for line in said if line != "data: [DONE]"]))

    def reset(said: list[str], wire: str) -> list[Any]:
        return [streamed(two_pieces(said, wire), end=False), RESET]

    def closed(said: list[str], wire: str) -> bytes:
        return head(200, SSE) + b"".join(two_pieces(said, wire))

    def in_call(said: list[str], wire: str) -> bytes:
        return streamed(events(_call_lines(wire)[:-3]))

    def body_cut(wire: str, way: str) -> Sequence[Script]:
        whole = body(wire)
        return [[head(200, JSON, f"Content-Length: {len(whole)}") + whole[: len(whole) // 2]]]

    return [
        Scenario("S2", "clean end", stream_of(clean), gone, ("stream",)),
        Scenario("S2", "finish without DONE", stream_of(no_done), Right(), ("stream",)),
        Scenario("S3", "no last chunk", stream_of(cut), gone, ("stream",)),
        Scenario("S3", "reset", stream_of(reset), Fails(openai.APIError, ("incomplete",)), ("stream",)),
        Scenario("S3", "close delimited", stream_of(closed), gone, ("stream",)),
        Scenario("S3", "in JSON", stream_of(with_half('"', 3)), gone, ("stream",)),
        Scenario("S3", "in a character", stream_of(with_half("⛲", 2)), gone, ("stream",)),
        Scenario("S3", "in a tool call", stream_of(in_call), Fails(INCOMPLETE, ("incomplete",), ""), ("stream",)),
        Scenario("S3", "whole body cut", body_cut, Fails(openai.APIConnectionError, ("127.0.0.1",)), ("whole",)),
    ]


def _call_lines(wire: str) -> list[str]:
    """The events of a stream that calls one tool, its arguments in pieces."""
    if wire == "chat":
        head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "look", "arguments": ""}}
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None, "tool_calls": [call]}]
        for piece in ('{"city"', ': "Pa', 'ris"}'):
            deltas.append({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
        chunks = [{**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
        chunks.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
        return [*map(answers.event, chunks), "data: [DONE]"]
    item = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "look", "arguments": ""}
    begun = {**answers.whole(wire, ""), "output": [], "status": "in_progress"}
    whole = {**item, "arguments": '{"city": "Paris"}', "status": "completed"}
    done = {**answers.whole(wire, ""), "output": [whole]}
    payloads: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": {**item, "status": "in_progress"}},
    ]
    for piece in ('{"city"', ': "Pa', 'ris"}'):
        payloads.append(
            {"type": "response.function_call_arguments.delta", "item_id": "fc_1", "output_index": 0, "delta": piece}
        )
    payloads += [
        {"type": "response.output_item.done", "output_index": 0, "item": whole},
        {"type": "response.completed", "response": done},
    ]
    return [answers.event({**payload, "sequence_number": at}) for at, payload in enumerate(payloads)]


def _in_stream() -> list[Scenario]:
    kept = PIECES[0] + PIECES[1]

    def after_two(*broken: str) -> Scripts:
        return stream_of(
            lambda said, wire: streamed(events([*said[: _until(wire, "⛲", said)], *broken])),
        )

    def failed(said: list[str], wire: str) -> bytes:
        response = {
            **answers.whole(wire, ""),
            "status": "failed",
            "error": {"code": "server_error", "message": "GPU lost"},
        }
        broken = answers.event({"type": "response.failed", "response": response, "sequence_number": 90})
        return streamed(events([*said[: _until(wire, "⛲", said)], broken]))

    def finish_error(said: list[str], wire: str) -> bytes:
        chunk = json.loads(said[0].removeprefix("data: "))
        chunk["choices"][0] |= {"finish_reason": "error", "delta": {}}
        return streamed(events([*said[: _until(wire, "⛲", said)], answers.event(chunk), "data: [DONE]"]))

    words = Fails(openai.APIError, ("GPU lost",), kept)
    error = json.dumps(problem("GPU lost"))
    return [
        Scenario(
            "S4",
            "no JSON",
            after_two("data: {not json}", "data: [DONE]"),
            Fails(openai.APIError, ("incomplete", "no JSON"), kept),
            ("stream",),
        ),
        Scenario(
            "S4", "null", stream_of(lambda said, wire: streamed(events(["data: null", *said]))), Right(), ("stream",)
        ),
        Scenario(
            "S4",
            "invalid UTF-8",
            stream_of(lambda said, wire: streamed([piece.replace("ù".encode(), b"\xff") for piece in events(said)])),
            Right(),
            ("stream",),
        ),
        Scenario("S5", "error object", after_two(f"data: {error}"), words, ("stream",)),
        Scenario("S5", "error text", after_two('data: {"error": "GPU lost"}'), words, ("stream",)),
        Scenario("S5", "error event", after_two('event: error\ndata: {"message": "GPU lost"}'), words, ("stream",)),
        Scenario(
            "S5",
            "error field",
            after_two(f"error: {json.dumps({'message': 'GPU lost', 'code': 500})}"),
            words,
            ("stream",),
        ),
        Scenario(
            "S5",
            "finish reason error",
            stream_of(finish_error),
            Fails(openai.APIError, ("error",), kept),
            ("stream",),
            ("chat",),
        ),
        Scenario("S5", "response.failed", stream_of(failed), words, ("stream",), ("responses",)),
        Scenario(
            "S5",
            "overloaded at first",
            then_good(
                streamed(events([f"data: {json.dumps(problem('overloaded', code=529, type='overloaded_error'))}"]))
            ),
            Right(requests=2),
            ("stream",),
            options=RETRIES,
        ),
    ]


def _crossed() -> list[Scenario]:
    nothing = Fails(openai.APIError, ("127.0.0.1",), "")
    page = b"<!doctype html><html><head><title>Sign in</title></head><body>Please sign in</body></html>"
    return [
        Scenario("S6", "whole for a stream", lambda wire, way: [[sized(body(wire))]], Right(), ("stream",)),
        Scenario("S6", "stream for a whole", lambda wire, way: [[streamed(events(lines(wire)))]], Right(), ("whole",)),
        Scenario(
            "S7", "web page", said(sized(page, kind=HTML)), Fails(INVALID, ("web page", "base url"), ""), ("stream",)
        ),
        Scenario("S7", "no bytes", said(sized(b"", kind=SSE)), nothing, ("stream",)),
        Scenario("S7", "204", said(head(204, SSE)), nothing, ("stream",)),
        Scenario("S7", "only DONE", said(streamed([b"data: [DONE]\n\n"])), nothing, ("stream",)),
        Scenario(
            "S7",
            "JSON error",
            said(sized(json.dumps(problem("GPU lost")).encode())),
            Fails(openai.APIError, ("GPU lost",), ""),
            ("stream",),
        ),
        Scenario(
            "S8",
            "open after the end",
            stream_of(
                lambda said, wire: [
                    head(200, SSE, "Transfer-Encoding: chunked") + chunked(events(said), end=False),
                    HOLD,
                ]
            ),
            Right(),
            ("stream",),
        ),
    ]


def _silences() -> list[Scenario]:
    kept = PIECES[0] + PIECES[1]

    def then(*steps: Any) -> Scripts:
        def change(said: list[str], wire: str) -> list[Any]:
            begun = events(said[: _until(wire, "⛲", said)])
            return [head(200, SSE) + b"".join(begun), *steps]

        return stream_of(change)

    late = Fails(openai.APITimeoutError, ("127.0.0.1",), kept)
    quick = {"timeout": 0.3}
    return [
        Scenario("S9", "silence", then(HOLD), late, ("stream",), options=quick),
        Scenario(
            "S9",
            "comments for ever",
            then(Forever(b": ping\n\n")),
            Fails(openai.APITimeoutError, ("comments",), kept),
            ("stream",),
            options=quick,
        ),
        Scenario(
            "S9", "no first byte", said(HOLD), Fails(openai.APITimeoutError, ("in time", "127.0.0.1")), options=quick
        ),
    ]


# Answers


def _answers() -> list[Scenario]:
    def changed(chat: dict[str, Any], responses: dict[str, Any]) -> Scripts:
        def scripts(wire: str, way: str) -> Sequence[Script]:
            made = {**answers.whole(wire, TEXT), **(chat if wire == "chat" else responses)}
            return [[sized(json.dumps(made).encode())]]

        return scripts

    odd = Fails(INVALID, ("127.0.0.1",))
    page = b"<html><head><title>Hotel Wi-Fi</title></head><body>Welcome</body></html>"
    chat_choice = answers.whole("chat", TEXT)["choices"][0]
    found = [
        Scenario("A1", "null", changed({"choices": None}, {"output": None}), odd, ("whole",)),
        Scenario("A1", "no choices", changed({"choices": []}, {}), odd, ("whole",), ("chat",)),
        Scenario(
            "A1",
            "message null",
            changed({"choices": [{**chat_choice, "message": None}]}, {}),
            odd,
            ("whole",),
            ("chat",),
        ),
    ]
    for name, text in (("null body", b"null"), ("list body", b"[]"), ("text body", b'"ok"'), ("empty body", b"")):
        found.append(Scenario("A1", name, said(sized(text)), odd, ("whole",)))
    found += [
        Scenario("A1", "cut JSON", lambda wire, way: [[sized(body(wire)[:-20])]], odd, ("whole",)),
        Scenario(
            "A1",
            "Latin-1",
            lambda wire, way: [[sized(body(wire, "città").decode().encode("latin-1"))]],
            odd,
            ("whole",),
        ),
        Scenario(
            "A2",
            "web page",
            said(sized(page, kind=HTML)),
            Fails(INVALID, ("web page", "base url", "hotel")),
            ("whole",),
        ),
        Scenario(
            "A3",
            "error with 200",
            said(sized(json.dumps(problem("no GPU")).encode())),
            Fails(openai.APIError, ("no GPU",)),
            ("whole",),
        ),
        Scenario(
            "A3",
            "error text with 200",
            said(sized(b'{"error": "no GPU"}')),
            Fails(openai.APIError, ("no GPU",)),
            ("whole",),
        ),
    ]
    return found


def _oddities() -> list[Scenario]:
    def chunks(*edits: Callable[[dict[str, Any]], Any]) -> Scripts:
        def change(said: list[str], wire: str) -> bytes:
            made = []
            for line in said:
                if line == "data: [DONE]":
                    made.append(line)
                    continue
                payload = json.loads(line.removeprefix("data: "))
                for edit in edits:
                    edit(payload)
                made.append(answers.event(payload))
            return streamed(events(made))

        return stream_of(change)

    def without(*names: str) -> Callable[[dict[str, Any]], None]:
        def edit(payload: dict[str, Any]) -> None:
            for name in names:
                payload.pop(name, None)

        return edit

    def null_delta(payload: dict[str, Any]) -> None:
        for choice in payload["choices"]:
            if not choice["delta"]:
                choice["delta"] = None

    def empty_finish(payload: dict[str, Any]) -> None:
        for choice in payload["choices"]:
            choice["finish_reason"] = choice["finish_reason"] or ""

    def novel_finish(payload: dict[str, Any]) -> None:
        for choice in payload["choices"]:
            if choice["finish_reason"]:
                choice["finish_reason"] = "eos_token"

    def in_parts(payload: dict[str, Any]) -> None:
        for choice in payload["choices"]:
            if choice["delta"].get("content"):
                choice["delta"]["content"] = [{"type": "text", "text": choice["delta"]["content"]}]

    def null_counts(payload: dict[str, Any]) -> None:
        if "usage" in payload:
            payload["usage"] = {"prompt_tokens": None, "completion_tokens": None, "total_tokens": None}

    def null_choices(payload: dict[str, Any]) -> None:
        if not payload["choices"]:
            payload["choices"] = None

    found = {
        "choices null": chunks(null_choices),
        "delta null": chunks(null_delta),
        "finish empty": chunks(empty_finish),
        "finish unknown": chunks(novel_finish),
        "content as parts": chunks(in_parts),
        "no id created or object": chunks(without("id", "created", "object", "model")),
        "null counts": chunks(null_counts),
    }
    rows = [Scenario("A4", name, scripts, Right(), ("stream",), ("chat",)) for name, scripts in found.items()]

    def call(arguments: Any, **more: Any) -> Scripts:
        def scripts(wire: str, way: str) -> Sequence[Script]:
            function = {"name": "look", "arguments": arguments}
            made = answers.whole("chat", "")
            message = {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"type": "function", "function": function, **more}],
            }
            made["choices"][0] |= {"message": message, "finish_reason": "tool_calls"}
            return [[sized(json.dumps(made).encode())]]

        return scripts

    whole = '{"city":"Paris"}'
    rows += [
        Scenario(
            "A4",
            "arguments as an object",
            call({"city": "Paris"}, id="call_1"),
            Right("", (("look", whole),)),
            ("whole",),
            ("chat",),
        ),
        Scenario("A4", "call without id", call(whole), Right("", (("look", whole),)), ("whole",), ("chat",)),
        Scenario(
            "A5",
            "arguments no JSON",
            call("{city: Paris", id="call_1"),
            Right("", (("look", "{city: Paris"),)),
            ("whole",),
            ("chat",),
        ),
    ]

    def twins(wire: str, way: str) -> Sequence[Script]:
        made = answers.calls(wire, ("call_1", "look", '{"city":"Paris"}'), ("call_1", "look", '{"city":"Rome"}'))
        return [[sized(json.dumps(made).encode())]]

    both = (("look", '{"city":"Paris"}'), ("look", '{"city":"Rome"}'))
    rows.append(Scenario("A5", "two calls of one id", twins, Right("", both), ("whole",)))
    escapes = "a\x1b[31mb\u202ec\x00d\ud800e"

    def escaped(wire: str, way: str) -> Sequence[Script]:
        if way == "whole":
            return [[sized(json.dumps(answers.whole(wire, escapes)).encode())]]
        return [[streamed(f"{line}\n\n".encode() for line in answers.stream(wire, escapes))]]

    rows.append(Scenario("A7", "control characters", escaped, Right(escapes)))
    return rows


# Status codes


def _status() -> list[Scenario]:
    soon = "retry-after-ms: 1"
    found = [
        Scenario(
            "C1", str(status), then_good(refused(status, problem("busy"), soon)), Right(requests=2), options=RETRIES
        )
        for status in (408, 409, 429, 500, 502, 503, 504, 520, 529)
    ]
    found += [
        Scenario("C1", "reset", lambda wire, way: [[RESET], [good(wire, way)]], Right(requests=2), options=RETRIES),
        Scenario(
            "C1",
            "closed without a word",
            lambda wire, way: [[b""], [good(wire, way)]],
            Right(requests=2),
            options=RETRIES,
        ),
        Scenario(
            "C1",
            "no reply in time",
            lambda wire, way: [[HOLD], [good(wire, way)]],
            Right(requests=2),
            options={**RETRIES, "timeout": 1.0},
        ),
        Scenario(
            "C1",
            "always busy",
            said(refused(503, problem("busy"), soon)),
            Fails(openai.InternalServerError, ("busy", "503"), requests=3),
            options=RETRIES,
        ),
    ]
    for name, value in (
        ("zero", "0"),
        ("negative", "-3"),
        ("past", "Wed, 21 Oct 2015 07:28:00 GMT"),
        ("nan", "nan"),
        ("inf", "inf"),
        ("garbage", "soon"),
    ):
        found.append(
            Scenario(
                "C2",
                name,
                then_good(refused(503, problem("busy"), f"Retry-After: {value}")),
                Right(requests=2),
                options=RETRIES,
            )
        )
    found += [
        Scenario(
            "C2",
            "fraction",
            then_good(refused(503, problem("busy"), "Retry-After: 0.01")),
            Right(requests=2),
            options=RETRIES,
        ),
        Scenario(
            "C2",
            "an hour",
            said(refused(429, problem("slow down"), "Retry-After: 3600")),
            Fails(openai.RateLimitError, ("slow down", "3600")),
            options=RETRIES,
        ),
        Scenario(
            "C3",
            "quota",
            said(refused(429, problem("You exceeded your current quota", code="insufficient_quota"))),
            Fails(openai.RateLimitError, ("quota",)),
            options=RETRIES,
        ),
        Scenario(
            "C3",
            "402",
            said(refused(402, problem("Insufficient balance"))),
            Fails(openai.APIStatusError, ("Insufficient balance", "quota")),
            options=RETRIES,
        ),
    ]
    echo = problem(f"Incorrect API key provided: {KEY}", code="invalid_api_key")
    for status, kind in ((401, openai.AuthenticationError), (403, openai.PermissionDeniedError)):
        found.append(
            Scenario(
                "C4",
                str(status),
                said(refused(status, echo)),
                Fails(kind, ("key came from", "127.0.0.1")),
                options=RETRIES,
            )
        )
    for name, answer in (
        ("text", refused(404, b"404 page not found", kind=PLAIN)),
        ("detail", refused(404, {"detail": "Not Found"})),
        ("page", refused(404, b"<html><body><h1>Not Found</h1></body></html>", kind=HTML)),
        ("empty", refused(404, b"")),
    ):
        found.append(Scenario("C5", name, said(answer), Fails(openai.NotFoundError, ("base url", "127.0.0.1"))))
    found.append(Scenario("C6", "no such model", _no_model, Fails(openai.NotFoundError, ("model `m` does not exist",))))
    shapes: dict[str, Any] = {
        "text": {"error": "no GPU left"},
        "detail text": {"detail": "no GPU left"},
        "detail list": {"detail": [{"loc": ["body", "model"], "msg": "no GPU left", "type": "value_error"}]},
        "message at the top": {"message": "no GPU left", "object": "error"},
        "list": [{"error": {"code": 400, "message": "no GPU left", "status": "INVALID_ARGUMENT"}}],
        "nested": {"error": {"error": {"message": "no GPU left"}}},
        "cloudflare": {"success": False, "errors": [{"code": 7003, "message": "no GPU left"}]},
        "openrouter": {
            "error": {
                "message": "Provider returned error",
                "code": 400,
                "metadata": {"raw": '{"error":{"message":"no GPU left"}}'},
            }
        },
    }
    for name, shape in shapes.items():
        found.append(Scenario("C7", name, said(refused(400, shape)), Fails(openai.BadRequestError, ("no GPU left",))))
    found.append(
        Scenario(
            "C7",
            "plain text",
            said(refused(400, b"no GPU left", kind=PLAIN)),
            Fails(openai.BadRequestError, ("no GPU left",)),
        )
    )
    for name, text in (
        (
            "OpenAI",
            "This model's maximum context length is 4097 tokens. However, your messages resulted in 5000 tokens.",
        ),
        ("llama.cpp", "the request exceeds the available context size (4096 tokens), try increasing it"),
        ("Groq", "Please reduce the length of the messages or completion."),
        ("Mistral", "Prompt contains 40000 tokens, too large for model with 32768 maximum context length"),
    ):
        found.append(
            Scenario(
                "C8",
                name,
                said(refused(400, problem(text))),
                Fails(openai.BadRequestError, ("too long for the model",)),
            )
        )
    return found


def _no_model(wire: str, way: str) -> Sequence[Script]:
    missing = refused(404, problem("The model `m` does not exist", code="model_not_found"))
    listed = sized(json.dumps({"object": "list", "data": [{"id": "m9", "object": "model"}]}).encode())
    return [[missing], [listed]]


# Connection and configuration


def _unreached() -> list[Scenario]:
    def case(name: str, *words: str, scripts: Scripts | None = None, requests: int = 0, **more: Any) -> Scenario:
        expected = Fails(openai.APIConnectionError, words, requests=requests)
        return Scenario("N1", name, scripts or said(b""), expected, **more)

    def nowhere(url: str) -> str:
        return "http://nowhere.invalid/v1"

    def with_tls(url: str) -> str:
        return url.replace("http:", "https:")

    http, port = "http://127.0.0.1", dead_port()
    return [
        case("refused", f"127.0.0.1:{port}", "refused", "server running", place=lambda url: f"{http}:{port}/v1"),
        case("unknown host", "nowhere.invalid", "unknown", place=nowhere, options={"timeout": 9.0}),
        case("https to http", "127.0.0.1", "TLS", "http://", place=with_tls),
        case("http to https", "127.0.0.1", "https://", tls=server_tls()),
        case(
            "bad certificate",
            "not trusted",
            "SSL_CERT_FILE",
            place=with_tls,
            tls=server_tls(),
        ),
        case("dead proxy", "proxy", f"{http}:{port}", environ={"http_proxy": f"{http}:{port}"}),
        case("not HTTP", "127.0.0.1", "http server", scripts=said(b"SSH-2.0-OpenSSH_9.2\r\n"), requests=1),
    ]


def _places() -> list[Scenario]:
    def mended(name: str, place: Callable[[str], str]) -> Scenario:
        return Scenario("N2", name, good_answer, Right(), place=place)

    def refused(name: str, place: Callable[[str], str], *words: str) -> Scenario:
        return Scenario("N2", name, good_answer, Fails(ConfigurationError, words, requests=0), place=place)

    return [
        mended("spaces around", lambda url: f"  {url} "),
        mended("newline behind", lambda url: f"{url}\n"),
        mended("quotes around", lambda url: f'"{url}"'),
        mended("slash behind", lambda url: f"{url}/"),
        mended("chat completions pasted", lambda url: f"{url}/chat/completions"),
        mended("models pasted", lambda url: f"{url}/models"),
        refused("no scheme", lambda url: url.removeprefix("http://"), "no scheme", "http://"),
        refused("other scheme", lambda url: url.replace("http:", "ftp:"), "ftp:", "base"),
        refused("bad port", lambda url: "http://127.0.0.1:99999/v1", "99999"),
        refused("query", lambda url: f"{url}?api-version=1", "query"),
        refused("space inside", lambda url: url.replace("/v1", "/my v1"), "space"),
    ]


def _keys() -> list[Scenario]:
    def sent(name: str, key: str) -> Scenario:
        return Scenario("N3", name, good_answer, Right(), options={"api_key": key})

    def refused(name: str, key: str, *words: str) -> Scenario:
        expected = Fails(ConfigurationError, ("key", *words), requests=0)
        return Scenario("N4", name, good_answer, expected, options={"api_key": key})

    return [
        sent("newline and spaces", f"  {KEY}\n"),
        sent("byte order mark", f"\ufeff{KEY}"),
        refused("space inside", KEY.replace("-of-", " of "), "space"),
        refused("newline inside", KEY.replace("-of-", "\nof-")),
        refused("masked copy", "sk-•••••••••••0123", "masked copy"),
    ]


def _redirects() -> list[Scenario]:
    def within(wire: str, way: str) -> Sequence[Script]:
        path = "/v1/elsewhere"
        return [[sized(b"", 307, PLAIN, f"Location: {path}")], [good(wire, way)]]

    abroad = said(sized(b"", 307, PLAIN, "Location: http://elsewhere.invalid/v1/chat/completions"))
    return [
        Scenario("C9", "within the origin", within, Right(requests=2)),
        Scenario("C9", "to another host", abroad, Fails(openai.APIStatusError, ("redirects to", "elsewhere.invalid"))),
    ]


def _limits() -> list[Scenario]:
    """Answers that ended for a reason which the program must see: text kept, the command says so."""

    def ended(chat: str, responses: str) -> Scripts:
        def change(said: Any, wire: str) -> Any:
            text = json.dumps(said) if isinstance(said, dict) else said
            if wire == "chat":
                return text.replace('"finish_reason": "stop"', f'"finish_reason": "{chat}"')
            details = json.dumps({"reason": responses})
            text = text.replace('"response.completed"', '"response.incomplete"')
            text = text.replace('"incomplete_details": null', f'"incomplete_details": {details}')
            return text if "incomplete" not in text else text.replace('"status": "completed"', '"status": "incomplete"')

        def scripts(wire: str, way: str) -> Sequence[Script]:
            if way == "whole":
                made = {**answers.whole(wire, TEXT)}
                if wire == "responses":
                    made |= {"incomplete_details": None}
                return [[sized(change(made, wire).encode())]]
            return [[streamed(events([change(line, wire) for line in lines(wire)]))]]

        return scripts

    return [
        Scenario("A6", "length", ended("length", "max_output_tokens"), Right(status=7), helped=False),
        Scenario("A6", "content filter", ended("content_filter", "content_filter"), Right(status=7), helped=False),
    ]


SCENARIOS: list[Scenario] = [
    *_formats(),
    *_cuts(),
    *_in_stream(),
    *_crossed(),
    *_silences(),
    *_answers(),
    *_oddities(),
    *_limits(),
    *_status(),
    *_redirects(),
    *_unreached(),
    *_places(),
    *_keys(),
]
