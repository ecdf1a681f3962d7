"""`Client` and `AsyncClient`: one way to ask any endpoint, over either API."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import warnings
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from types import TracebackType
from typing import Any, Self

import openai
import tenacity

from allos import settings
from allos.adapters import ADAPTERS, no_key, sdk_arguments
from allos.errors import BadData, ConfigurationError, Unsupported, UnsupportedWarning, WireError
from allos.failures import (
    from_break,
    from_status,
    from_transport,
    from_wire,
    is_missing_model,
    too_quiet,
)
from allos.messages import Delta, Message, MessageLike, Note, Reply, Request, ToolChoice
from allos.retry import Attempt, Budget, Policy
from allos.settings import Target
from allos.talk import SchemaLike, Talk, as_messages
from allos.tools import ToolLike
from allos.transport import HTTP, transport_errors
from allos.wire.answer import Answer, read_json, read_whole

__all__ = ["AsyncClient", "AsyncStream", "Client", "Stream"]

_REQUEST_FIELDS = frozenset(field.name for field in fields(Request)) - {
    "messages",
    "tools",
    "format",
    "extra",
    "stream",
}
_QUIET_READ_TIMEOUTS = 5  # how many read timeouts a stream may pass with comments only
_budgets: dict[str | None, Budget] = {}


class _Client:
    """What the two colours share: where to go, what to send, and how to read what comes back."""

    def __init__(
        self,
        provider: str | None = None,
        model: str | None = None,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        wire: str | None = None,
        timeout: float | None = None,
        max_retries: int | None = None,
        system: str | None = None,
        on_unsupported: str = "warn",
        on_retry: Callable[[Attempt], None] | None = None,
        env_file: str | None = None,
        http_client: Any = None,
    ) -> None:
        self._arguments: dict[str, Any] = {
            "provider": provider,
            "model": model,
            "base_url": base_url,
            "api_key": api_key,
            "wire": wire,
            "timeout": timeout,
            "max_retries": max_retries,
            "system": system,
            "on_unsupported": on_unsupported,
            "on_retry": on_retry,
            "env_file": env_file,
            "http_client": http_client,
        }
        if on_unsupported not in ("warn", "error", "ignore"):
            raise ConfigurationError(f"on_unsupported={on_unsupported!r} must be 'warn', 'error' or 'ignore'.")
        self._on_unsupported = on_unsupported
        self._http_client = http_client
        self.target: Target = settings.resolve(
            provider,
            model,
            base_url=base_url,
            api_key=api_key,
            wire=wire,
            timeout=timeout,
            max_retries=max_retries,
            system=system,
            env_file=env_file,
        )
        budget = _budgets.setdefault(self.target.base_url, Budget())
        self._policy = Policy(self.target.max_retries, on_retry=on_retry, budget=budget)
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.target.endpoint.alias!r}, {self.target.model!r})"

    def __getstate__(self) -> dict[str, Any]:
        if self._http_client is not None:
            raise TypeError("A client with an http_client of its own can't be pickled.")
        return self._arguments

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]  # a client is what it was made with

    def _talk(self, messages: MessageLike | Iterable[MessageLike], options: Mapping[str, Any]) -> Talk:
        given = {name: value for name, value in options.items() if value is not None}
        tools, schema = given.pop("tools", ()), given.pop("schema", None)
        max_steps = given.pop("max_steps", 8)
        system = given.pop("system", self.target.system)
        extra = dict(given.pop("extra", {}))
        if isinstance(given.get("tool_choice"), str):
            given["tool_choice"] = _tool_choice(given["tool_choice"])
        if isinstance(given.get("stop"), str):
            given["stop"] = (given["stop"],)
        said = as_messages(messages)
        if system:
            said = (Message.system(system), *said)
        known = {**self.target.options, "model": self.target.model}
        known |= {name: given.pop(name) for name in list(given) if name in _REQUEST_FIELDS}
        if known.get("stop") is not None:
            known["stop"] = tuple(known["stop"])
        request = Request(messages=said, extra={**extra, **given}, **known)
        return Talk(request, tools=tools, schema=schema, max_steps=max_steps)

    def _body(self, request: Request, notes: list[Note]) -> dict[str, Any]:
        model = request.model
        if model is not None and (renamed := self.target.endpoint.models.get(model)) is not None:
            notes.append(Note("changed", "model", f"{model} is named {renamed} at this endpoint"))
            request = request.replace(model=renamed)
        body: dict[str, Any] = self._adapter.body(request, self.target, notes)
        left_out = [note for note in notes if note.action == "left out"]
        if left_out and self._on_unsupported != "ignore":
            said = "; ".join(f"{note.what} was left out: {note.reason}" for note in left_out)
            if self._on_unsupported == "error":
                raise Unsupported(
                    f"{self.target.endpoint.alias} can't take all of this: {said}", param=left_out[0].what
                )
            warnings.warn(said, UnsupportedWarning, stacklevel=5)
        return body

    @property
    def _adapter(self) -> Any:
        return ADAPTERS[self.target.speaks]

    def _answer(self) -> Answer:
        return Answer(self.target.speaks, think_tags=self.target.endpoint.dialect.think_tags)

    def _read(self, response: Any, notes: Sequence[Note]) -> Reply:
        quirks = self.target.endpoint.dialect
        try:
            reply = read_whole(self.target.speaks, response.content, think_tags=quirks.think_tags)
        except WireError as error:
            raise from_wire(error, self.target, response) from None
        return replace(reply, notes=(*reply.notes, *notes))

    def _translated(self, error: Exception) -> Exception:
        if isinstance(error, openai.APIStatusError):
            return from_status(error, self.target)
        if isinstance(error, (openai.APIConnectionError, *transport_errors())):
            return from_transport(error, self.target)
        return error

    def _local(self) -> None:
        """Start the embedded model on first use and learn its address."""
        if self.target.base_url is None:
            from allos import local

            server = local.start(self.target.model)
            self.target = self.target.reached(server.base_url, server.api_key, server.model)

    def _at_home(self, request: Request) -> Request:
        """The request with the model of the target, which the embedded server names only once it runs."""
        return request if request.model is not None else request.replace(model=self.target.model)

    def _quiet_limit(self) -> float:
        timeout = self.target.timeout if self.target.timeout is not None else 600.0
        return _QUIET_READ_TIMEOUTS * timeout

    def _options(self) -> dict[str, Any]:
        return {"extra_headers": no_key(self.target)} | (
            {} if self.target.timeout is None else {"timeout": self.target.timeout}
        )


def _tool_choice(value: str) -> ToolChoice:
    return ToolChoice(value) if value in ("auto", "none", "required") else ToolChoice("tool", value)


class _Patience:
    """Ends a stream that sends only comments: they prove life for a while, not for ever."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._events = 0
        self._since = time.monotonic()

    def is_over(self, answer: Answer) -> bool:
        if answer.events != self._events:
            self._events, self._since = answer.events, time.monotonic()
        return time.monotonic() - self._since > self._limit


