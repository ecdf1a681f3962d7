"""Where Chat services put a model's thinking: five fields, and parts of the content.

OpenAI's reference has no such field, so each service found its own.
One answer often says the same thing in two of them (`reasoning` and `reasoning_details`): the text is then taken
once, and the raw value of the other field is kept, because services want it back unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from allos.messages import Note, Reasoning

__all__ = ["CONTENT", "FIELDS", "dump_fields", "dump_part", "load_fields", "load_part", "merge_details", "text_of"]

TEXT_FIELDS = ("reasoning_content", "reasoning", "thinking")
LIST_FIELDS = ("reasoning_details", "thinking_blocks")
FIELDS = TEXT_FIELDS + LIST_FIELDS
CONTENT = "content"  # the `source` of thinking that came as a part of the content
_GROWS = ("text", "summary", "data", "thinking")


def text_of(value: Any) -> str:
    """The thinking that one field's value holds, in whatever form it is."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        for key in ("text", "summary", "thinking", "content"):
            if value.get(key):
                return text_of(value[key])
        return ""
    if isinstance(value, list):
        return "".join(text_of(entry) for entry in value)
    return "" if value is None else str(value)


def load_fields(message: Mapping[str, Any], *, keep_empty: bool = False) -> Reasoning | None:
    """The thinking in a message's own fields; an empty one counts only where `keep_empty` is set.

    Some services demand an empty `reasoning_content` back, so a request keeps it and an answer doesn't.
    """
    found = {name: message[name] for name in FIELDS if message.get(name)}
    source = next((name for name in found if text_of(found[name])), next(iter(found), None))
    if source is None:
        empty = next((name for name in TEXT_FIELDS if message.get(name) == ""), None)
        return Reasoning(source=empty) if keep_empty and empty else None
    lists = [value for name in LIST_FIELDS if isinstance(value := found.get(name), list)]
    entries = [entry for value in lists for entry in value if isinstance(entry, Mapping)]
    extra = {name: value for name, value in found.items() if name != source or not isinstance(value, str)}
    return Reasoning(
        text_of(found[source]),
        encrypted=_first(entries, "data"),
        signature=_first(entries, "signature"),
        id=_first(entries, "id"),
        source=source,
        extra=extra,
    )


def _first(entries: Iterable[Mapping[str, Any]], key: str) -> str | None:
    return next((entry[key] for entry in entries if isinstance(entry.get(key), str) and entry[key]), None)


def load_part(part: Mapping[str, Any]) -> Reasoning:
    """Thinking that came as a content part: `{"type": "thinking", "thinking": [{"type": "text", ...}]}`."""
    value = part.get("thinking")
    extra = {key: other for key, other in part.items() if key not in ("type", "thinking") and other is not None}
    signature = extra.pop("signature", None)
    plain = isinstance(value, list) and all(
        isinstance(chunk, Mapping) and chunk.keys() == {"type", "text"} and chunk["type"] == "text" for chunk in value
    )
    if not plain:  # a plain string, or references between the texts
        extra["thinking"] = value
    return Reasoning(text_of(value), signature=signature, source=CONTENT, extra=extra)


def dump_part(part: Reasoning) -> dict[str, Any]:
    """A content part of type `thinking`."""
    said = {key: value for key, value in part.extra.items() if part.source == CONTENT and key != "item"}
    thinking = said.pop("thinking", [{"type": "text", "text": _text(part)}])
    signed = {"signature": part.signature} if part.signature else {}
    return {"type": "thinking", "thinking": thinking, **said, **signed}


def dump_fields(
    parts: Iterable[Reasoning], field: str | None, notes: list[Note] | None, path: str
) -> tuple[dict[str, Any], list[Reasoning]]:
    """The message fields that say these thoughts, and the thoughts that belong into the content.

    `field` is as in `dump_request`: "source", a field's name, or None for none.
    """
    fields: dict[str, Any] = {}
    inside: list[Reasoning] = []
    for part in parts:
        target = part.source if field == "source" else field
        if target == CONTENT:
            inside.append(part)
        elif not target:
            why = "the service takes no reasoning back" if not field else "it came from no field of a Chat message"
            _note(notes, f"{path}.reasoning", why)
        elif field == "source" and part.source == target:
            _join(fields, {target: part.text} | {name: part.extra[name] for name in FIELDS if name in part.extra})
        else:
            value = _as_field(part, target)
            if not value and not part.source:
                _note(notes, f"{path}.reasoning", f"it holds no text for {target!r}")
            else:
                _join(fields, {target: value})
                if part.source not in (None, target) and notes is not None:
                    notes.append(Note("changed", f"{path}.{part.source}", f"it is said as {target} here"))
    return fields, inside


def _as_field(part: Reasoning, name: str) -> Any:
    if name in part.extra:
        return part.extra[name]
    if name == "reasoning_details":
        return _details(part)
    if name == "thinking_blocks":
        return [
            {"type": "thinking", "thinking": _text(part)} | ({"signature": part.signature} if part.signature else {})
        ]
    return _text(part)


def _details(part: Reasoning) -> list[dict[str, Any]]:
    """`reasoning_details` for thinking that came another way, encrypted content included."""
    details: list[dict[str, Any]] = []
    if _text(part):
        kind, key = ("reasoning.text", "text") if part.text else ("reasoning.summary", "summary")
        signed = {"signature": part.signature} if part.signature else {}
        details.append({"type": kind, key: _text(part), "index": 0, **signed})
    if part.encrypted:
        named = {"id": part.id} if part.id else {}
        details.append({"type": "reasoning.encrypted", "data": part.encrypted, "index": len(details), **named})
    return details


def _text(part: Reasoning) -> str:
    return part.text or "\n".join(part.summary)


def _join(fields: dict[str, Any], more: Mapping[str, Any]) -> None:
    for name, value in more.items():
        old = fields.get(name)
        if isinstance(old, str) and isinstance(value, str):
            fields[name] = f"{old}\n\n{value}" if old and value else old or value
        elif isinstance(old, list) and isinstance(value, list):
            fields[name] = [*old, *value]
        else:
            fields[name] = value


def _note(notes: list[Note] | None, path: str, why: str) -> None:
    if notes is not None:
        notes.append(Note("left out", path, why))


def merge_details(details: list[dict[str, Any]], pieces: Any) -> None:
    """Add one chunk's `reasoning_details` or `thinking_blocks` to those before it.

    Pieces with the same type and index are one entry; what is text in it grows.
    """
    for piece in pieces if isinstance(pieces, list) else [pieces]:
        if not isinstance(piece, Mapping):
            continue
        last = details[-1] if details else {}
        same = last.get("type") == piece.get("type") and last.get("index") == piece.get("index")
        if not same or (piece.get("id") and last.get("id") and piece["id"] != last["id"]):
            details.append(dict(piece))
            continue
        for key, value in piece.items():
            if key in _GROWS and isinstance(value, str) and isinstance(last.get(key), str):
                last[key] += value
            elif value is not None:
                last[key] = value
