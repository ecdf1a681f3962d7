"""Input and output items of the Responses API ⇄ parts of a message."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Literal

from allos.errors import Unsupported
from allos.messages import Audio, File, Image, Item, Note, Part, Reasoning, Refusal, Text, ToolCall, ToolResult
from allos.wire.envelope import opened

__all__ = [
    "dump_content",
    "dump_logprobs",
    "dump_output",
    "dump_result",
    "fresh_id",
    "load_content",
    "load_output",
    "load_result",
    "objects",
    "rest",
]

JSON = Mapping[str, Any]
_TEXTS = ("input_text", "output_text", "text")
_FILE = ("file_data", "filename", "file_id", "file_url")


def fresh_id(prefix: str) -> str:
    """A new id in the form that the API gives to such a thing."""
    return f"{prefix}_{uuid.uuid4().hex}"


def rest(data: JSON, *known: str) -> dict[str, Any]:
    """What `data` says besides the known names; null says nothing."""
    return {name: value for name, value in data.items() if name not in known and value is not None}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


# ---------------------------------------------------------------- what goes in: messages and tool results


def load_content(content: object) -> tuple[Part, ...]:
    """The parts of an input message or of a tool's output: a text, or a list of parts."""
    if isinstance(content, str):
        return (Text(content),) if content else ()
    if content is None:
        return ()
    if not isinstance(content, list):
        raise Unsupported(
            f"content is {type(content).__name__}, not text or a list", param="input", code="invalid_type"
        )
    return tuple(_load_input_part(part) for part in content)


def _load_input_part(part: object) -> Part:
    if isinstance(part, str):
        return Text(part)
    if not isinstance(part, Mapping):
        raise Unsupported(f"a content part is no object: {part!r:.60}", param="input", code="invalid_type")
    kind = part.get("type")
    if kind in _TEXTS:
        return _load_text(part)
    if kind == "input_image":
        url = part.get("image_url")
        url = url.get("url") if isinstance(url, Mapping) else url  # the chat form, which some callers write here
        detail = None if part.get("detail") == "auto" else part.get("detail")
        return Image(url, detail, part.get("file_id"), rest(part, "type", "image_url", "detail", "file_id"))
    if kind == "input_file":
        data, filename, file_id, url = (part.get(name) for name in _FILE)
        return File(data, filename, file_id, url, rest(part, "type", *_FILE))
    if kind == "input_audio" and isinstance(sound := part.get("input_audio"), Mapping):
        return Audio(sound.get("data"), sound.get("format"), extra=rest(part, "type", "input_audio"))
    return Item(dict(part))


def dump_content(parts: Sequence[Part]) -> str | list[dict[str, Any]]:
    """The content of an input message: the bare text where it is no more than one."""
    if not parts:
        return ""
    if len(parts) == 1 and isinstance(text := parts[0], Text) and text.text and not text.extra:
        return text.text
    return [_dump_input_part(part) for part in parts]


def _dump_input_part(part: Part) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "input_text", "text": part.text, **rest(part.extra, "item")}
    if isinstance(part, Image):
        # `detail` is required here, and "auto" is what leaving it out means on Chat.
        place = rest({"image_url": part.url, "file_id": part.file_id})
        return {"type": "input_image", **place, "detail": part.detail or "auto", **part.extra}
    if isinstance(part, File):
        named = {"filename": part.filename, "file_data": part.data, "file_id": part.file_id, "file_url": part.url}
        return {"type": "input_file", **rest(named), **part.extra}
    if isinstance(part, Audio) and part.data is not None:
        return {"type": "input_audio", "input_audio": {"data": part.data, "format": part.format}, **part.extra}
    if isinstance(part, Item) and part.wire == "responses":
        return dict(part.data)
    raise Unsupported(f"{_name(part)} can't be part of an input message on the Responses API", param="messages")


def _name(part: Part) -> str:
    return f"{part.type!r}" if isinstance(part, Item) else type(part).__name__.lower()


def load_result(item: JSON) -> ToolResult:
    """A `function_call_output` or `custom_tool_call_output`."""
    kind: Literal["function", "custom"] = "custom" if item["type"] == "custom_tool_call_output" else "function"
    extra = rest(item, "type", "call_id", "output")
    return ToolResult(_text(item.get("call_id")), load_content(item.get("output")), kind, extra)


