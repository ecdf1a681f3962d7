"""Chat Completions answers: a JSON body to a `Reply`, and back."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from allos.errors import BadData, ServerFault
from allos.messages import (
    Audio,
    Choice,
    Image,
    Item,
    Message,
    Note,
    Part,
    Reasoning,
    Refusal,
    Reply,
    Request,
    Text,
    ToolCall,
    Usage,
)
from allos.wire.chat import reasoning as thinking
from allos.wire.chat.content import dump_annotation, dump_call, dump_content, rest
from allos.wire.chat.requests import ASSISTANT_FIELDS, is_legacy, load_assistant
from allos.wire.fault import dig
from allos.wire.names import RESPONSE_FIELDS
from allos.wire.numbers import is_number
from allos.wire.think import ThinkSplitter

__all__ = [
    "call_id",
    "dump_finish",
    "dump_reply",
    "dump_usage",
    "fault",
    "head_fields",
    "load_finish",
    "load_reply",
    "load_usage",
    "split_thinking",
]

Json = Mapping[str, Any]
HEAD = ("id", "model", "created", "service_tier")
CHOICE = ("index", "finish_reason", "message", "delta", "logprobs")
REPLAYED = ("extra_content", "thought_signature")  # fields of a message that a service wants back
_FINISH = {
    "stop": ("eos", "eos_token", "end_turn", "stop_sequence", "complete", "completed", "end", "finish_reason_stop"),
    "length": ("max_tokens", "model_length", "max_output_tokens", "model_context_window_exceeded"),
    "tool_calls": ("tool_call", "function_call", "tool_use", "function_calls"),
    "content_filter": ("sensitive", "safety", "content_filtered", "recitation", "prohibited_content", "blocklist"),
    # Words for an answer that broke off, which must not pass for a whole one.
    "error": ("network_error", "insufficient_system_resource"),
}
_STANDARD = {word: name for name, words in _FINISH.items() for word in (name, *words)}
_TIERS = ("auto", "default", "flex", "scale", "priority")  # what the SDK's types allow


# Reading


def load_reply(body: Any, *, think_tags: bool = False) -> Reply:
    """Read a Chat Completions answer.

    Missing usage stays None: several servers leave it out, and zero would be a lie.
    Raises `ServerFault` for an error inside the answer and `BadData` for what is no answer at all.
    """
    if not isinstance(body, Mapping):
        raise BadData(f"JSON that is no object: {body!r:.80}", body=body)
    choices = body.get("choices")
    if body.get("error") or (not choices and dig(body).message):
        raise fault(body)
    if not isinstance(choices, list) or not choices:
        raise BadData(f"an answer without choices: {dict(body)!r:.200}", body=body)
    seed = body.get("id") or body.get("created") or uuid.uuid4().hex
    return Reply(
        choices=tuple(_load_choice(choice, place, body, seed, think_tags) for place, choice in enumerate(choices)),
        usage=load_usage(body.get("usage")) or load_usage(_groq(body)),
        extra=rest(body, (*HEAD, "object", "choices", "usage")),
        raw=body,
        **head_fields(body),
    )


def head_fields(body: Json) -> dict[str, Any]:
    """The id, model, time and tier that a body or a chunk names; empty ones don't count."""
    found = {name: value for name in HEAD if (value := body.get(name)) and isinstance(value, str)}
    created = body.get("created")
    found.pop("created", None)
    return found | ({"created": created} if is_number(created) else {})


def _groq(body: Json) -> Any:
    inner = body.get("x_groq")
    return inner.get("usage") if isinstance(inner, Mapping) else None


