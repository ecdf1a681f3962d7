"""The doors of Allos, and the bare SDK, each as one call that tells what a program would have seen."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import all_doors
import openai

import allos

# Loading the certificates anew for each client would take most of the bench's time.
TLS = ssl.create_default_context()
PROMPT = "What is the capital of France?"
KEY = "sk-secret-of-the-bench-0123456789"
OTHER = {"chat": "responses", "responses": "chat"}
LONGEST = 12.0  # seconds after which a call counts as hanging


@dataclass
class Outcome:
    """What came of one call: the text that was shown, how it ended, and how long it took."""

    text: str = ""
    reply: Any = None
    error: BaseException | None = None
    seconds: float = 0.0
    hangs: bool = False
    calls: list[tuple[str, str]] = field(default_factory=list)  # tool calls as (name, arguments)
    status: int | None = None  # the exit status of the command


Run = Callable[[str, str, dict[str, Any], Outcome], Any]  # base URL, wire of the server, options, what to fill


def _chat_text(chunk: Any, seen: Outcome) -> None:
    for choice in chunk.choices:
        if choice.delta.content:
            seen.text += choice.delta.content


def _responses_text(event: Any, seen: Outcome) -> None:
    if event.type == "response.output_text.delta":
        seen.text += event.delta
    elif event.type in ("response.completed", "response.incomplete"):
        _take_response(event.response, seen, text=False)


def _take_completion(made: Any, seen: Outcome, *, text: bool = True) -> None:
    seen.reply = made
    message = made.choices[0].message
    if text:
        seen.text += message.content or ""
    seen.calls += [(call.function.name, call.function.arguments) for call in message.tool_calls or []]


def _take_response(made: Any, seen: Outcome, *, text: bool = True) -> None:
    seen.reply = made
    if text:
        seen.text += made.output_text
    seen.calls += [(item.name, item.arguments) for item in made.output if item.type == "function_call"]


def _resource(client: Any, asked: str) -> tuple[Any, dict[str, Any]]:
    if asked == "chat":
        return client.chat.completions, {"model": "m", "messages": [{"role": "user", "content": PROMPT}]}
    return client.responses, {"model": "m", "input": PROMPT}


def _ask(client: Any, asked: str, way: str, seen: Outcome) -> None:
    resource, said = _resource(client, asked)
    if way == "whole":
        made = resource.create(**said)
        (_take_completion if asked == "chat" else _take_response)(made, seen)
    elif way == "stream":
        for event in resource.create(**said, stream=True):
            (_chat_text if asked == "chat" else _responses_text)(event, seen)
    else:
        with resource.stream(**said) as stream:
            for event in stream:
                _helper_text(event, seen)
            if asked == "chat":
                _take_completion(stream.get_final_completion(), seen, text=False)
            else:
                seen.reply = stream.get_final_response()


async def _aask(client: Any, asked: str, way: str, seen: Outcome) -> None:
    resource, said = _resource(client, asked)
    if way == "whole":
        made = await resource.create(**said)
        (_take_completion if asked == "chat" else _take_response)(made, seen)
    elif way == "stream":
        async for event in await resource.create(**said, stream=True):
            (_chat_text if asked == "chat" else _responses_text)(event, seen)
    else:
        async with resource.stream(**said) as stream:
            async for event in stream:
                _helper_text(event, seen)
            if asked == "chat":
                _take_completion(await stream.get_final_completion(), seen, text=False)
            else:
                seen.reply = await stream.get_final_response()


def _helper_text(event: Any, seen: Outcome) -> None:
    if event.type in ("content.delta", "response.output_text.delta"):
        seen.text += event.delta


def dropin(asked: str, spoken: str, way: str, *, colour: str = "sync", kind: Any = None) -> Run:
    """The drop-in, asked in one API where the server speaks another or the same; `kind` may be the bare class."""

    def arguments(url: str, options: dict[str, Any]) -> dict[str, Any]:
        http = openai.DefaultHttpxClient if colour == "sync" else openai.DefaultAsyncHttpxClient
        given = {"base_url": url, "api_key": KEY, "max_retries": 0, "timeout": 1.0, "http_client": http(verify=TLS)}
        given |= options
        return given if kind is not None else {"provider": "chat_completions", "wire": spoken, **given}

    def run(url: str, wire: str, options: dict[str, Any], seen: Outcome) -> Any:
        if colour == "sync":
            with (kind or allos.OpenAI)(**arguments(url, options)) as client:
                _ask(client, asked, way, seen)
            return None

        async def main() -> None:
            async with (kind or allos.AsyncOpenAI)(**arguments(url, options)) as client:
                await _aask(client, asked, way, seen)

        return asyncio.run(main())

    return run


def unified(wire: str, way: str, *, colour: str = "sync") -> Run:
    """`Client` or `AsyncClient`."""

    def take(reply: Any, seen: Outcome) -> None:
        seen.reply = reply
        seen.calls = [(call.name, call.arguments) for call in reply.tool_calls]

    def run(url: str, _: str, options: dict[str, Any], seen: Outcome) -> Any:
        http = openai.DefaultHttpxClient if colour == "sync" else openai.DefaultAsyncHttpxClient
        given = {"base_url": url, "api_key": KEY, "max_retries": 0, "timeout": 1.0, "http_client": http(verify=TLS)}
        given |= {"wire": wire, **options}
        if colour == "sync":
            with allos.Client("chat_completions", "m", **given) as client:
                if way == "whole":
                    reply = client.chat(PROMPT)
                    seen.text = reply.text
                else:
                    stream = client.stream(PROMPT)
                    for delta in stream:
                        seen.text += delta.text
                    reply = stream.reply
                take(reply, seen)
            return None

        async def main() -> None:
            async with allos.AsyncClient("chat_completions", "m", **given) as client:
                if way == "whole":
                    reply = await client.chat(PROMPT)
                    seen.text = reply.text
                else:
                    stream = client.stream(PROMPT)
                    async for delta in stream:
                        seen.text += delta.text
                    reply = stream.reply
                take(reply, seen)

        return asyncio.run(main())

    return run


class CommandFailed(Exception):
    """What the command said on standard error, with the exit status."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status = status