def dump_result(result: ToolResult) -> dict[str, Any]:
    """The item that hands a tool's result back."""
    kind = "custom_tool_call_output" if result.kind == "custom" else "function_call_output"
    call = {"call_id": result.call_id} if result.call_id else {}
    return {"type": kind, **call, "output": dump_content(result.parts), **result.extra}


# ---------------------------------------------------------------- what comes out, and is said again later


def load_output(item: JSON) -> Iterator[Part]:
    """The parts of one item that a model made."""
    kind = item.get("type")
    if kind == "message" or (kind is None and "role" in item):
        if item.get("role", "assistant") == "assistant":
            yield from _load_message(item)
        else:
            yield Item(dict(item))  # compaction answers with the user's own messages
    elif kind == "function_call":
        known = ("type", "id", "call_id", "name", "arguments")
        arguments = _arguments(item.get("arguments"))
        yield ToolCall(
            _call_id(item), _text(item.get("name")), arguments, "function", item.get("id"), rest(item, *known)
        )
    elif kind == "custom_tool_call":
        known = ("type", "id", "call_id", "name", "input")
        words = _text(item.get("input"))
        yield ToolCall(_call_id(item), _text(item.get("name")), words, "custom", item.get("id"), rest(item, *known))
    elif kind == "reasoning":
        yield _load_reasoning(item)
    else:
        yield Item(dict(item))


def _call_id(item: JSON) -> str:
    return _text(item.get("call_id")) or _text(item.get("id"))


def _arguments(value: object) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)


def _load_message(item: JSON) -> Iterator[Part]:
    """The parts of an assistant's message; `extra["item"]` keeps what ties them to it."""
    about = rest(item, "type", "role", "content")
    tie = {"item": about} if about else {}
    content = item.get("content")
    if isinstance(content, str) or not content:
        yield Text(_text(content), extra=tie)
        return
    for part in content if isinstance(content, list) else [content]:
        yield load_output_part(part, tie)


def load_output_part(part: object, tie: JSON) -> Text | Refusal:
    """A content part of an assistant's message."""
    if not isinstance(part, Mapping):
        return Text(_text(part), extra=tie)
    if part.get("type") == "refusal":
        return Refusal(_text(part.get("refusal")), extra={**rest(part, "type", "refusal"), **tie})
    return _load_text(part, tie)


def _load_text(part: JSON, tie: JSON | None = None) -> Text:
    """A text. A kind of part that has no name here keeps its type in `extra`."""
    extra = rest(part, "text", "annotations", "logprobs")
    if extra.get("type") in _TEXTS:
        del extra["type"]
    logprobs = objects(part.get("logprobs")) or None
    return Text(_text(part.get("text")), objects(part.get("annotations")), logprobs, {**extra, **(tie or {})})


def objects(values: object) -> tuple[JSON, ...]:
    """The objects in a list; empty where it is none."""
    return tuple(value for value in values if isinstance(value, Mapping)) if isinstance(values, list) else ()


def _load_reasoning(item: JSON) -> Reasoning:
    texts = _texts(item.get("content"))
    extra = rest(item, "type", "id", "summary", "content", "encrypted_content", "signature")
    if len(texts) > 1:
        extra["content"] = item["content"]
    encrypted, signature, item_id = (item.get(name) for name in ("encrypted_content", "signature", "id"))
    if (thought := opened(encrypted, item_id)) is not None:
        return thought
    return Reasoning("".join(texts), _texts(item.get("summary")), encrypted, signature, item_id, extra=extra)


def _texts(parts: object) -> tuple[str, ...]:
    """The texts of a reasoning item's content or summary."""
    if not isinstance(parts, list):
        return (parts,) if parts and isinstance(parts, str) else ()
    return tuple(_text(part.get("text")) if isinstance(part, Mapping) else _text(part) for part in parts)


def dump_output(
    parts: Iterable[Part], *, notes: list[Note] | None = None, status: str | None = None
) -> list[dict[str, Any]]:
    """The items that say the parts of an assistant's message, in order.

    With a `status` they are an answer's own items: every id and status is there.
    Without one they are history, and only what was known is said.
    """
    items: list[dict[str, Any]] = []
    for tie, group in groupby(parts, key=_tie):
        if tie is None:
            items += (dumped for part in group if (dumped := _dump_part(part, notes, status)) is not None)
        else:
            items.append(_dump_message(tie, list(group), status))
    return items


def _tie(part: Part) -> JSON | None:
    """What parts of one message item have in common; None for parts that are an item by themselves."""
    if isinstance(part, (Text, Refusal)) or (isinstance(part, Audio) and part.transcript is not None):
        tie = part.extra.get("item")
        return tie if isinstance(tie, Mapping) else {}
    return None