def _load_choice(choice: Any, place: int, body: Json, seed: Any, think_tags: bool) -> Choice:
    message = (choice.get("message") or choice.get("delta")) if isinstance(choice, Mapping) else None
    if isinstance(message, str) or (message is None and isinstance(choice, Mapping) and choice.get("text")):
        message = {"content": message or choice.get("text")}
    if not isinstance(message, Mapping):
        raise BadData(f"a choice without a message: {choice!r:.200}", body=body)
    if choice.get("error"):
        raise fault(choice, body=body)
    index = choice["index"] if isinstance(choice.get("index"), int) else place
    parts = load_assistant(message, fallback_ids=(call_id(seed, index, number) for number in count()))
    if think_tags:
        parts = list(split_thinking(parts))
    parts, unread = _with_logprobs(parts, choice.get("logprobs"))
    details = choice.get("finish_details")  # the vision preview of 2023
    word = details.get("type") if isinstance(details, Mapping) else choice.get("finish_reason")
    finish, original = load_finish(word, called=any(isinstance(part, ToolCall) for part in parts))
    if finish == "error":
        raise fault(choice, body=body, reply=Reply((Choice(Message("assistant", tuple(parts)), index=index),)))
    unknown = rest(message, (*ASSISTANT_FIELDS, *REPLAYED))
    extra = rest(choice, CHOICE) | unread | original | ({"message": unknown} if unknown else {})
    kept = {name: message[name] for name in REPLAYED if message.get(name)}
    return Choice(Message("assistant", tuple(parts), extra=kept), finish, index, extra)


def call_id(seed: Any, choice: int, number: int) -> str:
    """An id for a tool call that came without one: the same each time that the same answer is read."""
    return f"call_{uuid.uuid5(uuid.NAMESPACE_OID, ascii((seed, choice, number))).hex[:24]}"


def load_finish(word: Any, *, called: bool) -> tuple[str | None, dict[str, Any]]:
    """The finish reason in our words, and the service's own as an extra field where it differs.

    A whole answer that gives none has ended well: "tool_calls" where tools were called, else "stop".
    """
    if word in (None, ""):
        return ("tool_calls" if called else "stop"), ({} if word is None else {"finish_reason": ""})
    said = str(word)
    finish = _STANDARD.get(said.lower(), said)
    return finish, ({} if finish == said else {"finish_reason": said})


def _with_logprobs(parts: list[Part], logprobs: Any) -> tuple[list[Part], dict[str, Any]]:
    """The parts with the log probabilities of their tokens; and those of another form as they came."""
    if not isinstance(logprobs, Mapping):
        return parts, {} if logprobs is None else {"logprobs": logprobs}
    said, refused = (
        tuple(entries) if isinstance(entries := logprobs.get(name), list) else None for name in ("content", "refusal")
    )
    told = []
    for part in parts:
        if isinstance(part, Text) and said is not None:
            part, said = replace(part, logprobs=said), None
        elif isinstance(part, Refusal) and refused is not None:
            part, refused = replace(part, logprobs=refused), None
        told.append(part)
    if said:  # tokens that made no text, such as those of a tool call
        told.append(Text("", logprobs=said))
    unread = rest(logprobs, ("content", "refusal"))
    return told, {"logprobs": unread} if unread else {}


def split_thinking(parts: Iterable[Part]) -> Iterator[Part]:
    """The parts with `<think>…</think>` at the front of the first text made a part of its own."""
    waiting = True
    for part in parts:
        if not waiting or not isinstance(part, Text):
            yield part
            continue
        waiting = False
        splitter = ThinkSplitter()
        pieces = [splitter.feed(part.text), splitter.end()]
        thought, text = ("".join(piece) for piece in zip(*pieces, strict=True))
        if thought:
            yield Reasoning(thought)
        if text or not thought or part.annotations:
            yield replace(part, text=text)


