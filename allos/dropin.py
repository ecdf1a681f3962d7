"""`OpenAI` and `AsyncOpenAI`: the official clients, with both APIs on every endpoint.

They are real subclasses.
Two hooks of the SDK are overridden, `_build_request` (what is sent) and `_send_request` (what came back), and
this module is, with `redirects`, the only one that touches the SDK's internals; `tests/test_sdk_contract.py` pins
what it relies on.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import sys
import threading
import time
import uuid
import warnings
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import openai

from allos import keys, settings
from allos.adapters import NO_KEY, no_key, sdk_arguments
from allos.errors import ConfigurationError, Unsupported, UnsupportedWarning, WireError
from allos.exchange import (
    PATHS,
    Exchange,
    Guard,
    Receipt,
    error_body,
    plan,
    readable_error,
)
from allos.failures import (
    from_break,
    from_status,
    from_transport,
    from_wire,
    is_missing_route,
    too_quiet,
)
from allos.fallback import Journey, circuits, named
from allos.messages import Wire
from allos.receipts import MARK, answered, came_back
from allos.redirects import AsyncWithinOrigin, WithinOrigin
from allos.retry import Policy
from allos.settings import Target
from allos.state import Sessions, StateError, open_store
from allos.transport import HTTP, transport_errors
from allos.wire.responses import frame as responses_frame

__all__ = ["AsyncOpenAI", "OpenAI"]

_OURS = ("ALLOS_PROVIDER", "ALLOS_MODEL", "ALLOS_BASE_URL", "ALLOS_WIRE")
_ASKED: dict[str, Wire] = {path: wire for wire, path in PATHS.items()}
_OTHER: dict[Wire, Wire] = {"chat": "responses", "responses": "chat"}
_NAMES: dict[Wire, str] = {"chat": "Chat Completions", "responses": "Responses"}
_INSIDE = ("allos", "openai", "functools")
_NOT_COPIED = {"content-length", "content-encoding", "transfer-encoding", "content-type"}

_learned: dict[str, Wire] = {}  # base URL → the API that an unknown host turned out to speak
_learned_lock = threading.Lock()
_KEPT = {"previous_response_id", "conversation"}  # what names a history instead of holding it


@dataclass(slots=True)
class _Call:
    """One request of a program on its way through the two hooks."""

    route: _Route
    exchange: Exchange | None = None
    options: Any = None
    served: tuple[int, Any] | None = None
    may_switch: bool = False
    instead_of: int | None = None  # the status with which the other API of an unknown host was answered
    is_missing: bool = False  # the host turned out not to have this API
    asked: Any = None  # the options as the program gave them
    may_move: bool = False

    @property
    def receipt(self) -> Receipt | None:
        """What was done to the call."""
        return self.exchange.receipt if self.exchange is not None else None


@dataclass(frozen=True, slots=True)
class _Route:
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

    def begin(self, options: Any) -> _Call | None:
        """How a call travels; None for a resource that passes through untouched."""
        method, path = options.method.lower(), str(options.url).partition("?")[0].rstrip("/")
        if method == "post" and path in _ASKED and isinstance(options.json_data, Mapping):
            body = {**options.json_data, **(options.extra_json or {})}
            return self._exchange(_ASKED[path], body, options)
        if path.startswith(("/responses", "/conversations")):
            return self._serve(method, path, options)
        return None

    def _exchange(self, asked: Wire, body: dict[str, Any], options: Any) -> _Call:
        spoken, may_switch = self.spoken(asked)
        return self.travel(asked, spoken, body, options, may_switch=may_switch)

    def travel(
        self, asked: Wire, spoken: Wire, body: dict[str, Any], options: Any, *, may_switch: bool = False
    ) -> _Call:
        """The call as it is sent over the API `spoken`, or the refusal that a server would give."""
        call = _Call(self, may_switch=may_switch, options=options, asked=options)
        expanded = None
        try:
            if asked == "responses" and self._is_ours(body, spoken):
                expanded = self.sessions.expand(body)
            call.exchange = plan(asked, spoken, body, self.target, expanded=expanded)
            self._tell(call.exchange)
        except StateError as error:
            call.served = (error.status, error.body)
        except Unsupported as error:
            call.served = (400, error_body(error))
        else:
            sent = call.exchange.sent_body
            call.options = options.model_copy(update={"url": PATHS[spoken], "json_data": sent, "extra_json": None})
            call.may_move = bool(self.target.fallback) and (not _KEPT & body.keys() or self._is_ours(body, spoken))
        return call

    def _is_ours(self, body: Mapping[str, Any], spoken: Wire) -> bool:
        """Whether the history that a request names is to be replayed from here."""
        if self.keeps_state(spoken):
            return False
        if self.is_spare:
            return True
        if spoken == "chat" or self.target.endpoint.stateful is False:
            return True
        named = body.get("previous_response_id")
        return isinstance(named, str) and self.sessions.knows(named)

    def _serve(self, method: str, path: str, options: Any) -> _Call | None:
        spoken, _ = self.spoken("responses")
        if self.keeps_state(spoken):
            return None
        ours = spoken == "chat" or self.target.endpoint.stateful is False
        body = options.json_data if isinstance(options.json_data, Mapping) else None
        query = dict(options.params) if isinstance(options.params, Mapping) else {}
        served = self.sessions.serve(method.upper(), path, query, body)
        if served is None or (served.status == 404 and not ours):
            return None
        answer: Any = served.events if served.events is not None else served.body
        return _Call(self, options=options, served=(served.status, answer))

    def _tell(self, exchange: Exchange) -> None:
        left_out = [note for note in exchange.receipt.notes if note.action == "left out"]
        if not left_out or self.on_unsupported == "ignore":
            return
        said = "; ".join(f"{note.what} was left out: {note.reason}" for note in left_out)
        if self.on_unsupported == "error":
            raise Unsupported(said, param=left_out[0].what)
        _warn(f"{self.target.endpoint.alias}: {said}")

    # What came back.

    def switched(self, call: _Call, error: openai.APIStatusError) -> _Call | None:
        """The call over the other API, where an unknown host has just shown that it lacks this one."""
        call.is_missing = is_missing_route(error)
        if not (call.is_missing and call.may_switch and call.exchange is not None):
            return None
        asked, spoken = call.exchange.receipt.asked, call.exchange.receipt.spoken
        made = self.travel(asked, _OTHER[spoken], call.exchange.asked_body, call.options)
        made.instead_of = error.status_code
        made.may_move = False  # who switches is on the way already
        return made

    def learn(self, call: _Call) -> None:
        """Remember for this base URL which API answered where the other one was missing."""
        base = str(self.target.base_url)
        assert call.exchange is not None  # only calls that were sent are learned from
        spoken = call.exchange.receipt.spoken
        with _learned_lock:
            if _learned.get(base) == spoken:
                return
            _learned[base] = spoken
        _warn(
            f"{base} has no {_NAMES[_OTHER[spoken]]} API (status {call.instead_of}); it is spoken to over the "
            f"{_NAMES[spoken]} API from now on. Set wire={spoken!r} or ALLOS_WIRE={spoken} to skip the first try."
        )

    def whole(self, call: _Call, response: Any, content: bytes) -> bytes:
        """The bytes of the answer in the API that was asked; the same ones where they may pass as they are."""
        exchange = call.exchange
        assert exchange is not None  # only calls that were sent come back
        try:
            answer, is_new = exchange.answer(content, think_tags=self.target.endpoint.dialect.think_tags)
        except WireError as error:
            raise from_wire(error, self.target, response) from None
        self.remember(exchange, answer)
        return json.dumps(answer).encode() if is_new else content

    def remember(self, exchange: Exchange, answer: Mapping[str, Any] | None) -> None:
        """Keep a finished Responses turn where the endpoint keeps none."""
        if (
            answer is not None
            and exchange.receipt.asked == "responses"
            and not self.keeps_state(exchange.receipt.spoken)
        ):
            self.sessions.remember(exchange.asked_body, answer)

    def refused(self, call: _Call, response: Any, content: bytes) -> Any:
        """The error response for the SDK, which is told not to ask again where that can't help."""
        body = self.readable(response, content)
        policy = Policy(quota_codes=self.target.endpoint.dialect.quota_codes)
        made = _made(response, call, body)
        if not policy.helps(openai.APIStatusError("", response=response, body=json.loads(body))):
            made.headers["x-should-retry"] = "false"
        return made

    def readable(self, response: Any, content: bytes) -> bytes:
        """An error body whose message says cause and next step, with the server's own fields kept."""
        body = readable_error(content, response.status_code)
        if self.target.is_openai:
            return body
        probe = openai.APIStatusError("", response=response, body=json.loads(body))
        data = json.loads(body)
        error = data["error"] if isinstance(data.get("error"), dict) else data
        error["message"] = from_status(probe, self.target).message
        return json.dumps(data).encode()


