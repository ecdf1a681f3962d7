"""What recorded Responses exchanges say, read by plain code that shares nothing with the codec under test."""

from __future__ import annotations

import json
from typing import Any

CALLS = {"function_call": "arguments", "custom_tool_call": "input"}
LAST = ("response.completed", "response.incomplete", "response.failed")


def events(body: str) -> list[Any]:
    """The payloads of a recorded stream."""
    lines = [line[5:].strip() for line in body.splitlines() if line.startswith("data:")]
    return [json.loads(line) for line in lines if line and line != "[DONE]"]


def text(item: dict[str, Any]) -> str:
    return "".join(part.get("text") or "" for part in item.get("content") or () if part["type"] != "refusal")


def refusal(item: dict[str, Any]) -> str:
    return "".join(part["refusal"] for part in item.get("content") or () if part["type"] == "refusal")


def thought(item: dict[str, Any]) -> str:
    """The thinking itself, or else its summaries, which are set apart by a line's end."""
    return text(item) or "\n".join(part["text"] for part in item.get("summary") or ())


def call(item: dict[str, Any]) -> tuple[str, str, str]:
    return item["call_id"], item["name"], item[CALLS[item["type"]]]


def finish(response: dict[str, Any], called: bool) -> str | None:
    if response.get("status") in ("queued", "in_progress"):
        return None
    reason = (response.get("incomplete_details") or {}).get("reason")
    if reason:
        return "length" if reason in ("max_output_tokens", "length") else str(reason)
    return "tool_calls" if called else "stop"


def usage(counts: dict[str, Any] | None) -> tuple[Any, ...] | None:
    if not counts:
        return None
    into, out = (counts.get(f"{name}_tokens_details") or {} for name in ("input", "output"))
    tokens = [counts.get(f"{name}_tokens") for name in ("input", "output", "total")]
    return (*tokens, into.get("cached_tokens"), out.get("reasoning_tokens"))


def whole(response: dict[str, Any]) -> dict[str, Any]:
    """What a whole Response says."""
    output = response.get("output") or []
    messages = [item for item in output if item["type"] == "message" and item.get("role", "assistant") == "assistant"]
    calls = [call(item) for item in output if item["type"] in CALLS]
    said = {
        "text": "".join(map(text, messages)),
        "reasoning": "".join(thought(item) for item in output if item["type"] == "reasoning"),
        "refusal": "".join(map(refusal, messages)),
        "spoken": "",
        "calls": calls,
        "finish": finish(response, bool(calls)),
    }
    return {"choices": [said], "usage": usage(response.get("usage"))}


def streamed(body: str) -> dict[str, Any]:
    """What a stream says by its deltas, and by its last event what is told only there."""
    return pieces(events(body))


def pieces(payloads: list[Any]) -> dict[str, Any]:
    """What these events say, put together one by one; the finish is None until the last one has come."""
    items: dict[Any, dict[str, Any]] = {}
    last: dict[str, Any] = {"status": "in_progress"}
    for payload in payloads:
        kind = payload["type"].removeprefix("response.")
        if f"response.{kind}" in LAST:
            last = payload["response"]
        if kind == "output_item.added":
            items[payload["output_index"]] = {**payload["item"], "grown": "", "thought": "", "declined": "", "sums": {}}
        item = items.get(payload.get("output_index"))
        if item is None:
            continue
        if kind in ("output_text.delta", "function_call_arguments.delta", "custom_tool_call_input.delta"):
            item["grown"] += payload["delta"]
        elif kind == "refusal.delta":
            item["declined"] += payload["delta"]
        elif kind == "reasoning_text.delta":
            item["thought"] += payload["delta"]
        elif kind == "reasoning_summary_text.delta":
            place = payload.get("summary_index", 0)
            item["sums"][place] = item["sums"].get(place, "") + payload["delta"]
        elif kind == "output_item.done":
            item["done"] = payload["item"]
    return _said(items, last)


def _said(items: dict[Any, dict[str, Any]], last: dict[str, Any]) -> dict[str, Any]:
    told = {"text": "", "reasoning": "", "refusal": "", "spoken": "", "calls": [], "finish": None}
    for item in items.values():
        done = item.get("done") or {}
        if item["type"] == "message":
            told["text"] += item["grown"] or text(done)
            told["refusal"] += item["declined"] or refusal(done)
        elif item["type"] == "reasoning":
            told["reasoning"] += item["thought"] or "\n".join(item["sums"].values()) or thought(done)
        elif item["type"] in CALLS and done:
            told["calls"].append((*call(done)[:2], item["grown"] or call(done)[2]))
    told["finish"] = finish(last, bool(told["calls"]))
    return {"choices": [told], "usage": usage(last.get("usage"))}
