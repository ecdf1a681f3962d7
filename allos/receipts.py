"""Which call an object of the SDK came from, and what was done to it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

from allos.exchange import Receipt

__all__ = ["MARK", "answered", "came_back", "receipt"]

MARK = "allos"  # the extension of an HTTP request that holds its call
_KEPT = 4096
_INNER = ("response", "http_response", "_response")


class _Recent:
    """Receipts by an id of the answer, until there are too many. An id of two calls belongs to neither."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: OrderedDict[tuple[str, str], Receipt | None] = OrderedDict()

    def keep(self, key: tuple[str, str], receipt: Receipt) -> None:
        with self._lock:
            self._found[key] = receipt if self._found.get(key, receipt) is receipt else None
            self._found.move_to_end(key)
            while len(self._found) > _KEPT:
                self._found.popitem(last=False)

    def get(self, key: tuple[str, Any]) -> Receipt | None:
        return self._found.get(key) if isinstance(key[1], str) else None


_recent = _Recent()


def came_back(receipt: Receipt, request_id: str) -> None:
    """Remember the call whose answer carries this request id."""
    _recent.keep(("request", request_id), receipt)


def answered(receipt: Receipt, answer_id: Any) -> None:
    """Remember the call that a streamed completion or Response with this id ended."""
    if isinstance(answer_id, str) and answer_id:
        _recent.keep(("answer", answer_id), receipt)


def receipt(thing: Any) -> Receipt | None:
    """What happened to the call that this object came from.

    It names endpoint, address and model, the API that was `asked` and the one that was `spoken`, and in `notes` what
    was left out, changed or repaired, and what the service ignores.
    It may be a completion, a Response, a parsed or final one of either, an event with a Response, a raw or streaming
    response, a stream, a stream's manager once it was entered, or an error.
    Objects that hold no connection are found by their ids, among the last 4,096 of the process.
    None for an older one, for one that Allos had no part in, and where a service gave two answers the same id.
    """
    for found in _nested(thing):
        for name in ("request", "http_request"):
            marks = getattr(_attribute(found, name), "extensions", None)
            if isinstance(marks, Mapping) and MARK in marks:
                return marks[MARK].receipt  # type: ignore[no-any-return]  # of the HTTP library, which knows no types of ours
    for found in _nested(thing):
        known = _recent.get(("request", getattr(found, "_request_id", None))) or _recent.get(
            ("answer", getattr(found, "id", None))
        )
        if known is not None:
            return known
    return None


def _nested(thing: Any) -> Iterator[Any]:
    """The object and what it holds that may lead to its request."""
    yield thing
    for name in _INNER:
        inner = _attribute(thing, name)
        if inner is not None:
            yield inner
    if type(thing).__name__.endswith("Manager"):  # it keeps its stream or response under a name of its own
        for inner in vars(thing).values():
            yield from filter(None, (_attribute(inner, name) for name in _INNER))


def _attribute(thing: Any, name: str) -> Any:
    try:
        return getattr(thing, name, None)
    except RuntimeError:  # the HTTP library's, where a response was made without a request
        return None
