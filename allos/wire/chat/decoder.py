"""Reads a Chat Completions stream: events to deltas, and at the end the reply."""

from __future__ import annotations

import base64
import binascii
import json
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from allos.errors import BadData, Incomplete
from allos.messages import Audio, Delta, Image, Part, Reasoning, Refusal, Reply, Text
from allos.wire import sse
from allos.wire.chat import reasoning as thinking
from allos.wire.chat.calls import Calls
from allos.wire.chat.content import as_text, load_annotations, load_content, load_images, rest
from allos.wire.chat.replies import (
    CHOICE,
    HEAD,
    REPLAYED,
    call_id,
    dump_reply,
    fault,
    head_fields,
    load_finish,
    load_usage,
)
from allos.wire.chat.requests import ASSISTANT_FIELDS, load_audio
from allos.wire.collect import Collector
from allos.wire.fault import dig
from allos.wire.think import ThinkSplitter

__all__ = ["Decoder"]

_CHUNK = frozenset((*HEAD, "object", "choices", "usage", "obfuscation"))
_CHOICE = frozenset((*CHOICE, "text"))
_UNTOLD = frozenset(("role", "name", "content"))
_THOUGHTS = frozenset(thinking.FIELDS)
_NAMED = frozenset(ASSISTANT_FIELDS)


