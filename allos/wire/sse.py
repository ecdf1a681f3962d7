"""Server-sent events: bytes to events and back, after https://html.spec.whatwg.org/multipage/server-sent-events.html.

Kinder than the specification where servers are careless: the last event counts even when no blank line
follows it, and an `error:` field (old llama.cpp) becomes an event named "error".
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["Event", "Reader", "dump"]


class Event(NamedTuple):
    """One event: its name ("" where the server gave none) and its data."""

    name: str
    data: str


class Reader:
    """Turns the bytes of an event stream into events, however they are cut.

    Invalid UTF-8 is replaced by U+FFFD: the JSON around it is then still readable.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._pieces: list[str] = []  # of the line that has not ended yet
        self._after_cr = False
        self._name = ""
        self._data: list[str] = []
        self.comments = 0

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that these bytes complete."""
        return self._lines(self._decoder.decode(chunk))

    def end(self) -> list[Event]:
        """The event that the end of the stream completes, if there is one."""
        events = self._lines(self._decoder.decode(b"", True))
        if self._pieces:
            self._line("".join(self._pieces), events)
            self._pieces.clear()
        self._dispatch(events)
        return events

    def _lines(self, text: str) -> list[Event]:
        events: list[Event] = []
        if not text:
            return events
        if self._after_cr and text[0] == "\n":
            text = text[1:]
        self._after_cr = text.endswith("\r")
        if "\r" in text:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        *whole, rest = text.split("\n")
        for line in whole:
            if self._pieces:
                self._pieces.append(line)
                line = "".join(self._pieces)
                self._pieces.clear()
            self._line(line, events)
        if rest:
            self._pieces.append(rest)
        return events

    def _line(self, line: str, events: list[Event]) -> None:
        if not line:
            self._dispatch(events)
            return
        key, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if key == "data":
            self._data.append(value)
        elif key == "event":
            self._name = value
        elif key == "error":
            self._name = "error"
            self._data.append(value)
        elif not key:
            self.comments += 1

    def _dispatch(self, events: list[Event]) -> None:
        if self._data:
            events.append(Event(self._name, "\n".join(self._data)))
            self._data.clear()
        self._name = ""


def dump(payload: Mapping[str, Any] | str, name: str = "") -> bytes:
    """The bytes of one event; a mapping is written as JSON, escaped to ASCII so that any text survives."""
    data = payload if isinstance(payload, str) else json.dumps(payload, separators=(",", ":"))
    head = f"event: {name}\n" if name else ""
    if "\n" in data:
        data = data.replace("\n", "\ndata: ")
    return f"{head}data: {data}\n\n".encode("utf-8", "replace")