class Client(_Client):
    """Asks a model on any endpoint.

    `provider` is an alias such as "groq", or "openai" (Responses API) or "chat_completions" with a `base_url`;
    without one the settings decide, see `allos config`. `timeout` is in seconds.
    Usable from several threads, picklable, and a context manager that closes its connections.
    """

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
        extra: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Reply:
        """The model's whole answer.

        Python functions in `tools` are run and their results handed back, for at most `max_steps` requests;
        a schema (pydantic model, type or JSON schema) gives `reply.parsed`.
        Other keywords are request fields of `allos.messages.Request` or go to the service as they are.

        Raises `openai.APIError` and its family for what the service or the network does, `IncompleteReplyError`
        among them for a cut answer, and `Unsupported` for what the API spoken can't say.
        """
        talk = self._talk(messages, _given(locals()))
        while True:
            reply = self._ask(talk.request)
            calls = talk.calls(reply)
            if not calls:
                return talk.finished(reply)
            talk.answer(reply, talk.toolbox.run(calls))

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
        extra: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Stream:
        """The answer as it comes: an iterator of `Delta`, with the finished `Reply` in `.reply` afterwards.

        Takes and raises what `chat` does; the request is sent when the iteration begins.
        """
        return Stream(self, self._talk(messages, _given(locals())))

    def models(self) -> list[str]:
        """The names of the models that the endpoint offers, in its order."""
        try:
            response = self._sdk().get("/models", cast_to=HTTP.Response, options={"headers": no_key(self.target)})
        except (openai.APIStatusError, openai.APIConnectionError) as error:
            raise self._translated(error) from None
        return _model_names(response, self.target)

    def close(self) -> None:
        """Close the connections; the client opens new ones when it is used again."""
        with self._lock:
            sdk, self._sdk_client = self._sdk_client, None
        if sdk is not None:
            sdk.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _sdk(self) -> openai.OpenAI:
        with self._lock:
            if self._sdk_client is None or self._sdk_owner != os.getpid():  # sockets are not shared after a fork
                self._local()
                self._sdk_client = openai.OpenAI(**sdk_arguments(self.target), http_client=self._http_client)
                self._sdk_owner = os.getpid()
            return self._sdk_client

    def _ask(self, request: Request) -> Reply:
        sdk, notes = self._sdk(), list[Note]()
        body = self._body(self._at_home(request), notes)

        def once() -> Reply:
            try:
                raw = self._adapter.create(sdk, body, **self._options())
                return self._read(raw.http_response, notes)
            except (openai.APIStatusError, openai.APIConnectionError) as error:
                raise self._translated(error) from None

        try:
            return tenacity.Retrying(**self._policy.options())(once)
        except openai.APIStatusError as error:
            raise self._with_models(error) from None

    def _with_models(self, error: openai.APIStatusError) -> openai.APIStatusError:
        """The error, and which models there are where the one asked for is not."""
        if not is_missing_model(error):
            return error
        try:
            names = self.models()
        except openai.APIError:
            return error
        return _naming(error, names)


