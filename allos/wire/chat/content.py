"""The pieces of a Chat message, both ways: content parts, tool calls, annotations."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from allos.errors import Unsupported
from allos.messages import Audio, File, Image, Item, Part, Refusal, Text, ToolCall
from allos.wire.chat.reasoning import load_part as load_thinking

__all__ = [
    "as_text",
    "dump_annotation",
    "dump_call",
    "dump_content",
    "load_annotations",
    "load_call",
    "load_content",
    "load_images",
    "rest",
]

Json = Mapping[str, Any]


def rest(data: Json, known: Iterable[str]) -> dict[str, Any]:
    """The fields that have no name in our model; a null says nothing and is left out."""
    return {key: value for key, value in data.items() if value is not None and key not in known}


def said(part: Part) -> dict[str, Any]:
    """A part's extra fields without the mark that ties it to a Responses item."""
    extra = part.data if isinstance(part, Item) else part.extra
    return {key: value for key, value in extra.items() if key != "item"}


def as_text(value: Any) -> str:
    """A value that should have been a string: null is empty, an object is written as JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def load_content(content: Any) -> list[Part]:
    """The parts of a message's content: a string, a list of parts, one part, or nothing."""
    if content is None or content == "":
        return []
    if isinstance(content, list):
        return [_load_part(part) for part in content]
    return [_load_part(content)]


def _load_part(part: Any) -> Part:
    if not isinstance(part, Mapping):
        return Text(as_text(part))
    kind = part.get("type")
    if kind in ("text", "output_text", "input_text") or (kind is None and isinstance(part.get("text"), str)):
        notes = load_annotations(part.get("annotations"))
        return Text(as_text(part.get("text")), notes, extra=rest(part, ("type", "text", "annotations")))
    if kind is None:
        return Text(as_text(part))
    load = _LOADERS.get(kind) if isinstance(kind, str) else None
    return load(part) if load and part.get(kind) is not None else Item(part, "chat")


def _image(part: Json) -> Image:
    inner, extra = _nested(part, "image_url", "url")
    return Image(
        inner.pop("url", None), inner.pop("detail", None), inner.pop("file_id", None), _with(extra, part, inner)
    )


def _file(part: Json) -> File:
    inner, extra = _nested(part, "file", "file_id")
    names = ("file_data", "filename", "file_id", "file_url")
    data, filename, file_id, url = (inner.pop(name, None) for name in names)
    return File(data, filename, file_id, url, _with(extra, part, inner))


def _audio(part: Json) -> Audio:
    inner, extra = _nested(part, "input_audio", "data")
    return Audio(inner.pop("data", None), inner.pop("format", None), extra=_with(extra, part, inner))