def _warn(message: str) -> None:
    """Warn at the line of the program that made the call, however deep in the SDK it is."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).partition(".")[0] in _INSIDE:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UnsupportedWarning, stacklevel=level)


class _Shared:
    """What the sync and the async client have in common; mixed into the official classes."""

    _route: _Route
    _provider_is_fixed: bool
    _siblings: dict[str, Any]
    _spares: dict[int, Any]
    _fallback: Sequence[str] | None
    _sends_no_key: bool
    admin_api_key: str | None

    def _prepare(
        self,
        provider: Any,
        official: dict[str, Any],
        *,
        wire: str | None,
        model: str | None,
        on_unsupported: str | None,
        state: str | os.PathLike[str] | None,
        fallback: Sequence[str] | None,
        route: _Route | None,
        spare: _Route | None,
    ) -> dict[str, Any]:
        """Decide where calls go; returns the arguments for the official constructor."""
        on_unsupported = on_unsupported or os.environ.get("ALLOS_ON_UNSUPPORTED") or None
        if on_unsupported not in (None, "warn", "error", "ignore"):
            raise ConfigurationError(f"on_unsupported={on_unsupported!r} must be 'warn', 'error' or 'ignore'.")
        if provider is not None and not isinstance(provider, str):
            official["provider"] = provider
        name = provider if isinstance(provider, str) else None
        base_url, api_key = _text(official.get("base_url")), _text(official.get("api_key"))
        self._siblings = {}
        self._spares = {}
        self._fallback = fallback
        self._sends_no_key = False
        if route is not None and name is None and base_url == route.target.base_url:
            same = api_key in (None, NO_KEY) and route.target.api_key is None
            target = route.target if same else route.target.with_key(api_key)
            self._sends_no_key = same and not target.is_openai
            self._route = replace(route, target=target, on_unsupported=on_unsupported or route.on_unsupported)
            self._provider_is_fixed = route.provider_is_fixed
            if not target.is_openai and official.get("admin_api_key") is None:
                official["admin_api_key"] = ""
            return official
        self._provider_is_fixed = name is not None or _names_a_place(official)
        target = spare.target if spare is not None else _target(name, official, wire, model, fallback)
        if target.base_url is None:
            target = _started(target)
        policy = on_unsupported or target.on_unsupported
        if spare is not None:
            self._route = replace(spare, target=target)
        else:
            store = open_store(state or target.state or os.environ.get("ALLOS_STATE") or None)
            self._route = _Route(target, policy, Sessions(store), self._provider_is_fixed)
        is_ours = name is not None or wire is not None or model is not None or _is_ours()
        if not is_ours and (target.is_openai or _places_itself(official)):
            return official
        made = sdk_arguments(target, official)
        made.pop("max_retries")
        self._sends_no_key = isinstance(made["default_headers"].get("Authorization"), openai.Omit)
        return {**official, **made}

    def _settle(self) -> None:
        """Say None for no admin key again: the empty one kept the SDK from taking that of the environment."""
        keys.watch_logs()
        if self.admin_api_key == "":
            self.admin_api_key = None

    def _call(self, options: Any, build: Callable[[Any], Any]) -> Any:
        """The request for a call: translated, answered here, sent by another endpoint's client, or as it is."""
        body = options.json_data
        if not self._provider_is_fixed and isinstance(body, Mapping) and isinstance(body.get("model"), str):
            endpoint, rest = settings.split_model(body["model"])
            if endpoint is not None:
                other = self._sibling(endpoint.alias)
                return other._build_request(options.model_copy(update={"json_data": {**body, "model": rest}}))
        if self._sends_no_key and not _has_authorization(options):
            headers = {} if isinstance(options.headers, openai.NotGiven) else options.headers
            options = options.model_copy(update={"headers": {**headers, **no_key(self._route.target)}})
        call = self._route.begin(options)
        if call is None:
            return build(options)
        request = build(call.options)
        request.extensions[MARK] = call
        return request

    def _sibling(self, alias: str) -> Any:
        if alias not in self._siblings:
            self._siblings[alias] = self.copy(provider=alias)  # type: ignore[attr-defined]  # of the official class
        return self._siblings[alias]

    def _spare(self, place: int) -> Any:
        """The client of a place to ask when this one fails: it gets no key, header or query of this one."""
        if place not in self._spares:
            route = self._route
            there = replace(route, target=route.target.fallback[place - 1], provider_is_fixed=True, is_spare=True)
            self._spares[place] = self.copy(  # type: ignore[attr-defined]  # of the official class
                provider=there.target.endpoint.alias, set_default_query={}, _extra_kwargs={"_spare": there}
            )
        return self._spares[place]

    def _copied(self, changed: dict[str, Any]) -> dict[str, Any]:
        """The constructor arguments of ours that a copy needs, taken out of those of the call."""
        provider = changed.get("provider")
        kept: dict[str, Any] = {"on_unsupported": self._route.on_unsupported}
        if isinstance(provider, str):
            del changed["provider"]
            changed["set_default_headers"] = changed.get("default_headers", {})
            changed.pop("default_headers", None)
            return {**kept, "provider": provider, "fallback": self._fallback, "_elsewhere": True}
        return {**kept, "_route": self._route}


