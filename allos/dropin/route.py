"""Where a client's calls go, what is decided about them, and what becomes of their answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import openai

from allos.dropin.answers import remade
from allos.errors import BadData, ConfigurationError, Unsupported, WireError, warn
from allos.exchange import PATHS, Exchange, Receipt, error_body, form_of, plan, readable_error
from allos.failures import from_status, from_transport, from_wire, is_missing_route
from allos.fallback import NAMES_A_HISTORY
from allos.ladder import Ladder
from allos.messages import Message, Note, Reply, Wire
from allos.receipts import MARK
from allos.retry import Budget, Policy, budget_for
from allos.settings import Target
from allos.state import Sessions, StateError
from allos.transport import library_errors

__all__ = ["Call", "Route", "refusal_in", "settled"]

_ASKED: dict[str, Wire] = {path: wire for wire, path in PATHS.items()}
_OTHER: dict[Wire, Wire] = {"chat": "responses", "responses": "chat"}
_NAMES: dict[Wire, str] = {"chat": "Chat Completions", "responses": "Responses"}

_learned: dict[str, Wire] = {}  # base URL → the API that an unknown host turned out to speak
_learned_lock = threading.Lock()


@dataclass(slots=True)
class Call:
    """One request of a program on its way through the two hooks; without an exchange it passes through untouched."""

    route: Route
    client: Any = None  # which sends it: not the program's own where the model named another place
    exchange: Exchange | None = None
    options: Any = None
    served: tuple[int, Any] | None = None
    may_switch: bool = False
    instead_of: int | None = None  # the status with which the other API of an unknown host was answered
    is_missing: bool = False  # the host turned out not to have this API
    asked: Any = None  # the options as the program gave them
    may_move: bool = False
    tries: int = 0  # that the SDK has made before this one
    tries_left: int = 0  # that the SDK would make after this one
    also: tuple[Message, ...] = ()  # what is said after all else, where an object is asked for again
    answer: Mapping[str, Any] | None = None  # the whole answer that the program would get
    reply: Reply | None = None  # what that says, where an object was asked for
    again: Call | None = None  # what to ask instead, where the object was refused or does not fit

    @property
    def receipt(self) -> Receipt | None:
        """What was done to the call."""
        return self.exchange.receipt if self.exchange is not None else None


@dataclass(frozen=True, slots=True)
class Route:
    """Where a client's calls go and what is decided about them; shared by its copies."""

    target: Target
    on_unsupported: str
    sessions: Sessions
    provider_is_fixed: bool
    is_spare: bool = False

    def spoken(self, asked: Wire) -> tuple[Wire, bool]:
        """The API to speak for a call, and whether the other may be tried when this one is not there."""
        endpoint = self.target.endpoint
        if self.target.wire != "auto":
            return ("chat" if self.target.wire == "chat" else "responses"), False
        if endpoint.responses is None:
            learned = _learned.get(str(self.target.base_url))
            return (learned, False) if learned is not None else (asked, True)
        if asked == "chat":
            return ("chat" if endpoint.chat else "responses"), False
        return ("responses" if endpoint.responses and endpoint.prefers == "responses" else "chat"), False

    def keeps_state(self, spoken: Wire) -> bool:
        """Whether the endpoint itself remembers responses, so that nothing is kept here.

        What a spare place answers is kept here all the same, as the next call may go to the first place again.
        """
        return spoken == "responses" and bool(self.target.endpoint.stateful) and not self.is_spare

    def begin(self, options: Any) -> Call:
        """How a call travels."""
        method, path = options.method.lower(), str(options.url).partition("?")[0].rstrip("/")
        path = path if "://" in path else f"/{path.removeprefix('/')}"  # the SDK takes both
        if method == "post" and path in _ASKED and isinstance(options.json_data, Mapping):
            asked, body = _ASKED[path], {**options.json_data, **(options.extra_json or {})}
            spoken, may_switch = self.spoken(asked)
            return self.travel(asked, spoken, body, options, may_switch=may_switch)
        if path.startswith(("/responses", "/conversations")):
            return self._serve(method, path, options)
        return Call(self, options=options)

    def travel(
        self,
        asked: Wire,
        spoken: Wire,
        body: dict[str, Any],
        options: Any,
        *,
        may_switch: bool = False,
        ladder: Ladder | None = None,
        also: tuple[Message, ...] = (),
    ) -> Call:
        """The call as it is sent over the API `spoken`, or the refusal that a server would give."""
        call = Call(self, may_switch=may_switch, options=options, asked=options, also=also)
        expanded = None
        is_first, ladder = ladder is None, ladder or self._ladder(asked, spoken, body)
        try:
            if asked == "responses" and self._is_ours(body, spoken):
                expanded = self.sessions.expand(body)
            call.exchange = plan(asked, spoken, body, self.target, expanded=expanded, ladder=ladder, also=also)
            if is_first or self.on_unsupported == "error":
                self._tell(call.exchange)
        except StateError as error:
            call.served = (error.status, error.body)
        except Unsupported as error:
            call.served = (400, error_body(error))
        else:
            sent = call.exchange.sent_body
            call.options = options.model_copy(update={"url": PATHS[spoken], "json_data": sent, "extra_json": None})
            is_whole = not NAMES_A_HISTORY & body.keys() or self._is_ours(body, spoken)
            call.may_move = bool(self.target.fallback) and is_whole
        return call

    def _ladder(self, asked: Wire, spoken: Wire, body: Mapping[str, Any]) -> Ladder | None:
        """The ways to the object that a request asks for; none at OpenAI, which knows what its fields say.

        What runs in the background is not waited for. Where the service keeps the conversation, a forced call would
        stay in it without a result, and each further question would too.
        """
        wanted = None if self.target.is_openai or body.get("background") else form_of(asked, body)
        if wanted is None:
            return None
        keeps = spoken == "responses" and not self._is_ours(body, spoken)
        is_kept = keeps and (bool(NAMES_A_HISTORY & body.keys()) or body.get("store") is not False)
        return Ladder(
            wanted,
            self.target,
            wire=spoken,
            model=body.get("model"),
            may_force=not (body.get("tools") or body.get("functions") or (is_kept and self.target.endpoint.stateful)),
            may_repeat=not (keeps and body.get("conversation")),
        )

    def _is_ours(self, body: Mapping[str, Any], spoken: Wire) -> bool:
        """Whether the history that a request names is to be replayed from here."""
        if self.keeps_state(spoken):
            return False
        return self.is_spare or spoken == "chat" or self.target.endpoint.stateful is False or self.sessions.knows(body)

    def _serve(self, method: str, path: str, options: Any) -> Call:
        spoken, _ = self.spoken("responses")
        if self.keeps_state(spoken):
            return Call(self, options=options)
        ours = spoken == "chat" or self.target.endpoint.stateful is False
        body = options.json_data if isinstance(options.json_data, Mapping) else None
        query = dict(options.params) if isinstance(options.params, Mapping) else {}
        served = self.sessions.serve(method.upper(), path, query, body)
        if served is None or (served.status == 404 and not ours):
            return Call(self, options=options)
        answer: Any = served.events if served.events is not None else served.body
        return Call(self, options=options, served=(served.status, answer))

    def _tell(self, exchange: Exchange) -> None:
        lost = [note for note in exchange.receipt.notes if note.has_no_effect]
        if not lost or self.on_unsupported == "ignore":
            return
        said = "; ".join(f"{note.what} has no effect: {note.reason}" for note in lost)
        if self.on_unsupported == "error":
            raise Unsupported(said, param=lost[0].what)
        warn(f"{self.target.endpoint.alias}: {said}")

    # What came back.

    def switched(self, call: Call, error: openai.APIStatusError) -> Call | None:
        """The call over the other API, where an unknown host has just shown that it lacks this one."""
        call.is_missing = is_missing_route(error)
        if not (call.is_missing and call.may_switch and call.exchange is not None):
            return None
        made = self._anew(call, _OTHER[call.exchange.receipt.spoken])
        made.instead_of = error.status_code
        return made

    def refuses(self, call: Call, error: openai.APIStatusError) -> None:
        """Note what to ask instead, where the service has just refused the way in which an object was asked for."""
        ladder = call.exchange.ladder if call.exchange is not None else None
        if ladder is not None and ladder.refused(error):
            call.again = self._anew(call, ladder=ladder, also=call.also)

    def _anew(
        self,
        call: Call,
        spoken: Wire | None = None,
        *,
        ladder: Ladder | None = None,
        also: tuple[Message, ...] = (),
    ) -> Call:
        """The call that is made instead of one that has come back."""
        exchange = call.exchange
        assert exchange is not None  # only calls that were sent come back
        receipt = exchange.receipt
        made = self.travel(
            receipt.asked, spoken or receipt.spoken, exchange.asked_body, call.options, ladder=ladder, also=also
        )
        made.instead_of = call.instead_of
        made.may_move = False  # it is on the way already
        return made

    def learn(self, call: Call) -> None:
        """Remember for this base URL which API answered where the other one was missing."""
        base = str(self.target.base_url)
        assert call.exchange is not None  # only calls that were sent are learned from
        spoken = call.exchange.receipt.spoken
        with _learned_lock:
            if _learned.get(base) == spoken:
                return
            _learned[base] = spoken
        warn(
            f"{base} has no {_NAMES[_OTHER[spoken]]} API (status {call.instead_of}); it is spoken to over the "
            f"{_NAMES[spoken]} API from now on. Set wire={spoken!r} or ALLOS_WIRE={spoken} to skip the first try."
        )

    def whole(self, call: Call, response: Any, content: bytes) -> bytes:
        """The bytes of the answer in the API that was asked; the same ones where they may pass as they are.

        `call.again` is what to ask instead, where the object in the answer does not fit its schema.
        """
        exchange = call.exchange
        assert exchange is not None  # only calls that were sent come back
        try:
            call.answer, is_new, call.reply = exchange.answer(
                content, think_tags=self.target.endpoint.dialect.think_tags
            )
        except WireError as error:
            raise from_wire(error, self.target, response) from None
        if exchange.ladder is not None and call.reply is not None:
            exchange.ladder.answered()
            self._repeat(call, exchange.ladder, call.reply)
        return json.dumps(call.answer).encode() if is_new else content

    def _repeat(self, call: Call, ladder: Ladder, reply: Reply) -> None:
        reason = ladder.fault(reply) if ladder.concerns(reply) else None
        also = ladder.misfit(reply, reason) if reason is not None else None
        if also is not None:
            call.again = self._anew(call, ladder=ladder, also=(*call.also, *also))

    def settle(self, call: Call, response: Any) -> None:
        """Learn from the whole answer that the program gets, and keep it where that is ours to do."""
        if call.answer is not None and call.exchange is not None:
            if call.reply is not None:
                self.judged(call.exchange, call.reply, response)
            self.remember(call.exchange, call.answer)

    def judged(self, exchange: Exchange, reply: Reply, response: Any) -> None:
        """Learn from the last answer to a call whether its way leads to an object, and tell where it led to none."""
        ladder = exchange.ladder
        if ladder is None or not ladder.concerns(reply):
            return
        if (reason := ladder.fault(reply)) is None:
            ladder.held()
            return
        if exchange.stream:
            ladder.misread(reply)
        exchange.receipt.notes += [note for note in ladder.notes()[1:] if note not in exchange.receipt.notes]
        exchange.receipt.notes.append(Note("left out", "schema", f"the answer does not fit it: {reason}"))
        if self.on_unsupported == "error":
            made = from_wire(
                BadData(f"an answer that does not fit the schema ({reason})", body=reply.text), self.target, response
            )
            made.reply = reply  # type: ignore[attr-defined]  # as on IncompleteReplyError
            raise made
        if self.on_unsupported == "warn":
            warn(f"{self.target.endpoint.alias}: the answer does not fit the schema: {reason}")

    def remember(self, exchange: Exchange, answer: Mapping[str, Any] | None) -> None:
        """Keep a finished Responses turn where the endpoint keeps none; the answer is not lost where that fails."""
        if answer is None or exchange.receipt.asked != "responses" or self.keeps_state(exchange.receipt.spoken):
            return
        try:
            self.sessions.remember(exchange.asked_body, answer)
        except ConfigurationError as error:
            exchange.receipt.notes.append(Note("left out", "store", str(error)))
            warn(f"This response was not kept, so no other can follow it by its id. {error}")

    def refused(self, call: Call, refusal: openai.APIStatusError) -> Any:
        """The error response for the SDK, whose message says cause and next step, with the server's own fields kept."""
        body = readable_error(refusal.response.content, refusal.status_code)
        if not self.target.is_openai:
            data = json.loads(body)
            error = data["error"] if isinstance(data.get("error"), dict) else data
            error["message"] = from_status(refusal, self.target).message
            body = json.dumps(data).encode()
        return remade(refusal.response, call, body)

    # Whether the SDK may ask again.

    def begins(self, call: Call) -> None:
        """Count a call, with its first request."""
        if call.tries == 0:
            self._budget.earn()

    def checked(self, call: Call, response: Any) -> Any:
        """The response, which tells the SDK not to ask again where that can't help or too many do."""
        if response.is_success:
            self._budget.give_back(call.tries)
        elif call.tries_left and response.is_closed and not self._may_heal(refusal_in(response)):
            response.headers["x-should-retry"] = "false"
        return response

    def unreached(self, call: Call, request: Any, error: Exception) -> None:
        """Raise what a failed connection means to the program, unless the SDK knows the error and may ask again."""
        failure = from_transport(error, self.target, request)
        if not (call.tries_left and isinstance(error, library_errors()) and self._may_heal(failure)):
            raise failure from error

    def _may_heal(self, error: openai.APIError) -> bool:
        return Policy(quota_codes=self.target.endpoint.dialect.quota_codes).helps(error) and self._budget.spend()

    @property
    def _budget(self) -> Budget:
        return budget_for(self.target.base_url)


def settled(response: Any) -> None:
    """Conclude the call that a response is the answer to, wherever it was sent."""
    call: Call = response.request.extensions[MARK]
    call.route.settle(call, response)


def refusal_in(response: Any) -> openai.APIStatusError:
    """An error response as the error that it is; its body must have been read."""
    return openai.APIStatusError("", response=response, body=response.content.decode("utf-8", "replace"))
