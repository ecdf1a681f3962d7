"""The official clients, which follow a redirect within the host that was chosen and to no other.

The HTTP library follows to any host, and takes all but `Authorization` along: the prompt, `OpenAI-Organization`,
`OpenAI-Project` and every header of the caller's own. Here the redirect itself is the answer then, so that the SDK
raises it as an `openai.APIStatusError`.
"""

from __future__ import annotations

from typing import Any

import openai

from allos.deadline import AsyncPunctual, Punctual
from allos.transport import set_up

__all__ = ["AsyncOpenAI", "AsyncWithinOrigin", "OpenAI", "WithinOrigin", "origin"]

_MOST = 5  # redirects of one request; the SDK's own limit is that of the HTTP library, 20


class _Redirects:
    """Which redirects of one request are followed."""

    def __init__(self, client: Any, arguments: dict[str, Any]) -> None:
        allowed = arguments.get("follow_redirects")
        self._allowed = client.follow_redirects if not isinstance(allowed, bool) else allowed
        self._passed: list[Any] = []

    def next(self, response: Any) -> Any:
        """The request to send in place of the answered one; None where that was the last."""
        response.history = list(self._passed)
        following = response.next_request
        if not self._allowed or following is None or len(self._passed) >= _MOST:
            return None
        if origin(following.url) != origin(response.request.url):
            return None
        self._passed.append(response)
        return following


def origin(url: Any) -> tuple[str, str, int]:
    """What two URLs of the HTTP library share if they lead to the same server."""
    return url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme, 0)


class WithinOrigin:
    """Mixed into a synchronous official client."""

    def _send_request(self, request: Any, *, stream: bool, **arguments: Any) -> Any:
        redirects = _Redirects(self._client, arguments)  # type: ignore[attr-defined]  # of the official class
        arguments["follow_redirects"] = False
        while True:
            response = super()._send_request(request, stream=stream, **arguments)  # type: ignore[misc]  # as above
            request = redirects.next(response)
            if request is None:
                return response
            response.close()


class AsyncWithinOrigin:
    """Mixed into an asynchronous official client."""

    async def _send_request(self, request: Any, *, stream: bool, **arguments: Any) -> Any:
        redirects = _Redirects(self._client, arguments)  # type: ignore[attr-defined]  # of the official class
        arguments["follow_redirects"] = False
        while True:
            response = await super()._send_request(request, stream=stream, **arguments)  # type: ignore[misc]  # as above
            request = redirects.next(response)
            if request is None:
                return response
            await response.aclose()


class OpenAI(WithinOrigin, Punctual, openai.OpenAI):
    """`openai.OpenAI`, but that; it holds its requests to the deadline of a call too.

    Raises `ConfigurationError` where the proxy or the certificates of the environment can't be used.
    """

    def __init__(self, **arguments: Any) -> None:
        with set_up():
            super().__init__(**arguments)


class AsyncOpenAI(AsyncWithinOrigin, AsyncPunctual, openai.AsyncOpenAI):
    """The same for asynchronous programs."""

    def __init__(self, **arguments: Any) -> None:
        with set_up():
            super().__init__(**arguments)
