"""The bytes of a stream on their way from the service to the SDK."""

from __future__ import annotations

import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import openai

from allos.deadline import Patience
from allos.drain import adrain, drain
from allos.errors import UnsupportedWarning, WireError
from allos.failures import from_break, from_wire, too_quiet
from allos.receipts import answered
from allos.transport import HTTP, transport_errors

if TYPE_CHECKING:
    from allos.dropin.route import Call

__all__ = ["AsyncFlow", "Flow", "SyncFlow"]


class Flow:
    """The bytes of a stream on their way to the program: translated or watched, and never silently cut short."""

    _next: Callable[[], Awaitable[bytes | None]]  # the next of them, None at the end
    _give_up: Callable[[], Awaitable[None]]

    def __init__(self, call: Call, response: Any) -> None:
        exchange = call.exchange
        assert exchange is not None  # only calls that were sent come back
        if exchange.ladder is not None:
            exchange.ladder.answered()
        self._call = call
        self._exchange = exchange
        self._response = response
        self._target = call.route.target
        self._flow = exchange.streamed(think_tags=call.route.target.endpoint.dialect.think_tags)
        self._patience = Patience(response.request.extensions.get("timeout", {}).get("read"))
        self._readers = 0
        self._failed: Exception | None = None  # at the end, which is to be told after all else
        self._early: list[bytes] = []  # what was read before the program had the stream

    @property
    def has_begun(self) -> bool:
        """Whether an event has come that was more than a comment."""
        return self._flow.events > 0

    @property
    def says_something(self) -> bool:
        """Whether the model has said anything yet."""
        return bool(self._flow.so_far().message.parts)

    async def begin(self, *, until_it_says_something: bool = False) -> None:
        """Read until there is something for the program: what fails before that may be asked again or elsewhere."""
        try:
            while not (self.says_something if until_it_says_something else self.has_begun):
                if (piece := await self._next()) is None:
                    break
                self._early.append(piece)
        except BaseException:
            await self._give_up()
            raise

    def _is_read_again(self) -> bool:
        """Whether this is a further reader: the SDK throws away what follows the end, to use the connection again."""
        self._readers += 1
        return self._readers > 1

    @property
    def _may_be_freed(self) -> bool:
        """Whether only what follows the end of a good answer is left to read, and nobody else reads that."""
        return self._flow.reply is not None and self._failed is None and self._readers == 1

    def _feed(self, chunk: bytes) -> bytes:
        try:
            made = self._flow.feed(chunk)
        except WireError as error:
            raise from_wire(error, self._target, self._response, self._flow.so_far()) from None
        if self._patience.is_over(self._flow.events):
            raise too_quiet(self._target, self._flow.so_far(), self._response)
        if not self._flow.done:
            return made
        try:
            return made + self._end()  # kept first: many programs read no further than that
        except (openai.APIError, UnsupportedWarning) as error:  # what the answer says comes before it
            self._failed = error
            return made

    def _end(self) -> bytes:
        if self._failed is not None:
            raise self._failed
        if self._flow.reply is not None:  # as all has been said
            return b""
        try:
            last = self._flow.end()
        except WireError as error:
            raise from_wire(error, self._target, self._response, self._flow.so_far()) from None
        assert self._flow.reply is not None  # `end` returned
        self._call.route.judged(self._exchange, self._flow.reply, self._response)
        self._call.route.remember(self._exchange, self._flow.final)
        answered(self._exchange.receipt, self._flow.answer_id)
        return last

    def _broken(self, error: Exception) -> None:
        """Raise what a broken connection means to the program; before the first event the SDK may still ask again."""
        if self.has_begun:
            raise from_break(error, self._target, self._flow.so_far(), self._response) from error


class SyncFlow(Flow, HTTP.SyncByteStream):  # type: ignore[misc]  # the base comes from the SDK's own HTTP library
    """For a synchronous client."""

    def __init__(self, call: Call, response: Any) -> None:
        super().__init__(call, response)
        self._pieces = self._run()
        self._close = weakref.finalize(self, response.close)  # at the program's end too

    async def _next(self) -> bytes | None:
        return next(self._pieces, None)

    async def _give_up(self) -> None:
        self.close()

    def __iter__(self) -> Iterator[bytes]:
        if self._is_read_again():
            yield from self._response.stream
            return
        yield from self._early
        yield from self._pieces

    def _run(self) -> Iterator[bytes]:
        chunks = self._response.iter_bytes()
        try:
            for chunk in chunks:
                yield self._feed(chunk)
                if self._flow.done:
                    break
        except transport_errors() as error:
            self._broken(error)
            raise
        yield self._end()
        drain(chunks, self._response)

    def close(self) -> None:
        """Close the connection; where the answer has ended, free it for another call instead, if that can be."""
        if self._may_be_freed:
            with suppress(ValueError):  # another thread does so right now
                for _ in self._pieces:
                    pass
        self._close()


class AsyncFlow(Flow, HTTP.AsyncByteStream):  # type: ignore[misc]  # as above
    """For an asynchronous client."""

    def __init__(self, call: Call, response: Any) -> None:
        super().__init__(call, response)
        self._pieces = self._run()

    async def _next(self) -> bytes | None:
        return await anext(self._pieces, None)

    async def _give_up(self) -> None:
        await self.aclose()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._is_read_again():
            async for rest in self._response.stream:
                yield rest
            return
        for piece in self._early:
            yield piece
        async for piece in self._pieces:
            yield piece

    async def _run(self) -> AsyncGenerator[bytes, None]:
        chunks = self._response.aiter_bytes()
        try:
            async for chunk in chunks:
                yield self._feed(chunk)
                if self._flow.done:
                    break
        except transport_errors() as error:
            self._broken(error)
            raise
        yield self._end()
        await adrain(chunks, self._response)

    async def aclose(self) -> None:
        """See `SyncFlow.close`."""
        with suppress(RuntimeError):  # another task reads it right now, and will see the connection end
            if self._may_be_freed:
                async for _ in self._pieces:
                    pass
            await self._pieces.aclose()
        await self._response.aclose()
