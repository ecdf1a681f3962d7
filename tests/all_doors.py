"""The five ways to ask, behind one function, and a stand-in for the sockets of all of them."""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any

import answers
import pytest
from doors import http

import allos
from allos.cli.process import call as main

DOORS = ["Client", "AsyncClient", "OpenAI", "AsyncOpenAI", "command"]


class Sockets:
    """Stands where connections would be opened, for every client of the process; remembers what would have left.

    `answer` says what a request is answered; it may raise what a broken connection raises.
    """

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.answer: Callable[[Any], Any] = lambda request: answers.answer(request, "Hello.")

    @property
    def last(self) -> Any:
        return self.requests[-1]

    @property
    def hosts(self) -> list[str]:
        """Who was asked, in order."""
        return [request.url.host for request in self.requests]

    def stand_in(self, patch: pytest.MonkeyPatch) -> None:
        def handle(_: Any, request: Any) -> Any:
            request.read()
            self.requests.append(request)
            return self.answer(request)

        async def ahandle(_: Any, request: Any) -> Any:
            await request.aread()
            self.requests.append(request)
            return self.answer(request)

        patch.setattr(http.HTTPTransport, "handle_request", handle)
        patch.setattr(http.AsyncHTTPTransport, "handle_async_request", ahandle)


@dataclass
class Answered:
    """What came through a door: the text, the notes on its way (the command's are what it says), the exit status."""

    text: str
    notes: str
    status: int = 0


def through(door: str, provider: str, model: str = "m", *, streamed: bool = False, **given: Any) -> Answered:
    """One question through that door; nothing is tried twice."""
    if door == "command":
        return command(provider, given, model, streamed)
    given = {"max_retries": 0, **given}
    if door == "Client":
        with allos.Client(provider, model, **given) as client:
            if not streamed:
                reply = client.chat("Hi")
                return Answered(reply.text, _said(reply.notes))
            with client.stream("Hi") as stream:
                text = "".join(delta.text for delta in stream)
            return Answered(text, _said(stream.reply.notes))
    if door == "OpenAI":
        with allos.OpenAI(provider, **given) as client:
            made = client.chat.completions.create(model=model, messages=_ASKED, stream=streamed)
            text = "".join(map(_text, made)) if streamed else made.choices[0].message.content
            return Answered(text, _said(allos.receipt(made).notes))
    return asyncio.run(_athrough(door, provider, model, streamed, given))


_ASKED: Any = [{"role": "user", "content": "Hi"}]


async def _athrough(door: str, provider: str, model: str, streamed: bool, given: dict[str, Any]) -> Answered:
    if door == "AsyncClient":
        async with allos.AsyncClient(provider, model, **given) as client:
            if not streamed:
                reply = await client.chat("Hi")
                return Answered(reply.text, _said(reply.notes))
            async with client.stream("Hi") as stream:
                text = "".join([delta.text async for delta in stream])
            return Answered(text, _said(stream.reply.notes))
    async with allos.AsyncOpenAI(provider, **given) as official:
        made: Any = await official.chat.completions.create(model=model, messages=_ASKED, stream=streamed)
        text = "".join([_text(chunk) async for chunk in made]) if streamed else made.choices[0].message.content
        return Answered(text, _said(allos.receipt(made).notes))


def command(
    provider: str, given: dict[str, Any], model: str = "m", streamed: bool = False, more: Sequence[str] = ()
) -> Answered:
    """The command, with those arguments as its options."""
    given = {"max_retries": 0, **given}
    flags = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", _word(value))]
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8")
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
        status = main(["-p", provider, "-m", model, "--stream" if streamed else "--no-stream", *flags, *more, "Hi"])
    return Answered(_written(out).removesuffix("\n"), _written(err), status)


def _word(value: Any) -> str:
    return ",".join(value) if isinstance(value, list) else str(value)


def _written(stream: io.TextIOWrapper) -> str:
    stream.flush()
    return stream.buffer.getvalue().decode()  # type: ignore[attr-defined]  # a BytesIO


def _text(chunk: Any) -> str:
    return (chunk.choices[0].delta.content or "") if chunk.choices else ""


def _said(notes: Any) -> str:
    return "\n".join(f"{note.action}: {note.reason}" for note in notes)