def _has_authorization(options: Any) -> bool:
    return isinstance(options.headers, Mapping) and any(name.lower() == "authorization" for name in options.headers)


def _target(
    name: str | None,
    official: Mapping[str, Any],
    wire: str | None,
    model: str | None,
    fallback: Sequence[str] | None,
) -> Target:
    """Where a client with these arguments sends its calls."""
    base_url, api_key = _text(official.get("base_url")), _text(official.get("api_key"))
    if _places_itself(official):
        if fallback:
            raise ConfigurationError("fallback= needs a place that Allos knows: give an alias or a base_url.")
        return settings.official(environ={})
    if name is not None or wire is not None or model is not None or _is_ours():
        return settings.resolve(name, model, base_url=base_url, api_key=api_key, wire=wire, fallback=fallback)
    return settings.official(base_url=base_url, api_key=api_key, fallback=fallback)


def _places_itself(official: Mapping[str, Any]) -> bool:
    """Whether the SDK itself finds the address and the credentials from these arguments."""
    return any(official.get(name) is not None for name in ("provider", "data_residency"))


def _names_a_place(official: Mapping[str, Any]) -> bool:
    """Whether an address or provider is chosen, so that a model's name chooses none."""
    return (
        _places_itself(official)
        or official.get("base_url") is not None
        or any(os.environ.get(variable) for variable in ("ALLOS_PROVIDER", "ALLOS_BASE_URL", "OPENAI_BASE_URL"))
    )


