"""Deltas → the stream of Responses events that says them, in the order and numbering of the API reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from allos.messages import Delta, Reasoning, Refusal, Reply, Request, Text, ToolCall
from allos.wire import sse
from allos.wire.collect import whole_part
from allos.wire.responses.growing import Call, Growing, Message, Payload, Thought, Whole
from allos.wire.responses.items import dump_output, fresh_id
from allos.wire.responses.reply import dump_response, outcome

__all__ = ["TAIL", "Encoder", "frame"]

TAIL = b""


def frame(payload: Mapping[str, Any]) -> bytes:
    """The bytes of one event, named by its type."""
    return sse.dump(payload, payload["type"])


class Encoder:
    """Writes one stream: `feed` it deltas, then `end` it with the whole reply, or `fail` it.

    Text and reasoning are complete when another part begins; tool calls may stay open beside each other.
    Items are completed in the order of the output.
    Of several choices the one that begins is written: a Response holds no more.
    """

    def __init__(self, *, request: Request | None = None) -> None:
        self._request = request
        self._head = Reply()
        self._number = 0
        self._items: list[Growing] = []
        self._output: list[Payload] = []  # the items that are done
        self._choice: int | None = None
        self._split: set[int] = set()  # parts that go on in a second item, so that no item holds their final form
        self._at: dict[int, Growing] = {}  # index of a part → the item that it grows in

    def feed(self, delta: Delta) -> list[Payload]:
        """The events that a delta makes."""
        if delta.choice != self._choice:
            if self._choice is not None:
                return []
            if _kind(delta) is not None:
                self._choice = delta.choice
        item = self._at.get(delta.index)
        if type(item) is Message and not item.finished and item.can_add(delta):
            return [item.add_text(delta)]
        return [*self._start(delta.head), *self._grow(delta)]

    def end(self, reply: Reply) -> list[Payload]:
        """The last events, with the whole Response.

        Details that only the reply has (annotations, encrypted reasoning) are put into the parts still open.
        """
        chosen = [choice for choice in reply.choices if choice.index == self._choice]
        reply = replace(reply, choices=tuple(chosen) or reply.choices)
        if reply.finish_reason == "error":
            return self._failed(reply)
        events = [*self._start(reply), *self._settle(reply)]
        status, details = outcome(reply)
        for item in self._items:
            item.finished = True
        events += self._close(last="incomplete" if status == "incomplete" else "completed")
        kind = "response.completed" if status == "completed" else "response.incomplete"
        response = dump_response(self._named(reply), self._request, status=status, details=details, output=self._output)
        return [*events, self._emit(kind, response=response)]

    def _failed(self, reply: Reply) -> list[Payload]:
        """The events that report an error in mid-stream; a tool call that had not ended is not shown.

        The words stand twice in the first event: the SDK raises only for an `error` object.
        """
        events = list(self._start(reply))
        error = {"code": "server_error", "message": "the model stopped with an error"}
        events.append(self._emit("error", **error, param=None, error={"type": "server_error", **error, "param": None}))
        shown = [item.data("incomplete") for item in self._items[len(self._output) :] if not isinstance(item, Call)]
        output = [*self._output, *shown]
        response = dump_response(self._named(reply), self._request, status="failed", error=error, output=output)
        return [*events, self._emit("response.failed", response=response)]

    def _emit(self, kind: str, **fields: Any) -> Payload:
        number = self._number
        self._number += 1
        return {"type": kind, "sequence_number": number, **fields}

    def _start(self, head: Reply | None) -> Iterator[Payload]:
        """The first two events; from then on the Response's id and time are fixed."""
        if self._number:
            return
        head = head or Reply()
        response = dump_response(
            Reply(id=head.id or fresh_id("resp"), model=head.model, created=head.created),
            self._request,
            status="in_progress",
            output=[],
        )
        self._head = Reply(id=response["id"], model=head.model, created=response["created_at"])
        yield self._emit("response.created", response=response)
        yield self._emit("response.in_progress", response=response)

    def _named(self, reply: Reply) -> Reply:
        return replace(reply, id=self._head.id, created=self._head.created, model=reply.model or self._head.model)

    def _grow(self, delta: Delta) -> Iterator[Payload]:
        kind = _kind(delta)
        if kind is None:
            return
        item = self._at.get(delta.index)
        if delta.part is not None and item is not None and (self._is_done(item) or item.index != delta.index):
            return  # the final form of what has been completed already
        if item is not None and self._is_done(item):
            if not _says_more(delta):
                return  # probabilities of tokens that made no text
            self._split.add(delta.index)
        if not isinstance(item, kind) or self._is_done(item):
            if delta.part is not None:
                delta = _as_growth(delta)
            item = self._items[-1] if kind is Message and self._items else None
            if not isinstance(item, Message) or item.finished:
                yield from self._next()
                item = kind(len(self._items), delta.index, self._emit)
                self._items.append(item)
            self._at[delta.index] = item
        yield from item.grow(delta)
        if delta.part is not None and item.index == delta.index and delta.index not in self._split:
            item.settle(delta.part)
        yield from self._close()

    def _is_done(self, item: Growing) -> bool:
        return item.place < len(self._output)

    def _next(self) -> Iterator[Payload]:
        """Another part begins: what grew until now is complete, except for tool calls."""
        for item in self._items:
            item.finished = item.finished or not isinstance(item, Call)
        yield from self._close()

    def _close(self, *, last: str = "completed") -> Iterator[Payload]:
        """Complete the finished items, as far as all before them are."""
        for item in self._items[len(self._output) :]:
            if not item.finished:
                return
            yield from item.close()
            data = item.data(last if item is self._items[-1] else "completed")
            self._output.append(data)
            yield self._emit("response.output_item.done", output_index=item.place, item=data)

    def _settle(self, reply: Reply) -> Iterator[Payload]:
        """Give the parts of the final reply to the items that they grew in, and say those that are new."""
        known, parts = sorted(self._at), reply.message.parts
        if len(parts) < len(known):
            return
        for index, part in zip(known, parts, strict=False):
            item = self._at[index]
            if not self._is_done(item) and item.index == index and index not in self._split:
                item.settle(part)
        after = known[-1] + 1 if known else 0
        for index, part in enumerate(parts[len(known) :], after):
            yield from self._grow(Delta(part=part, index=index))


def _kind(delta: Delta) -> type[Growing] | None:
    """The kind of item that a delta grows."""
    part = delta.part
    if delta.tool_call is not None or isinstance(part, ToolCall):
        return Call
    if delta.reasoning or delta.summary or isinstance(part, Reasoning):
        return Thought
    if delta.text or delta.refusal or delta.annotations or delta.logprobs or isinstance(part, (Text, Refusal)):
        return Message
    return Whole if part is not None and dump_output([part], status="completed") else None


def _says_more(delta: Delta) -> bool:
    """Whether a delta adds more than probabilities."""
    return delta != Delta(logprobs=delta.logprobs, index=delta.index, choice=delta.choice)


def _as_growth(delta: Delta) -> Delta:
    """The same delta, so that it says as growth what its part holds."""
    assert delta.part is not None
    whole = whole_part(delta.part, delta.index, delta.choice)
    if isinstance(delta.part, Text):
        return replace(whole, logprobs=delta.part.logprobs, annotations=delta.part.annotations)
    return whole
