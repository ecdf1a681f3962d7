"""Reads one answer from its bytes, in whichever form the server chose to send it.

Servers answer a stream request with plain JSON and a plain one with a stream, and proxies put web pages in
between, so the first bytes decide and not the request.
"""

from __future__ import annotations

import json
from typing import Any, Protocol

from allos.errors import BadData, Incomplete, WireError
from allos.messages import Reply, Wire
from allos.wire import chat, responses, sse
from allos.wire.collect import deltas
from allos.wire.fault import dig

__all__ = ["CODECS", "Answer", "read_json", "read_whole"]


class _Decoder(Protocol):
    done: bool

    def feed(self, event: sse.Event) -> list[Any]: ...
    def so_far(self) -> Reply: ...
    def end(self) -> Reply: ...


CODECS: dict[Wire, Any] = {"chat": chat, "responses": responses}
_EVENT_STARTS = (b"data:", b"event:", b":", b"id:", b"retry:", b"error:")
_LONGEST_START = max(map(len, _EVENT_STARTS))
LARGEST = 256 * 2**20  # bytes of one answer; more is no answer but a fault, and would fill the memory


class Answer:
    """One answer while its bytes arrive: `feed` them, then `end`; `reply` holds the whole answer after that.

    `events` counts what came that was more than a comment, `done` says that the answer has ended although the
    connection may stay open. `decoder` may stand in for the codec's own; `feed` then gives what that one gives.
    `choices` is how many answers were asked for: a stream that stops after fewer was cut.
    """

    def __init__(self, wire: Wire, *, think_tags: bool = False, decoder: Any = None, choices: Any = 1) -> None:
        self._wire = wire
        self._think_tags = think_tags
        self._start = b""
        self._body: list[bytes] | None = None
        self._reader: sse.Reader | None = None
        self._decoder: _Decoder = CODECS[wire].Decoder(think_tags=think_tags) if decoder is None else decoder
        self._choices: int = choices if isinstance(choices, int) else 1
        self._failure: WireError | None = None
        self._size = 0
        self.events = 0
        self.reply: Reply | None = None

    @property
    def done(self) -> bool:
        """Whether the end of the answer has been seen, or a fault that `end` is going to raise."""
        return self._decoder.done or self._failure is not None

    @property
    def is_body(self) -> bool:
        """Whether the answer turned out to be one whole body and no stream."""
        return self._body is not None

    def feed(self, chunk: bytes) -> list[Any]:
        """The deltas that these bytes complete. Raises `ServerFault` for an error sent in the stream.

        What came before a fault in the same bytes is handed out first; then the next call raises.
        """
        self._size += len(chunk)
        if self._size > LARGEST:
            raise BadData(f"an answer that is too large (more than {LARGEST // 2**20} MiB)")
        return self._take(chunk)

    def _take(self, chunk: bytes) -> list[Any]:
        if self._reader is not None:
            return self._decode(self._reader.feed(chunk))
        if self._body is not None:
            self._body.append(chunk)
            self.events += 1
            return []
        self._start = (self._start + chunk).lstrip(b"\xef\xbb\xbf \t\r\n")
        if not self._start or (len(self._start) < _LONGEST_START and not self._is_known(self._start)):
            return []
        start, self._start = self._start, b""
        if start.startswith(_EVENT_STARTS):
            self._reader = sse.Reader()
        else:
            self._body = []
        return self._take(start)

    def end(self) -> list[Any]:
        """The last deltas, when no more bytes come; sets `reply`.

        Raises `Incomplete` when the answer was cut, `ServerFault` and `BadData` as the codecs do.
        """
        if self._failure is not None:
            raise self._failure
        if self._start:  # an answer shorter than any beginning that we know
            self._body, self._start = [self._start], b""
        if self._reader is not None:
            last = self._last(self._reader.end())
            reply = self._decoder.end()
            if 0 < len(reply.choices) < self._choices and not self._decoder.done:
                raise Incomplete(
                    f"The stream stopped after {len(reply.choices)} of {self._choices} answers", reply=reply
                )
            self.reply = reply
            return last
        self.reply = CODECS[self._wire].load_reply(read_json(b"".join(self._body or [])), think_tags=self._think_tags)
        return deltas(self.reply)

    def _last(self, events: list[sse.Event]) -> list[Any]:
        """The deltas of an event that no blank line ended. Broken JSON in it means that the stream was cut."""
        try:
            found = self._decode(events)
            if self._failure is not None:
                raise self._failure
        except BadData:
            raise Incomplete("The stream stopped within an event", reply=self.so_far()) from None
        return found

    def so_far(self) -> Reply:
        """What has come until now; a tool call that has not ended is not in it."""
        return self.reply if self.reply is not None else self._decoder.so_far()

    def _decode(self, events: list[sse.Event]) -> list[Any]:
        if self._failure is not None:
            raise self._failure
        found: list[Any] = []
        for event in events:
            if self._decoder.done:
                break
            self.events += 1
            try:
                found += self._decoder.feed(event)
            except WireError as error:
                if not found:
                    raise
                self._failure = error
                break
        return found

    @staticmethod
    def _is_known(start: bytes) -> bool:
        return start[:1] in (b"{", b"[", b"<", b'"', b":") or start.startswith(_EVENT_STARTS)


def read_json(body: bytes) -> Any:
    """The JSON of a whole answer; raises `BadData` that says what came instead, without quoting a page."""
    if not body.strip():
        raise BadData("an empty answer")
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadData(f"text that is not UTF-8 (byte {error.start})") from None
    try:
        return json.loads(text)
    except RecursionError:
        raise BadData("JSON that is nested too deep") from None
    except ValueError as error:
        if text.lstrip()[:1] in ("{", "["):
            raise BadData(f"cut or broken JSON ({error})", body=text[:2000]) from None
    raise BadData(dig(text).message if "<" in text[:200] else f"no JSON: {text.strip()[:80]!r}", body=text[:2000])


def read_whole(wire: Wire, body: bytes, *, think_tags: bool = False) -> Reply:
    """The reply in the bytes of an answer that has ended, JSON or event stream. Raises what `Answer` raises."""
    answer = Answer(wire, think_tags=think_tags)
    answer.feed(body)
    answer.end()
    assert answer.reply is not None  # `end` returned
    return answer.reply
