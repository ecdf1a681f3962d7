"""`Client` and `AsyncClient` behind one asynchronous face, so that one test body holds for both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Protocol

from allos.client import AsyncClient, AsyncStream, Client, Stream
from allos.messages import Delta, Reply
from allos.transport import HTTP

http: Any = HTTP  # the HTTP library that this SDK stands on


class Steps(Protocol):
    """A stream of either colour."""

    @property
    def reply(self) -> Reply: ...
    @property
    def so_far(self) -> Reply: ...
    def __aiter__(self) -> AsyncIterator[Delta]: ...
    async def close(self) -> None: ...


class Door(Protocol):
    """A client of either colour."""

    client: Client | AsyncClient

    async def chat(self, *arguments: Any, **options: Any) -> Reply: ...
    def stream(self, *arguments: Any, **options: Any) -> Steps: ...
    async def models(self) -> list[str]: ...
    async def close(self) -> None: ...


class AsyncDoor:
    def __init__(self, client: AsyncClient) -> None:
        self.client = client

    async def chat(self, *arguments: Any, **options: Any) -> Reply:
        return await self.client.chat(*arguments, **options)

    def stream(self, *arguments: Any, **options: Any) -> AsyncStream:
        return self.client.stream(*arguments, **options)

    async def models(self) -> list[str]:
        return await self.client.models()

    async def close(self) -> None:
        await self.client.close()


class SyncDoor:
    """Runs each step in a thread, where no event loop is seen: as a synchronous program would."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def chat(self, *arguments: Any, **options: Any) -> Reply:
        return await asyncio.to_thread(self.client.chat, *arguments, **options)

    def stream(self, *arguments: Any, **options: Any) -> _SyncSteps:
        return _SyncSteps(self.client.stream(*arguments, **options))

    async def models(self) -> list[str]:
        return await asyncio.to_thread(self.client.models)

    async def close(self) -> None:
        await asyncio.to_thread(self.client.close)


class _SyncSteps:
    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    @property
    def reply(self) -> Reply:
        return self._stream.reply

    @property
    def so_far(self) -> Reply:
        return self._stream.so_far

    async def __aiter__(self) -> AsyncIterator[Delta]:
        while (delta := await asyncio.to_thread(next, self._stream, None)) is not None:
            yield delta

    async def close(self) -> None:
        await asyncio.to_thread(self._stream.close)


async def asked(door: Door, *arguments: Any, streamed: bool, **options: Any) -> Reply:
    """The reply, asked for whole or streamed; a streamed one must be what its deltas add up to."""
    if not streamed:
        return await door.chat(*arguments, **options)
    steps = door.stream(*arguments, **options)
    deltas = [delta async for delta in steps]
    assert deltas
    return steps.reply