def command(url: str, wire: str, options: dict[str, Any], seen: Outcome, *, way: str) -> None:
    """The command, in this process; with `--json` where the answer is whole, which shows its tool calls."""
    given = {"base_url": url, "api_key": KEY, "max_retries": 0, "timeout": 1.0, "wire": wire, **options}
    answered = all_doors.command(
        "chat_completions", given, streamed=way == "stream", more=["--json"] * (way == "whole")
    )
    seen.status = answered.status
    if way == "whole" and answered.text:
        reply = json.loads(answered.text)
        seen.text, seen.reply = reply["text"], reply
        seen.calls = [(call["name"], call["arguments"]) for call in reply["tool_calls"]]
    elif way == "stream":
        seen.text = answered.text
    if answered.status not in (0, 7) or "Error:" in answered.notes:
        raise CommandFailed(answered.status, answered.notes.removeprefix("Error: ").strip())


def doors(wire: str, way: str, *, helped: bool = True) -> dict[str, Run]:
    """Every door through which a server of that wire can be asked in that way; `helped`: the SDK's helpers too."""
    found: dict[str, Run] = {"command": partial(command, way=way)}
    for colour in ("sync", "async"):
        found[f"unified {colour}"] = unified(wire, way, colour=colour)
        for road, asked in (("native", wire), ("translated", OTHER[wire])):
            found[f"drop-in {road} {colour}"] = dropin(asked, wire, way, colour=colour)
            if way == "stream" and helped:
                found[f"drop-in {road} helper {colour}"] = dropin(asked, wire, "helper", colour=colour)
    return found


def bare(wire: str, way: str, *, helped: bool = True) -> dict[str, Run]:
    """The official SDK alone, on the same server."""
    found = {f"bare {way}": dropin(wire, wire, way, kind=openai.OpenAI)}
    if way == "stream" and helped:
        found["bare helper"] = dropin(wire, wire, "helper", kind=openai.OpenAI)
    return found


def watched(run: Run, url: str, wire: str, options: dict[str, Any]) -> Outcome:
    """The outcome of a call, in a thread so that one that never ends is told."""
    seen, begun = Outcome(), time.monotonic()

    def call() -> None:
        try:
            run(url, wire, options, seen)
        except BaseException as error:  # noqa: BLE001  # whatever comes is what the bench is about
            seen.error = error

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(LONGEST)
    seen.hangs = thread.is_alive()
    seen.seconds = time.monotonic() - begun
    return seen
