"""The two classes themselves: the SDK's hooks, and nothing that sync and async could share."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import openai

from allos.dropin.answers import answered_here, as_page, faulty, remade, whole
from allos.dropin.connections import AsyncOwnConnections, OwnConnections
from allos.dropin.flow import AsyncFlow, SyncFlow
from allos.dropin.route import refusal_in, settled
from allos.dropin.shared import Shared
from allos.dropin.tries import Tries
from allos.dropin.way import Way, failures
from allos.receipts import MARK
from allos.redirects import AsyncWithinOrigin, WithinOrigin
from allos.transport import transport_errors

__all__ = ["AsyncOpenAI", "OpenAI"]


class OpenAI(Shared, OwnConnections, WithinOrigin, openai.OpenAI):
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

    def _send_request(self, request: Any, *, stream: bool, **kwargs: Any) -> Any:
        call = request.extensions.get(MARK)
        if call is None:  # made by other hands than ours
            return super()._send_request(request, stream=stream, **kwargs)
        send = partial(self._send_somewhere, Way(self, request)) if call.may_move else partial(self._send_once, request)
        try:
            response = send(stream=stream, **kwargs)
        except transport_errors() as error:
            call.route.unreached(call, request, error)
            raise
        settled(response)
        return call.route.checked(call, response)

    def _send_somewhere(self, way: Way, *, stream: bool, **kwargs: Any) -> Any:
        while True:
            client = way.client()
            try:
                response = client._send_once(way.request(client, kwargs), stream=stream, **kwargs)
                if isinstance(response.stream, SyncFlow):
                    response.stream.begin(until_it_says_something=True)
            except failures() as error:
                way.failed(error)
            else:
                if (final := way.answered(response)) is not None:
                    return final

    def _send_once(self, request: Any, *, stream: bool, **kwargs: Any) -> Any:
        tries, call = Tries(), request.extensions[MARK]
        while call is not None:
            try:
                response = self._ask(request, stream=stream, **kwargs)
            except failures() as error:
                tries.failed(error)
                break
            if (call := tries.took(response)) is not None:
                request = self._built(call)
        return tries.result

    def _ask(self, request: Any, *, stream: bool, **kwargs: Any) -> Any:
        call = request.extensions[MARK]
        if call.served is not None:
            return answered_here(call, request)
        route, exchange = call.route, call.exchange
        response = super()._send_request(request, stream=stream, **kwargs)
        if exchange is None and (response.is_success or route.target.is_openai):
            return as_page(response)
        if not response.is_success:
            response.read()
            refusal = refusal_in(response)
            switched = route.switched(call, refusal)
            if switched is not None:
                other = self._ask(self._built(switched), stream=stream, **kwargs)
                if not switched.is_missing:
                    return other
            route.refuses(call, refusal)
            return route.refused(call, refusal)
        if call.instead_of is not None:
            route.learn(call)
        if not exchange.stream:
            content = response.read()
            return whole(response, call, content, route.whole(call, response, content), stream=stream)
        flow = SyncFlow(call, response)
        try:
            flow.begin()
        except openai.APIStatusError as error:
            route.refuses(call, error)
            return faulty(response, call, error)
        return remade(response, call, stream=flow)


class AsyncOpenAI(Shared, AsyncOwnConnections, AsyncWithinOrigin, openai.AsyncOpenAI):
    """`OpenAI` for asynchronous programs: `openai.AsyncOpenAI` on any endpoint."""

    async def _send_request(self, request: Any, *, stream: bool, **kwargs: Any) -> Any:
        call = request.extensions.get(MARK)
        if call is None:  # made by other hands than ours
            return await super()._send_request(request, stream=stream, **kwargs)
        send = partial(self._send_somewhere, Way(self, request)) if call.may_move else partial(self._send_once, request)
        try:
            response = await send(stream=stream, **kwargs)
        except transport_errors() as error:
            call.route.unreached(call, request, error)
            raise
        settled(response)
        return call.route.checked(call, response)

    async def _send_somewhere(self, way: Way, *, stream: bool, **kwargs: Any) -> Any:
        while True:
            client = await asyncio.to_thread(way.client)
            try:
                response = await client._send_once(way.request(client, kwargs), stream=stream, **kwargs)
                if isinstance(response.stream, AsyncFlow):
                    await response.stream.begin(until_it_says_something=True)
            except failures() as error:
                way.failed(error)
            else:
                if (final := way.answered(response)) is not None:
                    return final

    async def _send_once(self, request: Any, *, stream: bool, **kwargs: Any) -> Any:
        tries, call = Tries(), request.extensions[MARK]
        while call is not None:
            try:
                response = await self._ask(request, stream=stream, **kwargs)
            except failures() as error:
                tries.failed(error)
                break
            if (call := tries.took(response)) is not None:
                request = self._built(call)
        return tries.result

    async def _ask(self, request: Any, *, stream: bool, **kwargs: Any) -> Any:
        call = request.extensions[MARK]
        if call.served is not None:
            return answered_here(call, request)
        route, exchange = call.route, call.exchange
        response = await super()._send_request(request, stream=stream, **kwargs)
        if exchange is None and (response.is_success or route.target.is_openai):
            return as_page(response)
        if not response.is_success:
            await response.aread()
            refusal = refusal_in(response)
            switched = route.switched(call, refusal)
            if switched is not None:
                other = await self._ask(self._built(switched), stream=stream, **kwargs)
                if not switched.is_missing:
                    return other
            route.refuses(call, refusal)
            return route.refused(call, refusal)
        if call.instead_of is not None:
            route.learn(call)
        if not exchange.stream:
            content = await response.aread()
            return whole(response, call, content, route.whole(call, response, content), stream=stream)
        flow = AsyncFlow(call, response)
        try:
            await flow.begin()
        except openai.APIStatusError as error:
            route.refuses(call, error)
            return faulty(response, call, error)
        return remade(response, call, stream=flow)
