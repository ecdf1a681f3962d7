"""A limit for a whole call: all its tries and waits, its streams and its tools.

Timeouts bound the time between bytes, so a server that sends one now and then could keep a call for ever.
`Punctual` and `AsyncPunctual` hold each request of a client to the deadline that is `within` reach.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import math
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Self

from allos.errors import ConfigurationError
from allos.transport import library_of

__all__ = ["AsyncPunctual", "Deadline", "Patience", "Punctual", "within"]

_QUIET_READ_TIMEOUTS = 5  # how many read timeouts a stream may pass with comments only
_SHORTEST = 0.001  # seconds: what is left of a call is no timeout of zero, which would mean "don't wait at all"


class Deadline:
    """When a call has to be over: `seconds` after its `start`, or never where they are None."""

    def __init__(self, seconds: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        if seconds is not None and not (isinstance(seconds, (int, float)) and math.isfinite(seconds) and seconds > 0):
            raise ConfigurationError(f"deadline={seconds!r} is not a number of seconds above zero.")
        self.seconds = None if seconds is None else min(seconds, threading.TIMEOUT_MAX)
        self._clock = clock
        self._end: float | None = None

    @classmethod
    def of(cls, seconds: float | Deadline | None) -> Deadline:
        """A deadline of so many seconds; one that runs already stays what it is."""
        return seconds if isinstance(seconds, Deadline) else cls(seconds)

    def start(self) -> Self:
        """Begin to count, unless it has begun."""
        if self.seconds is not None and self._end is None:
            self._end = self._clock() + self.seconds
        return self

    @property
    def left(self) -> float:
        """The seconds that are left, zero when it has passed, infinitely many without a limit."""
        if self.seconds is None:
            return math.inf
        return self.seconds if self._end is None else max(0.0, self._end - self._clock())

    @property
    def limit(self) -> float | None:
        """`left` as `asyncio.timeout` takes it."""
        return None if self.seconds is None else self.left

    @property
    def is_over(self) -> bool:
        """Whether it has passed."""
        return self.left < _SHORTEST


_NEVER = Deadline()
_current = ContextVar("_current", default=_NEVER)


@contextmanager
def within(deadline: Deadline) -> Iterator[None]:
    """Hold the requests that are sent in this block to a deadline, their answers included."""
    token = _current.set(deadline)
    try:
        yield
    finally:
        _current.reset(token)


class Punctual:
    """Mixed into a synchronous official client: a request and its answer end at the deadline, as a read timeout."""

    def _send_request(self, request: Any, *, stream: bool, **arguments: Any) -> Any:
        deadline, send = _current.get(), super()._send_request  # type: ignore[misc]  # of the official class
        if deadline.seconds is None:
            return send(request, stream=stream, **arguments)
        request.extensions["timeout"] = _Shrinking(request.extensions.get("timeout", {}), deadline)
        response = _in_time(functools.partial(send, request, stream=True, **arguments), request, deadline)
        response.stream = _kind(library_of(response), "SyncByteStream", _Bytes)(response, deadline)
        if not stream:
            _read(response)
        return response


def _in_time(send: Callable[[], Any], request: Any, deadline: Deadline) -> Any:
    """The response, up to its body, or a read timeout at the deadline.

    It is waited for by a thread of its own: the search for a host's name has no timeout, and bytes of a head may come
    one by one. What comes too late is closed there.
    """
    response, context = Future[Any](), contextvars.copy_context()

    def run() -> None:
        try:
            response.set_result(context.run(send))
        except BaseException as error:  # noqa: BLE001  # it is raised where the response is waited for
            response.set_exception(error)

    threading.Thread(target=run, name="allos-send", daemon=True).start()
    try:
        return response.result(deadline.left)
    except BaseException as error:
        if response.done() and response.exception() is error:
            raise
        response.add_done_callback(_close)
        if not isinstance(error, TimeoutError):
            raise
        raise library_of(request).ReadTimeout("the call took too long", request=request) from None


def _close(response: Future[Any]) -> None:
    if response.exception() is None:
        response.result().close()


def _read(response: Any) -> None:
    try:
        response.read()
    except BaseException:
        response.close()
        raise


class AsyncPunctual:
    """The same for an asynchronous official client."""

    async def _send_request(self, request: Any, *, stream: bool, **arguments: Any) -> Any:
        deadline, send = _current.get(), super()._send_request  # type: ignore[misc]  # of the official class
        if deadline.seconds is None:
            return await send(request, stream=stream, **arguments)
        library = library_of(request)
        try:
            async with asyncio.timeout(deadline.limit):
                response = await send(request, stream=stream, **arguments)
        except TimeoutError:
            raise library.ReadTimeout("the call took too long", request=request) from None
        if stream:
            response.stream = _kind(library, "AsyncByteStream", _AsyncBytes)(response, deadline)
        return response


class _Shrinking(dict[str, Any]):
    """The timeouts of a request, none longer than what is left of the call when a step of it begins."""

    def __init__(self, timeouts: dict[str, Any], deadline: Deadline) -> None:
        super().__init__(timeouts)
        self._deadline = deadline

    def get(self, name: str, default: Any = None) -> Any:
        """The timeout for that step."""
        own = super().get(name, default)
        left = max(_SHORTEST, self._deadline.left)
        return left if own is None else min(own, left)


@functools.cache
def _kind(library: Any, base: str, kind: Any) -> Any:
    """The class of byte streams that this HTTP library takes as its own."""
    return type(kind.__name__, (kind, getattr(library, base)), {})


class _Bytes:
    """The bytes of an answer until the deadline."""

    def __init__(self, response: Any, deadline: Deadline) -> None:
        self._bytes = response.stream
        self._request, self._library = response.request, library_of(response)
        self._deadline = deadline
        self._cut = _Cut(response, deadline)

    def __iter__(self) -> Iterator[bytes]:
        try:
            for chunk in self._bytes:
                yield chunk
                if self._deadline.is_over:
                    break
            else:
                if not self._cut.was_made:
                    return
        except Exception:  # whatever it looked like, the cut was made here
            if not self._cut.was_made:
                raise
        raise self._library.ReadTimeout("the call took too long", request=self._request) from None

    def close(self) -> None:
        """Give the connection back, and leave it alone from now on."""
        self._cut.forget()
        self._bytes.close()


class _Cut:
    """Ends the connection of an answer at the deadline: a thread that waits for bytes wakes by nothing else.

    One that several answers share (HTTP/2), or that can't be known, stays; then the next bytes end the wait.
    """

    def __init__(self, response: Any, deadline: Deadline) -> None:
        self.was_made = False
        self._lock = threading.Lock()
        network = response.extensions.get("network_stream")
        is_own = network is not None and response.http_version != "HTTP/2"
        self._socket = network.get_extra_info("socket") if is_own else None
        self._timer: threading.Timer | None = None
        if self._socket is not None:
            self._timer = threading.Timer(deadline.left, self._make)
            self._timer.daemon = True
            self._timer.start()

    def _make(self) -> None:
        with self._lock:
            if self._socket is not None:
                self.was_made = True
                with contextlib.suppress(OSError):  # it is closed already
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # below TLS, which another thread reads

    def forget(self) -> None:
        """The connection is no more that of this answer."""
        with self._lock:
            self._socket = None
        if self._timer is not None:
            self._timer.cancel()


class _AsyncBytes:
    """`_Bytes` for asynchronous programs, whose waits can be ended."""

    def __init__(self, response: Any, deadline: Deadline) -> None:
        self._bytes = response.stream
        self._request, self._library = response.request, library_of(response)
        self._deadline = deadline

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async with contextlib.aclosing(aiter(self._bytes)) as chunks:
            while True:
                try:
                    async with asyncio.timeout(self._deadline.limit):
                        chunk = await anext(chunks, None)
                except TimeoutError:
                    raise self._library.ReadTimeout("the call took too long", request=self._request) from None
                if chunk is None:
                    return
                yield chunk

    async def aclose(self) -> None:
        """Give the connection back."""
        await self._bytes.aclose()


class Patience:
    """Ends a stream that sends only comments: they prove life for a while, not for ever.

    `timeout` is how long its reader waits for the next bytes, in seconds; 600 where that is None, as in the SDK.
    """

    def __init__(self, timeout: float | None) -> None:
        self._limit = _QUIET_READ_TIMEOUTS * (600.0 if timeout is None else timeout)
        self._events, self._since = 0, time.monotonic()

    def is_over(self, events: int) -> bool:
        """Whether too much time has passed since there were more `events` than the time before."""
        now = time.monotonic()
        if events != self._events:
            self._events, self._since = events, now
        return now - self._since > self._limit
