"""How an endpoint deviates from the API that it speaks, and what that does to a request body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from allos.messages import Note, Wire
from allos.wire.dialect import fields, messages, tools
from allos.wire.dialect.format import say_format, say_text_format
from allos.wire.dialect.refuse import refuse
from allos.wire.dialect.values import Dialect, ResponsesDialect

__all__ = ["Dialect", "ResponsesDialect", "apply"]


def apply(body: Mapping[str, Any], dialect: Dialect, wire: Wire, notes: list[Note]) -> dict[str, Any]:
    """The body as this endpoint takes it; `body` itself stays as it is.

    Each change is added to `notes`. Raises `Unsupported` for what can't be left out without changing the answer.
    """
    said = dict(body)  # the rules replace its values and change none in place
    if wire == "responses":
        _apply_to_responses(said, dialect.responses, notes)
    else:
        _apply_to_chat(said, dialect, notes)
    return said


def _is_readable(body: Mapping[str, Any]) -> bool:
    """Whether messages, items and tools are lists of objects; what is not is the service's to refuse."""
    for name in ("messages", "input", "tools"):
        value = body.get(name)
        is_text = name == "input" and isinstance(value, str)
        is_list = isinstance(value, list) and all(isinstance(entry, dict) for entry in value)
        if not (value is None or is_text or is_list):
            return False
    return True


def _apply_to_chat(body: dict[str, Any], dialect: Dialect, notes: list[Note]) -> None:
    if not _is_readable(body):
        return
    refuse(body, dialect)
    say_format(body, dialect, notes)
    tools.choose(body, dialect, notes)
    tools.simplify_schemas(body, dialect, notes)
    if body.get("messages") is not None:
        body["messages"] = messages.adapted(body["messages"], dialect, notes)
    fields.limit(body, dialect, notes)
    fields.rename(body, dialect, notes)
    fields.leave_out(body, dialect.drop, notes)
    if dialect.accepts is not None:
        fields.leave_out(body, [name for name in body if name not in dialect.accepts], notes)
    fields.tell_ignored(body, dialect.ignored, notes)
    fields.add_defaults(body, dialect.whole_defaults, notes)


def _apply_to_responses(body: dict[str, Any], dialect: ResponsesDialect, notes: list[Note]) -> None:
    if not _is_readable(body):
        return
    refuse(body, dialect)
    say_text_format(body, dialect, notes)
    if isinstance(body.get("input"), list):
        body["input"] = messages.adapted_items(body["input"], dialect, notes)
    tools.choose_among(body, dialect.tool_choice, notes)
    fields.leave_out(body, dialect.drop, notes)
    fields.tell_ignored(body, dialect.ignored, notes)
    fields.add_defaults(body, dialect.whole_defaults, notes)
