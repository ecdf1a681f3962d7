"""Writes a Chat Completions stream: deltas to chunks."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from allos.messages import Audio, Delta, Image, Item, Part, Reasoning, Refusal, Reply, Request, Text, ToolCall
from allos.wire import sse
from allos.wire.chat import reasoning as thinking
from allos.wire.chat.content import dump_annotation, dump_content, rest
from allos.wire.chat.replies import dump_audio, dump_finish, dump_thought, dump_usage, head_extra
from allos.wire.chat.requests import is_legacy
from allos.wire.collect import deltas as deltas_of

__all__ = ["TAIL", "Encoder", "frame"]

TAIL = b"data: [DONE]\n\n"  # what ends the stream
_NOTHING: Mapping[str, Any] = {}


def frame(payload: Mapping[str, Any]) -> bytes:
    """The bytes of one chunk as a server-sent event."""
    return sse.dump(payload)


class Encoder:
    """Takes a reply's deltas; `feed` gives the chunks that say each, `end` those that close the stream."""

    TAIL = TAIL
    frame = staticmethod(frame)

    def __init__(self, *, request: Request | None = None) -> None:
        self._legacy = is_legacy(request)
        self._with_usage = bool(request and request.include_usage)
        self._head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": (request.model if request else None) or "",
        }
        self._begun: dict[int, dict[int, set[str]]] = {}  # choice, part -> what of it has been written
        self._noted: dict[int, Iterator[int]] = {}  # choice -> numbers for its annotations
        self._calls: dict[int, dict[int, int]] = {}  # choice, part -> the tool call's index

    @property
    def head(self) -> Mapping[str, Any]:
        """The fields that every chunk of the stream begins with."""
        return self._head

    def feed(self, delta: Delta) -> list[dict[str, Any]]:
        """The chunks for one delta; the finish reason and the usage wait for `end`."""
        if delta.head is not None:
            self._take_head(delta.head)
        written = self._begun.setdefault(delta.choice, {}).setdefault(delta.index, set())
        said: dict[str, Any] = {}
        thought = delta.reasoning or ("" if "reasoning" in written else delta.summary)
        for key, value in (("content", delta.text), ("refusal", delta.refusal), ("reasoning_content", thought)):
            if value:
                said[key] = value
        if thought:
            written.add("reasoning" if delta.reasoning else "summary")
        if delta.text or delta.refusal:
            written.add("text")
        if delta.tool_call is not None:
            said |= self._call(delta.tool_call, delta.choice, delta.index)
            written.add("call")
        if delta.annotations:
            said["annotations"] = self._annotations(delta.annotations, delta.choice)
            written.add("annotations")
        if delta.part is not None:
            said |= self._part(delta.part, delta.choice, delta.index, written)
            written.add("part")
        logprobs = self._logprobs(delta, written)
        return [self._chunk(delta.choice, said, logprobs)] if said or logprobs else []

    @staticmethod
    def _logprobs(delta: Delta, written: set[str]) -> dict[str, Any] | None:
        tokens = delta.logprobs
        if tokens is None and isinstance(delta.part, (Text, Refusal)) and "logprobs" not in written:
            tokens = delta.part.logprobs
        if tokens is None:
            return None
        written.add("logprobs")
        refused = bool(delta.refusal) or isinstance(delta.part, Refusal)
        return {"content": None, "refusal": None, ("refusal" if refused else "content"): [*tokens]}

    def _take_head(self, head: Reply) -> None:
        named = {"id": head.id, "model": head.model, "created": None if head.created is None else int(head.created)}
        self._head |= rest(named, ()) | head_extra(head)

    def _call(self, call: ToolCall, choice: int, part: int) -> dict[str, Any]:
        calls = self._calls.setdefault(choice, {})
        first = part not in calls
        index = calls.setdefault(part, len(calls))
        argument = "input" if call.kind == "custom" else "arguments"
        inner = {"name": call.name, argument: call.arguments} if first else {argument: call.arguments}
        if self._legacy:
            return {"function_call": inner}
        extra = {key: value for key, value in call.extra.items() if key not in ("item", call.kind)}
        opening = {"id": call.id, "type": call.kind} if first else {}
        return {"tool_calls": [{"index": index, **opening, call.kind: inner, **extra}]}

    def _part(self, part: Part, choice: int, index: int, written: set[str]) -> dict[str, Any]:
        """What a whole part says that its deltas have not said."""
        if isinstance(part, Reasoning):
            fields = dump_thought(part, {})
            grown = written & {"reasoning", "summary"}
            return {
                key: value for key, value in fields.items() if value and not (grown and key in thinking.TEXT_FIELDS)
            }
        if isinstance(part, ToolCall):
            return {} if "call" in written else self._call(part, choice, index)
        if "part" in written or isinstance(part, Item):
            return {}
        if isinstance(part, Audio):
            return {"audio": dump_audio(part)}
        if isinstance(part, Image):
            return {"images": dump_content([part], "images")}
        said: dict[str, Any] = {}
        if isinstance(part, (Text, Refusal)) and part.text and "text" not in written:
            said["content" if isinstance(part, Text) else "refusal"] = part.text
        if isinstance(part, Text) and part.annotations and "annotations" not in written:
            said["annotations"] = self._annotations(part.annotations, choice)
        return said

    def _annotations(self, found: Iterable[Mapping[str, Any]], choice: int) -> list[dict[str, Any]]:
        """Annotations with the `index` by which the SDK's stream helper puts lists together."""
        count = self._noted.setdefault(choice, itertools.count())
        return [{"index": next(count), **dump_annotation(entry)} for entry in found]

    def _chunk(
        self,
        choice: int,
        delta: dict[str, Any],
        logprobs: Any = None,
        finish: str | None = None,
        more: Mapping[str, Any] = _NOTHING,
    ) -> dict[str, Any]:
        if "role" not in self._begun.setdefault(choice, {}).setdefault(-1, set()):
            self._begun[choice][-1].add("role")
            delta = {"role": "assistant", **({} if delta else {"content": ""}), **delta}
        entry = {**more, "index": choice, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return {**self._head, "choices": [entry], **({"usage": None} if self._with_usage else {})}

    def end(self, reply: Reply) -> list[dict[str, Any]]:
        """The last chunks: what no delta told, each choice's finish reason, and the usage where it was asked for."""
        chunks: list[dict[str, Any]] = []
        if not any(self._begun.values()):
            for delta in deltas_of(reply):
                chunks += self.feed(delta)
        self._head |= head_extra(reply)
        for choice in reply.choices:
            called = bool(choice.message.tool_calls)
            finish, native = dump_finish(choice.finish_reason, called=called, legacy=self._legacy)
            late = {**choice.message.extra, **choice.extra.get("message", {})}
            extra = rest(choice.extra, ("finish_reason", "message", "logprobs", "incomplete_details"))
            chunks.append(self._chunk(choice.index, late, None, finish, {**extra, **native}))
        if self._with_usage:
            usage = dump_usage(reply.usage)
            chunks.append({**self._head, "choices": [], **({"usage": usage} if usage else {})})
        return chunks