def _given(arguments: dict[str, Any]) -> dict[str, Any]:
    """A call's keywords, without the receiver and the messages."""
    options: dict[str, Any] = arguments.pop("options")
    return {name: value for name, value in arguments.items() if name not in ("self", "messages")} | options


def _model_names(response: Any, target: Target) -> list[str]:
    try:
        data = read_json(response.content)
        rows = (
            data if isinstance(data, list) else data.get("data", data.get("models")) if isinstance(data, dict) else None
        )
        if not isinstance(rows, list):
            raise BadData("no list of models", body=data)
    except WireError as error:
        raise from_wire(error, target, response) from None
    return [str(row.get("id") or row.get("name")) for row in rows if isinstance(row, dict)]


def _naming(error: openai.APIStatusError, names: Sequence[str]) -> openai.APIStatusError:
    import difflib

    asked = error.message
    near = [name for name in names if name in asked] or difflib.get_close_matches(asked.split("\n")[0], names, 3, 0.1)
    listed = ", ".join([*near, *(name for name in names if name not in near)][:8])
    text = f"{error.message.partition(chr(10))[0]}\nIt has: {listed}{', …' if len(names) > 8 else ''}."
    made = type(error)(text, response=error.response, body=error.body)
    made.code, made.param, made.type = error.code, error.param, error.type
    return made