def _is_ours() -> bool:
    return any(os.environ.get(variable) for variable in _OURS)


def _text(value: Any) -> str | None:
    """A base URL or key as text; None where none was given as such."""
    return str(value).rstrip("/") if isinstance(value, (str, HTTP.URL)) and str(value) else None


def _started(target: Target) -> Target:
    from allos import local

    server = local.start(target.model)
    return target.reached(server.base_url, server.api_key, server.model)


class OpenAI(_Shared, WithinOrigin, openai.OpenAI):
    """The official client, on any endpoint.

    `OpenAI("groq")` or `ALLOS_PROVIDER=groq` sends every call to that endpoint; with neither it goes where
    `openai.OpenAI` would send it. Both `chat.completions` and `responses` work wherever one of them does, with the
    official methods, types and exceptions. All other arguments are those of `openai.OpenAI`.

    `wire` forces the API to speak, `model` replaces the model of every call, `on_unsupported` says what happens to
    a field that the endpoint can't take ("warn", "error" or "ignore"), `state` is the file in which responses and
    conversations are kept where the endpoint keeps none, `fallback` names the places to ask when this one fails, such
    as ["together/model", "local"]. `allos.receipt(response)` tells what was done to a call.

    Raises what `openai.OpenAI` raises; a field that can't be translated is an `openai.BadRequestError` with `param`
    and `code`, as from a server. The constructor raises `ConfigurationError` for a provider or address that can't be,
    and `KeyMissing` where the provider needs a key and none is known.
    """

    def __init__(
        self,
        provider: Any = None,
        *,
        wire: str | None = None,
        model: str | None = None,
        on_unsupported: str | None = None,
        state: str | os.PathLike[str] | None = None,
        fallback: Sequence[str] | None = None,
        _route: _Route | None = None,
        _spare: _Route | None = None,
        _elsewhere: bool = False,
        **official: Any,
    ) -> None:
        if _elsewhere:  # a copy for another endpoint inherits neither address nor key
            official = _without_place(official)
        super().__init__(
            **self._prepare(
                provider,
                official,
                wire=wire,
                model=model,
                on_unsupported=on_unsupported,
                state=state,
                fallback=fallback,
                route=_route,
                spare=_spare,
            )
        )
        self._settle()

    def copy(self, *, _extra_kwargs: Mapping[str, Any] | None = None, **changed: Any) -> Self:
        """A client with some options changed, as `openai.OpenAI.copy`; `provider` may be an alias."""
        return super().copy(_extra_kwargs={**self._copied(changed), **(_extra_kwargs or {})}, **changed)

    with_options = copy

    def _build_request(self, options: Any, *, retries_taken: int = 0) -> Any:
        return self._call(options, partial(super()._build_request, retries_taken=retries_taken))

    def _send_somewhere(self, way: _Way, *, stream: bool, **kwargs: Any) -> Any:
        while True:
            client = way.client()
            try:
                response = client._send_request(way.request(client, kwargs), stream=stream, **kwargs)
                if isinstance(response.stream, _SyncFlow):
                    response.stream.begin()
            except _failures() as error:
                way.failed(error)
            else:
                if (final := way.answered(response)) is not None:
                    return final

    def _send_request(self, request: Any, *, stream: bool, **kwargs: Any) -> Any:
        call = request.extensions.get(MARK)
        if call is None:
            return _as_page(super()._send_request(request, stream=stream, **kwargs))
        if call.may_move:
            return self._send_somewhere(_Way(self, request), stream=stream, **kwargs)
        if call.served is not None:
            return _served(call, request)
        route: _Route = call.route
        try:
            response = super()._send_request(request, stream=stream, **kwargs)
            if not (response.is_success and call.exchange.stream):
                content = response.read()
        except transport_errors() as error:
            raise _sharpened(error, route) from error
        if not response.is_success:
            switched = route.switched(
                call, openai.APIStatusError("", response=response, body=content.decode("utf-8", "replace"))
            )
            if switched is not None:
                again = super()._build_request(switched.options)
                again.extensions[MARK] = switched
                other = self._send_request(again, stream=stream, **kwargs)
                if not switched.is_missing:
                    return other
            return route.refused(call, response, content)
        if call.instead_of is not None:
            route.learn(call)
        if call.exchange.stream:
            return _made(response, call, stream=_SyncFlow(call, response))
        return _answered(response, call, content, route.whole(call, response, content), stream=stream)