def _nested(part: Json, key: str, alone: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The object under `key` and the fields beside it; some services write a bare string for the object."""
    inner = part[key]
    return rest(inner, ()) if isinstance(inner, Mapping) else {alone: inner}, rest(part, ("type", key))


def _with(extra: dict[str, Any], part: Json, unknown: dict[str, Any]) -> dict[str, Any]:
    return {**extra, part["type"]: unknown} if unknown else extra


def _refusal(part: Json) -> Refusal:
    return Refusal(as_text(part["refusal"]), extra=rest(part, ("type", "refusal")))


_LOADERS: Mapping[str, Callable[[Json], Part]] = {
    "image_url": _image,
    "file": _file,
    "input_audio": _audio,
    "thinking": load_thinking,
    "refusal": _refusal,
}


def dump_content(parts: Sequence[Part], path: str) -> str | list[dict[str, Any]]:
    """The content that says these parts: a string where one text is all, else a list."""
    if not parts:
        return ""
    if len(parts) == 1 and isinstance(parts[0], Text) and not said(parts[0]):
        return parts[0].text
    return [_dump_part(part, f"{path}[{place}]") for place, part in enumerate(parts)]


def _dump_part(part: Part, path: str) -> dict[str, Any]:
    extra = said(part)
    if isinstance(part, Text):
        return {"type": "text", "text": part.text, **extra}
    if isinstance(part, Image):
        if not part.url:
            raise Unsupported("Chat Completions takes a picture by URL or data, not by file id.", param=path)
        inner = {"url": part.url} | ({"detail": part.detail} if part.detail else {}) | extra.pop("image_url", {})
        return {"type": "image_url", "image_url": inner, **extra}
    if isinstance(part, File):
        inner = extra.pop("file", {})
        fields = {"file_data": part.data, "filename": part.filename, "file_id": part.file_id, "file_url": part.url}
        if part.url and not (part.data or part.file_id) and not inner:
            raise Unsupported("Chat Completions takes a file as data or by file id, not by URL.", param=path)
        return {"type": "file", "file": {**rest(fields, ()), **inner}, **extra}
    if isinstance(part, Audio):
        inner = extra.pop("input_audio", {})
        if part.id is not None and part.data is None:
            raise Unsupported("Chat Completions takes a user's audio as data, not by id.", param=path)
        sound = {"data": part.data or "", "format": part.format, **inner} if part.format or inner else part.data or ""
        return {"type": "input_audio", "input_audio": sound, **extra}
    if isinstance(part, Refusal):
        return {"type": "refusal", "refusal": part.text, **extra}
    if isinstance(part, Item) and part.wire == "chat":
        return dict(part.data)
    kind = part.type if isinstance(part, Item) else type(part).__name__
    raise Unsupported(f"Chat Completions has no content part for {kind!r} here.", param=path)


def load_images(value: Any) -> list[Image]:
    """Pictures that a model made: `images` beside the content, a list of `image_url` parts."""
    found = [_load_part(entry) for entry in value] if isinstance(value, list) else []
    return [part for part in found if isinstance(part, Image)]


def load_call(data: Json, *, fallback_id: str = "") -> ToolCall:
    """One entry of `tool_calls`, however incomplete; `fallback_id` is for services that send none."""
    kind: Literal["function", "custom"] = "custom" if isinstance(data.get("custom"), Mapping) else "function"
    inner = data.get(kind)
    inner = inner if isinstance(inner, Mapping) else {}
    argument = "input" if kind == "custom" else "arguments"
    # `index` only orders the deltas of a stream; clients that replay what they collected send it along.
    extra = rest(data, ("id", "type", "index", kind))
    if unknown := rest(inner, ("name", argument)):
        extra[kind] = unknown
    identity = data.get("id")
    return ToolCall(
        as_text(identity) if identity not in (None, "") else fallback_id,
        as_text(inner.get("name")),
        as_text(inner.get(argument)),
        kind,
        extra=extra,
    )


def dump_call(call: ToolCall) -> dict[str, Any]:
    """One entry of `tool_calls`."""
    extra = said(call)
    argument = "input" if call.kind == "custom" else "arguments"
    inner = {"name": call.name, argument: call.arguments, **extra.pop(call.kind, {})}
    return {"id": call.id, "type": call.kind, call.kind: inner, **extra}


def load_annotations(value: Any) -> tuple[Json, ...]:
    """Annotations with Chat's nested `url_citation` made flat, as the Responses API writes them."""
    found = [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []
    return tuple(_flat(entry) for entry in found)


def _flat(entry: Json) -> Json:
    inner = entry.get("url_citation")
    if entry.get("type") != "url_citation" or not isinstance(inner, Mapping):
        return entry
    # `index` only puts the lists of a stream together.
    return {"type": "url_citation", **inner, **rest(entry, ("type", "url_citation", "index"))}


def dump_annotation(entry: Json) -> dict[str, Any]:
    """An annotation in Chat's form, with every field that the reference requires of a `url_citation`."""
    if entry.get("type") != "url_citation" or "url_citation" in entry:
        return dict(entry)
    inner = {"start_index": 0, "end_index": 0, "title": "", "url": "", **rest(entry, ("type",))}
    return {"type": "url_citation", "url_citation": inner}
