"""One output item of a Response while it is streamed, and the events that its growth makes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from allos.messages import Delta, Part, Reasoning, Refusal, Text, ToolCall
from allos.wire.responses.items import dump_logprobs, dump_output, dump_output_part, fresh_id

__all__ = ["Call", "Growing", "Message", "Thought", "Whole"]

Payload = dict[str, Any]
Emit = Callable[..., Payload]  # makes a numbered event from its type and fields


class Growing:
    """An output item at its `place` in the output.

    `index` is the part of the reply that grows in it, `finished` says that no more is to come.
    """

    def __init__(self, place: int, index: int, emit: Emit) -> None:
        self.place = place
        self.index = index
        self.emit = emit
        self.id = ""
        self.finished = False

    def begin(self, item: Payload) -> Payload:
        """The event that the item is there."""
        return self.emit("response.output_item.added", output_index=self.place, item=item)

    def grow(self, delta: Delta) -> Iterator[Payload]:
        """The events of what a delta adds."""
        yield from ()

    def settle(self, part: Part) -> None:
        """Take the final form of the part that has grown here."""

    def close(self) -> Iterator[Payload]:
        """The events that complete what is open inside the item."""
        yield from ()

    def data(self, status: str) -> Payload:
        """The item as it stands."""
        raise NotImplementedError


class Message(Growing):
    """A message: texts and refusals, the last of them open."""

    def __init__(self, place: int, index: int, emit: Emit) -> None:
        super().__init__(place, index, emit)
        self._parts: list[Text | Refusal] = []  # that are closed
        self._open: Text | Refusal | None = None  # its kind, and its final form once that is known
        self._pieces: list[str] = []
        self._logprobs: list[Mapping[str, Any]] = []
        self._annotations: list[Mapping[str, Any]] = []

    def grow(self, delta: Delta) -> Iterator[Payload]:
        """See `Growing`."""
        if not self.id:
            self.id = fresh_id("msg")
            head = {"id": self.id, "type": "message", "status": "in_progress", "role": "assistant", "content": []}
            yield self.begin(head)
        kind = Refusal if delta.refusal or isinstance(delta.part, Refusal) else Text
        if delta.index != self.index or not isinstance(self._open, kind):
            yield from self.close()
            self.index, self._open = delta.index, kind("")
            yield self.emit("response.content_part.added", **self._where(), part=dump_output_part(self._open))
        if delta.refusal:
            self._pieces.append(delta.refusal)
            yield self.emit("response.refusal.delta", **self._where(), delta=delta.refusal)
        elif delta.text or delta.logprobs:
            yield self.add_text(delta)
        for note in delta.annotations:
            self._annotations.append(note)
            number = len(self._annotations) - 1
            yield self.emit(
                "response.output_text.annotation.added",
                **self._where(),
                annotation_index=number,
                annotation=dict(note),
            )

    def can_add(self, delta: Delta) -> bool:
        """Whether `add_text` is all that this delta needs."""
        return (
            delta.index == self.index
            and bool(delta.text)
            and delta.part is None
            and not delta.annotations
            and isinstance(self._open, Text)
        )

    def add_text(self, delta: Delta) -> Payload:
        """The event of a piece of text, which is what nearly all of a stream consists of."""
        self._pieces.append(delta.text)
        if delta.logprobs:
            self._logprobs.extend(delta.logprobs)
        return self.emit(
            "response.output_text.delta",
            item_id=self.id,
            output_index=self.place,
            content_index=len(self._parts),
            delta=delta.text,
            logprobs=dump_logprobs(delta.logprobs) if delta.logprobs else [],
        )

    def settle(self, part: Part) -> None:
        """See `Growing`."""
        if isinstance(part, (Text, Refusal)) and type(part) is type(self._open):
            self._open = part

    def close(self) -> Iterator[Payload]:
        """See `Growing`."""
        if self._open is None:
            return
        part, place = self._grown(self._open), self._where()
        said = dump_output_part(part)
        if isinstance(part, Refusal):
            yield self.emit("response.refusal.done", **place, refusal=part.text)
        else:
            yield self.emit("response.output_text.done", **place, text=part.text, logprobs=said.get("logprobs", []))
        yield self.emit("response.content_part.done", **place, part=said)
        self._parts.append(part)
        self._open, self._pieces, self._logprobs, self._annotations = None, [], [], []

    def data(self, status: str) -> Payload:
        """See `Growing`."""
        parts = [*self._parts, *([self._grown(self._open)] if self._open is not None else [])]
        tie = {**parts[-1].extra.get("item", {}), "id": self.id}
        (item,) = dump_output((replace(part, extra={**part.extra, "item": tie}) for part in parts), status=status)
        return item

    def _where(self) -> Payload:
        return {"item_id": self.id, "output_index": self.place, "content_index": len(self._parts)}

    def _grown(self, part: Text | Refusal) -> Text | Refusal:
        """The open part with what grew: its final form has the last word where it says something."""
        text = part.text or "".join(self._pieces)
        if isinstance(part, Refusal):
            return replace(part, text=text)
        logprobs = part.logprobs or tuple(self._logprobs) or None
        return replace(part, text=text, annotations=part.annotations or tuple(self._annotations), logprobs=logprobs)


class Thought(Growing):
    """Reasoning: its text and its summaries, one of them open at a time."""

    def __init__(self, place: int, index: int, emit: Emit) -> None:
        super().__init__(place, index, emit)
        self._text: list[str] = []
        self._summaries: list[list[str]] = []
        self._open = ""
        self._final: Reasoning | None = None

    def grow(self, delta: Delta) -> Iterator[Payload]:
        """See `Growing`."""
        if not self.id:
            self.id = fresh_id("rs")
            yield self.begin({"id": self.id, "type": "reasoning", "status": "in_progress", "summary": []})
        whole = delta.part if isinstance(delta.part, Reasoning) and not self._summaries else None
        for number, summary in enumerate(whole.summary if whole else [delta.summary] if delta.summary else []):
            if self._open != "summary" or number:
                yield from self.close()
                self._open = "summary"
                self._summaries.append([])
                part = {"type": "summary_text", "text": ""}
                yield self.emit("response.reasoning_summary_part.added", **self._where(), part=part)
            self._summaries[-1].append(summary)
            yield self.emit("response.reasoning_summary_text.delta", **self._where(), delta=summary)
        if delta.reasoning:
            if self._open != "text":
                yield from self.close()
                self._open = "text"
                part = {"type": "reasoning_text", "text": ""}
                yield self.emit("response.content_part.added", **self._where(), part=part)
            self._text.append(delta.reasoning)
            yield self.emit("response.reasoning_text.delta", **self._where(), delta=delta.reasoning)

    def settle(self, part: Part) -> None:
        """See `Growing`."""
        if isinstance(part, Reasoning):
            self._final = part

    def close(self) -> Iterator[Payload]:
        """See `Growing`."""
        place = self._where()
        if self._open == "summary":
            part = {"type": "summary_text", "text": "".join(self._summaries[-1])}
            yield self.emit("response.reasoning_summary_text.done", **place, text=part["text"])
            yield self.emit("response.reasoning_summary_part.done", **place, part=part)
        elif self._open == "text":
            part = {"type": "reasoning_text", "text": "".join(self._text)}
            yield self.emit("response.reasoning_text.done", **place, text=part["text"])
            yield self.emit("response.content_part.done", **place, part=part)
        self._open = ""

    def data(self, status: str) -> Payload:
        """See `Growing`."""
        grown = Reasoning("".join(self._text), tuple("".join(pieces) for pieces in self._summaries))
        (item,) = dump_output([replace(self._final or grown, id=self.id)], status=status)
        return item

    def _where(self) -> Payload:
        place = {"summary_index": len(self._summaries) - 1} if self._open == "summary" else {"content_index": 0}
        return {"item_id": self.id, "output_index": self.place, **place}


class Call(Growing):
    """A tool call. It may stay open beside others; it is announced once its name is known."""

    def __init__(self, place: int, index: int, emit: Emit) -> None:
        super().__init__(place, index, emit)
        self._call = ToolCall("", "")
        self._pieces: list[str] = []
        self._waiting: list[str] = []  # pieces that came before the name

    def grow(self, delta: Delta) -> Iterator[Payload]:
        """See `Growing`."""
        piece = delta.tool_call
        if piece is None:
            return
        if not self.id:
            known = self._call
            self._call = replace(piece, id=known.id or piece.id, name=known.name or piece.name, arguments="")
        if piece.arguments:
            self._pieces.append(piece.arguments)
            self._waiting.append(piece.arguments)
        if self._call.name:
            yield from self._say()

    def settle(self, part: Part) -> None:
        """See `Growing`."""
        if not isinstance(part, ToolCall):
            return
        grown = "".join(self._pieces)
        if part.arguments.startswith(grown):
            self._waiting.append(part.arguments[len(grown) :])
        self._pieces = [part.arguments]
        self._call = replace(part, id=self._call.id or part.id, name=self._call.name or part.name)
        self.finished = True

    def close(self) -> Iterator[Payload]:
        """See `Growing`."""
        yield from self._say()
        place = {"item_id": self.id, "output_index": self.place}
        whole = "".join(self._pieces)
        if self._call.kind == "custom":
            yield self.emit("response.custom_tool_call_input.done", **place, input=whole)
        else:
            name = self._call.name
            yield self.emit("response.function_call_arguments.done", **place, name=name, arguments=whole)

    def data(self, status: str) -> Payload:
        """See `Growing`."""
        (item,) = dump_output([replace(self._call, arguments="".join(self._pieces), item_id=self.id)], status=status)
        return item

    def _say(self) -> Iterator[Payload]:
        if not self.id:
            (item,) = dump_output([replace(self._call, extra={})], status="in_progress")
            self.id = item["id"]
            self._call = replace(self._call, id=item["call_id"])
            yield self.begin(item)
        kind = "custom_tool_call_input" if self._call.kind == "custom" else "function_call_arguments"
        for piece in self._waiting:
            if piece:
                yield self.emit(f"response.{kind}.delta", item_id=self.id, output_index=self.place, delta=piece)
        self._waiting.clear()


class Whole(Growing):
    """An item that came at once and has no steps."""

    def __init__(self, place: int, index: int, emit: Emit) -> None:
        super().__init__(place, index, emit)
        self.finished = True
        self._item: Payload = {}

    def grow(self, delta: Delta) -> Iterator[Payload]:
        """See `Growing`."""
        if delta.part is not None:
            (self._item,) = dump_output([delta.part], status="completed")
            yield self.begin(self._item)

    def data(self, status: str) -> Payload:
        """See `Growing`."""
        return self._item
