"""The recorded exchanges, a server that plays them, and what the SDK's own objects say of them."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import openai
import plain_chat
import plain_responses
import pytest
from doors import http
from plain_chat import FOLDER

ROOT = Path(__file__).parents[1]
MISSING = f"no recordings in {FOLDER}: ALLOS_RECORDINGS names their folder"
OTHER = {"chat": "responses", "responses": "chat"}
PLAIN: dict[str, Any] = {"chat": plain_chat, "responses": plain_responses}
Record = dict[str, Any]

# Exchanges that no door but the drop-in's own wire has a call for: it passes them through untouched.
NO_ANSWER = {
    "openai-chat-n-getchatcompletionmessageswithcancellationtok-9aad3d": "lists the messages of a stored completion",
    "openai-chat-n-getchatcompletionswithminimallimits-f808ff": "lists stored completions",
    "openai-responses-n-cancompactconversation-d56534": "compacts a conversation",
    "openai-responses-n-candeleteresponse-86dda2": "asks for a stored response that is not there",
    "openai-responses-n-count-tokens-037139": "counts tokens",
    "openai-responses-n-responses-input-items-e7e0a4": "lists the input of a stored response",
}


@cache
def load() -> list[Record]:
    """Every recorded exchange; none where the folder is not there."""
    return [json.loads(path.read_text("utf-8")) for path in sorted(FOLDER.glob("*/*.json"))]


def each(keep: Callable[[Record], bool]) -> list[Any]:
    """Pytest parameters, one an exchange; a skipped one where there are no recordings."""
    found = [pytest.param(record, id=record["id"]) for record in load() if keep(record)]
    return found or [pytest.param({}, marks=pytest.mark.skip(reason=MISSING))]


def is_fault(record: Record) -> bool:
    """Whether the service refused or failed, in whichever place it said so."""
    return "error" in record["features"]


def expected(record: Record) -> dict[str, Any]:
    """What the bytes of an answer say, by plain code."""
    plain, body = PLAIN[record["api"]], record["response"]["body"]
    said: dict[str, Any] = plain.streamed(body) if record["streaming"] else plain.whole(json.loads(body))
    return said


# A server that answers with what was recorded


class Bytes(http.SyncByteStream, http.AsyncByteStream):
    """Packets as they come over a connection."""

    def __init__(self, packets: Iterable[bytes]) -> None:
        self._packets = packets

    def __iter__(self) -> Iterator[bytes]:
        yield from self._packets

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for packet in self._packets:
            yield packet


class Player:
    """Answers every request with what was put in last, and keeps the request."""

    def __init__(self) -> None:
        self._status, self._packets = 200, list[bytes]()
        self._headers: dict[str, str] = {}
        self.request: Any = None

    def play(self, record: Record, packets: Iterable[bytes] | None = None) -> None:
        response = record["response"]
        self._status, self._headers = response["status"], response["headers"]
        self._packets = [response["body"].encode()] if packets is None else list(packets)

    def __call__(self, request: Any) -> Any:
        self.request = request
        return http.Response(self._status, headers=_sent(self._headers), stream=Bytes(self._packets))

    @property
    def asked(self) -> Any:
        """The body of the last request."""
        return json.loads(self.request.content)


def _sent(headers: dict[str, str]) -> dict[str, str]:
    """The headers without those that tell of the bytes as they were on the recorded line."""
    gone = ("content-length", "content-encoding", "transfer-encoding")
    return {name: value for name, value in headers.items() if name.lower() not in gone}


@cache
def connection(colour: str, player: Player) -> Any:
    """An HTTP client that reaches only the player."""
    kind = openai.DefaultHttpxClient if colour == "sync" else openai.DefaultAsyncHttpxClient
    return kind(transport=http.MockTransport(player))


_loop = cache(asyncio.Runner)


def run(awaitable: Any) -> Any:
    """The result of a coroutine, in one event loop for all."""
    return _loop().run(awaitable)


# How bytes may be cut


def events(body: str) -> list[bytes]:
    """The stream's events, each with the blank line that ends it."""
    return [piece.encode() for piece in re.findall(r".*?(?:\r\n\r\n|\n\n|\r\r|\Z)", body, re.S) if piece]


def torn(data: bytes) -> list[bytes]:
    """The bytes cut at every kind of place: within characters, line ends, JSON strings and names, between events."""
    places = set()
    for found in re.finditer(rb"[\xc0-\xff][\x80-\xbf]+", data):
        places |= set(range(found.start() + 1, found.end()))
    for pattern in (rb"\r\n|\n\n", rb"\\u[0-9a-f]{4}|\\.", rb"data:|event:", rb'": ?"[^"\\]{2}', rb"\d\d", rb"\}\}"):
        places |= {found.start() + 1 for found in list(re.finditer(pattern, data))[:60]}
    places |= {found.end() for found in re.finditer(rb"\n\n|\r\n\r\n", data)}
    cuts = sorted({0, len(data)} | places)
    return [data[start:end] for start, end in itertools.pairwise(cuts)]


def payloads(record: Record) -> list[Any]:
    """What each event of a stream holds; None for a comment and for `[DONE]`."""
    bodies = [event.decode() for event in events(record["response"]["body"])]
    found = [(plain_chat.chunks if record["api"] == "chat" else plain_responses.events)(body) for body in bodies]
    return [entry[0] if entry else None for entry in found]


def end_of(record: Record) -> int:
    """How many events it takes until the service has said that the answer is whole."""
    finishes: dict[int, Any] = {}
    for place, payload in enumerate(payloads(record), 1):
        if record["api"] == "responses":
            if payload and payload["type"] in plain_responses.LAST:
                return place
            continue
        for choice in (payload or {}).get("choices") or ():
            finishes[choice["index"]] = finishes.get(choice["index"]) or choice.get("finish_reason")
        if finishes and all(finishes.values()):
            return place
    return len(events(record["response"]["body"]))


# What the official objects say


def of_completion(completion: Any) -> dict[str, Any]:
    """What a `ChatCompletion` says, in the form of `plain_chat`."""
    body = completion.to_dict(mode="json", warnings=False)
    for choice in body["choices"]:
        choice["message"].setdefault("content", None)
    return plain_chat.whole(body)


def of_chunks(chunks: Iterable[Any]) -> dict[str, Any]:
    """What `ChatCompletionChunk`s add up to."""
    return plain_chat.pieces([chunk.to_dict(mode="json", warnings=False) for chunk in chunks])


def of_response(response: Any) -> dict[str, Any]:
    """What a `Response` says, in the form of `plain_responses`."""
    return plain_responses.whole(response.to_dict(mode="json", warnings=False))


def of_events(found: Iterable[Any]) -> dict[str, Any]:
    """What the events of a Responses stream add up to."""
    return plain_responses.pieces([event.to_dict(mode="json", warnings=False) for event in found])
