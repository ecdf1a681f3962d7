"""The life of a drop-in client: threads, forks, several event loops, cancellation, early ends and the interpreter's."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler

import answers
import pytest
from loopback import serving

import allos

WITHIN = 1.0  # seconds in which the server sees that its reader has gone


class Held(BaseHTTPRequestHandler):
    """Says the prompt back; holds the stream of a prompt that begins with "hold" open until its reader has gone."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        said = json.loads(self.rfile.read(int(self.headers["content-length"])))
        prompt = said["messages"][-1]["content"]
        self.server.ports.append(self.client_address[1])
        self.send_response(200)
        if prompt.startswith("hold"):
            self.send_header("content-type", "text/event-stream")
            self.send_header("connection", "close")
            self.end_headers()
            self.wfile.write("".join(f"{line}\n\n" for line in answers.stream("chat", prompt)[:2]).encode())
            self.server.began.set()
            self.connection.settimeout(30)
            if self.connection.recv(1) == b"":
                self.server.gone.set()
            self.close_connection = True
            return
        if said.get("stream"):
            body, kind = "".join(f"{line}\n\n" for line in answers.stream("chat", prompt)), "text/event-stream"
        else:
            body, kind = json.dumps(answers.whole("chat", prompt)), "application/json"
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def held() -> Iterator[object]:
    with serving(Held) as server:
        server.ports, server.began, server.gone = [], threading.Event(), threading.Event()
        yield server


@pytest.fixture(params=["chat", "responses"])
def asked(request) -> str:
    """The API that the program asks; the server has Chat Completions, so one of them is translated."""
    return request.param


def client_of(server, kind=allos.OpenAI):
    return kind("chat_completions", base_url=server.url, api_key="secret", max_retries=0, wire="chat")


def create(client, asked, prompt, **more):
    if asked == "chat":
        return client.chat.completions.create(model="m", messages=[{"role": "user", "content": prompt}], **more)
    return client.responses.create(model="m", input=prompt, **more)


def text_of(made, asked):
    return made.choices[0].message.content if asked == "chat" else made.output_text


@pytest.mark.fault("N8")
def test_threads_may_share_a_drop_in_client_and_get_their_own_answers(held, asked):
    prompts = [f"prompt {number}" for number in range(24)]
    with client_of(held) as client, ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda prompt: text_of(create(client, asked, prompt), asked), prompts)) == prompts


@pytest.mark.fault("S10")
def test_a_stream_that_is_left_is_closed_at_the_server(held, asked):
    with client_of(held) as client, create(client, asked, "hold", stream=True) as stream:
        next(iter(stream))
    assert held.gone.wait(WITHIN)


@pytest.mark.fault("S10")
def test_a_stream_that_is_dropped_is_closed_at_the_server(held, asked):
    with client_of(held) as client:
        stream = create(client, asked, "hold", stream=True)
        next(iter(stream))
        del stream
        gc.collect()
        assert held.gone.wait(WITHIN)


@pytest.mark.fault("S10")
def test_a_unified_stream_that_is_left_is_closed_at_the_server(held):
    with allos.Client("chat_completions", "m", base_url=held.url, max_retries=0) as client:
        with client.stream("hold") as stream:
            next(stream)
        assert held.gone.wait(WITHIN)


@pytest.mark.fault("S10")
@pytest.mark.parametrize("door", ["AsyncOpenAI, chat", "AsyncOpenAI, responses", "AsyncClient"])
def test_a_cancelled_stream_is_closed_at_the_server(held, door):
    async def read(stream, came):
        async for _ in stream:
            came.set()

    async def once():
        came = asyncio.Event()
        if door == "AsyncClient":
            client = allos.AsyncClient("chat_completions", "m", base_url=held.url, max_retries=0)
            stream = client.stream("hold")
        else:
            client = client_of(held, allos.AsyncOpenAI)
            stream = await create(client, door.rpartition(" ")[2], "hold", stream=True)
        task = asyncio.create_task(read(stream, came))
        await came.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gone = await asyncio.to_thread(held.gone.wait, WITHIN)
        await client.close()
        return gone

    assert asyncio.run(once())


def test_an_asynchronous_drop_in_client_lives_through_several_event_loops(held, asked):
    client = client_of(held, allos.AsyncOpenAI)

    async def once(prompt):
        made = text_of(await create(client, asked, prompt), asked)
        again = text_of(await create(client, asked, prompt), asked)
        await client._client.aclose()
        return made, again

    for prompt in ("first", "second", "third"):
        assert asyncio.run(once(prompt)) == (prompt, prompt)


FORKED = """
import os, sys
import allos
client = allos.OpenAI("chat_completions", base_url=sys.argv[1], max_retries=0, wire="chat")
def ask(prompt):
    said = client.responses.create(model="m", input=prompt).output_text
    assert said == prompt, (said, prompt)
ask("parent")
child = os.fork()
if child == 0:
    ask("child")
    ask("child again")
    os._exit(0)
ask("parent again")
assert os.waitpid(child, 0)[1] == 0
ask("parent at last")
"""

ENDED = """
import sys
import allos
client = allos.OpenAI("chat_completions", base_url=sys.argv[1], max_retries=0, wire="chat")
client.responses.create(model="m", input="Hi")
stream = client.responses.create(model="m", input="hold", stream=True)
next(iter(stream))
"""


def run(program, url, *flags):
    done = subprocess.run(
        [sys.executable, *flags, "-c", program, url], capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.fault("N8")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_shares_no_socket_of_a_drop_in_client(held):
    assert run(FORKED, held.url, "-X", "dev", "-W", "error") == (0, "", "")
    assert len(set(held.ports)) == 2


@pytest.mark.fault("N8")
def test_a_program_may_end_with_a_client_and_a_stream_open(held):
    assert run(ENDED, held.url, "-X", "dev") == (0, "", "")