class Decoder:
    """Takes the events of one stream; `feed` gives what each adds, `end` the whole reply.

    `think_tags` reads `<think>…</think>` at the front of the text as reasoning.
    """

    def __init__(self, *, think_tags: bool = False) -> None:
        self._think_tags = think_tags
        self._collector = Collector()
        self._choices: dict[int, _Choice] = {}
        self._head: dict[str, Any] = {}
        self._announced = False
        self._seed: Any = None
        self._usage: dict[str, Any] = {}
        self._extra: dict[str, Any] = {}
        self._events = 0
        self.done = False

    def feed(self, event: sse.Event) -> list[Delta]:
        """What this event adds to the reply.

        Raises `ServerFault` for an error sent in the stream and `BadData` for what is no chunk; `so_far` keeps what
        came before.
        """
        chunk = self._load(event)
        deltas: list[Delta] = []
        if chunk is None:
            if self.done:
                self._complete(deltas)
            return deltas
        choices = chunk.get("choices")
        if not chunk.keys() <= _CHUNK:
            self._take_unknown(chunk)
        if chunk.get("usage") or "x_groq" in chunk:
            self._take_usage(chunk, deltas)
        if choices and isinstance(choices, list):
            if not self._announced:
                self._announce(chunk, deltas)
            for data in choices:
                if isinstance(data, dict):
                    self._take_choice(data, chunk, deltas)
        elif not self._announced:
            self._head = head_fields(chunk) | self._head
        self._collect(deltas)
        return deltas

    def _complete(self, deltas: list[Delta]) -> None:
        """At `[DONE]`: end the choices without a finish reason, which some services never send, if they are whole."""
        for state in self._choices.values():
            if state.finish is None and state.parts and state.calls.are_whole():
                state.finish_with("tool_calls" if len(state.calls) else "stop", {}, deltas)
        self._collect(deltas)

    def _load(self, event: sse.Event) -> dict[str, Any] | None:
        """The event's chunk, or None for an event that holds none."""
        try:
            chunk = json.loads(event.data)
        except (ValueError, RecursionError):
            data = event.data.strip()
            if event.name == "error":
                raise fault(data, reply=self.so_far()) from None
            if data == "[DONE]":
                self.done = True
            elif data:
                raise BadData(f"an event that is no JSON: {data[:80]!r}", body=data) from None
            return None
        if event.name == "error":
            raise fault(chunk, reply=self.so_far())
        self._events += 1
        if isinstance(chunk, dict):
            return chunk
        if chunk is None:
            return None
        raise BadData(f"an event that is no object: {event.data[:80]!r}", body=chunk)

    def _take_unknown(self, chunk: dict[str, Any]) -> None:
        flat = not chunk.get("choices") and not chunk.get("usage") and ("message" in chunk or "detail" in chunk)
        if chunk.get("error") or (flat and dig(chunk).message):
            self._take_usage(chunk, [])
            raise fault(chunk, reply=self.so_far())
        for key, value in chunk.items():
            if key not in _CHUNK and value is not None:
                self._extra[key] = value

    def _take_usage(self, chunk: dict[str, Any], deltas: list[Delta]) -> None:
        """Keep the counts; a later null doesn't undo a number. They are told once nothing else is to come."""
        inner = chunk.get("x_groq")
        for counts in (inner.get("usage") if isinstance(inner, dict) else None, chunk.get("usage")):
            if isinstance(counts, dict):
                self._usage.update({key: value for key, value in counts.items() if value is not None})
        if self._usage and (not chunk.get("choices") or self._finished()):
            deltas.append(Delta(usage=load_usage(self._usage)))

    def _announce(self, chunk: dict[str, Any], deltas: list[Delta]) -> None:
        self._announced = True
        self._head |= head_fields(chunk)
        self._seed = self._head.get("id") or self._head.get("created") or uuid.uuid4().hex
        deltas.append(Delta(head=Reply(**self._head)))

    def _take_choice(self, data: dict[str, Any], chunk: dict[str, Any], deltas: list[Delta]) -> None:
        index = data.get("index")
        if type(index) is not int:
            index = 0
        state = self._choices.get(index)
        if state is None:
            state = self._choices[index] = _Choice(index, self._seed, ThinkSplitter() if self._think_tags else None)
        delta = data.get("delta")
        if delta is None and not state.parts:
            delta = data.get("message") or ({"content": data["text"]} if data.get("text") else None)
        logprobs = data.get("logprobs")
        if isinstance(delta, dict):
            state.take(delta, logprobs, deltas)
        if not data.keys() <= _CHOICE:
            if data.get("error"):
                raise fault(data, body=chunk, reply=self.so_far())
            state.extra.update(rest(data, _CHOICE))
        if word := data.get("finish_reason"):
            finish, original = load_finish(word, called=bool(state.calls))
            if finish == "error":
                raise fault(data, body=chunk, reply=self.so_far())
            state.finish_with(finish, original, deltas)

    def _finished(self) -> bool:
        return bool(self._choices) and all(state.finish is not None for state in self._choices.values())

    def so_far(self) -> Reply:
        """What has come until now, without tool calls that may still be growing."""
        return self._reply(with_open_calls=self._finished())

    def _reply(self, *, with_open_calls: bool) -> Reply:
        reply = self._collector.reply(with_open_calls=with_open_calls)
        choices = []
        for choice in reply.choices:
            state = self._choices.get(choice.index)
            if state is not None:
                message = replace(choice.message, extra=state.replayed)
                unknown = {"message": state.unknown} if state.unknown else {}
                choices.append(replace(choice, message=message, extra={**choice.extra, **state.extra, **unknown}))
        return replace(
            reply, **self._head, choices=tuple(choices), usage=load_usage(self._usage), extra=dict(self._extra)
        )

    def end(self) -> Reply:
        """The whole reply.

        Raises `Incomplete` when the stream stopped before the answer did, and `BadData` when it held no answer.
        """
        if not self._choices:
            if self.done or self._events:
                raise BadData("a stream without an answer in it")
            raise Incomplete("The stream ended before anything came", reply=self.so_far())
        late: list[Delta] = []
        for state in self._choices.values():
            if state.finish is None:
                state.flush(late)
                self._collect(late)
                what = "within a tool call" if len(state.calls) else "before the answer was finished"
                raise Incomplete(f"The stream stopped {what}", reply=self._reply(with_open_calls=False))
            state.complete(late)
        self._collect(late)
        reply = self._reply(with_open_calls=True)
        return replace(reply, raw=dump_reply(reply))

    def _collect(self, deltas: list[Delta]) -> None:
        for delta in deltas:
            self._collector.feed(delta)


