"""Makes an answer in the caller's own API one that the SDK's types and stream helpers can hold.

A regular answer passes as the bytes that came.
Where something is missing or odd, what the codec's strict writer says is laid over what the server sent, so that
the server's further fields stay.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from allos.messages import Delta, Reply, Request, Wire
from allos.wire import chat, responses, sse
from allos.wire.answer import CODECS
from allos.wire.chat.reasoning import FIELDS, LIST_FIELDS
from allos.wire.chat.replies import dump_finish, dump_usage, load_usage
from allos.wire.collect import deltas

__all__ = ["Watch", "as_stream", "dated", "repaired", "sound_answer"]

_FINISHES = ("stop", "length", "tool_calls", "content_filter", "function_call")
_SAID = ("role", "content", "refusal", "tool_calls", "function_call", "annotations")
# The role is told once, and of the others the server's own pieces pass: told again, they would be doubled.
_NOT_JOINED = frozenset(("role", "audio", *LIST_FIELDS))
_GROWING = ("content", "refusal", "reasoning_content", "tool_calls")
_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")
_RESPONSE: Mapping[str, Any] = {
    "id": str,
    "created_at": (int, float),
    "model": str,
    "object": str,
    "output": list,
    "tools": list,
}
_NAMED = {"message": "msg", "reasoning": "rs"}  # items that must have an id, and what theirs begin with
_REQUIRED = ("parallel_tool_calls", "tool_choice", "error", "incomplete_details", "status")


def dated(reply: Reply) -> Reply:
    """The reply with a time, which both APIs require and some servers leave out."""
    return reply if reply.created is not None else replace(reply, created=int(time.time()))


def as_stream(wire: Wire, reply: Reply, request: Request | None = None) -> bytes:
    """A whole reply as the bytes of the stream that `request` asked for, for servers that answer with plain JSON."""
    codec = CODECS[wire]
    encoder = codec.Encoder(request=request)
    payloads = [payload for delta in deltas(dated(reply)) for payload in encoder.feed(delta)]
    payloads += encoder.end(reply)
    return b"".join(codec.frame(payload) for payload in payloads) + bytes(codec.TAIL)


def repaired(wire: Wire, data: Any, reply: Reply) -> dict[str, Any] | None:
    """A whole answer that the SDK can hold; None where `data` already is one."""
    if isinstance(data, Mapping) and (_is_completion(data) if wire == "chat" else _is_response(data)):
        return None
    if wire == "responses":
        return _filled(data, responses.dump_reply(dated(reply)))
    made = chat.dump_reply(dated(reply))
    if not isinstance(data, Mapping):
        return made
    old = [choice for choice in data.get("choices") or [] if isinstance(choice, Mapping)]
    for choice, before in zip(made["choices"], old, strict=False):
        message = before.get("message")
        further = (
            {key: value for key, value in message.items() if key not in _SAID} if isinstance(message, Mapping) else {}
        )
        choice["message"] = {**further, **choice["message"]}
    return {**data, **made}


def sound_answer(wire: Wire, body: bytes) -> dict[str, Any] | None:
    """The JSON of a whole answer that has ended well and that the SDK can hold; None where that takes a closer look."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict) or data.get("error"):
        return None
    if wire == "chat":
        is_sound = _is_completion(data) and not any(choice.get("error") for choice in data["choices"])
    else:
        is_sound = data.get("status") == "completed" and _is_response(data)
    return data if is_sound else None


def _is_response(data: Mapping[str, Any]) -> bool:
    return (
        all(isinstance(data.get(name), kind) for name, kind in _RESPONSE.items())
        and all(name in data for name in _REQUIRED)
        and all(_is_item(item) and _is_named(item) for item in data["output"])
    )


def _is_item(item: Any) -> bool:
    """Whether the SDK can read an item of the output."""
    if not isinstance(item, Mapping) or not isinstance(item.get("type"), str):
        return False
    if item["type"] != "message" or item.get("content") is None:
        return True
    parts = item["content"]
    return isinstance(parts, list) and all(isinstance(part, Mapping) and part.get("type") for part in parts)


def _is_named(item: Mapping[str, Any]) -> bool:
    return item["type"] not in _NAMED or isinstance(item.get("id"), str)


def _with_id(item: dict[str, Any]) -> dict[str, Any]:
    return item if _is_named(item) else {**item, "id": responses.fresh_id(_NAMED[item["type"]])}


