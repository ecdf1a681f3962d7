"""`Stream` and `AsyncStream`: a streamed answer, with its tools run and its steps joined."""

from __future__ import annotations

import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import openai
import tenacity

from allos.caller import Call, Reading, says_something
from allos.drain import adrain, drain
from allos.messages import Delta, Note, Reply, ToolCall
from allos.talk import Talk
from allos.transport import transport_errors

if TYPE_CHECKING:
    from allos.client import AsyncClient, Client

__all__ = ["AsyncStream", "Stream"]

# The SDK's context manager around the connection, the bytes that come over it, and the first deltas.
_Opened = tuple[Any, Iterator[bytes], list[Delta]]
_AsyncOpened = tuple[Any, AsyncIterator[bytes], list[Delta]]


class _Stream:
    """What a caller sees of a stream of either colour."""

    _steps: _Steps

    @property
    def reply(self) -> Reply:
        """The whole answer. Raises `RuntimeError` before the iteration has ended."""
        if self._steps.reply is None:
            raise RuntimeError("The stream has not ended: iterate over it first, or read `so_far`.")
        return self._steps.reply

    @property
    def so_far(self) -> Reply:
        """What has come until now; with tools, of the step that runs."""
        return self._steps.so_far


class Stream(_Stream):
    """A streamed answer: iterate over it for the deltas; `reply` is the whole answer once the iteration has ended.

    A `with` block around it, `close`, or letting go of it closes the connection.
    """

    def __init__(self, client: Client, talk: Talk) -> None:
        steps = _SyncSteps(client, talk)
        self._steps = steps
        self._deltas = steps.run()

    def __iter__(self) -> Iterator[Delta]:
        return self._deltas

    def __next__(self) -> Delta:
        return next(self._deltas)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the stream and its connection."""
        self._deltas.close()


class AsyncStream(_Stream):
    """`Stream` for asynchronous programs."""

    def __init__(self, client: AsyncClient, talk: Talk) -> None:
        steps = _AsyncSteps(client, talk)
        self._steps = steps
        self._deltas = steps.run()

    def __aiter__(self) -> AsyncIterator[Delta]:
        return self._deltas

    async def __anext__(self) -> Delta:
        return await anext(self._deltas)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the stream and its connection."""
        await self._deltas.aclose()


class _Steps:
    """The state of a stream, apart from the object that a caller holds: letting go of that one ends the stream.

    A running generator refers to its state; if that referred to the generator in turn, only the garbage collector
    would ever end it.
    """

    _client: Any

    def __init__(self, talk: Talk) -> None:
        self.reply: Reply | None = None
        self._talk = talk
        self._notes: tuple[Note, ...] = ()
        self._reading: Reading | None = None

    @property
    def so_far(self) -> Reply:
        if self.reply is not None:
            return self.reply
        return self._reading.reply if self._reading is not None else Reply()

    def _begin(self, call: Call[Any]) -> Reading:
        reading = self._reading = Reading(call.client.target, call.body(), call.deadline)
        return reading

    def _calls(self) -> tuple[Reply, Sequence[ToolCall]]:
        """The reply of the step that has ended, and the tools to run; without any, `reply` is set."""
        reply = self.so_far
        reply = replace(reply, notes=(*reply.notes, *self._notes))
        calls = self._talk.calls(reply)
        if not calls:
            self.reply = self._talk.ended(reply)
        return reply, calls