def load_usage(data: Any) -> Usage | None:
    """The token counts of an answer. Details keep the Responses API's names, which both wires share in the pivot."""
    if not isinstance(data, Mapping) or not any(value is not None for value in data.values()):
        return None
    into, out = (_mapping(data.get(f"{name}_tokens_details")) for name in ("prompt", "completion"))
    known = ("prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details", "completion_tokens_details")
    extra = rest(data, known)
    details = {"input_tokens_details": rest(into, ("cached_tokens",))}
    details["output_tokens_details"] = rest(out, ("reasoning_tokens",))
    return Usage(
        _count(data.get("prompt_tokens")),
        _count(data.get("completion_tokens")),
        _count(data.get("total_tokens")),
        _count(into.get("cached_tokens"), data.get("cached_tokens"), data.get("prompt_cache_hit_tokens")),
        _count(out.get("reasoning_tokens"), data.get("reasoning_tokens")),
        extra | {name: value for name, value in details.items() if value},
    )


def _mapping(value: Any) -> Json:
    return value if isinstance(value, Mapping) else {}


def _count(*values: Any) -> int | None:
    return next((int(value) for value in values if is_number(value)), None)


def fault(data: Any, *, body: Any = None, reply: Reply | None = None) -> ServerFault:
    """The error that a body, a chunk or a choice holds, in the server's own words."""
    error = data.get("error") if isinstance(data, Mapping) else None
    found = dig(data)
    if not found.message and isinstance(data, Mapping) and data.get("finish_reason"):
        word = data.get("native_finish_reason") or data["finish_reason"]
        found = found._replace(message=f"The service ended the answer with {str(word)!r}")
    shown = error if isinstance(error, Mapping) else body if isinstance(body, Mapping) else data
    message = found.message or "The service reported an error without words"
    kept = shown if isinstance(shown, Mapping) else {"error": shown}
    return ServerFault(message, body=kept, status=found.status, reply=reply)


# Writing


def dump_reply(reply: Reply, *, request: Request | None = None, notes: list[Note] | None = None) -> dict[str, Any]:
    """The answer as a Chat Completions body, with every field that the API's reference requires."""
    legacy = is_legacy(request)
    body = {
        "id": reply.id or f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time() if reply.created is None else reply.created),
        "model": reply.model or (request.model if request else None) or "",
        "choices": [_dump_choice(choice, notes, legacy=legacy) for choice in reply.choices or (Choice(),)],
    }
    if (usage := dump_usage(reply.usage)) is not None:
        body["usage"] = usage
    return body | head_extra(reply)


def head_extra(reply: Reply) -> dict[str, Any]:
    """A reply's further fields, without those that only a Response has."""
    tier = {"service_tier": reply.service_tier} if reply.service_tier in _TIERS else {}
    return tier | {name: value for name, value in reply.extra.items() if name not in RESPONSE_FIELDS}


def _dump_choice(choice: Choice, notes: list[Note] | None, *, legacy: bool) -> dict[str, Any]:
    parts = choice.message.parts
    legacy = legacy or choice.extra.get("finish_reason") == "function_call"
    extra = rest(choice.extra, ("finish_reason", "message", "logprobs", "incomplete_details"))
    message = dump_message(parts, notes, legacy=legacy)
    finish, native = dump_finish(choice.finish_reason, called=bool(choice.message.tool_calls), legacy=legacy)
    return {
        "index": choice.index,
        "message": {**message, **choice.message.extra, **choice.extra.get("message", {})},
        "finish_reason": finish,
        "logprobs": _dump_logprobs(parts, choice.extra.get("logprobs")),
        **native,
        **extra,
    }