class Stream:
    """A streamed answer: iterate over it for the deltas; `reply` is the whole answer once the iteration has ended.

    Leaving it early, or the `with` block around it, closes the connection.
    """

    def __init__(self, client: Client, talk: Talk) -> None:
        self._client = client
        self._talk = talk
        self._answer: Answer | None = None
        self._reply: Reply | None = None
        self._deltas = self._run()

    @property
    def reply(self) -> Reply:
        """The whole answer. Raises `RuntimeError` before the iteration has ended."""
        if self._reply is None:
            raise RuntimeError("The stream has not ended: iterate over it first, or read `so_far`.")
        return self._reply

    @property
    def so_far(self) -> Reply:
        """What has come until now."""
        if self._reply is not None:
            return self._reply
        return self._answer.so_far() if self._answer is not None else Reply()

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

    def _run(self) -> Generator[Delta, None, None]:
        while True:
            notes: list[Note] = []
            reply = yield from self._step(notes)
            reply = replace(reply, notes=(*reply.notes, *notes))
            calls = self._talk.calls(reply)
            if not calls:
                self._reply = self._talk.finished(reply)
                return
            self._talk.answer(reply, self._talk.toolbox.run(calls))

    def _step(self, notes: list[Note]) -> Generator[Delta, None, Reply]:
        """One request: its deltas, and its reply as the generator's value."""
        client = self._client
        sdk = client._sdk()
        body = client._body(client._at_home(self._talk.request).replace(include_usage=True), notes)
        try:
            opened = tenacity.Retrying(**client._policy.options())(self._open, sdk, body)
        except openai.APIStatusError as error:
            raise client._with_models(error) from None
        manager, response, chunks, first = opened
        answer = self._answer
        assert answer is not None  # `_open` made it
        patience = _Patience(client._quiet_limit())
        try:
            yield from first
            while answer.reply is None:
                yield from _next_deltas(client, answer, response, chunks, patience)
        finally:
            manager.__exit__(None, None, None)
        return answer.reply

    def _open(self, sdk: Any, body: Mapping[str, Any]) -> tuple[Any, Any, Iterator[bytes], list[Delta]]:
        """Send the request and read until the first delta, so that everything before it can be tried again."""
        client = self._client
        answer = self._answer = client._answer()
        manager = client._adapter.open(sdk, body, **client._options())
        try:
            response = manager.__enter__().http_response
        except (openai.APIStatusError, openai.APIConnectionError) as error:
            raise client._translated(error) from None
        try:
            chunks = response.iter_bytes()
            patience = _Patience(client._quiet_limit())
            first: list[Delta] = []
            while not first and answer.reply is None:
                first = _next_deltas(client, answer, response, chunks, patience)
        except BaseException:
            manager.__exit__(None, None, None)
            raise
        return manager, response, chunks, first


def _next_deltas(
    client: _Client, answer: Answer, response: Any, chunks: Iterator[bytes], patience: _Patience
) -> list[Delta]:
    """The deltas of the next bytes; at the end of the stream the last ones, and then `answer.reply` is set."""
    try:
        chunk = None if answer.done else next(chunks, None)
    except transport_errors() as error:
        raise from_break(error, client.target, answer.so_far(), response) from None
    return _absorb(client, answer, response, chunk, patience)


def _absorb(client: _Client, answer: Answer, response: Any, chunk: bytes | None, patience: _Patience) -> list[Delta]:
    try:
        found = answer.end() if chunk is None else answer.feed(chunk)
    except WireError as error:
        if getattr(error, "reply", False) is None:
            error.reply = answer.so_far()  # type: ignore[attr-defined]  # ServerFault
        raise from_wire(error, client.target, response) from None
    if patience.is_over(answer):
        raise too_quiet(client.target, answer.so_far(), response)
    return found


class AsyncClient(_Client):
    """`Client` for asynchronous programs; usable from several event loops."""

    _sdk_clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, openai.AsyncOpenAI]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sdk_clients = weakref.WeakKeyDictionary()

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
        extra: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Reply:
        """See `Client.chat`."""
        talk = self._talk(messages, _given(locals()))
        while True:
            reply = await self._ask(talk.request)
            calls = talk.calls(reply)
            if not calls:
                return talk.finished(reply)
            talk.answer(reply, await talk.toolbox.arun(calls))

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
        extra: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> AsyncStream:
        """See `Client.stream`."""
        return AsyncStream(self, self._talk(messages, _given(locals())))

    async def models(self) -> list[str]:
        """See `Client.models`."""
        sdk = await self._sdk()
        try:
            response = await sdk.get("/models", cast_to=HTTP.Response, options={"headers": no_key(self.target)})
        except (openai.APIStatusError, openai.APIConnectionError) as error:
            raise self._translated(error) from None
        return _model_names(response, self.target)

    async def close(self) -> None:
        """Close the connections of the running event loop."""
        sdk = self._sdk_clients.pop(asyncio.get_running_loop(), None)
        if sdk is not None:
            await sdk.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _sdk(self) -> openai.AsyncOpenAI:
        loop = asyncio.get_running_loop()
        if loop not in self._sdk_clients:
            if self.target.base_url is None:
                await asyncio.to_thread(self._start_local)
            self._sdk_clients[loop] = openai.AsyncOpenAI(**sdk_arguments(self.target), http_client=self._http_client)
        return self._sdk_clients[loop]

    def _start_local(self) -> None:
        with self._lock:
            self._local()

    async def _ask(self, request: Request) -> Reply:
        sdk, notes = await self._sdk(), list[Note]()
        body = self._body(self._at_home(request), notes)

        async def once() -> Reply:
            try:
                raw = await self._adapter.create(sdk, body, **self._options())
                return self._read(raw.http_response, notes)
            except (openai.APIStatusError, openai.APIConnectionError) as error:
                raise self._translated(error) from None

        try:
            return await tenacity.AsyncRetrying(**self._policy.options())(once)
        except openai.APIStatusError as error:
            raise await self._with_models(error) from None

    async def _with_models(self, error: openai.APIStatusError) -> openai.APIStatusError:
        if not is_missing_model(error):
            return error
        try:
            names = await self.models()
        except openai.APIError:
            return error
        return _naming(error, names)