class _SyncSteps(_Steps):
    def __init__(self, client: Client, talk: Talk) -> None:
        super().__init__(talk)
        self._client: Client = client

    def run(self) -> Generator[Delta, None, None]:
        while True:
            yield from self._step()
            reply, calls = self._calls()
            if not calls:
                return
            self._talk.answer(reply, self._talk.toolbox.run(calls))

    def _step(self) -> Generator[Delta, None, None]:
        """The deltas of one request."""
        manager, chunks, first = self._begun()
        reading = self._reading
        assert reading is not None  # `_open` made it
        close = weakref.finalize(reading, manager.__exit__, None, None, None)  # an unread one at the program's end too
        try:
            yield from map(self._talk.shown, first)
            while not reading.ended:
                yield from map(self._talk.shown, _next_deltas(reading, chunks))
            drain(chunks, reading.response)
        finally:
            close()

    def _begun(self) -> _Opened:
        """The stream once the model says something, in the way of asking that the service takes."""
        while True:
            call = self._client._call(self._talk, stream=True, include_usage=True)
            try:
                opened: _Opened = tenacity.Retrying(**call.retrying())(self._open, call)
            except openai.APIStatusError as error:
                if not self._talk.steps_down(error):
                    raise call.explained(call.client._with_models(error, call.deadline)) from None
            except openai.APIError as error:
                raise call.explained(error) from None
            else:
                self._notes = call.notes()
                return opened

    def _open(self, call: Call[Client]) -> _Opened:
        """Send the request and read until the model says something, so that all before it can be tried again."""
        client, sdk = call.client, call.client._sdk()
        body = call.body()
        reading, first = self._begin(call), list[Delta]()
        with client._sending(call.deadline, body):
            manager = client._adapter.open(sdk, body, **client._options())
            response = reading.response = manager.__enter__().http_response
        try:
            chunks = response.iter_bytes()
            while not (reading.ended or any(map(says_something, first))):
                first += _next_deltas(reading, chunks)
        except BaseException:
            manager.__exit__(None, None, None)
            raise
        return manager, chunks, first


def _next_deltas(reading: Reading, chunks: Iterator[bytes]) -> list[Delta]:
    try:
        chunk = next(chunks, None) if reading.needs_bytes else None
    except transport_errors() as error:
        raise reading.broken(error) from None
    return reading.feed(chunk)


class _AsyncSteps(_Steps):
    def __init__(self, client: AsyncClient, talk: Talk) -> None:
        super().__init__(talk)
        self._client: AsyncClient = client

    async def run(self) -> AsyncGenerator[Delta, None]:
        while True:
            async with aclosing(self._step()) as step:
                async for delta in step:
                    yield delta
            reply, calls = self._calls()
            if not calls:
                return
            self._talk.answer(reply, await self._client._results(self._talk, reply, calls))

    async def _step(self) -> AsyncGenerator[Delta, None]:
        manager, chunks, deltas = await self._begun()
        reading = self._reading
        assert reading is not None  # `_open` made it
        try:
            while True:
                for delta in deltas:
                    yield self._talk.shown(delta)
                if reading.ended:
                    break
                deltas = await _anext_deltas(reading, chunks)
            await adrain(chunks, reading.response)
        finally:
            await manager.__aexit__(None, None, None)

    async def _begun(self) -> _AsyncOpened:
        while True:
            call = self._client._call(self._talk, stream=True, include_usage=True)
            retrying = tenacity.AsyncRetrying(**call.retrying())
            try:
                opened: _AsyncOpened = await retrying(self._open, call)
            except openai.APIStatusError as error:
                if not self._talk.steps_down(error):
                    raise call.explained(await call.client._with_models(error, call.deadline)) from None
            except openai.APIError as error:
                raise call.explained(error) from None
            else:
                self._notes = call.notes()
                return opened

    async def _open(self, call: Call[AsyncClient]) -> _AsyncOpened:
        client, sdk = call.client, await call.client._sdk()
        body = call.body()
        reading, first = self._begin(call), list[Delta]()
        with client._sending(call.deadline, body):
            manager = client._adapter.open(sdk, body, **client._options())
            response = reading.response = (await manager.__aenter__()).http_response
        try:
            chunks = response.aiter_bytes()
            while not (reading.ended or any(map(says_something, first))):
                first += await _anext_deltas(reading, chunks)
        except BaseException:
            await manager.__aexit__(None, None, None)
            raise
        return manager, chunks, first


async def _anext_deltas(reading: Reading, chunks: AsyncIterator[bytes]) -> list[Delta]:
    try:
        chunk = await anext(chunks, None) if reading.needs_bytes else None
    except transport_errors() as error:
        raise reading.broken(error) from None
    return reading.feed(chunk)
