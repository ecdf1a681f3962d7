"""How a call is sent until it is answered, written once for both colours."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import openai

from allos.dropin.answers import answered_here, as_page, faulty, remade, whole
from allos.dropin.flow import Flow
from allos.dropin.route import refusal_in, settled
from allos.dropin.shared import Shared
from allos.dropin.tries import Tries
from allos.dropin.way import Way, failures
from allos.receipts import MARK
from allos.transport import transport_errors

__all__ = ["Sending", "at_once"]

T = TypeVar("T")


def at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never waits, without an event loop."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]  # of the coroutine
    raise RuntimeError("a coroutine of the synchronous client has waited")


class Sending(Shared):
    """A client of either colour, but for the moving of bytes: in a synchronous one nothing here ever waits."""

    _flow: type[Flow]
    _transmit: Callable[..., Awaitable[Any]]  # the request to the response of the official client
    _read: Callable[[Any], Awaitable[bytes]]  # all of that one's body
    _client_at: Callable[[Way], Awaitable[Any]]  # the client of the place to ask now, once it has started

    async def _answer(self, request: Any, **options: Any) -> Any:
        """The response that the program gets to a request of its own."""
        call = request.extensions.get(MARK)
        if call is None:  # made by other hands than ours
            return await self._transmit(request, **options)
        if call.client is not self:
            answered: Any = await call.client._answer(request, **options)
            return answered
        try:
            if call.may_move:
                response = await self._send_somewhere(Way(self, request), **options)
            else:
                response = await self._send_once(request, **options)
        except transport_errors() as error:
            call.route.unreached(call, request, error)
            raise
        settled(response)
        return call.route.checked(call, response)

    async def _send_somewhere(self, way: Way, **options: Any) -> Any:
        while True:
            client = await self._client_at(way)
            try:
                response = await client._send_once(way.request(client, options), **options)
                if isinstance(response.stream, Flow):
                    await response.stream.begin(until_it_says_something=True)
            except failures() as error:
                way.failed(error)
            else:
                if (final := way.answered(response)) is not None:
                    return final

    async def _send_once(self, request: Any, **options: Any) -> Any:
        tries, call = Tries(), request.extensions[MARK]
        while call is not None:
            try:
                response = await self._ask(request, **options)
            except failures() as error:
                tries.failed(error)
                break
            if (call := tries.took(response)) is not None:
                request = self._built(call)
        return tries.result

    async def _ask(self, request: Any, **options: Any) -> Any:
        call = request.extensions[MARK]
        if call.served is not None:
            return answered_here(call, request)
        route, exchange = call.route, call.exchange
        response = await self._transmit(request, **options)
        if exchange is None and (response.is_success or route.target.is_openai):
            return as_page(response)
        if not response.is_success:
            await self._read(response)
            refusal = refusal_in(response)
            switched = route.switched(call, refusal)
            if switched is not None:
                other = await self._ask(self._built(switched), **options)
                if not switched.is_missing:
                    return other
            route.refuses(call, refusal)
            return route.refused(call, refusal)
        if call.instead_of is not None:
            route.learn(call)
        if not exchange.stream:
            content = await self._read(response)
            return whole(response, call, content, route.whole(call, response, content), stream=options["stream"])
        flow = self._flow(call, response)
        try:
            await flow.begin()
        except openai.APIStatusError as error:
            route.refuses(call, error)
            return faulty(response, call, error)
        return remade(response, call, stream=flow)
