"""The SDK's transport over aiohttp, given as `http_client`, changes neither answers nor errors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from raw_server import HOLD, RawServer, dead_port, quick_resolver
from scenario import KEPT, TEXT, events, good, head, lines, until_third

import allos

pytest.importorskip("aiohttp")
ARGUMENTS = {"api_key": "k", "max_retries": 0, "timeout": 0.5}


async def answered(door: str, url: str, wire: str) -> str:
    """The streamed text that comes through a door; an error carries it as `shown`."""
    shown = ""
    async with openai.DefaultAioHttpClient() as http_client:
        given = {**ARGUMENTS, "base_url": url, "wire": wire, "http_client": http_client}
        try:
            async for piece in pieces(door, given):
                shown += piece
        except openai.APIError as error:
            error.shown = shown  # type: ignore[attr-defined]
            raise
    return shown


async def pieces(door: str, given: dict[str, Any]) -> AsyncIterator[str]:
    if door == "AsyncClient":
        async with allos.AsyncClient("chat_completions", "m", **given) as client, client.stream("hi") as stream:
            async for delta in stream:
                yield delta.text
    else:
        official = allos.AsyncOpenAI("chat_completions", **given)
        asked: Any = [{"role": "user", "content": "hi"}]
        async for chunk in await official.chat.completions.create(model="m", messages=asked, stream=True):
            yield (chunk.choices[0].delta.content or "") if chunk.choices else ""


@pytest.fixture(params=["AsyncClient", "AsyncOpenAI"])
def door(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_a_stream_is_the_same(door, wire):
    with RawServer([[good(wire, "stream")]]) as server:
        assert await answered(door, server.url(), wire) == TEXT


@pytest.mark.parametrize(("rest", "kind"), [([], openai.APIError), ([HOLD], openai.APITimeoutError)])
async def test_a_stream_that_breaks_or_falls_silent_keeps_its_text(door, wire, rest, kind):
    begun = head(200, "text/event-stream") + b"".join(events(until_third(lines(wire))))
    with RawServer([[begun, *rest]]) as server, pytest.raises(kind) as caught:
        await answered(door, server.url(), wire)
    assert caught.value.shown == caught.value.reply.text == KEPT


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (f"http://127.0.0.1:{dead_port()}/v1", "the connection was refused"),
        ("http://nowhere.invalid/v1", "the host name is unknown"),
    ],
    ids=["refused", "unknown host"],
)
async def test_a_connection_that_fails_is_no_timeout(door, url, words):
    with quick_resolver(), pytest.raises(openai.APIConnectionError, match=words) as caught:
        await answered(door, url, "chat")
    assert not isinstance(caught.value, openai.APITimeoutError)


async def test_what_is_no_http_is_an_error_of_the_sdk(door):
    with (
        RawServer([[b"SSH-2.0-OpenSSH_9.2\r\n"]]) as server,
        pytest.raises(openai.APIConnectionError, match="HTTP server"),
    ):
        await answered(door, server.url(), "chat")
