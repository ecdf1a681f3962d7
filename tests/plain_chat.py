"""What recorded Chat exchanges say, read by plain code that shares nothing with the codec under test."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(os.environ.get("ALLOS_RECORDINGS") or Path(__file__).parents[2] / "shared" / "recordings")
FIELDS = ("reasoning_content", "reasoning", "thinking", "reasoning_details", "thinking_blocks")
WORDS = {"eos": "stop", "eos_token": "stop", "function_call": "tool_calls", "max_tokens": "length"}


def recordings(keep: Callable[[dict[str, Any]], bool]) -> list[Any]:
    """Pytest parameters, one a recorded Chat exchange; a skipped one where there are no recordings."""
    found = [json.loads(path.read_text("utf-8")) for path in sorted(FOLDER.glob("*/*.json"))]
    kept = [pytest.param(record, id=record["id"]) for record in found if record["api"] == "chat" and keep(record)]
    return kept or [pytest.param({}, marks=pytest.mark.skip(reason=f"no recordings in {FOLDER}"))]


def chunks(body: str) -> list[Any]:
    """The payloads of a recorded stream, without `[DONE]`."""
    lines = [line[5:].strip() for line in body.splitlines() if line.startswith("data:")]
    return [json.loads(line) for line in lines if line and line != "[DONE]"]


def thought(message: dict[str, Any]) -> str:
    for field in FIELDS:
        value = message.get(field)
        if isinstance(value, str) and value:
            return value
        if isinstance(value, list):
            said = "".join(e.get("text") or e.get("summary") or e.get("thinking") or "" for e in value)
            if said:
                return said
    return "".join(
        piece["text"]
        for part in (message.get("content") if isinstance(message.get("content"), list) else ())
        if part["type"] == "thinking"
        for piece in part["thinking"]
    )


def text(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "".join(part["text"] for part in content if part["type"] == "text")
    return content or ""


def finish(word: str | None, called: bool) -> str:
    return WORDS.get(word, word) if word else ("tool_calls" if called else "stop")


def usage(counts: dict[str, Any] | None) -> tuple[Any, ...] | None:
    if not counts:
        return None
    into, out = (counts.get(f"{name}_tokens_details") or {} for name in ("prompt", "completion"))
    cached = into.get("cached_tokens")
    reasoning = out.get("reasoning_tokens")
    return (
        *(counts.get(f"{name}_tokens") for name in ("prompt", "completion", "total")),
        counts.get("cached_tokens") if cached is None else cached,
        counts.get("reasoning_tokens") if reasoning is None else reasoning,
    )


def whole(body: dict[str, Any]) -> dict[str, Any]:
    """What a whole answer says."""
    found = []
    for choice in body["choices"]:
        message = choice["message"]
        calls = [
            (call["id"], call[kind]["name"], call[kind]["arguments" if kind == "function" else "input"])
            for call in message.get("tool_calls") or ()
            for kind in [call.get("type") or "function"]
        ]
        old = message.get("function_call") or {}
        calls += [("", old["name"], old["arguments"])] if old.get("name") else []
        word = choice.get("finish_reason") or (choice.get("finish_details") or {}).get("type")
        found.append(
            {
                "text": text(message),
                "reasoning": thought(message),
                "refusal": message.get("refusal") or "",
                "spoken": (message.get("audio") or {}).get("transcript") or "",
                "calls": calls,
                "finish": finish(word, bool(calls)),
            }
        )
    return {"choices": found, "usage": usage(body.get("usage"))}


def streamed(body: str) -> dict[str, Any]:
    """What a stream says: its pieces simply put together."""
    told = pieces(chunks(body))
    for entry in told["choices"]:
        entry["finish"] = finish(entry["finish"], bool(entry["calls"]))
    return told


def pieces(payloads: list[Any]) -> dict[str, Any]:
    """What these chunks say, put together one by one; the finish is None until a chunk names one."""
    found: dict[int, dict[str, Any]] = {}
    counts: dict[str, Any] = {}
    for chunk in payloads:
        counts |= {key: value for key, value in (chunk.get("usage") or {}).items() if value is not None}
        for choice in chunk.get("choices") or ():
            start = {"text": "", "reasoning": "", "refusal": "", "spoken": "", "calls": {}, "finish": None}
            entry = found.setdefault(choice["index"], start)
            delta = choice["delta"]
            entry["text"] += text(delta)
            entry["reasoning"] += thought(delta)
            entry["refusal"] += delta.get("refusal") or ""
            entry["spoken"] += (delta.get("audio") or {}).get("transcript") or ""
            for call in delta.get("tool_calls") or ():
                key = call.get("index", len(entry["calls"]))
                old = entry["calls"].get(key, ("", "", ""))
                kind = "custom" if "custom" in call else "function"
                piece = call[kind]
                entry["calls"][key] = (
                    old[0] or call.get("id") or "",
                    old[1] or piece.get("name") or "",
                    old[2] + (piece.get("arguments" if kind == "function" else "input") or ""),
                )
            entry["finish"] = entry["finish"] or choice.get("finish_reason")
    for entry in found.values():
        entry["calls"] = list(entry["calls"].values())
    return {"choices": [found[index] for index in sorted(found)], "usage": usage(counts)}


def first_to_speak(body: str) -> int:
    """The place among the choices of the one that says something first."""
    choices = [choice for chunk in chunks(body) for choice in chunk.get("choices") or ()]
    speaks = ("content", "refusal", "tool_calls", "audio", *FIELDS)
    first = next((c["index"] for c in choices if any(c["delta"].get(name) for name in speaks)), 0)
    return sorted({choice["index"] for choice in choices}).index(first)


def said(reply: Any) -> dict[str, Any]:
    """A `Reply` in the same form; an id that the service left empty is compared as empty."""
    choices = []
    for choice in reply.choices:
        parts = choice.message.parts
        kinds = [type(part).__name__ for part in parts]

        def joined(kind: str, parts: Any = parts, kinds: Any = kinds) -> str:
            return "".join(part.text for part, name in zip(parts, kinds, strict=True) if name == kind)

        thoughts = [part for part, name in zip(parts, kinds, strict=True) if name == "Reasoning"]
        choices.append(
            {
                "text": joined("Text"),
                "reasoning": "".join(part.text or "\n".join(part.summary) for part in thoughts),
                "refusal": joined("Refusal"),
                "spoken": "".join(part.transcript or "" for part in parts if type(part).__name__ == "Audio"),
                "calls": [(call.id, call.name, call.arguments) for call in choice.message.tool_calls],
                "finish": choice.finish_reason,
            }
        )
    usage = reply.usage
    counts = usage and (
        usage.input_tokens,
        usage.output_tokens,
        usage.total_tokens,
        usage.cached_tokens,
        usage.reasoning_tokens,
    )
    return {"choices": choices, "usage": counts}


def without_own_ids(told: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    """`told` with our own id taken away again where the service sent none."""
    for entry, plain in zip(told["choices"], expected["choices"], strict=True):
        for place, ((identity, *rest), (sent, *_)) in enumerate(zip(entry["calls"], plain["calls"], strict=True)):
            if not sent:
                assert identity.startswith("call_")
                entry["calls"][place] = ("", *rest)
    return told