_AsyncOpened = tuple[Any, Any, AsyncIterator[bytes], list[Delta]]  # manager, response, its bytes, first deltas


class AsyncStream:
    """`Stream` for asynchronous programs."""

    def __init__(self, client: AsyncClient, talk: Talk) -> None:
        self._client = client
        self._talk = talk
        self._answer: Answer | None = None
        self._reply: Reply | None = None
        self._deltas = self._run()

    reply = Stream.reply
    so_far = Stream.so_far

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

    async def _run(self) -> AsyncGenerator[Delta, None]:
        while True:
            notes: list[Note] = []
            async for delta in self._step(notes):
                yield delta
            assert self._answer is not None  # `_step` ended
            assert self._answer.reply is not None
            reply = replace(self._answer.reply, notes=(*self._answer.reply.notes, *notes))
            calls = self._talk.calls(reply)
            if not calls:
                self._reply = self._talk.finished(reply)
                return
            self._talk.answer(reply, await self._talk.toolbox.arun(calls))

    async def _step(self, notes: list[Note]) -> AsyncGenerator[Delta, None]:
        client = self._client
        sdk = await client._sdk()
        body = client._body(client._at_home(self._talk.request).replace(include_usage=True), notes)
        try:
            opened: _AsyncOpened = await tenacity.AsyncRetrying(**client._policy.options())(self._open, sdk, body)
        except openai.APIStatusError as error:
            raise await client._with_models(error) from None
        manager, response, chunks, first = opened
        answer = self._answer
        assert answer is not None  # `_open` made it
        patience = _Patience(client._quiet_limit())
        try:
            for delta in first:
                yield delta
            while answer.reply is None:
                for delta in await _anext_deltas(client, answer, response, chunks, patience):
                    yield delta
        finally:
            await manager.__aexit__(None, None, None)

    async def _open(self, sdk: Any, body: Mapping[str, Any]) -> _AsyncOpened:
        client = self._client
        answer = self._answer = client._answer()
        manager = client._adapter.open(sdk, body, **client._options())
        try:
            response = (await manager.__aenter__()).http_response
        except (openai.APIStatusError, openai.APIConnectionError) as error:
            raise client._translated(error) from None
        try:
            chunks = response.aiter_bytes()
            patience = _Patience(client._quiet_limit())
            first: list[Delta] = []
            while not first and answer.reply is None:
                first = await _anext_deltas(client, answer, response, chunks, patience)
        except BaseException:
            await manager.__aexit__(None, None, None)
            raise
        return manager, response, chunks, first


async def _anext_deltas(
    client: _Client, answer: Answer, response: Any, chunks: AsyncIterator[bytes], patience: _Patience
) -> list[Delta]:
    try:
        chunk = None if answer.done else await anext(chunks, None)
    except transport_errors() as error:
        raise from_break(error, client.target, answer.so_far(), response) from None
    return _absorb(client, answer, response, chunk, patience)