def _filled(data: Any, made: dict[str, Any]) -> dict[str, Any]:
    """The server's own Response with what it lacks, or says in a form that the SDK can't read, from `made`.

    Of its items only nulls are left out that the reference does not know: the SDK's tool runner takes them for claims.
    """
    if not isinstance(data, Mapping):
        return made
    said = {name: value for name, value in data.items() if isinstance(value, _RESPONSE.get(name, object))}
    output = data.get("output")
    if isinstance(output, list) and all(map(_is_item, output)):
        made["output"] = [_with_id(_without(item, responses.wrong_nulls(item))) for item in output]
    return {**made, **said, "output": made["output"]}


def _without(item: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: said for name, said in item.items() if name not in names}


def _is_completion(data: Mapping[str, Any]) -> bool:
    return (
        _has_head(data, "chat.completion")
        and _counts_are_whole(data.get("usage"))
        and bool(data["choices"])
        and all(_is_choice(choice) for choice in data["choices"])
    )


def _has_head(data: Mapping[str, Any], kind: str) -> bool:
    return (
        data.get("object") == kind
        and isinstance(data.get("id"), str)
        and isinstance(data.get("model"), str)
        and isinstance(data.get("created"), int)
        and isinstance(data.get("choices"), list)
    )


def _counts_are_whole(usage: Any) -> bool:
    return usage is None or (isinstance(usage, Mapping) and all(isinstance(usage.get(name), int) for name in _COUNTS))


def _is_choice(choice: Any) -> bool:
    if not isinstance(choice, Mapping) or not isinstance(choice.get("index"), int):
        return False
    message = choice.get("message")
    return (
        choice.get("finish_reason") in _FINISHES
        and isinstance(choice.get("logprobs"), (Mapping, type(None)))
        and isinstance(message, Mapping)
        and message.get("role") == "assistant"
        and isinstance(message.get("content"), (str, type(None)))
        and all(_is_call(call) for call in message.get("tool_calls") or [])
    )


def _is_call(call: Any) -> bool:
    if not isinstance(call, Mapping) or not isinstance(call.get("id"), str) or not call["id"]:
        return False
    if call.get("type") == "custom":
        return True
    function = call.get("function")
    return (
        call.get("type") == "function" and isinstance(function, Mapping) and isinstance(function.get("arguments"), str)
    )