class _Choice:
    """One choice of the stream: where its parts stand in the message, and what no delta tells."""

    def __init__(self, index: int, seed: Any, splitter: ThinkSplitter | None) -> None:
        self.index = index
        self.parts = 0  # how many have been opened
        self.calls = Calls()
        self.finish: str | None = None
        self.extra: dict[str, Any] = {}
        self.unknown: dict[str, Any] = {}
        self.replayed: dict[str, Any] = {}
        self._seed = seed
        self._splitter = splitter
        self._text: int | None = None
        self._refusal: int | None = None
        self._reasoning: int | None = None
        self._thought: list[str] = []
        self._source: str | None = None
        self._fields: dict[str, Any] = {}  # of the thinking, raw: texts as lists of pieces
        self._part_extra: dict[str, Any] = {}
        self._audio: dict[str, Any] = {}
        self._sound: list[str] = []
        self._spoken: int | None = None

    def take(self, delta: dict[str, Any], logprobs: Any, deltas: list[Delta]) -> None:
        """Add what one `delta` object says."""
        others = [key for key, value in delta.items() if value and key not in _UNTOLD]
        if others and not _THOUGHTS.isdisjoint(others):
            self._think(delta, deltas)
        content = delta.get("content")
        tokens = self._tokens(logprobs, deltas) if logprobs is not None else None
        if type(content) is str:
            if content or tokens:
                self._say(content, tokens, deltas)
        elif content or tokens:
            self._take_content(content, tokens, deltas)
        for key in others:
            self._take_other(key, delta[key], deltas)

    def _say(self, text: str, tokens: tuple[Any, ...] | None, deltas: list[Delta]) -> None:
        if self._splitter is not None:
            thought, text = self._splitter.feed(text)
            if thought:
                self._reason(thought, deltas)
        if text or tokens:
            if self._text is None:
                self._text = self._open()
            deltas.append(Delta(text, index=self._text, choice=self.index, logprobs=tokens))

    def _open(self) -> int:
        self.parts += 1
        return self.parts - 1

    def _tokens(self, logprobs: Any, deltas: list[Delta]) -> tuple[Any, ...] | None:
        """The log probabilities of the text; those of a refusal become a delta, other forms are kept."""
        if not isinstance(logprobs, Mapping):
            self.extra["logprobs"] = logprobs
            return None
        if unread := rest(logprobs, ("content", "refusal")):
            self.extra["logprobs"] = unread
        if (refused := logprobs.get("refusal")) and isinstance(refused, list):
            self._refuse("", deltas, tuple(refused))
        tokens = logprobs.get("content")
        return tuple(tokens) if isinstance(tokens, list) else None

    def _take_content(self, content: Any, tokens: tuple[Any, ...] | None, deltas: list[Delta]) -> None:
        """Content that is no string: a list of parts, one part, or an object that should have been a string."""
        if not content:
            self._say("", tokens, deltas)
        for part in load_content(content):
            if isinstance(part, Text):
                self._say(part.text, tokens, deltas)
                tokens = None
                if part.annotations:
                    self._annotate(part.annotations, deltas)
            elif isinstance(part, Reasoning):
                self._source = self._source or part.source
                self._part_extra.update(part.extra)
                self._reason(part.text, deltas)
            elif isinstance(part, Refusal):
                self._refuse(part.text, deltas)
            else:
                self._add(part, deltas)
                self._text = None  # text after it is a part of its own

    def _add(self, part: Part, deltas: list[Delta]) -> None:
        deltas.append(Delta(part=part, index=self._open(), choice=self.index))

    def _take_other(self, key: str, value: Any, deltas: list[Delta]) -> None:
        if key == "tool_calls":
            self._call(value if isinstance(value, list) else [value], deltas)
        elif key == "function_call":
            self._call([{"index": 0, "function": value}], deltas)
        elif key == "refusal":
            self._refuse(as_text(value), deltas)
        elif key == "annotations":
            self._annotate(load_annotations(value), deltas)
        elif key == "audio":
            self._hear(value)
        elif key == "images":
            images: list[Image] = load_images(value)
            for image in images:
                self._add(image, deltas)
        elif key in REPLAYED:
            self.replayed[key] = value
        elif key not in _NAMED:
            old = self.unknown.get(key)
            both_lists = isinstance(old, list) and isinstance(value, list)
            self.unknown[key] = [*old, *value] if both_lists else value  # type: ignore[misc]

    def _think(self, delta: dict[str, Any], deltas: list[Delta]) -> None:
        """Take the thinking of a chunk once, however many fields say it."""
        found = {name: delta[name] for name in thinking.FIELDS if delta.get(name)}
        text = ""
        for name, value in found.items():
            said = thinking.text_of(value)
            # A field of text is never completed by a list that repeats it as a whole.
            if said and not text and (name in thinking.TEXT_FIELDS or self._source in (None, name)):
                text, self._source = said, self._source or name
            if name in thinking.LIST_FIELDS:
                thinking.merge_details(self._fields.setdefault(name, []), value)
            else:
                self._fields.setdefault(name, []).append(said)
        self._reason(text, deltas)

    def _reason(self, text: str, deltas: list[Delta]) -> None:
        if self._reasoning is None:
            self._reasoning = self._open()
        if text:
            self._thought.append(text)
            deltas.append(Delta(reasoning=text, index=self._reasoning, choice=self.index))

    def _refuse(self, text: str, deltas: list[Delta], tokens: tuple[Any, ...] | None = None) -> None:
        if self._refusal is None:
            self._refusal = self._open()
        deltas.append(Delta(refusal=text, index=self._refusal, choice=self.index, logprobs=tokens))

    def _annotate(self, annotations: tuple[Mapping[str, Any], ...], deltas: list[Delta]) -> None:
        if self._text is None:
            self._text = self._open()
        deltas.append(Delta(annotations=annotations, index=self._text, choice=self.index))

    def _call(self, entries: list[Any], deltas: list[Delta]) -> None:
        touched: list[int] = []
        for entry in entries:
            if isinstance(entry, Mapping):
                before = len(self.calls)
                spare = call_id(self._seed, self.index, before)
                place, piece = self.calls.take(entry, self.parts, spare, touched)
                if len(self.calls) > before:
                    self._open()
                deltas.append(Delta(tool_call=piece, index=place, choice=self.index))

    def _hear(self, audio: Any) -> None:
        """Keep a piece of spoken answer; it becomes a part when the choice ends."""
        if not isinstance(audio, Mapping):
            return
        if self._spoken is None:
            self._spoken = self._open()
        for key, value in audio.items():
            if key == "data":
                self._sound.append(as_text(value))
            elif key == "transcript":
                self._audio[key] = self._audio.get(key, "") + as_text(value)
            elif value is not None:
                self._audio[key] = value

    def finish_with(self, finish: str | None, original: dict[str, Any], deltas: list[Delta]) -> None:
        """Note why the choice ended; of several reasons the first counts, unless it is a plain stop."""
        self.complete(deltas)
        if self.finish in (None, "stop") and finish != self.finish:
            self.finish = finish
            self.extra.update(original)
            deltas.append(Delta(finish_reason=finish, choice=self.index, extra=original))

    def flush(self, deltas: list[Delta]) -> None:
        """Give out text that was held back because it might have begun a tag."""
        if self._splitter is not None:
            thought, text = self._splitter.end()
            self._splitter = None
            if thought:
                self._reason(thought, deltas)
            if text:
                self._say(text, None, deltas)

    def complete(self, deltas: list[Delta]) -> None:
        """Give out the parts in their final form: those with more than their deltas told."""
        self.flush(deltas)
        if self._reasoning is not None and self._source is None and self._fields:
            self._source = next(iter(self._fields))
        if self._reasoning is not None and self._source is not None:
            deltas.append(Delta(part=self._whole_thought(), index=self._reasoning, choice=self.index))
        if self._spoken is not None:
            sound = {"data": _joined_base64(self._sound)} if any(self._sound) else {}
            part = load_audio({**self._audio, **sound}) or Audio()
            deltas.append(Delta(part=part, index=self._spoken, choice=self.index))

    def _whole_thought(self) -> Reasoning:
        raw = {name: "".join(value) if name in thinking.TEXT_FIELDS else value for name, value in self._fields.items()}
        thought = thinking.load_fields(raw) or Reasoning()
        return replace(
            thought,
            text="".join(self._thought),
            source=self._source,
            extra=_without(thought, self._source) | self._part_extra,
        )


def _without(thought: Reasoning, source: str | None) -> dict[str, Any]:
    """The raw fields beside the text, less the one that the text itself is."""
    return {name: value for name, value in thought.extra.items() if name != source or not isinstance(value, str)}


def _joined_base64(pieces: list[str]) -> str:
    """Pieces of base64 as one: each may have been padded by itself."""
    if not any(piece.endswith("=") for piece in pieces[:-1]):
        return "".join(pieces)
    try:
        return base64.b64encode(b"".join(base64.b64decode(piece) for piece in pieces)).decode("ascii")
    except binascii.Error:
        return "".join(pieces)
