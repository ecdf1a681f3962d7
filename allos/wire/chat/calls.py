"""Which tool call a piece of a stream belongs to, where services number them badly or not at all.

By the reference, the first piece of a call has `index`, `id` and name, the others only `index`.
Seen in the wild: no index, always 0, from 1 on; no id, an empty one, another one on each piece, the id or name
repeated on each piece; whole calls in one piece; arguments as an object.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from allos.messages import ToolCall
from allos.wire.chat.content import load_call

__all__ = ["Calls"]


class _Open:
    """One call while its arguments arrive."""

    def __init__(self, call: ToolCall, sent_id: str, place: int) -> None:
        self.name = call.name
        self.sent_id = sent_id  # as the service wrote it, which may be empty
        self.place = place
        self.arguments: list[str] = []

    def is_whole(self) -> bool:
        """Whether the arguments are complete JSON, so that more of them can't belong here."""
        text = "".join(self.arguments)
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            return False
        return True


class Calls:
    """The tool calls of one choice of a stream."""

    def __init__(self) -> None:
        self._calls: list[_Open] = []
        self._by_index: dict[int, _Open] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def are_whole(self) -> bool:
        """Whether no call stopped within its arguments."""
        return all(not "".join(call.arguments).strip() or call.is_whole() for call in self._calls)

    def take(self, entry: Mapping[str, Any], place: int, fallback_id: str, touched: list[int]) -> tuple[int, ToolCall]:
        """The place in the message of the call that this entry opens or continues, and the piece itself.

        `place` is for a call that begins here, and `touched` are the calls that this chunk named already.
        """
        piece = load_call(entry)
        index = entry.get("index")
        index = index if isinstance(index, int) else None
        call = self._find(piece, index)
        if call is not None and piece.name and call.place in touched:
            call = None  # two entries of one chunk that are both named are two calls
        opened = call is None
        if call is None:
            call = _Open(piece, piece.id, place)
            self._calls.append(call)
            if index is not None:
                self._by_index[index] = call
        touched.append(call.place)
        call.name = call.name or piece.name
        call.arguments.append(piece.arguments)
        given = ToolCall(
            (piece.id or fallback_id) if opened else "",
            piece.name if opened or call.name == piece.name else "",
            piece.arguments,
            piece.kind,
            extra=piece.extra,
        )
        return call.place, given

    def _find(self, piece: ToolCall, index: int | None) -> _Open | None:
        """The call that a piece continues, or None where it begins one."""
        if not self._calls:
            return None
        call = self._calls[-1] if index is None else self._by_index.get(index)
        if piece.id and not (call is not None and call.sent_id in ("", piece.id)):
            known = next((other for other in reversed(self._calls) if other.sent_id == piece.id), None)
            call = known or (None if index is None else call)
        if call is None or (piece.name and index is not None and index not in self._by_index):
            # A new index or id without a name is a careless continuation: every service names what it begins.
            return None if piece.name else self._calls[-1]
        if not piece.name or piece.name == call.name == "":
            return call
        other_id = bool(piece.id and call.sent_id and piece.id != call.sent_id)
        if not call.arguments or not "".join(call.arguments).strip():
            return None if other_id or piece.name != (call.name or piece.name) else call
        if piece.kind == "custom":  # free text: never known to be whole
            return None if other_id else call
        return None if call.is_whole() else call
