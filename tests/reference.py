"""The rules of the API reference for a stream of Responses events, as a reader of events sees them."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from typing import Any

from openai.types.chat import ChatCompletionChunk
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

Event = dict[str, Any]
ENDS = ("response.completed", "response.incomplete", "response.failed")
# What grows → where its text stands in the event that ends it.
GROWN = {
    "response.output_text": "text",
    "response.refusal": "refusal",
    "response.reasoning_text": "text",
    "response.reasoning_summary_text": "text",
    "response.function_call_arguments": "arguments",
    "response.custom_tool_call_input": "input",
}
PARTS = {"response.content_part": "content_index", "response.reasoning_summary_part": "summary_index"}


@functools.cache
def _adapter(wire: str) -> TypeAdapter[Any]:
    return TypeAdapter(ChatCompletionChunk if wire == "chat" else ResponseStreamEvent)


def payloads(lines: Iterable[str]) -> list[Event]:
    """The JSON of a stream's lines."""
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    return [json.loads(entry) for entry in data if entry != "[DONE]"]


def hold(wire: str, events: list[Event]) -> None:
    """Assert that every event is strictly what the SDK's type says; those of a Responses stream in order as well."""
    for event in events:
        _adapter(wire).validate_json(json.dumps(event), strict=True)
    if wire == "responses":
        hold_order(events)
    else:
        assert len({chunk["id"] for chunk in events}) == 1


def hold_order(events: list[Event]) -> None:
    """Assert that events begin, grow and end their items as the reference says, and add up to the last Response."""
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    assert [event["type"] for event in events if event["type"] in ENDS] == [events[-1]["type"]]
    items = _Items()
    for event in events[2:-1]:
        items.take(event)
    last = events[-1]["response"]
    assert {event["response"]["id"] for event in (*events[:2], events[-1])} == {last["id"]}
    assert items.done == last["output"], "the items that ended are the output"


def _key(event: Event) -> tuple[Any, ...]:
    """Which text of which item an event is about."""
    return event["output_index"], "summary_index" in event, event.get("content_index", event.get("summary_index"))


class _Items:
    """The output items while they grow."""

    def __init__(self) -> None:
        self.open: dict[int, Event] = {}
        self.done: list[Event] = []
        self._texts: dict[tuple[Any, ...], str] = {}
        self._parts: dict[tuple[int, str], int] = {}
        self._open_parts: set[tuple[int, str]] = set()

    def take(self, event: Event) -> None:
        kind, place = event["type"], event["output_index"]
        stem, _, step = kind.rpartition(".")
        if kind == "response.output_item.added":
            assert place == len(self.open) + len(self.done)
            self.open[place] = event["item"]
            return
        item = self.open[place]  # nothing is said of an item that has not begun or has ended
        if kind == "response.output_item.done":
            self._end(place, item, event["item"])
            return
        assert event["item_id"] == item["id"]
        if stem in PARTS:
            self._part(stem, step, event)
        elif stem in GROWN:
            self._grow(stem, step, event)
        else:
            assert kind == "response.output_text.annotation.added"

    def _part(self, stem: str, step: str, event: Event) -> None:
        key, number = (event["output_index"], stem), event[PARTS[stem]]
        if step == "added":
            assert key not in self._open_parts
            assert number == self._parts.get(key, 0)
            self._parts[key] = number + 1
            self._open_parts.add(key)
        else:
            assert number == self._parts[key] - 1
            self._open_parts.remove(key)
            self._same(event, event["part"])

    def _grow(self, stem: str, step: str, event: Event) -> None:
        key = _key(event)
        if step == "delta":
            assert event["delta"]
            self._texts[key] = self._texts.get(key, "") + event["delta"]
        else:
            assert event[GROWN[stem]] == self._texts.get(key, "")

    def _same(self, event: Event, part: Event) -> None:
        assert part.get("text", part.get("refusal")) == self._texts.get(_key(event), "")

    def _end(self, place: int, begun: Event, item: Event) -> None:
        assert not {key for key in self._open_parts if key[0] == place}
        assert (item["id"], item["type"]) == (begun["id"], begun["type"])
        assert place == len(self.done), "items end in the order of the output"
        if "arguments" in item:
            assert item["arguments"] == self._texts.get((place, False, None), "")
        self.done.append(item)
        del self.open[place]
