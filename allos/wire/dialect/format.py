"""An answer's form that a service does not know: the nearest that it knows, and the schema in the prompt."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from allos.messages import Note
from allos.wire.dialect.values import Dialect, ResponsesDialect
from allos.wire.fits import kind_of

__all__ = ["ANY_OBJECT", "in_words", "say_format", "say_text_format"]

Body = dict[str, Any]
_ASKS = "it asks for the form of the answer"
ANY_OBJECT: Mapping[str, Any] = {"type": "object"}


def say_format(body: Body, dialect: Dialect, notes: list[Note]) -> None:
    """Say the `response_format` of a Chat request in a form that the service obeys."""
    wanted, accepted = body.get("response_format"), dialect.response_format
    if accepted is None or not isinstance(wanted, Mapping) or wanted.get("type") in (*accepted, "text"):
        return
    kind = wanted.get("type")
    if kind == "json_object" and "json_schema" in accepted:
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": ANY_OBJECT}}
        notes.append(Note("changed", "response_format", "this service knows json_schema and no json_object"))
        return
    inner = wanted.get("json_schema")
    schema = inner.get("schema") if isinstance(inner, Mapping) else None
    if "json_object" in accepted:
        body["response_format"] = {"type": "json_object"}
    else:
        del body["response_format"]
    body["messages"] = _with_instruction(body.get("messages") or [], in_words(schema))
    notes.append(Note("changed", "response_format", f"this service obeys no {kind}: the prompt asks for the form"))
    notes.append(Note("changed", "messages", _ASKS))


def say_text_format(body: Body, dialect: ResponsesDialect, notes: list[Note]) -> None:
    """Say the `text.format` of a Responses request where, and in a form in which, the service obeys it."""
    text, accepted = body.get("text"), dialect.response_format
    wanted = text.get("format") if isinstance(text, Mapping) else None
    if not isinstance(wanted, Mapping) or wanted.get("type") == "text":
        return
    kind = wanted.get("type")
    if accepted is not None and kind not in accepted:
        _without_format(body)
        body["input"] = _with_instruction(_as_items(body.get("input")), in_words(wanted.get("schema")))
        notes.append(Note("changed", "text", f"this service obeys no {kind}: the prompt asks for the form"))
        notes.append(Note("changed", "input", _ASKS))
    elif dialect.format_field is not None:
        _without_format(body)
        is_chat = dialect.format_field == "response_format"
        body[dialect.format_field] = _as_chat(wanted) if is_chat else wanted
        notes.append(Note("changed", "text", f"text.format is named {dialect.format_field} here"))


def _without_format(body: Body) -> None:
    rest = {key: value for key, value in body["text"].items() if key != "format"}
    del body["text"]
    if rest:
        body["text"] = rest


def _as_chat(wanted: Mapping[str, Any]) -> dict[str, Any]:
    if wanted.get("type") != "json_schema":
        return dict(wanted)
    return {"type": "json_schema", "json_schema": {key: value for key, value in wanted.items() if key != "type"}}


def _as_items(given: Any) -> list[Any]:
    if isinstance(given, list):
        return given
    return [{"type": "message", "role": "user", "content": given}] if given else []


def in_words(schema: Any) -> str:
    """The instruction that asks for a value of that schema, or for any object where there is none."""
    if not schema:
        return "Answer with one JSON object and nothing else."
    kind = "object" if kind_of(schema) == "object" else "value"
    return f"Answer with one JSON {kind} and nothing else. It must fit this JSON schema:\n{json.dumps(schema)}"


def _with_instruction(messages: Sequence[Any], text: str) -> list[Any]:
    """The messages with one more of the system, after those that open the conversation."""
    places = (index for index, said in enumerate(messages) if said.get("role") not in ("system", "developer"))
    start = next(places, len(messages))
    return [*messages[:start], {"role": "system", "content": text}, *messages[start:]]
