"""API asked × API spoken: the whole way of one drop-in call, without I/O.

The drop-in clients hand in what a program asked in one API, and get what to send in the other; then they hand in
the bytes that came back, and get the bytes that the program's own API would have sent.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from allos.adapters import ADAPTERS
from allos.errors import Incomplete, Unsupported
from allos.ladder import Ladder
from allos.messages import Delta, Message, Note, OutputFormat, Reasoning, Reply, Request, Wire
from allos.settings import Target
from allos.wire import dialect
from allos.wire.answer import CODECS, Answer
from allos.wire.envelope import is_sealed, seal_items
from allos.wire.fault import dig
from allos.wire.names import RESPONSE_FIELDS
from allos.wire.objects import Objects, with_object
from allos.wire.repair import Watch, as_stream, dated, repaired, sound_answer

__all__ = [
    "PATHS",
    "Exchange",
    "Guard",
    "Receipt",
    "StreamTranslation",
    "error_body",
    "form_of",
    "plan",
    "readable_error",
]

_TAKEN_OUT = Note("left out", "schema", "the words around the object")
_SEALED = "reasoning.encrypted_content"
PATHS: dict[Wire, str] = {"chat": "/chat/completions", "responses": "/responses"}


@dataclass(slots=True)
class Receipt:
    """What happened to one call: where it went, which API was asked and which spoken, and what was changed."""

    endpoint: str
    base_url: str | None
    asked: Wire
    spoken: Wire
    model: str | None = None
    notes: list[Note] = field(default_factory=list)

    @property
    def translated(self) -> bool:
        """Whether another API was spoken than the program asked for."""
        return self.asked != self.spoken


@dataclass(slots=True)
class Exchange:
    """One call on its way: what the program asked, what is sent instead, and how the answer is to look.

    `mends`: an answer that lacks or misuses fields of the API is mended on its way. OpenAI's own are left as they are.
    `ladder`: the way to the object that the program asked for by a field, where the service is not sure to know it.
    """

    receipt: Receipt
    asked_body: dict[str, Any]
    sent_body: dict[str, Any]
    request: Request | None = None
    mends: bool = True
    ladder: Ladder | None = None

    @property
    def stream(self) -> bool:
        """Whether the program asked for a stream."""
        return bool(self.asked_body.get("stream"))

    @property
    def rewrites(self) -> bool:
        """Whether the answer is written anew: another API was spoken, or an object is to be found in it."""
        return self.receipt.translated or self.seeks_object

    @property
    def seeks_object(self) -> bool:
        """Whether the object is to be found in the answer, as the service does not see to its form."""
        return self.ladder is not None and not self.ladder.is_enforced

    def answer(self, body: bytes, *, think_tags: bool = False) -> tuple[dict[str, Any], bool, Reply | None]:
        """The whole answer in the API that was asked, whether it differs from the bytes that came, and what it says.

        The bytes pass as they are where nothing is translated and the SDK's types can hold what they say; None for
        what it says where there was no need to read that.
        Raises `WireError` for what is no answer at all.
        """
        wire = self.receipt.spoken
        may_pass = not (self.rewrites or think_tags) and self.ladder is None
        if may_pass and (sound := sound_answer(wire, body)) is not None:
            return sound, False, None
        read = Answer(wire, think_tags=think_tags)
        read.feed(body)
        read.end()
        assert read.reply is not None  # `end` returned
        reply, found = read.reply, self.found(read.reply)
        if self.rewrites or found is not reply:
            return self.dump(found), True, found
        data = reply.raw if read.is_body else None
        if data is not None and not self.mends:
            return data, False, reply
        made = repaired(wire, None if think_tags else data, reply)
        if made is None:
            return data or {}, False, reply
        self.receipt.notes.append(Note("repaired", "body", "it lacked or misused fields of the API"))
        return made, True, reply

    def found(self, reply: Reply) -> Reply:
        """The reply with the object that was asked for as its text, where one is in it; the same where nothing is."""
        if self.ladder is None:
            return reply
        unpacked = self.ladder.unpacked(reply)
        found = with_object(unpacked, self.ladder.schema)
        self.receipt.notes += unpacked.notes[len(reply.notes) :]
        if found is not unpacked:
            self.receipt.notes.append(_TAKEN_OUT)
        return found

    def dump(self, reply: Reply) -> dict[str, Any]:
        """A reply as the JSON object of the API that was asked; what that API can't say is noted on the receipt."""
        codec = CODECS[self.receipt.asked]
        request = self.request or codec.load_request(self.asked_body)
        made: dict[str, Any] = codec.dump_reply(dated(self.told(reply)), request=request, notes=self.receipt.notes)
        if self.seals:
            seal_items(made["output"], _thoughts(reply))
        return made

    @property
    def seals(self) -> bool:
        """Whether the program asked to get thoughts that it can hand back, from a service that encrypts none."""
        asks = self.receipt.asked == "responses" and self.receipt.translated
        return asks and _SEALED in _included(self.asked_body)

    def told(self, reply: Reply) -> Reply:
        """The reply as the API asked can tell it: without fields whose names mean something else there.

        Raises `Incomplete` for an answer that the service is still working on, which Chat Completions doesn't know.
        """
        if self.receipt.asked == self.receipt.spoken:
            return reply
        if self.receipt.asked == "chat":
            if reply.choices and reply.finish_reason is None:
                raise Incomplete(f"it is still {reply.extra.get('status', 'unfinished')!r}", reply=reply)
            return reply
        return replace(reply, extra={name: said for name, said in reply.extra.items() if name not in RESPONSE_FIELDS})

    def streamed(self, *, think_tags: bool = False) -> StreamTranslation | Guard:
        """What takes this call's stream to the program."""
        return (StreamTranslation if self.rewrites else Guard)(self, think_tags=think_tags)


