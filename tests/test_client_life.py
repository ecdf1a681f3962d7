"""The life of a client: opened, shared between threads, loops and processes, pickled, closed and used again."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import answers
import openai
import pytest
from doors import http
from programs import done

import allos


class _Echo(BaseHTTPRequestHandler):
    """Says the prompt back and keeps its connections open; remembers by which ports it was asked."""

    protocol_version = "HTTP/1.1"
    ports: list[int]

    def do_POST(self) -> None:
        self.server.ports.append(self.client_address[1])
        said = json.loads(self.rfile.read(int(self.headers["content-length"])))
        prompt = said["messages"][-1]["content"]
        if said.get("stream"):
            body = "".join(f"{line}\n\n" for line in answers.stream("chat", prompt)).encode()
            kind = "text/event-stream"
        else:
            body, kind = json.dumps(answers.whole("chat", prompt)).encode(), "application/json"
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


@pytest.fixture
def echo() -> Iterator[ThreadingHTTPServer]:
    with _Server(("127.0.0.1", 0), _Echo) as server:
        server.ports = []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        server.url = f"http://127.0.0.1:{server.server_port}/v1"
        yield server
        server.shutdown()
        thread.join()


def client_of(server, kind=allos.Client):
    return kind("chat_completions", "m", base_url=server.url, max_retries=0)


@pytest.mark.fault("N8")
def test_threads_may_share_a_client_and_get_their_own_answers(echo):
    with client_of(echo) as client, ThreadPoolExecutor(8) as pool:
        prompts = [f"prompt {number}" for number in range(40)]
        assert list(pool.map(lambda prompt: client.chat(prompt).text, prompts)) == prompts


def test_streams_of_several_threads_do_not_mix(echo):
    def streamed(prompt):
        return "".join(delta.text for delta in client.stream(prompt))

    with client_of(echo) as client, ThreadPoolExecutor(8) as pool:
        prompts = [f"prompt {number}" for number in range(20)]
        assert list(pool.map(streamed, prompts)) == prompts


async def test_many_calls_at_once_get_their_own_answers(echo):
    async with client_of(echo, allos.AsyncClient) as client:
        prompts = [f"prompt {number}" for number in range(40)]
        replies = await asyncio.gather(*(client.chat(prompt) for prompt in prompts))
        assert [reply.text for reply in replies] == prompts


@pytest.mark.fault("N8")
def test_an_asynchronous_client_lives_through_several_event_loops(echo):
    client = client_of(echo, allos.AsyncClient)

    async def once(prompt):
        text = (await client.chat(prompt)).text
        streamed = [delta.text async for delta in client.stream(prompt)]
        await client.close()
        return text, "".join(streamed)

    assert asyncio.run(once("first")) == ("first", "first")
    assert asyncio.run(once("second")) == ("second", "second")
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda prompt: asyncio.run(once(prompt)), ["third", "fourth"]))
    assert both == [("third", "third"), ("fourth", "fourth")]


def test_a_closed_client_opens_again_when_it_is_used(echo):
    client = client_of(echo)
    with client:
        assert client.chat("one").text == "one"
        assert client.chat("two").text == "two"
    assert len(set(echo.ports)) == 1
    assert client.chat("three").text == "three"
    assert len(set(echo.ports)) == 2
    client.close()
    client.close()


def test_a_connection_outlives_the_deadline_of_an_answer_it_has_brought(echo, monkeypatch):
    """It serves other calls then, and what ends a late answer must not end theirs."""
    ends = []

    class Timer(threading.Timer):
        def start(self):
            ends.append(self.function)

    monkeypatch.setattr(threading, "Timer", Timer)
    with client_of(echo) as client:
        assert client.chat("one", deadline=60).text == "one"
        for end in ends:
            end()
        assert client.chat("two", deadline=60).text == "two"
    assert len(ends) == 2
    assert len(set(echo.ports)) == 1


@pytest.mark.parametrize("kind", [allos.Client, allos.AsyncClient])
def test_a_client_that_was_never_used_can_be_closed(kind, echo):
    client = client_of(echo, kind)
    done = client.close()
    if done is not None:
        asyncio.run(done)


@pytest.mark.parametrize("kind", [allos.Client, allos.AsyncClient])
def test_a_pickled_client_is_the_same_client(kind):
    client = kind("groq", "m", api_key="sk-mock-key", timeout=7, max_retries=1, system="Be brief.", wire="chat")
    for twin in (pickle.loads(pickle.dumps(client)), copy.deepcopy(client)):
        assert type(twin) is kind
        assert twin.target == client.target
        assert twin.target.api_key.get_secret_value() == "sk-mock-key"


def test_a_client_with_a_transport_of_its_own_says_that_it_can_not_be_pickled(mock_client):
    with mock_client(lambda request: None) as client, pytest.raises(TypeError, match="http_client"):
        pickle.dumps(client)


async def test_a_transport_that_was_given_stays_open(mock_door):
    door = mock_door(lambda request: answers.answer(request, "hi"))
    await door.chat("hi")
    await door.close()
    assert (await door.chat("hi")).text == "hi"


def test_a_key_is_in_no_repr(monkeypatch):
    client = allos.Client("groq", "m", api_key="sk-mock-key-1234567890")
    assert "sk-mock" not in repr(client) + repr(client.target) + str(vars(client.target))
    assert repr(client) == "Client('groq', 'm')"


def test_an_asynchronous_stream_is_ended_with_its_with_block(echo):
    async def once():
        async with client_of(echo, allos.AsyncClient) as client, client.stream("hello") as stream:
            async for delta in stream:
                if delta.text:
                    return delta.text
        return None

    assert asyncio.run(once()) == "hello"


@pytest.mark.fault("S10")
async def test_a_cancelled_call_is_cancelled_and_nothing_else(mock_door, streamed):
    entered, never = asyncio.Event(), asyncio.Event()

    async def server(request):
        entered.set()
        await never.wait()

    transport = openai.DefaultAsyncHttpxClient(transport=http.MockTransport(server))
    client = allos.AsyncClient("chat_completions", "m", base_url="http://mock.test/v1", http_client=transport)

    async def call():
        if streamed:
            return [delta async for delta in client.stream("hi")]
        return await client.chat("hi")

    task = asyncio.create_task(call())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


FORKED = """
import os, sys
import allos
client = allos.Client("chat_completions", "m", base_url=sys.argv[1], max_retries=0)
assert client.chat("parent").text == "parent"
child = os.fork()
if child == 0:
    assert client.chat("child").text == "child"
    assert client.chat("child again").text == "child again"
    os._exit(0)
