"""Adds the deltas of a stream up to the reply that they make, and takes a whole reply apart into deltas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from allos.messages import Choice, Delta, Message, Part, Reasoning, Refusal, Reply, Text, ToolCall, Usage
from allos.wire.characters import whole_characters

__all__ = ["Collector", "deltas", "whole_part"]


class _Growing:
    """One part while its pieces arrive; text is joined once, at the end, so that long answers stay linear."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.summary: list[str] = []
        self.refusal: list[str] = []
        self.logprobs: list[Mapping[str, Any]] | None = None
        self.annotations: list[Mapping[str, Any]] = []
        self.call: ToolCall | None = None
        self.arguments: list[str] = []
        self.whole: Part | None = None

    def add(self, delta: Delta) -> None:
        if delta.text:
            self.text.append(delta.text)
        if delta.reasoning:
            self.reasoning.append(delta.reasoning)
        if delta.summary:
            self.summary.append(delta.summary)
        if delta.refusal:
            self.refusal.append(delta.refusal)
        if delta.logprobs is not None:
            self.logprobs = [*(self.logprobs or ()), *delta.logprobs]
        self.annotations.extend(delta.annotations)
        if delta.tool_call is not None:
            piece = delta.tool_call
            self.arguments.append(piece.arguments)
            self.call = piece if self.call is None else _merged(self.call, piece)
        if delta.part is not None:
            self.whole = delta.part

    def part(self) -> Part | None:
        if self.whole is not None:
            return self.whole
        if self.call is not None:
            return replace(self.call, arguments=whole_characters("".join(self.arguments)))
        logprobs = None if self.logprobs is None else tuple(self.logprobs)
        if self.reasoning or self.summary:
            summary = (whole_characters("".join(self.summary)),) if self.summary else ()
            return Reasoning(whole_characters("".join(self.reasoning)), summary)
        if self.refusal:
            return Refusal(whole_characters("".join(self.refusal)), logprobs)
        if self.text or self.annotations or logprobs is not None:
            return Text(whole_characters("".join(self.text)), tuple(self.annotations), logprobs)
        return None


def _merged(call: ToolCall, piece: ToolCall) -> ToolCall:
    return replace(
        call,
        id=call.id or piece.id,
        name=call.name or piece.name,
        item_id=call.item_id or piece.item_id,
        extra={**call.extra, **piece.extra} if piece.extra else call.extra,
    )


class Collector:
    """Takes a stream's deltas in order; `reply()` may be asked at any time for what they make so far."""

    def __init__(self) -> None:
        self._head = Reply()
        self._parts: dict[int, dict[int, _Growing]] = {}
        self._finish: dict[int, str] = {}
        self._extra: dict[int, dict[str, Any]] = {}
        self._usage: Usage | None = None

    def feed(self, delta: Delta) -> None:
        """Add one delta."""
        if delta.head is not None:
            self._head = delta.head
        if delta.usage is not None:
            self._usage = delta.usage
        if delta.finish_reason is not None:
            self._finish[delta.choice] = delta.finish_reason
        if delta.extra:
            self._extra.setdefault(delta.choice, {}).update(delta.extra)
        parts = self._parts.setdefault(delta.choice, {})
        if (
            delta.text
            or delta.reasoning
            or delta.summary
            or delta.refusal
            or delta.tool_call is not None
            or delta.part is not None
            or delta.annotations
            or delta.logprobs is not None
        ):
            growing = parts.get(delta.index)
            if growing is None:
                growing = parts[delta.index] = _Growing()
            growing.add(delta)

    def reply(self, *, with_open_calls: bool = True) -> Reply:
        """The reply so far; without its unfinished tool calls where `with_open_calls` is false."""
        choices = tuple(self._choice(index, with_open_calls) for index in sorted(self._parts))
        return replace(self._head, choices=choices, usage=self._usage or self._head.usage)

    def _choice(self, index: int, with_open_calls: bool) -> Choice:
        growing = [part for _, part in sorted(self._parts[index].items())]
        parts = [
            part
            for grown in growing
            if (with_open_calls or grown.call is None or grown.whole is not None) and (part := grown.part()) is not None
        ]
        return Choice(Message("assistant", tuple(parts)), self._finish.get(index), index, self._extra.get(index, {}))


def deltas(reply: Reply) -> list[Delta]:
    """A whole reply as the deltas of a stream that would have made it."""
    found = [Delta(head=replace(reply, choices=(), usage=None, raw=None))]
    for choice in reply.choices:
        for index, part in enumerate(choice.message.parts):
            found.append(whole_part(part, index, choice.index))
        found.append(Delta(finish_reason=choice.finish_reason, choice=choice.index, extra=choice.extra))
    if reply.usage is not None:
        found.append(Delta(usage=reply.usage))
    return found


def whole_part(part: Part, index: int, choice: int = 0) -> Delta:
    """A part in one delta: as growth where a delta can say all of it, and with the part itself in any case."""
    text = part.text if isinstance(part, Text) else ""
    reasoning = part.text if isinstance(part, Reasoning) else ""
    summary = "\n\n".join(part.summary) if isinstance(part, Reasoning) else ""
    refusal = part.text if isinstance(part, Refusal) else ""
    call = part if isinstance(part, ToolCall) else None
    return Delta(text, reasoning, summary, refusal, call, part, index, choice)
