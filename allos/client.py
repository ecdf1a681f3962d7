"""`Client` and `AsyncClient`: one way to ask any endpoint, over either API."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import openai
import tenacity

from allos import redirects
from allos.adapters import no_key, sdk_arguments
from allos.caller import Caller, model_names, naming
from allos.deadline import Deadline
from allos.failures import is_missing_model
from allos.messages import Message, MessageLike, Reply, ToolCall, ToolChoice
from allos.stream import AsyncStream, Stream
from allos.talk import SchemaLike, Talk
from allos.tools import ToolLike
from allos.transport import HTTP

__all__ = ["AsyncClient", "AsyncStream", "Client", "Stream"]


class Client(Caller):
    """Asks a model on any endpoint.

    `provider` is an alias such as "groq", or "openai" (Responses API) or "chat_completions" with a `base_url`;
    without one the settings decide, see `allos config`. `model` is the model of every call that names none, and
    `system` stands before every conversation that has no other.
    `api_key` goes to that address only. `wire` forces an API, `env_file` names a `.env` to read.
    `timeout` is the longest time without a byte, in seconds (600 where nothing is set), `connect_timeout` the longest
    time for a connection (5), `deadline` the longest time for a whole call, with its tries, waits, stream and tools
    (none). `max_retries` is how often a failed request is tried again (2); `on_retry` is called before each wait with
    an `allos.retry.Attempt`.
    `on_unsupported` is what becomes of a field that the endpoint can't take: "warn", "error" or "ignore".
    `fallback` names the places to ask when this one fails, such as ["together/model", "local"].
    `http_client` is an `openai.DefaultHttpxClient` of the caller's own, who closes it.

    `target` tells where calls go and why. Usable from several threads and after a fork, picklable, and a context
    manager that closes its connections.

    Raises `ConfigurationError` for an argument or setting that can't be used, and `KeyMissing` where the endpoint
    needs a key and none is known.
    """

    _http_kind = "Client"
    _sdk_client: openai.OpenAI | None = None
    _sdk_owner = 0

    def chat(
        self,
        messages: MessageLike | Iterable[MessageLike],
        *,
        model: str | None = None,
        system: str | None = None,
        tools: Iterable[ToolLike] = (),
        tool_choice: str | ToolChoice | None = None,
        schema: SchemaLike | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        stop: str | Sequence[str] | None = None,
        seed: int | None = None,
        reasoning_effort: str | None = None,
        max_steps: int = 8,
        deadline: float | Deadline | None = None,
        extra: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Reply:
        """The model's whole answer.

        `messages` is a text, a `Message`, an OpenAI-style dict of either API, or several of those.
        Python functions in `tools` are run and their results handed back, for at most `max_steps` requests;
        a `Tool` or a dict is only described, and its calls come back in `reply.tool_calls`. `tool_choice` is "auto",
        "none", "required" or the name of a tool. `max_tokens` bounds the answer, in tokens,
        `deadline` the whole call, in seconds.
        A `schema` (pydantic model, type or JSON schema) gives `reply.parsed`.
        Other keywords are request fields of `allos.Request` or go to the service as they are, as `extra` does.

        Raises `openai.APIError` and its family for what the service or the network does, `IncompleteReplyError`
        among them for a cut answer, `Unsupported` for what the API spoken can't say, `ParseError` for an answer that
        does not fit the schema, and `ConfigurationError` for an argument of the wrong kind.
        """
        talk = self._talk(messages, _given(locals()))
        while True:
            try:
                reply = self._ask(talk)
            except openai.APIError as error:
                if not talk.steps_down(error):
                    raise
                continue
            if calls := talk.calls(reply):
                talk.answer(reply, talk.toolbox.run(calls))
            elif (result := talk.result(reply)) is not None:
                return result

    def stream(
        self,
        messages: MessageLike | Iterable[MessageLike],
        *,
        model: str | None = None,
        system: str | None = None,
        tools: Iterable[ToolLike] = (),
        tool_choice: str | ToolChoice | None = None,
        schema: SchemaLike | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        stop: str | Sequence[str] | None = None,
        seed: int | None = None,
        reasoning_effort: str | None = None,
        max_steps: int = 8,
        deadline: float | Deadline | None = None,
        extra: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Stream:
        """The answer as it comes: an iterator of `Delta`, with the finished `Reply` in `.reply` afterwards.

        Takes and raises what `chat` does; the request is sent when the iteration begins.
        """
        return Stream(self, self._talk(messages, _given(locals())))

    def models(self, *, deadline: float | Deadline | None = None) -> list[str]:
        """The names of the models that the endpoint offers, in its order; `deadline` as in `chat`.

        Raises `openai.APIError` and its family; a service without such a list is an `openai.NotFoundError`.
        """
        limit = Deadline.of(deadline or self.target.deadline).start()
        return tenacity.Retrying(**self._policy.options(limit))(self._list_models, limit)

    def wait_by(self, sleep: Callable[[float], None]) -> None:
        """Wait before each further try by calling `sleep` with the seconds, for who shows the wait."""
        for client in self.places:
            client._policy.sleep = sleep

    def close(self) -> None:
        """Close the connections; the client opens new ones when it is used again.

        An `http_client` that was given stays open: it is closed by whoever opened it.
        """
        with self._lock:
            sdk, self._sdk_client = self._sdk_client, None
        if sdk is not None and self._http_client is None:
            sdk.close()
        for other in (*self._others, *self._by_weights.values()):
            other.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _sdk(self) -> openai.OpenAI:
        with self._lock:
            if self._sdk_client is None or self._sdk_owner != os.getpid():  # sockets are not shared after a fork
                self._start_local()
                self._sdk_client = redirects.OpenAI(**sdk_arguments(self.target), http_client=self._http_client)
                self._sdk_owner = os.getpid()
            return self._sdk_client

    def _ask(self, talk: Talk) -> Reply:
        call = self._call(talk)

        def once() -> Reply:
            client, sdk = call.client, call.client._sdk()
            body = call.body()
            with client._sending(call.deadline, body):
                raw = client._adapter.create(sdk, body, **client._options())
            return client._read(raw.http_response)

        try:
            reply = tenacity.Retrying(**call.retrying())(once)
        except openai.APIStatusError as error:
            raise call.explained(call.client._with_models(error, call.deadline)) from None
        except openai.APIError as error:
            raise call.explained(error) from None
        return replace(reply, notes=(*reply.notes, *call.notes()))

    def _list_models(self, deadline: Deadline) -> list[str]:
        with self._sending(deadline):
            response = self._sdk().get("/models", cast_to=HTTP.Response, options={"headers": no_key(self.target)})
        return model_names(response, self.target)

    def _with_models(self, error: openai.APIStatusError, deadline: Deadline) -> openai.APIStatusError:
        """The error, and which models there are where the one asked for is not."""
        if not is_missing_model(error):
            return error
        try:
            return naming(error, self._list_models(deadline))
        except openai.APIError:
            return error


def _given(arguments: dict[str, Any]) -> dict[str, Any]:
    """A call's keywords, without the receiver and the messages."""
    options: dict[str, Any] = arguments.pop("options")
    return {name: value for name, value in arguments.items() if name not in ("self", "messages")} | options