assert client.chat("parent again").text == "parent again"
assert os.waitpid(child, 0)[1] == 0
assert client.chat("parent at last").text == "parent at last"
"""


@pytest.mark.fault("N8")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_opens_connections_of_its_own(echo):
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", FORKED, echo.url], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(set(echo.ports)) == 2  # one of the parent, one of the child


DROPPED = """
import asyncio, gc, sys
import allos
allos.Client("chat_completions", "m", base_url=sys.argv[1]).chat("hi")
next(iter(allos.Client("chat_completions", "m", base_url=sys.argv[1]).stream("hi")))

async def once():
    client = allos.AsyncClient("chat_completions", "m", base_url=sys.argv[1])
    await client.chat("hi")
    async for delta in client.stream("hi"):
        break
    await client.chat("the program goes on")
    return client

kept = asyncio.run(once())
asyncio.run(once())
gc.collect()
"""


UNREAD = """
import socket, sys
import allos
client = allos.Client("chat_completions", "m", base_url=sys.argv[1])
socket.kept = stream = client.stream("hi")
next(stream)
"""


def test_a_stream_that_is_left_unread_at_the_programs_end_says_nothing(echo):
    done = subprocess.run([sys.executable, "-c", UNREAD, echo.url], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.fault("N8")
def test_a_client_that_is_dropped_unclosed_says_nothing(echo):
    done = subprocess.run([sys.executable, "-c", DROPPED, echo.url], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("ALL_PROXY", "socks4://user:secret@127.0.0.1:9", "scheme"),
        ("SSL_CERT_FILE", "nowhere.pem", "No such file"),
        ("https_proxy", "ftp://user:secret@127.0.0.1:9", "scheme"),
    ],
)
async def test_connections_that_the_environment_makes_impossible_are_told_with_its_variable(
    colour: str, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: str
) -> None:
    for name in ("SSL_CERT_DIR", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, value)
    kind = allos.Client if colour == "sync" else allos.AsyncClient
    client = kind("chat_completions", "m", base_url="http://mock.test/v1")
    with pytest.raises(
        allos.ConfigurationError, match=f"Connections can't be set up as {variable.upper()} .*: .*{words}"
    ) as caught:
        await done(client.chat("Hi"))
    assert "secret" not in str(caught.value)
