"""Holds the ids and numbers of a Responses stream steady, as programs that follow one expect.

Seen in the wild: another id of the response and of its items on every event (GitHub Copilot), content parts counted
from 1 (Bedrock), a last event whose output is empty although items came (ChatGPT's Codex backend), and calls with
`async` and `namespace` as null (vLLM), which the SDK's tool runner takes for claims.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["Steady", "wrong_nulls"]


def wrong_nulls(item: Mapping[str, Any]) -> list[str]:
    """The fields of a call that are null although the reference does not let them be."""
    if item.get("type") != "function_call":
        return []
    return [name for name in ("async", "namespace") if name in item and item[name] is None]


class Steady:
    """Takes the events of one stream in order; `mend` puts right what an event names otherwise than those before it."""

    def __init__(self) -> None:
        self._response: str | None = None
        self._items: dict[int, str] = {}  # place in the output → the id that the item came with
        self._parts: dict[int, dict[int, int]] = {}  # place in the output → the service's number of a part → ours
        self._changed = False

    def mend(self, event: dict[str, Any], whole: Mapping[str, Any] | None = None) -> bool:
        """Whether the event had to be changed, which is done in place. `whole` is the answer where it is known."""
        self._changed = False
        response = event.get("response")
        if isinstance(response, dict):
            self._name_response(response)
            if whole and not response.get("output") and whole.get("output"):
                self._set(response, "output", whole["output"])
            output = response.get("output")
            for place, item in enumerate(output if isinstance(output, list) else ()):
                self._name_item(place, item, "id")
                self._leave_out_nulls(item)
        self._leave_out_nulls(event.get("item"))
        at = event.get("output_index")
        if isinstance(at, int):
            self._name_item(at, event, "item_id")
            self._name_item(at, event.get("item"), "id")
            if isinstance(event.get("content_index"), int):
                self._count_part(at, event)
        return self._changed

    def _name_response(self, response: dict[str, Any]) -> None:
        name = response.get("id")
        if self._response is None and isinstance(name, str):
            self._response = name
        elif self._response is not None:
            self._set(response, "id", self._response)

    def _name_item(self, place: int, holder: Any, key: str) -> None:
        if not isinstance(holder, dict) or not isinstance(holder.get(key), str):
            return
        self._set(holder, key, self._items.setdefault(place, holder[key]))

    def _leave_out_nulls(self, item: Any) -> None:
        if isinstance(item, dict) and (names := wrong_nulls(item)):
            for name in names:
                del item[name]
            self._changed = True

    def _count_part(self, place: int, event: dict[str, Any]) -> None:
        """Number an item's parts in the order in which they began."""
        known = self._parts.setdefault(place, {})
        self._set(event, "content_index", known.setdefault(event["content_index"], len(known)))

    def _set(self, holder: dict[str, Any], key: str, value: Any) -> None:
        if holder.get(key) != value:
            holder[key] = value
            self._changed = True