class AsyncClient(Caller):
    """`Client` for asynchronous programs: the same arguments, with `await`; usable from several event loops.

    `stream` gives an `AsyncStream` and is not awaited itself. Tools may be `async def`; plain ones run in threads.
    """

    _http_kind = "AsyncClient"

    def _prepare(self) -> None:
        self._sdk_clients = weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, openai.AsyncOpenAI]()

    async def chat(
        self,
        messages: MessageLike | Iterable[MessageLike],
        *,
        model: str | None = None,
        system: str | None = None,
        tools: Iterable[ToolLike] = (),
        tool_choice: str | ToolChoice | None = None,
        schema: SchemaLike | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        stop: str | Sequence[str] | None = None,
        seed: int | None = None,
        reasoning_effort: str | None = None,
        max_steps: int = 8,
        deadline: float | Deadline | None = None,
        extra: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Reply:
        """See `Client.chat`."""
        talk = self._talk(messages, _given(locals()))
        while True:
            try:
                reply = await self._ask(talk)
            except openai.APIError as error:
                if not talk.steps_down(error):
                    raise
                continue
            if calls := talk.calls(reply):
                talk.answer(reply, await self._results(talk, reply, calls))
            elif (result := talk.result(reply)) is not None:
                return result

    def stream(
        self,
        messages: MessageLike | Iterable[MessageLike],
        *,
        model: str | None = None,
        system: str | None = None,
        tools: Iterable[ToolLike] = (),
        tool_choice: str | ToolChoice | None = None,
        schema: SchemaLike | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        stop: str | Sequence[str] | None = None,
        seed: int | None = None,
        reasoning_effort: str | None = None,
        max_steps: int = 8,
        deadline: float | Deadline | None = None,
        extra: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> AsyncStream:
        """See `Client.stream`."""
        return AsyncStream(self, self._talk(messages, _given(locals())))

    async def models(self, *, deadline: float | Deadline | None = None) -> list[str]:
        """See `Client.models`."""
        limit = Deadline.of(deadline or self.target.deadline).start()
        return await tenacity.AsyncRetrying(**self._policy.options(limit))(self._list_models, limit)

    async def close(self) -> None:
        """Close the connections of the running event loop; see `Client.close`."""
        sdk = self._sdk_clients.pop(asyncio.get_running_loop(), None)
        if sdk is not None and self._http_client is None:
            await sdk.close()
        for other in (*self._others, *self._by_weights.values()):
            await other.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _sdk(self) -> openai.AsyncOpenAI:
        loop = asyncio.get_running_loop()
        if self.target.base_url is None:
            await asyncio.to_thread(self._start_local)
        if loop not in self._sdk_clients:
            self._sdk_clients[loop] = redirects.AsyncOpenAI(**sdk_arguments(self.target), http_client=self._http_client)
        return self._sdk_clients[loop]

    async def _ask(self, talk: Talk) -> Reply:
        call = self._call(talk)

        async def once() -> Reply:
            client, sdk = call.client, await call.client._sdk()
            body = call.body()
            with client._sending(call.deadline, body):
                raw = await client._adapter.create(sdk, body, **client._options())
            return client._read(raw.http_response)

        try:
            reply: Reply = await tenacity.AsyncRetrying(**call.retrying())(once)
        except openai.APIStatusError as error:
            raise call.explained(await call.client._with_models(error, call.deadline)) from None
        except openai.APIError as error:
            raise call.explained(error) from None
        return replace(reply, notes=(*reply.notes, *call.notes()))

    async def _results(self, talk: Talk, reply: Reply, calls: Sequence[ToolCall]) -> list[Message]:
        """What the tools give. Those that still run when the deadline passes are cancelled."""
        try:
            async with asyncio.timeout(talk.deadline.limit):
                return await talk.toolbox.arun(calls)
        except TimeoutError:  # of the deadline: what a tool raises is its result
            raise self._late(talk.deadline, came=reply) from None

    async def _list_models(self, deadline: Deadline) -> list[str]:
        sdk = await self._sdk()
        with self._sending(deadline):
            response = await sdk.get("/models", cast_to=HTTP.Response, options={"headers": no_key(self.target)})
        return model_names(response, self.target)

    async def _with_models(self, error: openai.APIStatusError, deadline: Deadline) -> openai.APIStatusError:
        if not is_missing_model(error):
            return error
        try:
            return naming(error, await self._list_models(deadline))
        except openai.APIError:
            return error
