"""Finds the JSON object that a model was asked for in what it answered: bare, fenced, or among other words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace

from allos.messages import Delta, Reply, Text

__all__ = ["Objects", "extracted", "with_object"]

_FENCE = re.compile(r"```[a-zA-Z]*[ \t]*\n(.*?)```", re.DOTALL)
_TRIES = 200  # places at which an object is looked for; a text with more is no answer but a fault
_DECODER = json.JSONDecoder()


def extracted(text: str) -> str | None:
    """The JSON in a text: all of it, what a fence holds, or the longest object in it; None where there is none."""
    if _is_json(text):
        return text.strip()
    for fenced in _FENCE.findall(text):
        if _is_json(fenced):
            return str(fenced).strip()
    return max(_objects(text), key=len, default=None)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _objects(text: str) -> Iterator[str]:
    start = text.find("{")
    for _ in range(_TRIES):
        if start < 0:
            return
        try:
            _, end = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            end = start + 1
        else:
            yield text[start:end]
        start = text.find("{", end)


def with_object(reply: Reply) -> Reply:
    """The reply with nothing but the object in the text of each answer, where there is one."""
    choices = []
    for choice in reply.choices:
        found = extracted(choice.message.text)
        if found is not None and found != choice.message.text:
            others = tuple(part for part in choice.message.parts if not isinstance(part, Text))
            choice = replace(choice, message=replace(choice.message, parts=(*others, Text(found))))
        choices.append(choice)
    return replace(reply, choices=tuple(choices))


class Objects:
    """Lets only the object through of a streamed answer.

    A text that opens with an object passes as it comes, and what follows the object is held back; any other text is
    held until its end is known. `feed` and `end` give the deltas to hand on.
    """

    def __init__(self) -> None:
        self._choices: dict[int, _Object] = {}

    def feed(self, delta: Delta) -> list[Delta]:
        """What one delta lets through."""
        found: list[Delta] = []
        state = self._choices.setdefault(delta.choice, _Object(delta.choice))
        if delta.finish_reason is not None:
            found += state.end()
        if delta.text or isinstance(delta.part, Text):
            text = state.feed(delta.text, delta.index)
            delta = replace(delta, text=text, part=None if isinstance(delta.part, Text) else delta.part, logprobs=None)
        return [*found, delta]

    def end(self) -> list[Delta]:
        """What was held back until the end."""
        return [delta for state in self._choices.values() for delta in state.end()]


class _Object:
    """The text of one answer on its way."""

    def __init__(self, choice: int) -> None:
        self._choice = choice
        self._index = 0
        self._held: list[str] = []
        self._opens: bool | None = None  # whether the text opens with an object, once that is known
        self._depth = 0
        self._in_string = self._escaped = self._closed = False

    def feed(self, text: str, index: int) -> str:
        self._index = index
        if self._opens is None and (start := text.lstrip()):
            self._opens = start[0] == "{"
        if self._opens:
            return self._within(text)
        self._held.append(text)
        return ""

    def _within(self, text: str) -> str:
        """As much of the text as belongs to the object."""
        for place, sign in enumerate(text):
            if self._closed:
                return text[:place]
            if self._escaped:
                self._escaped = False
            elif self._in_string:
                self._escaped, self._in_string = sign == "\\", sign != '"'
            elif sign == '"':
                self._in_string = True
            elif sign in "{[":
                self._depth += 1
            elif sign in "}]":
                self._depth -= 1
                self._closed = self._depth == 0
        return text

    def end(self) -> list[Delta]:
        held = "".join(self._held)
        self._held.clear()
        if not held.strip():
            return []
        found = extracted(held)
        return [Delta(held if found is None else found, index=self._index, choice=self._choice)]
