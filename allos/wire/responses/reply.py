"""A Response object ⇄ `Reply`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from allos.errors import BadData, ServerFault
from allos.messages import Choice, Item, Message, Note, Part, Reasoning, Reply, Request, Text, ToolCall, Usage
from allos.wire.fault import dig
from allos.wire.names import RESPONSE_FIELDS
from allos.wire.numbers import is_number
from allos.wire.responses.items import dump_output, fresh_id, load_output, rest
from allos.wire.responses.request import dump_format, dump_tool, dump_tool_choice
from allos.wire.think import ThinkSplitter

__all__ = [
    "dump_reply",
    "dump_response",
    "fault",
    "finish",
    "load_head",
    "load_reply",
    "load_usage",
    "outcome",
    "split_thinking",
]

JSON = Mapping[str, Any]
_COUNTS = ("input_tokens", "output_tokens", "total_tokens")
_UNFINISHED = ("queued", "in_progress")
_KNOWN = (
    "id",
    "object",
    "model",
    "created_at",
    "output",
    "usage",
    "service_tier",
    "status",
    "error",
    "incomplete_details",
)
# Why an answer is incomplete, in this API's words and in those of the servers that say it otherwise.
_CUT = {"max_output_tokens": "length", "length": "length", "max_tokens": "length", None: "length"}
_REASONS = {"length": "max_output_tokens", "content_filter": "content_filter"}


def load_reply(body: Any, *, think_tags: bool = False) -> Reply:
    """Read a Response object.

    Raises `ServerFault` where it reports an error or has failed, `BadData` where it is no Response.
    """
    if not isinstance(body, Mapping):
        raise BadData(f"JSON that is no Response: {body!r:.60}", body=body)
    if body.get("error") or body.get("status") == "failed":
        raise fault(body)
    output = body.get("output")
    if output is None and body.get("status") in _UNFINISHED:
        output = []
    if not isinstance(output, list):
        if "output" not in body and (words := dig(body).message):
            raise ServerFault(words, body=body, status=dig(body).status)
        raise BadData(f"a Response whose 'output' is {output!r:.60}, not a list", body=body)
    parts = [part for item in output if isinstance(item, Mapping) for part in load_output(item)]
    if think_tags:
        parts = split_thinking(parts)
    return replace(
        load_head(body),
        choices=(Choice(Message("assistant", tuple(parts)), *_ending(body, parts)),),
        usage=load_usage(body.get("usage")),
        service_tier=body.get("service_tier"),
        extra=rest(body, *_KNOWN) | ({"status": body["status"]} if body.get("status") in _UNFINISHED else {}),
        raw=body,
    )


def load_head(body: JSON) -> Reply:
    """What a Response that has only begun says: its id, model and time."""
    reply_id, model, created = body.get("id"), body.get("model"), body.get("created_at")
    return Reply(
        id=reply_id if isinstance(reply_id, str) else None,
        model=model if isinstance(model, str) else None,
        created=created if is_number(created) else None,
    )


def fault(body: JSON, *, reply: Reply | None = None) -> ServerFault:
    """The error that a body or an event reports."""
    found = dig(body)
    error = body.get("error")
    words = found.message or "the service reports a failure and does not say why"
    return ServerFault(words, body=error if isinstance(error, Mapping) else body, status=found.status, reply=reply)


def _ending(body: JSON, parts: Sequence[Part]) -> tuple[str | None, int, dict[str, Any]]:
    """The finish reason, index and extra of a Response's only choice."""
    details = body.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, Mapping) else None
    reason = reason if isinstance(reason, str) else None
    odd = reason is not None and reason not in _REASONS.values()
    return finish(body.get("status"), reason, parts), 0, {"incomplete_details": details} if odd else {}


def finish(status: object, reason: str | None, parts: Sequence[Part]) -> str | None:
    """Why the model stopped, from a status and the reason of an incomplete answer."""
    if status in _UNFINISHED:
        return None
    if status == "cancelled":
        return "cancelled"
    if status == "incomplete":
        return _CUT.get(reason, reason)
    return "tool_calls" if any(isinstance(part, ToolCall) for part in parts) else "stop"


def split_thinking(parts: Sequence[Part]) -> list[Part]:
    """The parts, with `<think>…</think>` at the front of the first text as reasoning before it."""
    split: list[Part] = list(parts)
    for index, part in enumerate(split):
        if isinstance(part, Text):
            splitter = ThinkSplitter()
            thought, text = (
                begun + ended for begun, ended in zip(splitter.feed(part.text), splitter.end(), strict=True)
            )
            if thought:
                split[index : index + 1] = [Reasoning(thought), replace(part, text=text)]
            elif text != part.text:
                split[index] = replace(part, text=text)
            break
    return split


def load_usage(usage: object) -> Usage | None:
    """The token counts; None where there are none."""
    if not isinstance(usage, Mapping) or not usage:
        return None
    extra = rest(usage, *_COUNTS, "input_tokens_details", "output_tokens_details")
    given, made, total = (_count(usage, name) for name in _COUNTS)
    cached = _detail(usage, "input_tokens_details", "cached_tokens", extra)
    thought = _detail(usage, "output_tokens_details", "reasoning_tokens", extra)
    return Usage(given, made, total, cached, thought, extra)


