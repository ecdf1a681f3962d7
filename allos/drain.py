"""What follows the end of a streamed answer: read to the end of its body, the connection is free for the next call."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

from allos.transport import transport_errors

__all__ = ["adrain", "drain"]

_MOMENT = 0.1  # seconds
_in_haste = ContextVar("_in_haste", default=False)  # of each thread and task


def drain(chunks: Iterator[bytes], response: Any) -> None:
    """Read what follows the end of a streamed answer: a connection whose body was read to its end is used again.

    A service that leaves the connection open is not waited for: after a moment it is left to be closed.
    """
    with _in_a_moment(response) as end:
        while time.monotonic() < end and next(chunks, None) is not None:
            pass


async def adrain(chunks: AsyncIterator[bytes], response: Any) -> None:
    """`drain` for an asynchronous response."""
    with _in_a_moment(response) as end:
        while time.monotonic() < end and await anext(chunks, None) is not None:
            pass


@contextmanager
def _in_a_moment(response: Any) -> Iterator[float]:
    """Give up each wait for bytes after a moment; gives the time by which to stop, a past one where that can't be.

    HTTP/2 needs no body to be read. The library has taken its timeouts from the request by now, so that they can't be
    changed there. https://www.encode.io/httpcore/extensions/#network_stream
    """
    connection = response.extensions.get("network_stream")
    if connection is None or response.http_version != "HTTP/1.1" or not _hurry(connection):
        yield 0.0
        return
    token = _in_haste.set(True)
    try:
        with suppress(*transport_errors()):
            yield time.monotonic() + _MOMENT
    finally:
        _in_haste.reset(token)


def _hurry(connection: Any) -> bool:
    """Let reading from a connection be short for whoever is in haste, and for nobody else who has it next.

    False for a connection that can't be read in another way than its own.
    """
    read = connection.read
    if getattr(read, "hurries", False):
        return True

    def hurried(most: int, timeout: float | None = None) -> Any:
        return read(most, _MOMENT if _in_haste.get() else timeout)

    hurried.hurries = True  # type: ignore[attr-defined]  # a mark, so that it is done once
    try:
        connection.read = hurried
    except AttributeError:
        return False
    return True
