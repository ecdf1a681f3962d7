"""A stream of Responses events → deltas, and the reply that they add up to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from allos.errors import BadData, Incomplete, ServerFault
from allos.messages import Delta, Message, Part, Reply, Text, ToolCall
from allos.wire.collect import Collector, whole_part
from allos.wire.responses.items import dump_output, load_output, objects
from allos.wire.responses.reply import fault, finish, load_head, load_reply, split_thinking
from allos.wire.sse import Event
from allos.wire.think import ThinkSplitter

__all__ = ["Decoder"]

JSON = Mapping[str, Any]
_CALLS = {"function_call": "function", "custom_tool_call": "custom"}
_TERMINAL = ("response.completed", "response.incomplete", "response.cancelled")
# Events that repeat what others say; every other name that we don't know is handed on.
_SILENT = {
    "keepalive",
    "response.content_part.added",
    "response.content_part.done",
    "response.output_text.annotation.done",
    "response.reasoning_part.added",
    "response.reasoning_part.done",
    "response.reasoning_summary_part.done",
}


class Decoder:
    """Reads one stream: `feed` it events until `done`, then ask `end` for the whole reply.

    Parts are told apart by `output_index` where there is one, since some services change an item's id with every
    event, and else by the item's id.
    """

    def __init__(self, *, think_tags: bool = False) -> None:
        self.done = False
        self._think_tags = think_tags
        self._splitter: tuple[int, ThinkSplitter] | None = None  # of the first text, with its thinking's index
        self._collector = Collector()
        self._events = 0
        self._has_head = False
        self._items: dict[str, Any] = {}  # an item's id → its key
        self._item: Any = None  # the key of the item that came last
        self._slots: dict[tuple[Any, Any], int] = {}  # (item's key, place in it) → index of the part
        self._next = 0
        self._grown: set[int] = set()  # parts of which a delta was seen
        self._final: Reply | None = None

    def feed(self, event: Event) -> list[Delta]:
        """The deltas that an event says. Raises `ServerFault` for an error, `BadData` for what is no JSON."""
        if self.done:
            return []
        payload = self._payload(event)
        if payload is None:
            return []
        kind = payload.get("type")
        kind = kind if kind and isinstance(kind, str) else event.name
        handler = _HANDLERS.get(kind)
        if handler is None:
            return self._other(kind, event.name, payload)
        self._events += 1
        deltas = handler(self, payload)
        for delta in deltas:
            self._collector.feed(delta)
        return deltas

    def so_far(self) -> Reply:
        """What has come until now, without the tool calls that have not ended."""
        return self._final or self._collector.reply(with_open_calls=False)

    def end(self) -> Reply:
        """The whole reply. Raises `Incomplete` where the stream ended before it did."""
        if self._final is not None:
            return self._final
        if not self._events:
            raise BadData("a stream without an event of the Responses API")
        raise Incomplete("the stream ended before 'response.completed'", reply=self.so_far())

    def _payload(self, event: Event) -> JSON | None:
        data = event.data
        if data.startswith("[DONE]"):
            self.done = True
            return None
        try:
            payload = json.loads(data)
        except (ValueError, RecursionError):
            if event.name == "error":
                raise ServerFault(data[:300], reply=self.so_far()) from None
            raise BadData(f"an event that is no JSON: {data[:80]!r}", body=data[:2000]) from None
        return payload if isinstance(payload, dict) else None

    def _other(self, kind: str, name: str, payload: JSON) -> list[Delta]:
        """An event that adds nothing to the reply: an error, or one to hand on as it is."""
        if kind == "error" or name == "error" or (payload.get("error") and "response" not in payload):
            self.done = True
            raise fault(payload, reply=self.so_far())
        if not kind:
            return []
        self._events += 1
        return [] if kind in _SILENT else [Delta(extra={"event": payload})]

    # ------------------------------------------------------------ where an event belongs

    def _key(self, payload: JSON) -> Any:
        """What identifies the item that an event is about."""
        key = payload.get("output_index")
        if isinstance(key, int):
            return key
        item_id = payload.get("item_id")
        return self._items.get(item_id, item_id) if isinstance(item_id, str) else self._item

    def _slot(self, payload: JSON, place: Any) -> int:
        """The index of the part that an event is about; a new part gets the next one."""
        key = (self._key(payload), place)
        index = self._slots.get(key)
        if index is None:
            if self._think_tags and self._splitter is None and isinstance(place, int):
                self._splitter = (self._next, ThinkSplitter())
                self._next += 1
            index = self._slots[key] = self._next
            self._next += 1
        return index

    # ------------------------------------------------------------ the life of the answer

    def _started(self, payload: JSON) -> list[Delta]:
        response = payload.get("response")
        if self._has_head or not isinstance(response, Mapping):
            return []
        self._has_head = True
        return [Delta(head=load_head(response))]

    def _failed(self, payload: JSON) -> list[Delta]:
        self.done = True
        response = payload.get("response")
        raise fault(response if isinstance(response, Mapping) else payload, reply=self.so_far())

    def _ended(self, payload: JSON) -> list[Delta]:
        response = payload.get("response")
        if not isinstance(response, Mapping):
            if not self._collector.reply().message.parts:
                raise BadData(f"a last event that holds no Response but {response!r:.60}", body=payload)
            response = {}
        if response.get("error") or response.get("status") == "failed":
            return self._failed(payload)
        status = response.get("status")
        if status in (None, "queued", "in_progress"):
            status = str(payload.get("type")).removeprefix("response.")
        body = {**response, "status": status, "output": response.get("output") or []}
        seen = self._collector.reply()
        reply = self._completed(load_reply(body, think_tags=self._think_tags), body, seen)
        self._final, self.done = reply, True
        deltas = [] if self._has_head else [Delta(head=load_head(body))]
        for part in reply.message.parts[len(seen.message.parts) :]:
            deltas.append(whole_part(part, self._next))
            self._next += 1
        choice = reply.choices[0]
        return [*deltas, Delta(finish_reason=choice.finish_reason, usage=reply.usage, extra=choice.extra)]

    def _completed(self, reply: Reply, body: JSON, seen: Reply) -> Reply:
        """The final object, with what the events said where it is silent."""
        reply = replace(
            reply,
            id=seen.id or reply.id,  # as the head said: some services give another one with every event
            model=reply.model or seen.model,
            created=seen.created if reply.created is None else reply.created,
            raw=body,
        )
        parts = seen.message.parts
        if body["output"] or not parts:
            return reply
        choice = reply.choices[0]
        reason = finish(body["status"], None, parts) if choice.finish_reason == "stop" else choice.finish_reason
        choice = replace(choice, message=Message("assistant", parts), finish_reason=reason)
        return replace(reply, choices=(choice,), raw={**body, "output": dump_output(parts, status="completed")})

    # ------------------------------------------------------------ items

    def _added(self, payload: JSON) -> list[Delta]:
        item = payload.get("item")
        if not isinstance(item, Mapping):
            return []
        item_id, kind = item.get("id"), item.get("type")
        self._item = payload.get("output_index")
        if not isinstance(self._item, int):
            self._item = item_id if isinstance(item_id, str) else f"item {len(self._slots)}"
        if isinstance(item_id, str):
            self._items[item_id] = self._item
        if kind == "message":
            return []
        index = self._slot(payload if isinstance(self._item, int) else {}, None)
        if not isinstance(kind, str) or kind not in _CALLS:
            return []
        (call,) = load_output({**item, "arguments": "", "input": ""})
        return [Delta(tool_call=call, index=index)] if isinstance(call, ToolCall) else []

    def _finished(self, payload: JSON) -> list[Delta]:
        item = payload.get("item")
        if not isinstance(item, Mapping):
            return []
        payload = {"item_id": item.get("id"), **payload}
        deltas: list[Delta] = []
        if item.get("type") != "message":
            for part in load_output(item):
                deltas += self._final_part(part, self._slot(payload, None))
            return deltas
        # Matched in order and not by `content_index`, at which some services count differently.
        key = self._key(payload)
        known = [index for (of, place), index in self._slots.items() if of == key and place is not None]
        for place, part in enumerate(load_output(item)):
            index = known[place] if place < len(known) else self._slot(payload, -1 - place)
            deltas += self._final_part(part, index)
        return deltas

    def _final_part(self, part: Part, index: int) -> Iterator[Delta]:
        """A part in its final form; as growth too where nothing of it was seen before."""
        parts = [part]
        if self._splitter is not None and self._splitter[0] == index - 1 and isinstance(part, Text):
            parts = split_thinking(parts)
        for place, whole in enumerate(parts, index + 1 - len(parts)):
            if place in self._grown:
                yield Delta(part=whole, index=place)
            else:
                yield whole_part(whole, place)
                self._grown.add(place)

    # ------------------------------------------------------------ what grows

    def _text(self, payload: JSON) -> list[Delta]:
        index = self._slot(payload, _place(payload))
        text = _words(payload)
        self._grown.add(index)
        logprobs = objects(payload.get("logprobs")) or None
        if self._splitter is not None and self._splitter[0] == index - 1:
            return self._split(*self._splitter[1].feed(text), index)
        return [Delta(text, index=index, logprobs=logprobs)]

    def _split(self, thought: str, text: str, index: int) -> list[Delta]:
        deltas = []
        if thought:
            self._grown.add(index - 1)
            deltas.append(Delta(reasoning=thought, index=index - 1))
        if text:
            deltas.append(Delta(text, index=index))
        return deltas

    def _text_done(self, payload: JSON) -> list[Delta]:
        index = self._slot(payload, _place(payload))
        if index not in self._grown:
            return self._text({**payload, "delta": payload.get("text")})
        if self._splitter is not None and self._splitter[0] == index - 1:
            return self._split(*self._splitter[1].end(), index)
        return []

    def _refusal(self, payload: JSON) -> list[Delta]:
        index = self._slot(payload, _place(payload))
        self._grown.add(index)
        return [Delta(refusal=_words(payload), index=index)]

    def _annotation(self, payload: JSON) -> list[Delta]:
        note = payload.get("annotation")
        index = self._slot(payload, _place(payload))
        return [Delta(annotations=(note,), index=index)] if isinstance(note, Mapping) else []

    def _reasoning(self, payload: JSON) -> list[Delta]:
        index = self._slot(payload, None)
        self._grown.add(index)
        return [Delta(reasoning=_words(payload), index=index)]

    def _summary(self, payload: JSON) -> list[Delta]:
        index = self._slot(payload, None)
        self._grown.add(index)
        return [Delta(summary=_words(payload), index=index)]

    def _summary_part(self, payload: JSON) -> list[Delta]:
        """A second summary is set apart from the first."""
        return [Delta(summary="\n\n", index=self._slot(payload, None))] if payload.get("summary_index") else []

    def _arguments(self, payload: JSON) -> list[Delta]:
        return self._piece(payload, payload.get("delta"), "function")

    def _input(self, payload: JSON) -> list[Delta]:
        return self._piece(payload, payload.get("delta"), "custom")

    def _piece(self, payload: JSON, text: Any, kind: Any) -> list[Delta]:
        index = self._slot(payload, None)
        self._grown.add(index)
        piece = text if isinstance(text, str) else "" if text is None else json.dumps(text)
        return [Delta(tool_call=ToolCall("", "", piece, kind), index=index)]


def _words(payload: JSON) -> str:
    delta = payload.get("delta")
    return delta if isinstance(delta, str) else ""


def _place(payload: JSON) -> int:
    """Which content part of its message an event is about."""
    place = payload.get("content_index")
    return place if isinstance(place, int) else 0


def _late(method: Callable[[Decoder, JSON], list[Delta]], field: str) -> Callable[[Decoder, JSON], list[Delta]]:
    """A handler for a `.done` event: its text counts where no delta came before it."""

    def handler(decoder: Decoder, payload: JSON) -> list[Delta]:
        place = _place(payload) if field == "refusal" else None
        if decoder._slot(payload, place) in decoder._grown:
            return []
        return method(decoder, {**payload, "delta": payload.get(field)})

    return handler


_HANDLERS: dict[str, Callable[[Decoder, JSON], list[Delta]]] = {
    "response.created": Decoder._started,
    "response.queued": Decoder._started,
    "response.in_progress": Decoder._started,
    "response.failed": Decoder._failed,
    "response.output_item.added": Decoder._added,
    "response.output_item.done": Decoder._finished,
    "response.output_text.delta": Decoder._text,
    "response.output_text.done": Decoder._text_done,
    "response.output_text.annotation.added": Decoder._annotation,
    "response.refusal.delta": Decoder._refusal,
    "response.refusal.done": _late(Decoder._refusal, "refusal"),
    "response.reasoning_text.delta": Decoder._reasoning,
    "response.reasoning_text.done": _late(Decoder._reasoning, "text"),
    "response.reasoning_summary_part.added": Decoder._summary_part,
    "response.reasoning_summary_text.delta": Decoder._summary,
    "response.reasoning_summary_text.done": _late(Decoder._summary, "text"),
    "response.function_call_arguments.delta": Decoder._arguments,
    "response.function_call_arguments.done": _late(Decoder._arguments, "arguments"),
    "response.custom_tool_call_input.delta": Decoder._input,
    "response.custom_tool_call_input.done": _late(Decoder._input, "input"),
    **dict.fromkeys(_TERMINAL, Decoder._ended),
}
