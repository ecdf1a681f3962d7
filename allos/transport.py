"""The HTTP library under the SDK: httpx2, or httpx where an older SDK or a caller's `http_client` brings it.

It is taken from the SDK, never imported by name, so that both versions work.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

import openai

from allos import keys
from allos.errors import ConfigurationError

__all__ = [
    "HTTP",
    "adrain",
    "drain",
    "http_clients",
    "library_errors",
    "library_of",
    "set_up",
    "timeout_errors",
    "transport_errors",
]

HTTP: Any = sys.modules[openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0]]


_MOMENT = 0.1  # seconds
_in_haste = ContextVar("_in_haste", default=False)  # of each thread and task
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
_PROXIES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY")


@contextmanager
def set_up() -> Iterator[None]:
    """Where connections can't be set up as the environment says, a `ConfigurationError` that names its variables."""
    try:
        yield
    except (ImportError, OSError, ValueError, HTTP.InvalidURL) as error:
        names = _CERTIFICATES if isinstance(error, OSError) else _PROXIES
        said = [name for name in names if os.environ.get(name) or os.environ.get(name.lower())]
        if not said or isinstance(error, ConfigurationError):
            raise
        reason = keys.masked(str(getattr(error, "strerror", None) or error)).rstrip(".")
        raise ConfigurationError(f"Connections can't be set up as {' or '.join(said)} says: {reason}.") from error


def _modules() -> Iterator[Any]:
    yield HTTP
    older = sys.modules.get("httpx")
    if older is not None and older is not HTTP:
        yield older


def http_clients(name: str) -> tuple[type[Any], ...]:
    """What the SDK takes for an `http_client`: the classes called "Client" or "AsyncClient" there."""
    return tuple(getattr(module, name) for module in _modules())


def library_of(message: Any) -> Any:
    """The HTTP library that a request or a response is of."""
    return next(module for module in _modules() if isinstance(message, (module.Request, module.Response)))


def library_errors() -> tuple[type[Exception], ...]:
    """What the HTTP library raises when a connection fails or breaks."""
    return tuple(error for module in _modules() for error in (module.HTTPError, module.StreamError))


def transport_errors() -> tuple[type[Exception], ...]:
    """The same, and what the SDK's transport over aiohttp lets through of that library's own."""
    aiohttp = sys.modules.get("aiohttp")
    return library_errors() if aiohttp is None else (*library_errors(), aiohttp.ClientError)


def timeout_errors() -> tuple[type[Exception], ...]:
    """The part of those that means: no answer in time."""
    return tuple(module.TimeoutException for module in _modules())


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
    if connection is None or response.http_version != "HTTP/1.1" or not _is_hurried(connection):
        yield 0.0
        return
    token = _in_haste.set(True)
    try:
        with suppress(*transport_errors()):
            yield time.monotonic() + _MOMENT
    finally:
        _in_haste.reset(token)


def _is_hurried(connection: Any) -> bool:
    """Let reading from a connection be short for whoever is in haste, and for nobody else who has it next."""
    read = connection.read
    if not getattr(read, "is_hurried", False):

        def hurried(most: int, timeout: float | None = None) -> Any:
            return read(most, _MOMENT if _in_haste.get() else timeout)

        hurried.is_hurried = True  # type: ignore[attr-defined]  # a mark, so that it is done once
        with suppress(AttributeError):  # of one that takes no attributes
            connection.read = hurried
    return getattr(connection.read, "is_hurried", False)
