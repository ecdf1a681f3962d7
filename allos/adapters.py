"""The two ways to ask: each adapter is a codec and the official SDK method that it calls.

The methods are called in their raw forms, because the codecs read plain JSON and need no typed object.
The body travels in `extra_body`, which the SDK sends as it is: its transformation of typed parameters costs
about 0.14 ms a message. `model` stays typed, since tracing tools name their spans after it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Protocol

import openai

from allos.messages import Note, Request, Wire
from allos.settings import Target
from allos.wire import chat, dialect, responses

__all__ = [
    "ADAPTERS",
    "NO_KEY",
    "Adapter",
    "ChatCompletionsAdapter",
    "ResponsesAdapter",
    "held_back",
    "no_key",
    "sdk_arguments",
    "timeouts",
]


class Adapter(Protocol):
    """One API: how a request is written and which method of the SDK sends it."""

    wire: Wire

    def body(self, request: Request, target: Target, notes: list[Note]) -> dict[str, Any]:
        """The JSON body for that endpoint; what had to be changed or left out is added to `notes`."""

    def create(self, client: Any, body: Mapping[str, Any], **options: Any) -> Any:
        """Ask for a whole answer: a raw response, or an awaitable of one where `client` is asynchronous."""

    def open(self, client: Any, body: Mapping[str, Any], **options: Any) -> Any:
        """Ask for a stream: a context manager, of the client's colour, around the raw response."""


class ChatCompletionsAdapter:
    """Speaks Chat Completions: `client.chat.completions.create`.

    https://platform.openai.com/docs/api-reference/chat
    """

    wire: Wire = "chat"

    def body(self, request: Request, target: Target, notes: list[Note]) -> dict[str, Any]:
        """See `Adapter`."""
        quirks = target.endpoint.dialect
        if not quirks.stream_usage:
            request = request.replace(include_usage=None)
        body = chat.dump_request(request, notes=notes, reasoning=quirks.reasoning_replay or None)
        return dialect.apply(body, quirks, self.wire, notes)

    def create(self, client: Any, body: Mapping[str, Any], **options: Any) -> Any:
        """See `Adapter`."""
        return client.chat.completions.with_raw_response.create(
            model=body.get("model", openai.omit), messages=[], extra_body=body, **options
        )

    def open(self, client: Any, body: Mapping[str, Any], **options: Any) -> Any:
        """See `Adapter`."""
        return client.chat.completions.with_streaming_response.create(
            model=body.get("model", openai.omit), messages=[], stream=True, extra_body=body, **options
        )


class ResponsesAdapter:
    """Speaks the Responses API: `client.responses.create`.

    https://platform.openai.com/docs/api-reference/responses
    """

    wire: Wire = "responses"

    def body(self, request: Request, target: Target, notes: list[Note]) -> dict[str, Any]:
        """See `Adapter`."""
        return dialect.apply(responses.dump_request(request, notes=notes), target.endpoint.dialect, self.wire, notes)

    def create(self, client: Any, body: Mapping[str, Any], **options: Any) -> Any:
        """See `Adapter`."""
        return client.responses.with_raw_response.create(
            model=body.get("model", openai.omit), extra_body=body, **options
        )

    def open(self, client: Any, body: Mapping[str, Any], **options: Any) -> Any:
        """See `Adapter`."""
        return client.responses.with_streaming_response.create(
            model=body.get("model", openai.omit), stream=True, extra_body=body, **options
        )


ADAPTERS: dict[Wire, Adapter] = {"chat": ChatCompletionsAdapter(), "responses": ResponsesAdapter()}


NO_KEY = "none"  # what the SDK is given where there is no key; it is never sent, as the header is left out


def no_key(target: Target) -> dict[str, Any]:
    """The headers with which one call goes out without a key, where there is none.

    The SDK takes the omission of `Authorization` only from the call itself, not from a client's default headers.
    """
    return {"Authorization": openai.Omit()} if target.api_key is None else {}


def timeouts(target: Target) -> openai.Timeout | None:
    """The timeouts of a request; None leaves them to the SDK.

    One number for the next bytes is none for the connection: a host that drops packets should be given up soon, also
    by who waits long for a slow model.
    """
    if target.timeout is None and target.connect_timeout is None:
        return None
    usual = openai.DEFAULT_TIMEOUT
    read = target.timeout or usual.read or 0.0
    connect = target.connect_timeout or min(read, usual.connect or read)
    return openai.Timeout(read, connect=connect)


_AMBIENT = {"organization": "OpenAI-Organization", "project": "OpenAI-Project"}
_NOTHING_GIVEN: Mapping[str, Any] = {}


def sdk_arguments(target: Target, given: Mapping[str, Any] = _NOTHING_GIVEN) -> dict[str, Any]:
    """The arguments with which `openai.OpenAI` and `openai.AsyncOpenAI` reach the endpoint and send it nothing else.

    The SDK reads OPENAI_API_KEY, OPENAI_ORG_ID, OPENAI_PROJECT_ID, OPENAI_ADMIN_KEY and OPENAI_CUSTOM_HEADERS for
    any base URL; what belongs to OpenAI is held back here from every other host.
    `given` are the caller's own arguments for that class: what they say is not ambient, and stays.
    """
    arguments: dict[str, Any] = {"base_url": target.base_url, "max_retries": 0}
    if (limits := timeouts(target)) is not None and not given.get("timeout"):
        arguments["timeout"] = limits
    headers = dict[str, Any]() if target.is_openai else held_back(given)
    if target.api_key is not None:
        key = arguments["api_key"] = target.api_key.get_secret_value()
        if "Authorization" in headers:
            headers["Authorization"] = f"Bearer {key}"  # said here, it keeps the SDK from taking the other
    elif given.get("workload_identity") is None and not callable(given.get("api_key")):
        has_other = given.get("admin_api_key") is not None
        arguments["api_key"] = "" if has_other else NO_KEY
        if not has_other:
            headers["Authorization"] = openai.Omit()
    if not target.is_openai and given.get("admin_api_key") is None:
        arguments["admin_api_key"] = ""
    own = given.get("default_headers") or {}
    names = {name.lower() for name in own}
    kept = {name: value for name, value in headers.items() if name.lower() not in names}
    said = {("Authorization" if name.lower() == "authorization" else name): value for name, value in own.items()}
    return {**arguments, "default_headers": {**kept, **said}}  # older SDKs take another case for another header


def held_back(given: Mapping[str, Any] = _NOTHING_GIVEN) -> dict[str, Any]:
    """The headers that the SDK takes from the environment, as headers to leave out."""
    names = [header for argument, header in _AMBIENT.items() if given.get(argument) is None]
    for line in os.environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n"):
        name, colon, _ = line.partition(":")
        if colon and name.strip():
            names.append("Authorization" if name.strip().lower() == "authorization" else name.strip())
    return {name: openai.Omit() for name in names}
