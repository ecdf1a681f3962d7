"""Finds the JSON value that a model was asked for in what it answered: bare, fenced, or among other words."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from allos.messages import Choice, Delta, Message, Part, Refusal, Reply, Text
from allos.wire.fits import kind_of, problem

__all__ = ["Objects", "extracted", "is_json", "values", "with_object"]

_FENCE = re.compile(r"```[a-zA-Z]*[ \t]*\n(.*?)```", re.DOTALL)
_THOUGHT = re.compile(r"\s*<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL)
_OBJECT = re.compile(r'\s*\{\s*["}]')  # how one begins
_OPENING = re.compile(r"[{\[]")
_TRIES = 200  # places at which a value is looked for; a text with more is no answer but a fault
_DECODER = json.JSONDecoder()
_WHOLE = ("stop", None)  # how an answer ends that is neither cut nor given up


def is_json(text: str) -> bool:
    """Whether a text is JSON and nothing else."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def values(text: str) -> list[str]:
    """The JSON values in a text, in their order: objects, arrays, and what a fence holds. Thoughts before are no part.

    What lies within a value that broke off is none: half an answer must not look like a whole one.
    """
    if (thought := _THOUGHT.match(text)) is not None:
        text = text[thought.end() :]
    fenced = [str(inside).strip() for inside in _FENCE.findall(text) if is_json(inside)]
    return [*fenced, *_bare(text)]


def _bare(text: str) -> Iterator[str]:
    start = 0
    for _ in range(_TRIES):
        opening = _OPENING.search(text, start)
        if opening is None:
            return
        place = opening.start()
        try:
            _, start = _DECODER.raw_decode(text, place)
        except json.JSONDecodeError as error:
            if error.msg.startswith("Unterminated") or error.pos >= len(text.rstrip()):
                return
            start = place + 1
        except RecursionError:
            start = place + 1
        else:
            yield text[place:start]


def extracted(text: str, schema: Mapping[str, Any]) -> str | None:
    """The JSON value in a text: all of it, or the last one in it that fits the schema; None where there is none."""
    if is_json(text):
        return text.strip()
    fitting = [found for found in values(text) if problem(json.loads(found), schema) is None]
    return fitting[-1] if fitting else None


def with_object(reply: Reply, schema: Mapping[str, Any]) -> Reply:
    """The reply with nothing but the value in the text of each answer that has ended, where one is in it.

    The same reply where no text has to change.
    """
    choices = tuple(_with_object(choice, schema) for choice in reply.choices)
    return reply if all(map(operator.is_, choices, reply.choices)) else replace(reply, choices=choices)


def _with_object(choice: Choice, schema: Mapping[str, Any]) -> Choice:
    message = choice.message
    text = message.text
    is_other = message.tool_calls or any(isinstance(part, Refusal) for part in message.parts)
    if choice.finish_reason not in _WHOLE or is_other or is_json(text):
        return choice
    found = extracted(text, schema)
    return choice if found is None else replace(choice, message=_with_text(message, found))


def _with_text(message: Message, text: str) -> Message:
    """The message with another text, in the place of its first one; what else was said of that one stays."""
    parts: list[Part] = []
    left: str | None = text
    for part in message.parts:
        if not isinstance(part, Text):
            parts.append(part)
        elif left is not None:
            parts.append(replace(part, text=left, logprobs=None))
            left = None
    return replace(message, parts=tuple(parts))


class Objects:
    """Lets only the object through of a streamed answer.

    A text that opens with an object passes as it comes, and what follows the object is held back; any other text is
    held until its end is known. `feed` and `end` give the deltas to hand on, `shown` the reply that they add up to,
    and `is_whole` says whether all that came was let through.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = schema
        self._choices: dict[int, _Object] = {}

    @property
    def is_whole(self) -> bool:
        """Whether nothing was held back for good."""
        return all(state.is_whole for state in self._choices.values())

    def feed(self, delta: Delta) -> list[Delta]:
        """What one delta lets through."""
        state = self._choices.setdefault(delta.choice, _Object(delta.choice, self._schema))
        found = state.end(delta.finish_reason) if delta.finish_reason is not None else []
        return [*found, state.feed(delta)]

    def end(self) -> list[Delta]:
        """What was held back until the end."""
        return [delta for state in self._choices.values() for delta in state.end(None)]

    def shown(self, reply: Reply) -> Reply:
        """The whole reply with the texts that were let through."""
        choices = []
        for choice in reply.choices:
            state = self._choices.get(choice.index)
            if state is not None and state.passed != choice.message.text:
                choice = replace(choice, message=_with_text(choice.message, state.passed))
            choices.append(choice)
        return replace(reply, choices=tuple(choices))


class _Object:
    """The text of one answer on its way."""

    def __init__(self, choice: int, schema: Mapping[str, Any]) -> None:
        self._choice, self._schema = choice, schema
        self._index = 0
        self._held: list[str] = []
        self._opens: bool | None = None if kind_of(schema) == "object" else False
        self._depth = 0
        self._in_string = self._escaped = self._closed = False
        self.passed = ""
        self.is_whole = True

    def feed(self, delta: Delta) -> Delta:
        if not delta.text and not isinstance(delta.part, Text):
            return delta
        self._index = delta.index
        text = self._text(delta.text)
        self.passed += text
        part = None if isinstance(delta.part, Text) else delta.part
        return replace(delta, text=text, part=part, logprobs=delta.logprobs if text == delta.text else None)

    def _text(self, text: str) -> str:
        if self._opens is None:
            self._held.append(text)
            text = "".join(self._held)
            if text.strip() in ("", "{"):
                return ""  # what follows tells whether this is an object
            self._opens = _OBJECT.match(text) is not None
            self._held.clear()
        if self._opens:
            return self._within(text)
        self._held.append(text)
        return ""

    def _within(self, text: str) -> str:
        """As much of the text as belongs to the object."""
        for place, sign in enumerate(text):
            if self._closed:
                self.is_whole = self.is_whole and not text[place:].strip()
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

    def end(self, finish_reason: str | None) -> list[Delta]:
        held = "".join(self._held)
        self._held.clear()
        if not held.strip():
            return []
        found = extracted(held, self._schema) if finish_reason in _WHOLE else None
        self.is_whole = self.is_whole and found in (None, held.strip())
        text = held if found is None else found
        self.passed += text
        return [Delta(text, index=self._index, choice=self._choice)]