def _dump_message(tie: JSON, parts: Sequence[Part], status: str | None) -> dict[str, Any]:
    head: dict[str, Any] = {"type": "message", "role": "assistant"}
    if status is not None:
        head = {"id": fresh_id("msg"), "type": "message", "status": status, "role": "assistant"}
    elif len(parts) == 1 and isinstance(text := parts[0], Text) and "id" not in tie and _is_plain(text):
        return {**head, "content": text.text, **tie}
    return {**head, **tie, "content": [dump_output_part(part, whole=status is not None) for part in parts]}


def _is_plain(text: Text) -> bool:
    return not text.annotations and text.logprobs is None and not text.extra.keys() - {"item"}


def dump_output_part(part: Part, *, whole: bool = True) -> dict[str, Any]:
    """A content part of an assistant's message; with `whole`, an answer's own part that has every field."""
    if isinstance(part, Refusal):
        return {"type": "refusal", "refusal": part.text, **rest(part.extra, "item")}
    text = part if isinstance(part, Text) else Text(_text(getattr(part, "transcript", "")))
    extra = rest(text.extra, "item")
    if "type" in extra:
        return {**extra, **({"text": text.text} if text.text else {})}
    data = {"type": "output_text", "text": text.text, "annotations": [dict(note) for note in text.annotations], **extra}
    if whole or text.logprobs is not None:
        data["logprobs"] = dump_logprobs(text.logprobs or ())
    return data


def dump_logprobs(logprobs: Iterable[JSON]) -> list[dict[str, Any]]:
    """Tokens with their probabilities; `bytes` and `top_logprobs` are required here and optional on Chat."""
    return [
        {**_token(entry), "top_logprobs": [_token(other) for other in objects(entry.get("top_logprobs"))]}
        for entry in logprobs
    ]


def _token(entry: JSON) -> dict[str, Any]:
    token = _text(entry.get("token"))
    return {**entry, "bytes": entry.get("bytes") or list(token.encode("utf-8", "surrogatepass"))}


def _dump_part(part: Part, notes: list[Note] | None, status: str | None) -> dict[str, Any] | None:
    if isinstance(part, ToolCall):
        return _dump_call(part, status)
    if isinstance(part, Reasoning):
        return _dump_reasoning(part, notes, status)
    if isinstance(part, ToolResult):
        return dump_result(part)
    if isinstance(part, Item) and part.wire == "responses":
        return dict(part.data)
    if status is None:
        raise Unsupported(
            f"{_name(part)} can't be part of an assistant's message on the Responses API", param="messages"
        )
    if isinstance(part, Image) and part.url is not None:
        picture = part.url.partition(";base64,")[2] or part.url
        return {"id": fresh_id("ig"), "type": "image_generation_call", "status": "completed", "result": picture}
    if notes is not None:
        notes.append(Note("left out", "output", f"the Responses API has no item for {_name(part)}"))
    return None


def _dump_call(call: ToolCall, status: str | None) -> dict[str, Any]:
    kind, field, prefix = (
        ("custom_tool_call", "input", "ctc") if call.kind == "custom" else ("function_call", "arguments", "fc")
    )
    item: dict[str, Any] = {"type": kind}
    if status is not None:
        item |= {"id": call.item_id or fresh_id(prefix), "status": status}
    elif call.item_id is not None:
        item["id"] = call.item_id
    call_id = call.id if call.id or status is None else fresh_id("call")
    return {**item, "call_id": call_id, "name": call.name, field: call.arguments, **call.extra}


def _dump_reasoning(thought: Reasoning, notes: list[Note] | None, status: str | None) -> dict[str, Any] | None:
    item: dict[str, Any] = {"type": "reasoning"}
    if status is not None:
        item["id"] = thought.id or fresh_id("rs")
    elif thought.id is not None:
        item["id"] = thought.id
    elif thought.source is not None and thought.encrypted is None:
        if notes is not None:
            reason = f"it came in the chat field {thought.source!r}; the Responses API takes back only its own items"
            notes.append(Note("left out", "messages.reasoning", reason))
        return None
    item["summary"] = [{"type": "summary_text", "text": text} for text in thought.summary]
    if thought.text:
        item["content"] = [{"type": "reasoning_text", "text": thought.text}]
    return {
        **item,
        **rest({"encrypted_content": thought.encrypted, "signature": thought.signature}),
        **thought.extra,
    }