class AsyncOpenAI(_Shared, AsyncWithinOrigin, openai.AsyncOpenAI):
    """`OpenAI` for asynchronous programs: `openai.AsyncOpenAI` on any endpoint."""

    def __init__(
        self,
        provider: Any = None,
        *,
        wire: str | None = None,
        model: str | None = None,
        on_unsupported: str | None = None,
        state: str | os.PathLike[str] | None = None,
        fallback: Sequence[str] | None = None,
        _route: _Route | None = None,
        _spare: _Route | None = None,
        _elsewhere: bool = False,
        **official: Any,
    ) -> None:
        if _elsewhere:
            official = _without_place(official)
        super().__init__(
            **self._prepare(
                provider,
                official,
                wire=wire,
                model=model,
                on_unsupported=on_unsupported,
                state=state,
                fallback=fallback,
                route=_route,
                spare=_spare,
            )
        )
        self._settle()

    def copy(self, *, _extra_kwargs: Mapping[str, Any] | None = None, **changed: Any) -> Self:
        """See `OpenAI.copy`."""
        return super().copy(_extra_kwargs={**self._copied(changed), **(_extra_kwargs or {})}, **changed)

    with_options = copy

    def _build_request(self, options: Any, *, retries_taken: int = 0) -> Any:
        return self._call(options, partial(super()._build_request, retries_taken=retries_taken))

    async def _send_somewhere(self, way: _Way, *, stream: bool, **kwargs: Any) -> Any:
        while True:
            client = await asyncio.to_thread(way.client)
            try:
                response = await client._send_request(way.request(client, kwargs), stream=stream, **kwargs)
                if isinstance(response.stream, _AsyncFlow):
                    await response.stream.begin()
            except _failures() as error:
                way.failed(error)
            else:
                if (final := way.answered(response)) is not None:
                    return final

    async def _send_request(self, request: Any, *, stream: bool, **kwargs: Any) -> Any:
        call = request.extensions.get(MARK)
        if call is None:
            return _as_page(await super()._send_request(request, stream=stream, **kwargs))
        if call.may_move:
            return await self._send_somewhere(_Way(self, request), stream=stream, **kwargs)
        if call.served is not None:
            return _served(call, request)
        route: _Route = call.route
        try:
            response = await super()._send_request(request, stream=stream, **kwargs)
            if not (response.is_success and call.exchange.stream):
                content = await response.aread()
        except transport_errors() as error:
            raise _sharpened(error, route) from error
        if not response.is_success:
            switched = route.switched(
                call, openai.APIStatusError("", response=response, body=content.decode("utf-8", "replace"))
            )
            if switched is not None:
                again = super()._build_request(switched.options)
                again.extensions[MARK] = switched
                other = await self._send_request(again, stream=stream, **kwargs)
                if not switched.is_missing:
                    return other
            return route.refused(call, response, content)
        if call.instead_of is not None:
            route.learn(call)
        if call.exchange.stream:
            return _made(response, call, stream=_AsyncFlow(call, response))
        return _answered(response, call, content, route.whole(call, response, content), stream=stream)