class Watch:
    """The guard of a stream in the caller's own API: `feed` the server's events, get the bytes for the caller.

    Raises what the codecs raise: `ServerFault` and `BadData` at once, `Incomplete` at the `end` of a cut stream.
    `repairs` counts the events that had to be changed, `final` is the whole answer of a Responses stream.
    Nothing is changed where `mends` is false: those of the service that defines the API are right by definition.
    """

    def __init__(self, wire: Wire, *, think_tags: bool = False, mends: bool = True) -> None:
        self._wire = wire
        self._codec = CODECS[wire]
        self._decoder: Any = self._codec.Decoder(think_tags=think_tags)
        self._encoder: Any = self._codec.Encoder()
        self._unsaid: list[Delta] = []  # what the encoder has not been fed, as no event had to be changed yet
        self._mends = mends
        self._always = think_tags
        self._steady = responses.Steady()
        self._last: Any = None  # the last response object of a Responses stream that had to be changed
        self._first_id: str | None = None
        self._entries: dict[tuple[int, str], int] = {}  # choice, field → how many entries of its list have come
        self._begun: set[int] = set()  # choices whose role has been told
        self._calls: dict[int, list[str]] = {}  # choice → ids of its tool calls, by index
        self.repairs = 0
        self.tail = b""
        self.final: dict[str, Any] | None = None

    @property
    def done(self) -> bool:
        """Whether the end of the answer was seen."""
        return bool(self._decoder.done)

    @property
    def answer_id(self) -> str | None:
        """The id under which a Chat stream's reader knows the answer."""
        return str(self._encoder.head["id"]) if self._always else self._decoder.so_far().id

    def so_far(self) -> Reply:
        """What has come until now."""
        return self._decoder.so_far()  # type: ignore[no-any-return]  # the codecs are modules of one shape

    def feed(self, event: sse.Event) -> list[bytes]:
        """The bytes for the caller that one event of the server becomes."""
        made = self._event(event)
        return [made] if made else []

    def _event(self, event: sse.Event) -> bytes:
        found: list[Delta] = self._decoder.feed(event)
        if event.data.strip() == "[DONE]":  # said at the end, when the answer has turned out to be whole
            return self._late_finish(found)
        if not self._mends and event.data.strip():
            return sse.dump(event.data, event.name)
        try:
            data = json.loads(event.data)
        except ValueError:  # nothing, or an end that is spelled another way
            return b""
        if self._wire == "responses":
            return self._response_event(event, data, found)
        if not isinstance(data, dict):
            return b""
        if not self._always and self._is_chunk(data):
            self._unsaid += found
            return sse.dump(event.data)
        self.repairs += 1
        return self._frame(self._chunk(data, found, self._said(found)))

    def _said(self, found: Iterable[Delta]) -> list[dict[str, Any]]:
        """What our encoder says for these deltas, after all those before them."""
        for delta in self._unsaid:
            self._encoder.feed(delta)
        self._unsaid.clear()
        return [payload for delta in found for payload in self._encoder.feed(delta)]

    def _indexed(self, choice: int, key: str, value: Any) -> Any:
        """A list in a delta with the numbers by which the SDK's stream helper puts such lists together."""
        if not _lacks_index(value):
            return value
        first = self._entries.get((choice, key), 0)
        entries = [entry for entry in value if isinstance(entry, dict)]  # what is none could not be put together
        self._entries[choice, key] = first + len(entries)
        return [{**entry, "index": place} for place, entry in enumerate(entries, first)]

    def _late_finish(self, found: list[Delta]) -> bytes:
        """The finish reason of a stream that gave none, told where the stream says that it is whole."""
        if not self._mends or not any(delta.finish_reason for delta in found):
            return b""
        self.repairs += 1
        payloads = self._said(found) if self._always else []  # else all but the finish reason has been passed on
        usage = dump_usage(self._decoder.so_far().usage)
        return self._frame(self._chunk({}, found, payloads) | ({"usage": usage} if usage else {}))

    def end(self) -> Reply:
        """The reply that the stream made; `tail` is then what is left to send."""
        reply: Reply = self._decoder.end()
        self.final = self._last or (reply.raw if isinstance(reply.raw, dict) else None)
        self.tail = bytes(self._codec.TAIL)
        if self._wire == "responses" and self._always:
            payloads = self._encoder.end(reply)
            self.final = next((payload["response"] for payload in payloads if "response" in payload), None)
            self.tail = b"".join(self._frame(payload) for payload in payloads)
        return reply

    def _frame(self, payload: Mapping[str, Any]) -> bytes:
        return bytes(self._codec.frame(payload))

    def _response_event(self, event: sse.Event, data: Any, found: Iterable[Delta]) -> bytes:
        """Events without numbers or a beginning can't be mended one by one: then the whole stream is written anew."""
        if not isinstance(data, dict):
            return b""
        if not self._always and self._first_id is None:
            self._first_id = "seen"
            begins = data.get("type") == "response.created" and isinstance(data.get("sequence_number"), int)
            self._always = not begins
        if self._always:
            self.repairs += 1
            return b"".join(self._frame(payload) for payload in self._said(found))
        whole = self._decoder.so_far().raw if self.done else None
        if self._steady.mend(data, whole if isinstance(whole, dict) else None):
            self.repairs += 1
            self._last = data.get("response", self._last)
            return sse.dump(data, event.name or str(data.get("type", "")))
        return sse.dump(event.data, event.name or str(data.get("type", "")))

    def _is_chunk(self, data: dict[str, Any]) -> bool:
        """Whether the SDK's stream helper can take this chunk after those before it."""
        if not _has_head(data, "chat.completion.chunk") or not _counts_are_whole(data.get("usage")):
            return False
        self._first_id = self._first_id if self._first_id is not None else data["id"]
        if data["id"] != self._first_id or not all(self._is_delta(choice) for choice in data["choices"]):
            return False
        self._begun.update(choice["index"] for choice in data["choices"])
        return True

    def _is_delta(self, choice: Any) -> bool:
        if not isinstance(choice, dict) or not isinstance(choice.get("index"), int):
            return False
        delta = choice.get("delta")
        if not isinstance(delta, dict) or not isinstance(delta.get("content"), (str, type(None))):
            return False
        if bool(delta.get("role")) != (choice["index"] not in self._begun):  # the helper puts repeated roles together
            return False
        if any(_lacks_index(value) for key, value in delta.items() if value and key != "tool_calls"):
            return False
        if not isinstance(choice.get("logprobs"), (dict, type(None))):
            return False
        if choice.get("finish_reason", "stop") not in (None, *_FINISHES) or "finish_reason" not in choice:
            return False
        calls = delta.get("tool_calls") or []
        return isinstance(calls, list) and all(self._continues(choice["index"], call) for call in calls)

    def _continues(self, choice: int, call: Any) -> bool:
        """Whether a tool call's piece opens the next call or adds to one that is open."""
        ids = self._calls.setdefault(choice, [])
        if not isinstance(call, dict) or not isinstance(index := call.get("index"), int) or not 0 <= index <= len(ids):
            return False
        function = call.get("function", call.get("custom"))
        if not isinstance(function, dict):
            return False
        said, name = function.get("input" if "custom" in call else "arguments", ""), call.get("id")
        if index < len(ids):  # the SDK's helper puts repeated names together, and takes a null type for one
            told = name or function.get("name") or ("type" in call and not call["type"])
            return isinstance(said, (str, type(None))) and not told
        if not isinstance(said, str) or not function.get("name") or not call.get("type"):
            return False
        if not isinstance(name, str) or not name or name in ids:
            return False
        ids.append(name)
        return True

    def _chunk(
        self, data: dict[str, Any], found: Iterable[Delta], payloads: Iterable[Mapping[str, Any]]
    ) -> dict[str, Any]:
        """One chunk that says what the server's chunk said, with the fields that the reference requires."""
        self._always = True  # numbers and ids must stay those of the encoder from here on
        head = {
            key: value for key, value in data.items() if key not in ("choices", "usage", "error") and value is not None
        }
        made = {**head, **self._encoder.head, "choices": []}
        choices = data.get("choices")
        before = {
            (choice["index"] if type(choice.get("index")) is int else 0): choice["delta"]
            for choice in (choices if isinstance(choices, list) else ())
            if isinstance(choice, dict) and isinstance(choice.get("delta"), dict)
        }
        entries: dict[int, dict[str, Any]] = {}

        def entry(index: int) -> dict[str, Any]:
            old = before.get(index)
            if index not in entries:
                further = {key: value for key, value in old.items() if key not in _SAID} if old else {}
                further = {key: self._indexed(index, key, value) for key, value in further.items()}
                role = {} if index in self._begun else {"role": "assistant"}
                self._begun.add(index)
                delta = {**role, **further}
                entries[index] = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
            return entries[index]

        for payload in payloads:
            for choice in payload["choices"]:
                old = before.get(choice["index"], {})
                _join(entry(choice["index"]), choice, thinks=any(old.get(name) for name in FIELDS))
        usage = None
        for delta in found:
            if delta.finish_reason is not None:
                called = bool(self._calls.get(delta.choice)) or delta.finish_reason == "tool_calls"
                finish, native = dump_finish(delta.finish_reason, called=called)
                entry(delta.choice).update(finish_reason=finish, **native)
            usage = delta.usage or usage
        made["choices"] = [entries[index] for index in sorted(entries)]
        if isinstance(data.get("usage"), dict) or usage is not None:
            made["usage"] = dump_usage(usage or load_usage(data["usage"]))
        return made


def _lacks_index(value: Any) -> bool:
    """Whether the SDK's stream helper can't put this list together with those before it."""
    return isinstance(value, list) and any(isinstance(entry, dict) and "index" not in entry for entry in value)


def _join(entry: dict[str, Any], choice: Mapping[str, Any], *, thinks: bool) -> None:
    """Add a payload's choice to that of the chunk: texts and lists grow, the rest is set.

    Where the service's own chunk `thinks`, that passes as it is.
    """
    for key, value in choice["delta"].items():
        if key in _NOT_JOINED or (thinks and key in FIELDS):
            continue
        old = entry["delta"].get(key)
        grows = (isinstance(old, str) and isinstance(value, str) and key != "role") or isinstance(old, list)
        entry["delta"][key] = old + value if grows and key in _GROWING else value
    if choice.get("logprobs") is not None:
        entry["logprobs"] = choice["logprobs"]
