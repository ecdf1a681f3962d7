"""Connections belong to the process and event loop that opened them: a forked child or another loop gets its own."""

from __future__ import annotations

import asyncio
import os
import weakref
from typing import Any

from openai._base_client import AsyncHttpxClientWrapper, SyncHttpxClientWrapper

__all__ = ["AsyncOwnConnections", "OwnConnections"]


class OwnConnections:
    """Mixed into the synchronous official client, whose `_client` is this. One that the caller gave stays as it is."""

    _opened: tuple[int, Any]

    @property
    def _client(self) -> Any:
        process, client = self._opened
        if process != os.getpid() and type(client) is SyncHttpxClientWrapper:
            self._client = client = SyncHttpxClientWrapper(base_url=client.base_url, timeout=client.timeout)
        return client

    @_client.setter
    def _client(self, client: Any) -> None:
        self._opened = (os.getpid(), client)


class AsyncOwnConnections:
    """The same for the asynchronous one, and for each event loop."""

    _first: Any
    _process: int
    _taken: bool
    _of_loops: weakref.WeakKeyDictionary[Any, Any]

    @property
    def _client(self) -> Any:
        first = self._first
        if type(first) is not AsyncHttpxClientWrapper:
            return first
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return first
        if self._process != os.getpid():
            self._client = first = AsyncHttpxClientWrapper(base_url=first.base_url, timeout=first.timeout)
        if loop not in self._of_loops:
            again = AsyncHttpxClientWrapper(base_url=first.base_url, timeout=first.timeout)
            self._of_loops[loop] = again if self._of_loops or self._taken else first
            self._taken = True
        return self._of_loops[loop]

    @_client.setter
    def _client(self, client: Any) -> None:
        self._first, self._process, self._taken = client, os.getpid(), False
        self._of_loops = weakref.WeakKeyDictionary[Any, Any]()