class _Way:
    """The way of one call from place to place, without the sending."""

    def __init__(self, client: Any, request: Any) -> None:
        self._call: _Call = request.extensions[MARK]
        self._call.may_move = False
        target = self._call.route.target
        places = [target, *target.fallback]
        self._client, self._request = client, request
        self._journey = Journey([named(place) for place in places], circuits(places))

    def client(self) -> Any:
        """The client of the place to ask now. A local model is started for it where there is none yet."""
        place = self._journey.place
        return self._client._spare(place) if place else self._client

    def request(self, client: Any, arguments: dict[str, Any]) -> Any:
        """What that client has to send; a spare place is sent none of the first one's credentials."""
        if client is self._client:
            return self._request
        arguments.pop("auth", None)
        options, target = self._call.asked, client._route.target
        body = {**options.json_data, **(options.extra_json or {})}
        body["model"] = target.model or body.get("model")
        kept = {} if isinstance(options.headers, openai.NotGiven) else dict(options.headers or {})
        kept = {name: value for name, value in kept.items() if name.lower().startswith(("x-stainless-", "accept"))}
        changed = {"json_data": body, "extra_json": None, "headers": kept, "params": {}}
        return client._build_request(options.model_copy(update=changed))

    def failed(self, error: Exception) -> None:
        """Count an error; raises it where no other place is left."""
        client = self.client()
        said = error if isinstance(error, openai.APIError) else from_transport(error, client._route.target)
        if self._journey.failed(said):
            return
        if self._journey.told:
            raise self._journey.explained(said) from error
        raise error

    def answered(self, response: Any) -> Any:
        """The response that the program gets; None where another place is to be asked."""
        if response.is_success:
            self._journey.worked()
            response.request.extensions[MARK].exchange.receipt.notes += self._journey.notes()
            return response
        body = _error_of(response.content)
        error = openai.APIStatusError(str(body.get("message", "")), response=response, body=body)
        if self._journey.failed(error):
            return None
        if not self._journey.told:
            return response
        headers = [(name, value) for name, value in response.headers.multi_items() if name.lower() not in _NOT_COPIED]
        said = {"error": {**body, "message": self._journey.explained(error).message}}
        return HTTP.Response(
            response.status_code,
            headers=[*headers, ("x-should-retry", "false")],  # the other places were the retries
            json=said,
            request=response.request,
            extensions=response.extensions,
        )


