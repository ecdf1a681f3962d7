"""The HTTP library under the SDK: httpx2, or httpx where an older SDK or a caller's `http_client` brings it.

It is taken from the SDK, never imported by name, so that both versions work.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import openai

from allos import keys
from allos.errors import ConfigurationError

__all__ = [
    "HTTP",
    "http_clients",
    "library_errors",
    "library_of",
    "set_up",
    "timeout_errors",
    "transport_errors",
]

HTTP: Any = sys.modules[openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0]]


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
