"""A whole call ends at its deadline, whatever a server does until then."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import answers
import openai
import pytest
from doors import AsyncDoor, SyncDoor, asked, http

import allos
from allos import fallback
from allos.deadline import Deadline

SHORT = 0.2
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
WORD = f"{answers.stream('chat', 'Par')[1]}\n\n".encode()


class Slow:
    """A server that sends these bytes at once, then `drops` of more for ever, and remembers who asked."""

    def __init__(self) -> None:
        self.first, self.drops = b"", b""
        self.asked = 0
        self.over = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._pool = ThreadPoolExecutor()
        self._pool.submit(self._serve)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"

    def _serve(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            if self.over.is_set():
                return connection.close()
            self._pool.submit(self._answer, connection)

    def _answer(self, connection: socket.socket) -> None:
        self.asked += 1
        try:
            with connection:
                connection.recv(65536)
                connection.sendall(self.first)
                while not self.over.wait(0.02):
                    connection.sendall(self.drops)
        except OSError:  # the client has left
            return

    def close(self) -> None:
        self.over.set()
        socket.create_connection(self._socket.getsockname()).close()
        self._pool.shutdown()
        self._socket.close()


@pytest.fixture
def slow() -> Iterator[Slow]:
    server = Slow()
    yield server
    server.close()


@pytest.fixture
def door(colour: str, slow: Slow) -> Callable[..., SyncDoor | AsyncDoor]:
    def make(**arguments: object) -> SyncDoor | AsyncDoor:
        given = {"provider": "chat_completions", "model": "m", "base_url": slow.url, **arguments}
        return SyncDoor(allos.Client(**given)) if colour == "sync" else AsyncDoor(allos.AsyncClient(**given))

    return make


SLOW = {
    "no answer": (b"", b""),
    "a head that never ends": (HEAD[:20], b"x"),
    "silence after a word": (HEAD + WORD, b""),
    "one byte at a time": (HEAD, b" "),
    "words for ever": (HEAD + WORD, WORD),
    "an error body that never ends": (HEAD.replace(b"200 OK", b"503 Busy"), b"x"),
}


@pytest.mark.parametrize("way", SLOW)
async def test_a_call_ends_at_its_deadline(way, slow, door, streamed):
    slow.first, slow.drops = SLOW[way]
    client = door(deadline=SHORT)
    begun = time.monotonic()
    with pytest.raises(openai.APITimeoutError) as caught:
        await asked(client, "hi", streamed=streamed)
    assert SHORT - 0.001 <= time.monotonic() - begun < 20 * SHORT  # less than a millisecond left is none
    said = str(caught.value)
    assert said.startswith("The server had not ")
    assert f"when the {SHORT:g} s for the whole call were over, at {slow.url}" in said
    assert "`deadline=`" in said
    text = caught.value.reply.text
    assert text == "" or (streamed and "word" in way and text.startswith("Par"))
    assert slow.asked <= 1
    await client.close()


async def test_what_was_shown_before_the_deadline_stays(slow, door):
    slow.first, slow.drops = HEAD + WORD, b": wait\n\n"
    now = [0.0]
    stream = door().stream("hi", deadline=Deadline(60, clock=lambda: now[0]))
    seen = []

    async def read():
        async for delta in stream:
            seen.append(delta.text)
            now[0] = 61.0 if delta.text else 0.0

    with pytest.raises(openai.APITimeoutError, match="3 characters of text had come") as caught:
        await read()
    assert "".join(seen) == caught.value.reply.text == stream.so_far.text == "Par"


async def test_a_deadline_stands_above_the_one_of_the_client(slow, door):
    begun = time.monotonic()
    with pytest.raises(openai.APITimeoutError, match=r"the 0.2 s"):
        await door(deadline=600).chat("hi", deadline=SHORT)
    assert time.monotonic() - begun < 60


async def test_a_list_of_models_ends_at_the_deadline_too(slow, door):
    slow.first, slow.drops = HEAD, b" "
    with pytest.raises(openai.APITimeoutError, match=r"the 0.2 s for the whole call"):
        await door(deadline=SHORT).models()


async def test_an_answer_in_time_is_not_touched_by_its_deadline(mock_door, wire, streamed):
    door = mock_door(lambda request: answers.answer(request, "Par", "is"), wire=wire, deadline=60)
    assert (await asked(door, "hi", streamed=streamed)).text == "Paris"


async def test_a_wait_that_would_pass_the_deadline_is_not_begun(mock_door, streamed):
    requests = []

    def busy(request):
        requests.append(request)
        return http.Response(429, headers={"retry-after": "30"}, json={"error": {"message": "busy"}})

    door = mock_door(busy, base_url="http://deadline.test/v1", max_retries=2, deadline=20)
    with pytest.raises(
        openai.RateLimitError, match=r"Not tried again: a wait of 30.0 s would pass the deadline"
    ) as error:
        await asked(door, "hi", streamed=streamed)
    assert len(requests) == 1
    assert "busy" in str(error.value)


async def test_no_step_begins_after_the_deadline(mock_door, streamed):
    now = [0.0]
    requests = []

    def tool() -> str:
        now[0] += 7
        return "done"

    def server(request):
        requests.append(request)
        return answers.call(request, (f"c{len(requests)}", "tool", "{}"))

    door = mock_door(server)
    with pytest.raises(openai.APITimeoutError, match="the 20 s for the whole call"):
        await asked(door, "hi", tools=[tool], streamed=streamed, deadline=Deadline(20, clock=lambda: now[0]))
    assert len(requests) == 3


async def test_an_asynchronous_tool_is_cancelled_at_the_deadline(mock_client, streamed):
    cancelled = []

    async def tool() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        return "never"

    transport = openai.DefaultAsyncHttpxClient(
        transport=http.MockTransport(lambda request: answers.call(request, ("c", "tool", "{}")))
    )
    async with allos.AsyncClient(
        "chat_completions", "m", base_url="http://tools.test/v1", http_client=transport
    ) as client:
        with pytest.raises(openai.APITimeoutError, match=r"the 0.2 s for the whole call"):
            await asked(AsyncDoor(client), "hi", tools=[tool], streamed=streamed, deadline=SHORT)
    assert cancelled == [True]


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "soon"])
def test_a_deadline_that_is_none_is_refused(mock_client, value):
    with pytest.raises(allos.ConfigurationError, match="deadline"):
        mock_client(None).chat("hi", deadline=value)
    with pytest.raises(allos.ConfigurationError, match="deadline"):
        mock_client(None, deadline=value)


async def test_a_place_that_takes_all_the_time_is_left_alone_by_later_calls(slow, door, monkeypatch, streamed):
    monkeypatch.setattr(fallback, "_circuits", {})
    other = f"{slow.url}/other"
    monkeypatch.setenv("VLLM_BASE_URL", other)
    client = door(deadline=SHORT, fallback=["vllm/second"])
    for _ in range(3):
        with pytest.raises(openai.APITimeoutError) as caught:
            await asked(client, "hi", streamed=streamed)
        assert "Before it" not in str(caught.value)
        assert other not in str(caught.value)
    with pytest.raises(openai.APITimeoutError, match=other):
        await asked(client, "hi", streamed=streamed)