def _failures() -> tuple[type[Exception], ...]:
    """What sending may raise where the place is at fault."""
    return (openai.APIError, *transport_errors())


def _error_of(content: bytes) -> dict[str, Any]:
    data = json.loads(content)
    error = data.get("error", data)
    return error if isinstance(error, dict) else {"message": str(error)}


def _without_place(official: Mapping[str, Any]) -> dict[str, Any]:
    gone = ("base_url", "api_key", "admin_api_key", "organization", "project", "workload_identity", "provider")
    return {name: value for name, value in official.items() if name not in gone}


def _as_page(response: Any) -> Any:
    """The list of models as the object around it that the SDK expects, where a service sends the bare list."""
    request = response.request
    is_list = request.method == "GET" and request.url.path.rstrip("/").endswith("/models") and response.is_closed
    if not is_list or not response.content.lstrip().startswith(b"["):
        return response
    headers = [(name, value) for name, value in response.headers.multi_items() if name.lower() not in _NOT_COPIED]
    made = HTTP.Response(
        response.status_code,
        headers=[*headers, ("content-type", "application/json")],
        content=b'{"object":"list","data":' + response.content + b"}",
        request=request,
        extensions=response.extensions,
    )
    made.elapsed = _elapsed(response)
    return made


def _served(call: _Call, request: Any) -> Any:
    """The answer to a call that never leaves the process."""
    assert call.served is not None  # asked by the caller
    status, answer = call.served
    if isinstance(answer, list):
        content = b"".join(responses_frame(event) for event in answer)
        kind = "text/event-stream"
    else:
        content, kind = json.dumps(answer).encode(), "application/json"
    headers = {"content-type": kind, "x-request-id": f"allos_{uuid.uuid4().hex}", "x-should-retry": "false"}
    made = HTTP.Response(status, headers=headers, content=content, request=request)
    made.elapsed = datetime.timedelta()
    return made


def _answered(response: Any, call: _Call, came: bytes, said: bytes, *, stream: bool) -> Any:
    """The response with a whole answer: the server's own one where its bytes may pass and the SDK reads it at once."""
    if said is not came or stream or "json" not in response.headers.get("content-type", ""):
        return _made(response, call, said)
    return _known(response, call)


def _known(response: Any, call: _Call) -> Any:
    """The response, so that its receipt is found."""
    request_id = response.headers.setdefault("x-request-id", f"allos_{uuid.uuid4().hex}")
    if call.receipt is not None:
        came_back(call.receipt, request_id)
    return response


def _made(response: Any, call: _Call, content: bytes | None = None, *, stream: Any = None) -> Any:
    """The response in which the SDK finds what the program asked for; headers are the server's."""
    headers = [(name, value) for name, value in response.headers.multi_items() if name.lower() not in _NOT_COPIED]
    headers.append(("content-type", "text/event-stream" if stream is not None else "application/json"))
    made = HTTP.Response(
        response.status_code,
        headers=headers,
        request=response.request,
        extensions=response.extensions,
        **({"content": content} if stream is None else {"stream": stream}),
    )
    made.history = response.history
    if stream is None:
        made.elapsed = _elapsed(response)
    return _known(made, call)


