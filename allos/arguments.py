"""What the arguments of a client and of a call take: any other kind of value is refused at once, in one way."""

from __future__ import annotations

import inspect
import json
import math
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from allos.errors import ConfigurationError, keyword
from allos.messages import OutputFormat, ToolChoice

__all__ = ["check", "refusal", "sayable", "unsayable"]


def _is(*kinds: type[Any]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kinds) and not isinstance(value, bool)  # which is an int to Python only


def _is_texts(value: Any) -> bool:
    is_list = isinstance(value, Collection) and not isinstance(value, (str, bytes, Mapping))
    return isinstance(value, str) or (is_list and all(isinstance(text, str) for text in value))


def _is_whole(value: Any) -> bool:
    return _is(int)(value) or (isinstance(value, float) and value.is_integer())


# How a kind of value is called, what is of it, and the arguments that take it.
_KINDS: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    (
        "a text",
        _is(str),
        "instructions max_tokens_field model reasoning_effort reasoning_summary service_tier system verbosity",
    ),
    ("a text or a list of texts", _is_texts, "stop"),
    ("a whole number", _is_whole, "max_tokens n seed top_logprobs"),
    ("a whole number above zero", lambda value: _is(int)(value) and value > 0, "max_steps"),
    ("a number", lambda value: _is(int, float)(value) and math.isfinite(value), "temperature top_p"),
    ("true or false", lambda value: isinstance(value, bool), "include_usage logprobs parallel_tool_calls store"),
    ("a dict with texts as keys", lambda value: _is(Mapping)(value) and all(map(_is(str), value)), "extra metadata"),
    ("an allos.OutputFormat", _is(OutputFormat), "format"),
    (
        "a pydantic model, another type or a JSON schema",
        lambda value: not (isinstance(value, (str, bytes)) or inspect.isroutine(value)),  # all else pydantic judges
        "schema",
    ),
    ("a text, an allos.ToolChoice or a dict", _is(str, ToolChoice, Mapping), "tool_choice"),
    ("the path of a file", _is(str, os.PathLike), "env_file"),
    ("a function", callable, "on_retry"),
)
_TAKES = {name: (words, holds) for words, holds, names in _KINDS for name in names.split()}


def check(given: Mapping[str, Any]) -> None:
    """Raise `ConfigurationError` for the first argument whose value is of a kind that it does not take.

    None is of every kind, and an argument that has no name here takes everything.
    """
    for name, value in given.items():
        if value is None or name not in _TAKES:
            continue
        words, holds = _TAKES[name]
        if not holds(value):
            raise refusal(name, value, words)


def refusal(name: str, value: Any, words: str) -> ConfigurationError:
    """The error that names an argument, what it takes, and what was given instead."""
    shown = repr(value)
    shown = shown if len(shown) <= 80 else f"{shown[:79]}…"
    return ConfigurationError(f"{keyword(name)} takes {words}, not {shown} ({type(value).__name__}).")


_OF_JSON = re.compile(r"JSON|surrogates|Circular|recursion|keys must be|serializ", re.IGNORECASE)


@contextmanager
def sayable(values: Mapping[str, Any]) -> Iterator[None]:
    """Where this block stumbles over a value that JSON can't say, refuse the argument that holds it."""
    try:
        yield
    except (TypeError, ValueError, RecursionError) as error:
        if _OF_JSON.search(str(error)) is None:
            raise
        for name, value in values.items():
            if (reason := unsayable(value)) is not None:
                raise ConfigurationError(f"{keyword(name)} holds what JSON can't say: {reason}.") from error
        raise


def unsayable(value: Any) -> str | None:
    """Why JSON can't say a value; None where it can."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        return str(error)
    return None
