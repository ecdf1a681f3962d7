"""Errors and the warning of our own, free of any other import so that every module may raise them.

HTTP errors stay `openai.APIError` and its family; `allos.failures` makes them from the ones below.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from allos.messages import Reply

__all__ = [
    "AllosError",
    "BadData",
    "ConfigurationError",
    "Incomplete",
    "KeyMissing",
    "ParseError",
    "ServerFault",
    "Unsupported",
    "UnsupportedWarning",
    "WireError",
    "argument",
    "argument_origin",
    "as_options",
    "keyword",
    "near_miss",
    "warn",
]

# Packages between a program's line and what it leads to.
_INSIDE = ("allos", "openai", "functools", "tenacity", "httpx", "httpx2")

_are_options = ContextVar("_are_options", default=False)


class AllosError(Exception):
    """Whatever Allos itself has to say."""


class ConfigurationError(AllosError, ValueError):
    """A setting, alias, table or argument that can't be used; the text says which, why and what to do."""


class KeyMissing(ConfigurationError):
    """No API key is known for the endpoint; the text names the variable to set."""


class Unsupported(AllosError, ValueError):
    """Something that the API spoken can't say. `param` names the field as the caller wrote it."""

    def __init__(self, message: str, *, param: str | None = None, code: str = "unsupported_parameter") -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class UnsupportedWarning(UserWarning):
    """Something of a request has no effect: the endpoint can't take it, or ignores it."""


class ParseError(AllosError, ValueError):
    """No object could be made of an answer: it was refused, cut, or does not fit the schema. `reply` is the answer."""

    def __init__(self, message: str, *, reply: Reply) -> None:
        super().__init__(message)
        self.reply = reply


class WireError(AllosError):
    """What a server sent can't be read as a whole answer."""


class BadData(WireError):
    """An answer that is not of the API's form: no JSON, no choices, a web page. `body` is what came."""

    def __init__(self, message: str, *, body: Any = None) -> None:
        super().__init__(message)
        self.body = body


class Incomplete(WireError):
    """An answer that ended too soon. `reply` holds what came until then; a half tool call is not in it."""

    def __init__(self, message: str, *, reply: Reply) -> None:
        super().__init__(message)
        self.reply = reply


class ServerFault(WireError):
    """An error that the server put inside a successful answer or a stream.

    `body` is the error object as it came, `status` the HTTP status that it names (None when it names none),
    `reply` what had come before it in a stream.
    """

    def __init__(
        self,
        message: str,
        *,
        body: Mapping[str, Any] | None = None,
        status: int | None = None,
        reply: Reply | None = None,
    ) -> None:
        super().__init__(message)
        self.body = body
        self.status = status
        self.reply = reply


def warn(message: str) -> None:
    """Warn of what has no effect, at the line of the program that made the call."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).partition(".")[0] in _INSIDE:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UnsupportedWarning, stacklevel=level)


def near_miss(name: str, known: Iterable[str]) -> str:
    """A question that names what was probably meant, with a blank before it; empty where nothing is near."""
    import difflib

    near = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    return f" Did you mean {near[0]!r}?" if near else ""


def argument(name: str, value: str | None = None) -> str:
    """An argument in a message, as who reads it writes it: a keyword in a program, an option at the command."""
    if _are_options.get():
        return f"--{name.replace('_', '-')}" + (f" {value}" if value else "")
    return f"{name}=" + (repr(value) if value else "")


def argument_origin(name: str) -> str:
    """An argument as the place that a value comes from."""
    return argument(name) if _are_options.get() else f"the {name} argument"


def keyword(name: str) -> str:
    """A keyword of a call in a message; at the command it is a field that `-o` sets."""
    return f"-o {name}" if _are_options.get() else f"{name}="


@contextmanager
def as_options() -> Iterator[None]:
    """Let messages name arguments as options of the command, in this block."""
    token = _are_options.set(True)
    try:
        yield
    finally:
        _are_options.reset(token)