def _elapsed(response: Any) -> datetime.timedelta:
    try:
        return response.elapsed  # type: ignore[no-any-return]  # of the HTTP library, which is not imported by name
    except RuntimeError:  # a transport that answers at once never measured it
        return datetime.timedelta()


def _sharpened(error: Exception, route: _Route) -> Exception:
    """The same kind of error, which the SDK still knows and may retry, with words that say what failed."""
    said = from_transport(error, route.target).message
    error.args = (said,)
    return error


class _Flow:
    """The bytes of a stream on their way to the program: translated or watched, and never silently cut short."""

    def __init__(self, call: _Call, response: Any) -> None:
        exchange = call.exchange
        assert exchange is not None  # only calls that were sent come back
        tags = call.route.target.endpoint.dialect.think_tags
        self._call = call
        self._exchange = exchange
        self._response = response
        self._target = call.route.target
        self._flow = exchange.translation(think_tags=tags) if exchange.rewrites else Guard(exchange, think_tags=tags)
        self._limit = 5 * _read_timeout(response)
        self._events, self._since = 0, time.monotonic()
        self._begun = False
        self._early: list[bytes] = []
        self._made: Any = None

    def _says_something(self) -> bool:
        return bool(self._flow.so_far().message.parts)

    def _has_begun(self) -> bool:
        """Whether this is a further reader: the SDK throws away what follows the end, to use the connection again."""
        begun, self._begun = self._begun, True
        return begun

    def _feed(self, chunk: bytes) -> bytes:
        try:
            made = self._flow.feed(chunk)
        except WireError as error:
            raise from_wire(error, self._target, self._response) from None
        if self._flow.events != self._events:
            self._events, self._since = self._flow.events, time.monotonic()
        elif time.monotonic() - self._since > self._limit:
            raise too_quiet(self._target, self._flow.so_far(), self._response)
        return made

    def _end(self) -> bytes:
        try:
            last = self._flow.end()
        except WireError as error:
            raise from_wire(error, self._target, self._response) from None
        self._call.route.remember(self._exchange, self._flow.final)
        answered(self._exchange.receipt, self._flow.answer_id)
        return last

    def _broken(self, error: Exception) -> Exception:
        return from_break(error, self._target, self._flow.so_far(), self._response)


def _read_timeout(response: Any) -> float:
    timeout = response.request.extensions.get("timeout", {}).get("read")
    return 600.0 if timeout is None else float(timeout)


class _SyncFlow(_Flow, HTTP.SyncByteStream):  # type: ignore[misc]  # the base comes from the SDK's own HTTP library
    def begin(self) -> None:
        """Read until the model says something, so that what fails before can be asked elsewhere."""
        self._made = self._run()
        try:
            for made in self._made:
                self._early.append(made)
                if self._says_something():
                    break
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Iterator[bytes]:
        if self._has_begun():
            yield from self._response.stream
            return
        yield from self._early
        yield from self._made or self._run()

    def _run(self) -> Iterator[bytes]:
        try:
            for chunk in self._response.iter_bytes():
                if made := self._feed(chunk):
                    yield made
                if self._flow.done:
                    break
        except transport_errors() as error:
            raise self._broken(error) from error
        if last := self._end():
            yield last

    def close(self) -> None:
        self._response.close()


class _AsyncFlow(_Flow, HTTP.AsyncByteStream):  # type: ignore[misc]  # as above
    async def begin(self) -> None:
        """See `_SyncFlow.begin`."""
        self._made = self._run()
        try:
            async for made in self._made:
                self._early.append(made)
                if self._says_something():
                    break
        except BaseException:
            await self.aclose()
            raise

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._has_begun():
            async for rest in self._response.stream:
                yield rest
            return
        for early in self._early:
            yield early
        async for made in self._made or self._run():
            yield made

    async def _run(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._response.aiter_bytes():
                if made := self._feed(chunk):
                    yield made
                if self._flow.done:
                    break
        except transport_errors() as error:
            raise self._broken(error) from error
        if last := self._end():
            yield last

    async def aclose(self) -> None:
        await self._response.aclose()
