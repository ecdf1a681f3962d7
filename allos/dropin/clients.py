"""The two classes themselves: the SDK's hooks, and how bytes are moved in their colour."""

from __future__ import annotations

import asyncio
from typing import Any

import openai

from allos.dropin.connections import AsyncOwnConnections, OwnConnections
from allos.dropin.flow import AsyncFlow, SyncFlow
from allos.dropin.sending import Sending, at_once
from allos.dropin.way import Way
from allos.redirects import AsyncWithinOrigin, WithinOrigin

__all__ = ["AsyncOpenAI", "OpenAI"]


class OpenAI(Sending, OwnConnections, WithinOrigin, openai.OpenAI):
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

    _flow = SyncFlow

    def _send_request(self, request: Any, *, stream: bool, **options: Any) -> Any:
        return at_once(self._answer(request, stream=stream, **options))

    async def _transmit(self, request: Any, **options: Any) -> Any:
        return super()._send_request(request, **options)

    async def _read(self, response: Any) -> bytes:
        return bytes(response.read())

    async def _client_at(self, way: Way) -> Any:
        return way.client()


class AsyncOpenAI(Sending, AsyncOwnConnections, AsyncWithinOrigin, openai.AsyncOpenAI):
    """`OpenAI` for asynchronous programs: `openai.AsyncOpenAI` on any endpoint."""

    _flow = AsyncFlow

    async def _send_request(self, request: Any, *, stream: bool, **options: Any) -> Any:
        return await self._answer(request, stream=stream, **options)

    async def _transmit(self, request: Any, **options: Any) -> Any:
        return await super()._send_request(request, **options)

    async def _read(self, response: Any) -> bytes:
        return bytes(await response.aread())

    async def _client_at(self, way: Way) -> Any:
        return await asyncio.to_thread(way.client)
