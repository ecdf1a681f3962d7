"""Splits `<think>…</think>` from the front of a text, however its pieces are cut."""

from __future__ import annotations

__all__ = ["ThinkSplitter"]

_OPEN, _CLOSE = "<think>", "</think>"


class ThinkSplitter:
    """Takes a text piece by piece; each `feed` gives (thinking, text) that the piece completes.

    White space around the thinking belongs to the tags and is dropped with them.
    """

    def __init__(self) -> None:
        self._state = "start"
        self._held = ""

    def feed(self, piece: str) -> tuple[str, str]:
        """What is now known to be thinking, and what to be text."""
        if self._state == "text":
            return "", piece
        held = self._held + piece
        self._held = ""
        if self._state == "start":
            begun = held.lstrip()
            if len(begun) < len(_OPEN) and _OPEN.startswith(begun):
                self._held = held
                return "", ""
            if not begun.startswith(_OPEN):
                self._state = "text"
                return "", held
            self._state, held = "lead", begun[len(_OPEN) :]
        return self._thinking(held)

    def _thinking(self, held: str) -> tuple[str, str]:
        if self._state == "lead":
            held = held.lstrip()
            if held:
                self._state = "think"
        if self._state == "gap":
            return "", self._after(held)
        thought, closed, rest = held.partition(_CLOSE)
        if closed:
            self._state = "gap"
            return thought.rstrip(), self._after(rest)
        keep = self._open_end(held)
        self._held = held[keep:]
        return held[:keep], ""

    def _after(self, rest: str) -> str:
        rest = rest.lstrip()
        if rest:
            self._state = "text"
        return rest

    @staticmethod
    def _open_end(text: str) -> int:
        """Where the end of `text` begins that may turn out to be the closing tag, with the space before it."""
        start = text.rfind("<")
        stop = start if start >= 0 and _CLOSE.startswith(text[start:]) else len(text)
        return len(text[:stop].rstrip())

    def end(self) -> tuple[str, str]:
        """What is still held back when the text has ended."""
        held, self._held = self._held, ""
        return ("", held) if self._state in ("start", "text") else (held, "")