class _Streamed:
    """A call's stream on its way to the program.

    At the end `final` is the whole answer object, and `reply` what the program was told.
    `feed` and `end` raise what `allos.wire.answer.Answer` raises.
    """

    def __init__(self, exchange: Exchange, *, think_tags: bool, decoder: Watch | None = None) -> None:
        self._exchange = exchange
        spoken, choices = exchange.receipt.spoken, exchange.sent_body.get("n")
        self._answer = Answer(spoken, decoder=decoder, think_tags=think_tags, choices=choices)
        self.final: dict[str, Any] | None = None
        self.reply: Reply | None = None

    @property
    def events(self) -> int:
        """How many events have come that were more than comments."""
        return self._answer.events

    @property
    def done(self) -> bool:
        """Whether the end of the answer was seen, so that no more bytes need to be waited for."""
        return self._answer.done

    def so_far(self) -> Reply:
        """What has come until now."""
        return self._answer.so_far()


class StreamTranslation(_Streamed):
    """Turns the bytes of one API's stream into those of the other."""

    def __init__(self, exchange: Exchange, *, think_tags: bool = False) -> None:
        super().__init__(exchange, think_tags=think_tags)
        self._codec = CODECS[exchange.receipt.asked]
        self._encoder = self._codec.Encoder(request=exchange.request)
        self._seals = exchange.seals
        self._thoughts: list[dict[str, Any]] = []  # the reasoning items that have ended
        ladder = exchange.ladder
        self._objects = Objects(ladder.schema) if ladder is not None and exchange.seeks_object else None

    @property
    def answer_id(self) -> str | None:
        """The id under which the program knows the answer, once it has ended."""
        return str(self.final["id"] if self.final is not None else self._encoder.head["id"])

    def feed(self, chunk: bytes) -> bytes:
        """The translated bytes that these complete."""
        return self._frames(payload for delta in self._let(self._answer.feed(chunk)) for payload in self._said(delta))

    def _let(self, deltas: Iterable[Delta]) -> list[Delta]:
        """The deltas that the program is to see: of an object that is sought, no words around it."""
        if self._objects is None:
            return list(deltas)
        ladder = self._exchange.ladder
        assert ladder is not None  # an object is sought
        return [let for delta in deltas for let in self._objects.feed(ladder.shown(delta))]

    def end(self) -> bytes:
        """The translated end of the stream. A cut stream raises and is never completed."""
        last = self._let(self._answer.end()) + (self._objects.end() if self._objects is not None else [])
        payloads = [payload for delta in last for payload in self._said(delta)]
        reply = self._answer.reply
        assert reply is not None  # `end` returned
        self.reply = reply = reply if self._objects is None else self._shown(reply, self._objects)
        payloads += self._sealed(self._encoder.end(self._exchange.told(reply)))
        if len(reply.choices) > 1 and self._exchange.receipt.asked == "responses":
            self._exchange.receipt.notes.append(Note("left out", "choices", "a Response holds one answer"))
        for payload in payloads:
            if isinstance(payload.get("response"), dict):
                self.final = payload["response"]
        return self._frames(payloads) + bytes(self._codec.TAIL)

    def _shown(self, reply: Reply, objects: Objects) -> Reply:
        """The reply as the deltas have told it, which may be less than all that came."""
        ladder = self._exchange.ladder
        assert ladder is not None  # an object is sought
        unpacked = ladder.unpacked(reply)
        notes = unpacked.notes[len(reply.notes) :] or (() if objects.is_whole else (_TAKEN_OUT,))
        self._exchange.receipt.notes += notes
        return objects.shown(unpacked)

    def _said(self, delta: Delta) -> list[dict[str, Any]]:
        return self._sealed(self._encoder.feed(delta))

    def _sealed(self, payloads: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The events, with the thoughts that ended put into their items: the last event shows the same objects."""
        if self._seals:
            ended = [event["item"] for event in payloads if event["type"] == "response.output_item.done"]
            self._thoughts += [item for item in ended if item["type"] == "reasoning"]
            if ended:
                seal_items(self._thoughts, _thoughts(self._answer.so_far()))
        return payloads

    def _frames(self, payloads: Iterable[Mapping[str, Any]]) -> bytes:
        return b"".join(self._codec.frame(payload) for payload in payloads)


class Guard(_Streamed):
    """A stream that needs no translation: checked on its way, and mended where it is odd.

    Plain JSON in answer to a stream request becomes the stream that was asked for.
    """

    def __init__(self, exchange: Exchange, *, think_tags: bool = False) -> None:
        self._watch = Watch(exchange.receipt.spoken, think_tags=think_tags, mends=exchange.mends)
        super().__init__(exchange, think_tags=think_tags, decoder=self._watch)

    @property
    def answer_id(self) -> str | None:
        """See `StreamTranslation`."""
        return self.final.get("id") if self.final is not None else self._watch.answer_id

    def feed(self, chunk: bytes) -> bytes:
        """The bytes for the program that these complete."""
        return b"".join(self._answer.feed(chunk))

    def end(self) -> bytes:
        """What is left to send. Raises `Incomplete` for a stream that was cut."""
        last = self._answer.end()
        self.reply = reply = self._answer.reply
        assert reply is not None  # `end` returned
        if self._answer.is_body:
            self._exchange.receipt.notes.append(Note("repaired", "stream", "the server sent one JSON body"))
            self.final = repaired(self._exchange.receipt.spoken, reply.raw, reply) or reply.raw
            asked = CODECS[self._exchange.receipt.asked].load_request(self._exchange.asked_body)
            return as_stream(self._exchange.receipt.spoken, reply, asked)
        if self._watch.repairs:
            said = f"{self._watch.repairs} events lacked or misused fields of the API"
            self._exchange.receipt.notes.append(Note("repaired", "stream", said))
        self.final = self._watch.final
        return b"".join(last) + self._watch.tail


def plan(
    asked: Wire,
    spoken: Wire,
    body: Mapping[str, Any],
    target: Target,
    *,
    expanded: Mapping[str, Any] | None = None,
    ladder: Ladder | None = None,
    also: Sequence[Message] = (),
) -> Exchange:
    """How one call travels. `expanded` is the body with its stored history, where the endpoint keeps none.

    `ladder` is the way in which to ask for an object, `also` what is said after all else where it is asked for again.
    Raises `Unsupported` for what the API spoken can't say.
    """
    notes: list[Note] = []
    asked_body = dict(body)
    source = dict(expanded if expanded is not None else body)
    receipt = Receipt(target.endpoint.alias, target.base_url, asked, spoken, notes=notes)
    if isinstance(source.get("model"), str):
        source["model"] = receipt.model = _model(source["model"], target, notes)
    request = None
    if asked == "responses":
        _take_apart(source, spoken, notes)
    codec = CODECS[asked]
    if asked == spoken:
        if ladder is not None and (also or not ladder.is_as_wanted):
            source = _asking(ladder, source, asked, also)
            request = codec.load_request({**asked_body, "model": source.get("model")})
        sent = dialect.apply(source, target.endpoint.dialect, spoken, notes)
    else:
        request = codec.load_request(source)
        if ladder is not None:
            request = ladder.ask(request.replace(messages=(*request.messages, *also)))
        if asked == "responses" and request.stream:
            request = request.replace(include_usage=True)  # the last Responses event carries the usage
        sent = ADAPTERS[spoken].body(request, target, notes)
        request = codec.load_request({**asked_body, "model": source.get("model")})
    if ladder is not None:
        notes += ladder.notes()
    return Exchange(receipt, asked_body, sent, request, mends=not target.is_openai, ladder=ladder)


def _asking(ladder: Ladder, source: Mapping[str, Any], wire: Wire, also: Sequence[Message]) -> dict[str, Any]:
    """A body that asks for its object in the way of this rung; what that doesn't concern stays as it was said."""
    codec = CODECS[wire]
    request = codec.load_request(source)
    before = codec.dump_request(request)
    after = codec.dump_request(ladder.ask(request.replace(messages=(*request.messages, *also))))
    kept = {name: value for name, value in source.items() if name in after or name not in before}
    return kept | {name: value for name, value in after.items() if value != before.get(name)}


def form_of(asked: Wire, body: Mapping[str, Any]) -> OutputFormat | None:
    """The object for which a request asks by a field; None where it asks for none, or not in the API's own way."""
    name = "response_format" if asked == "chat" else "text"
    if not isinstance(body.get(name), Mapping):
        return None
    try:
        found: OutputFormat | None = CODECS[asked].load_request({name: body[name]}).format
    except Unsupported:
        return None
    if found is None or found.kind not in ("json_schema", "json_object"):
        return None
    return found if isinstance(found.schema, (Mapping, type(None))) else None


def _take_apart(source: dict[str, Any], spoken: Wire, notes: list[Note]) -> None:
    """Take out of a Responses request what is between the program and Allos only: sealed thoughts and their wish."""
    if spoken == "chat":
        others = [name for name in _included(source) if name != _SEALED]
        if "include" in source:
            source["include"] = others or None
    elif isinstance(items := source.get("input"), list):
        kept = [item for item in items if not (isinstance(item, Mapping) and is_sealed(item.get("encrypted_content")))]
        if len(kept) < len(items):
            source["input"] = kept
            notes.append(Note("left out", "input.reasoning", "thoughts of a Chat service mean nothing to this one"))


def _included(body: Mapping[str, Any]) -> list[Any]:
    asked = body.get("include")
    return list(asked) if isinstance(asked, (list, tuple)) else []


def _thoughts(reply: Reply) -> list[Reasoning]:
    return [part for part in reply.message.parts if isinstance(part, Reasoning)] if reply.choices else []


def _model(name: str, target: Target, notes: list[Note]) -> str:
    if target.model_is_forced and target.model and target.model != name:
        notes.append(Note("changed", "model", f"{name} became {target.model}, as ALLOS_MODEL or model= says"))
        name = target.model
    return target.named(name, notes)


def error_body(error: Unsupported) -> dict[str, Any]:
    """A refusal in the form in which OpenAI's servers refuse."""
    return {
        "error": {
            "message": str(error),
            "type": "invalid_request_error",
            "param": error.param,
            "code": error.code,
        }
    }


def readable_error(body: bytes, status: int) -> bytes:
    """An error body in which the SDK finds the server's words: unchanged where it does already."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        data = None
    if isinstance(data, dict):
        error = data.get("error", data)
        if isinstance(error, dict) and isinstance(error.get("message"), str) and error["message"]:
            return body
    fault = dig(data if data is not None else body)
    made: dict[str, Any] = {
        "message": fault.message or f"HTTP status {status} without an explanation",
        "type": fault.type,
        "param": fault.param,
        "code": fault.code,
    }
    if data is not None:
        made["raw"] = data
    return json.dumps({"error": made}).encode()
