"""The single fields of a request: their names, their limits, and those that a service does not take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from allos.messages import Note
from allos.wire.dialect.values import Dialect

__all__ = ["add_defaults", "leave_out", "limit", "rename", "tell_ignored"]

Body = dict[str, Any]


def rename(body: Body, dialect: Dialect, notes: list[Note]) -> None:
    """Say the fields under the names that they have here."""
    for name, other in _renames(dialect).items():
        if name in body:
            value = body.pop(name)
            body.setdefault(other, value)
            notes.append(Note("changed", name, f"it is named {other} here"))


def _renames(dialect: Dialect) -> Mapping[str, str]:
    if dialect.max_tokens_field is None:
        return dialect.rename
    other = {"max_tokens": "max_completion_tokens"}.get(dialect.max_tokens_field, "max_tokens")
    return {other: dialect.max_tokens_field, **dialect.rename}


def limit(body: Body, dialect: Dialect, notes: list[Note]) -> None:
    """Keep values to what the service takes, and in the form in which it takes them."""
    if not dialect.stream_usage and body.pop("stream_options", None) is not None:
        notes.append(Note("changed", "stream_options", "this service takes none: it was not sent"))
    temperature, highest = body.get("temperature"), dialect.temperature_max
    if highest is not None and isinstance(temperature, (int, float)) and temperature > highest:
        body["temperature"] = highest
        notes.append(Note("changed", "temperature", f"this service takes at most {highest}, not {temperature}"))
    effort = body.get("reasoning_effort")
    if dialect.reasoning_effort is not None and isinstance(effort, str) and effort not in dialect.reasoning_effort:
        _limit_effort(body, effort, dialect.reasoning_effort, notes)
    if dialect.stop_list and isinstance(body.get("stop"), str):
        body["stop"] = [body["stop"]]
        notes.append(Note("changed", "stop", "this service takes a list"))
    if dialect.logprobs_integer and isinstance(body.get("logprobs"), bool):
        if (count := body.pop("top_logprobs", None)) is not None:
            notes.append(Note("changed", "top_logprobs", "it is the value of logprobs here"))
        if body.pop("logprobs"):
            body["logprobs"] = count or 1
        notes.append(Note("changed", "logprobs", "this service takes the number of alternatives"))


_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


def _limit_effort(body: Body, effort: str, accepted: Sequence[str], notes: list[Note]) -> None:
    known = [word for word in _EFFORTS if word in accepted and word != "none"]
    if effort == "none" or effort not in _EFFORTS or not known:
        del body["reasoning_effort"]
        notes.append(Note("left out", "reasoning_effort", f"this service takes {', '.join(accepted)}, not {effort}"))
        return
    place = _EFFORTS.index(effort)
    body["reasoning_effort"] = min(known, key=lambda word: (abs(_EFFORTS.index(word) - place), -_EFFORTS.index(word)))
    notes.append(Note("changed", "reasoning_effort", f"this service takes {', '.join(accepted)}, not {effort}"))


def leave_out(body: Body, paths: Iterable[str], notes: list[Note]) -> None:
    """Take out what the service refuses."""
    for path in paths:
        name, _, inner = path.partition("[].")
        if not inner:
            if body.pop(name, None) is not None:
                notes.append(Note("left out", name, "this service does not take it"))
        elif isinstance(body.get(name), list):
            after = [_without(entry, inner.split(".")) for entry in body[name]]
            if after != body[name]:
                body[name] = after
                notes.append(Note("left out", path, "this service does not take it"))


def _without(value: Any, steps: Sequence[str]) -> Any:
    """The value without the field that lies at those steps in it."""
    if not isinstance(value, Mapping) or steps[0] not in value:
        return value
    if len(steps) == 1:
        return {key: entry for key, entry in value.items() if key != steps[0]}
    return {**value, steps[0]: _without(value[steps[0]], steps[1:])}


def tell_ignored(body: Body, paths: Iterable[str], notes: list[Note]) -> None:
    """Note what the service takes and does not obey."""
    for path in paths:
        if _holds(body, path.replace("[].", ".[].").split(".")):
            notes.append(Note("ignored", path, "this service ignores it"))


def _holds(value: Any, steps: Sequence[str]) -> bool:
    if not steps:
        return value is not None
    if steps[0] == "[]":
        return isinstance(value, list) and any(_holds(entry, steps[1:]) for entry in value)
    return isinstance(value, Mapping) and _holds(value.get(steps[0]), steps[1:])


def add_defaults(body: Body, defaults: Mapping[str, Any], notes: list[Note]) -> None:
    """Say what must be said here for a whole answer."""
    if body.get("stream"):
        return
    for name, value in defaults.items():
        if name not in body:
            body[name] = value
            notes.append(Note("changed", name, f"set to {value!r}: without a stream this service needs it"))