def _detail(usage: JSON, group: str, known: str, extra: dict[str, Any]) -> int | None:
    """The count that has a name of its own; the others of its group go into `extra`."""
    details = usage.get(group)
    details = details if isinstance(details, Mapping) else {}
    more = rest(details, known)
    if more.get("cache_write_tokens") == 0:  # required here, and means that nothing was written
        del more["cache_write_tokens"]
    if more:
        extra[group] = more
    return _count(details, known)


def _count(data: JSON, name: str) -> int | None:
    value = data.get(name)
    return int(value) if is_number(value) else None


def dump_usage(usage: Usage | None) -> dict[str, Any] | None:
    """The `usage` of a Response. All counts are required there, so what was not said becomes 0 beside what was."""
    if usage is None or (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (None, None, None):
        return None
    extra = dict(usage.extra)
    into = {**extra.pop("prompt_tokens_details", {}), **extra.pop("input_tokens_details", {})}
    out = {**extra.pop("completion_tokens_details", {}), **extra.pop("output_tokens_details", {})}
    given, made = usage.input_tokens or 0, usage.output_tokens or 0
    return {
        "input_tokens": given,
        "input_tokens_details": {"cache_write_tokens": 0, "cached_tokens": usage.cached_tokens or 0, **into},
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0, **out},
        "total_tokens": given + made if usage.total_tokens is None else usage.total_tokens,
        **extra,
    }


def dump_reply(reply: Reply, *, request: Request | None = None, notes: list[Note] | None = None) -> dict[str, Any]:
    """A whole Response object that answers `request`.

    Every field that the API requires is there; ids that the reply lacks are made up.
    Of several choices only the first can be said; what can't is left out and noted.
    """
    if len(reply.choices) > 1 and notes is not None:
        notes.append(Note("left out", "choices", "a Response holds one answer"))
    status, details = outcome(reply)
    parts = reply.message.parts
    output = dump_output(parts, notes=notes, status="completed")
    if status == "incomplete" and output and "status" not in _said(parts[-1]) and "status" in output[-1]:
        output[-1]["status"] = "incomplete"
    return dump_response(reply, request, status=status, details=details, output=output)


def _said(part: Part) -> JSON:
    """What the last part itself says of its item."""
    if isinstance(part, Item):
        return part.data
    return part.extra.get("item", part.extra) if isinstance(part, Text) else part.extra


def outcome(reply: Reply) -> tuple[str, JSON | None]:
    """The `status` and `incomplete_details` of a reply's Response."""
    reason = reply.finish_reason
    if reason in _REASONS:
        return "incomplete", _details(reply) or {"reason": _REASONS[reason]}
    if reason == "cancelled":
        return "cancelled", None
    if details := _details(reply):
        return "incomplete", details
    return ("failed" if reason == "error" else "completed"), None


def _details(reply: Reply) -> JSON | None:
    return reply.choices[0].extra.get("incomplete_details") if reply.choices else None


def dump_response(
    reply: Reply,
    request: Request | None,
    *,
    status: str,
    output: list[dict[str, Any]],
    details: JSON | None = None,
    error: JSON | None = None,
) -> dict[str, Any]:
    """A Response object with this output: the reply's own words first, then the request's, then the defaults."""
    asked = request or Request()
    created = time.time() if reply.created is None else reply.created
    own = {
        "id": reply.id or fresh_id("resp"),
        "object": "response",
        "created_at": int(created) if created == int(created) or reply.created is None else created,
        "status": status,
        "error": error,
        "incomplete_details": details,
        "model": reply.model or asked.model or "",
        "output": output,
        "usage": dump_usage(reply.usage),
        "service_tier": reply.service_tier or asked.service_tier,
    }
    more = {name: value for name, value in reply.extra.items() if name not in own or name == "status"}
    return {**own, **_echo(asked), **more}


def _echo(asked: Request) -> dict[str, Any]:
    """What a Response repeats of its request."""
    choice = dump_tool_choice(asked.tool_choice, asked.tools) if asked.tool_choice else "auto"
    text: dict[str, Any] = {"format": dump_format(asked.format) if asked.format else {"type": "text"}}
    if asked.verbosity is not None:
        text["verbosity"] = asked.verbosity
    return {
        "background": False,
        "completed_at": None,
        "instructions": asked.instructions,
        "max_output_tokens": asked.max_tokens,
        "max_tool_calls": None,
        "metadata": dict(asked.metadata or {}),
        "parallel_tool_calls": True if asked.parallel_tool_calls is None else asked.parallel_tool_calls,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "reasoning": {"effort": asked.reasoning_effort, "summary": asked.reasoning_summary},
        "safety_identifier": None,
        "store": True if asked.store is None else asked.store,
        "temperature": asked.temperature,
        "text": text,
        "tool_choice": choice,
        "tools": [dump_tool(tool) for tool in asked.tools],
        "top_logprobs": asked.top_logprobs or 0,
        "top_p": asked.top_p,
        "truncation": "disabled",
        "user": None,
        **{name: value for name, value in asked.extra.items() if name in _ECHOED},
        **({"conversation": {"id": named}} if isinstance(named := asked.extra.get("conversation"), str) else {}),
    }


_ECHOED = RESPONSE_FIELDS - {"text", "reasoning", "status", "error"}