def dump_message(parts: Sequence[Part], notes: list[Note] | None, *, legacy: bool) -> dict[str, Any]:
    """The message of an answer."""
    texts = [part for part in parts if isinstance(part, Text)]
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(part.text for part in texts) if texts else None,
        "refusal": "".join(part.text for part in parts if isinstance(part, Refusal)) or None,
    }
    for part in parts:
        if isinstance(part, Reasoning):
            message |= dump_thought(part, message)
        elif isinstance(part, Audio):
            message["audio"] = dump_audio(part)
        elif isinstance(part, Image):
            message["images"] = [*message.get("images", ()), *dump_content([part], "images")]
        elif isinstance(part, ToolCall):
            call = dump_call(part)
            if legacy:
                message["function_call"] = call["function"]
            else:
                message.setdefault("tool_calls", []).append(call)
        elif isinstance(part, Item) and notes is not None:
            notes.append(Note("left out", f"output.{part.type}", "a Chat answer has no place for it"))
    if found := [dump_annotation(entry) for part in texts for entry in part.annotations]:
        message["annotations"] = found
    return message


def dump_audio(part: Audio) -> dict[str, Any]:
    """The `audio` of an answer, with all that the reference requires of it."""
    sound = {"id": part.id or "", "data": part.data or "", "transcript": part.transcript or "", "expires_at": 0}
    return {**sound, **part.extra}


def dump_thought(part: Reasoning, before: Json) -> dict[str, Any]:
    """The fields of an answer's thinking: where it came from, or else the field that most clients read.

    Encrypted thinking stands in `reasoning_details`, so that a client that sends the message back returns it.
    """
    source = part.source if part.source in thinking.TEXT_FIELDS else thinking.TEXT_FIELDS[0]
    fields = {name: part.extra[name] for name in thinking.FIELDS if name in part.extra}
    if part.source not in thinking.LIST_FIELDS:
        text = part.text or "\n".join(part.summary)
        fields[source] = (
            f"{before[source]}\n\n{text}" if before.get(source) and text else text or before.get(source, "")
        )
    if part.encrypted and not fields.keys() & set(thinking.LIST_FIELDS):
        entry = {"type": "reasoning.encrypted", "data": part.encrypted, "id": part.id, "index": 0}
        fields["reasoning_details"] = [*before.get("reasoning_details", ()), rest(entry, ())]
    return fields


def _dump_logprobs(parts: Iterable[Part], other: Any) -> Any:
    """`logprobs` of a choice; both lists stand in it as soon as one does."""
    found: dict[str, list[Any] | None] = {"content": None, "refusal": None}
    for part in parts:
        if isinstance(part, (Text, Refusal)) and part.logprobs is not None:
            name = "content" if isinstance(part, Text) else "refusal"
            found[name] = [*(found[name] or ()), *part.logprobs]
    if any(entries is not None for entries in found.values()):
        return {**found, **other} if isinstance(other, Mapping) else found
    return None if isinstance(other, (int, float)) else other


def dump_finish(finish: str | None, *, called: bool, legacy: bool = False) -> tuple[str, dict[str, Any]]:
    """A finish reason that Chat knows, and our own word beside it where Chat has none for it."""
    if legacy and called and finish in (None, "stop", "tool_calls"):
        return "function_call", {}
    if finish in ("stop", "length", "tool_calls", "content_filter"):
        return finish, {}
    return ("tool_calls" if called else "stop"), ({} if finish is None else {"native_finish_reason": finish})


def dump_usage(usage: Usage | None) -> dict[str, Any] | None:
    """The token counts; the three that the reference requires are zero where only some are known."""
    if usage is None:
        return None
    extra = dict(usage.extra)
    into = extra.pop("input_tokens_details", {}) | _known("cached_tokens", usage.cached_tokens)
    out = extra.pop("output_tokens_details", {}) | _known("reasoning_tokens", usage.reasoning_tokens)
    total = (usage.input_tokens or 0) + (usage.output_tokens or 0) if usage.total_tokens is None else usage.total_tokens
    return {
        "prompt_tokens": usage.input_tokens or 0,
        "completion_tokens": usage.output_tokens or 0,
        "total_tokens": total,
        **({"prompt_tokens_details": into} if into else {}),
        **({"completion_tokens_details": out} if out else {}),
        **extra,
    }


def _known(name: str, value: int | None) -> dict[str, int]:
    return {} if value is None else {name: value}
