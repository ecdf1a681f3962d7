"""One client, many callers at once: no answer reaches another caller, and nothing of a call stands on the client."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import answers
import pytest
from doors import http

import allos

THREADS = 32
STREAMS = 1000


def echo(request: Any) -> Any:
    """Answers with the question, over either API, whole or streamed."""
    body = answers.body(request)
    said = body["messages"][-1]["content"] if "messages" in body else body["input"]
    text = said if isinstance(said, str) else said[-1]["content"]
    half = len(text) // 2
    return answers.with_own_id(answers.answer(request, text[:half], text[half:]), text.replace(" ", "-"))


def say(client: allos.OpenAI, way: int, text: str) -> tuple[str, Any]:
    """The answer to a text in one of four ways, and the receipt."""
    if way % 2:
        chat = {"model": "m", "messages": [{"role": "user", "content": text}]}
        if way == 1:
            completion = client.chat.completions.create(**chat)
            return str(completion.choices[0].message.content), allos.receipt(completion)
        with client.chat.completions.stream(**chat) as stream:
            final = stream.get_final_completion()
        return str(final.choices[0].message.content), allos.receipt(final)
    if way == 0:
        response = client.responses.create(model="m", input=text)
        return response.output_text, allos.receipt(response)
    with client.responses.stream(model="m", input=text) as stream:
        final = stream.get_final_response()
    return final.output_text, allos.receipt(final)


@pytest.mark.fault("N8")
@pytest.mark.parametrize("wire", ["chat", "responses"])
def test_threads_share_a_client_and_get_their_own_answers(wire: str) -> None:
    together = threading.Barrier(THREADS)
    client = allos.OpenAI("chat_completions", base_url="http://mock.test/v1", api_key="k", wire=wire, max_retries=0,
                          http_client=http.Client(transport=http.MockTransport(echo)))  # fmt: skip

    def run(number: int) -> None:
        together.wait(60)
        mine = client if number % 3 else client.with_options(timeout=30)
        for turn in range(8):
            way, text = (number + turn) % 4, f"{wire} {number} {turn}"
            answer, receipt = say(mine, way, text)
            assert answer == text
            assert (receipt.asked, receipt.spoken) == ("chat" if way % 2 else "responses", wire)

    with ThreadPoolExecutor(THREADS) as pool:
        for made in [pool.submit(run, number) for number in range(THREADS)]:
            made.result()
    client.close()


def test_threads_learn_once_what_an_unknown_host_lacks(recwarn: pytest.WarningsRecorder) -> None:
    together = threading.Barrier(8)

    def chat_only(request: Any) -> Any:
        if request.url.path.endswith("/responses"):
            return http.Response(404, text="404 page not found")
        return echo(request)

    client = allos.OpenAI(base_url="http://unknown-threads.test/v1", api_key="k", max_retries=0,
                          http_client=http.Client(transport=http.MockTransport(chat_only)))  # fmt: skip

    def run(number: int) -> str:
        together.wait(60)
        return str(client.responses.create(model="m", input=f"n {number}").output_text)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(run, range(8))) == [f"n {number}" for number in range(8)]
    assert [str(warning.message).partition(" (")[0] for warning in recwarn] == [
        "http://unknown-threads.test/v1 has no Responses API"
    ]
    client.close()


class _Gate(http.AsyncByteStream):  # type: ignore[misc]  # of the SDK's own HTTP library
    """A body that goes on only when all streams have begun."""

    def __init__(self, lines: list[bytes], gate: Any) -> None:
        self._lines, self._gate = lines, gate

    async def __aiter__(self) -> Any:
        yield self._lines[0]
        await self._gate.wait()
        for line in self._lines[1:]:
            yield line


@pytest.mark.parametrize("wire", ["chat", "responses"], ids=["native", "translated"])
async def test_a_thousand_streams_at_once_keep_apart(wire: str) -> None:
    """All are open at the same time: none may go on before the last has begun."""
    gate = asyncio.Event()
    begun = 0

    async def service(request: Any) -> Any:
        nonlocal begun
        begun += 1
        if begun == STREAMS:
            gate.set()
        lines = echo(request).content.split(b"\n\n")
        body = _Gate([line + b"\n\n" for line in lines if line], gate)
        return http.Response(200, headers={"content-type": "text/event-stream"}, stream=body)

    client = allos.AsyncOpenAI("chat_completions", base_url="http://mock.test/v1", api_key="k", wire=wire,
                               max_retries=0, http_client=http.AsyncClient(transport=http.MockTransport(service)),
                               timeout=120)  # fmt: skip

    async def ask(number: int) -> str:
        messages: list[Any] = [{"role": "user", "content": f"n {number}"}]
        stream = await client.chat.completions.create(model="m", messages=messages, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])

    assert await asyncio.gather(*map(ask, range(STREAMS))) == [f"n {number}" for number in range(STREAMS)]
    await client.close()


def test_nothing_of_a_call_stays_on_the_client() -> None:
    client = allos.OpenAI("chat_completions", base_url="http://mock.test/v1", api_key="k", max_retries=0,
                          http_client=http.Client(transport=http.MockTransport(echo)))  # fmt: skip
    say(client, 0, "first")  # what the SDK itself makes on first use
    say(client, 1, "first")
    before = {name: id(value) for name, value in vars(client).items()}
    for way in range(4):
        say(client, way, "again")
    assert {name: id(value) for name, value in vars(client).items()} == before
    gc.collect()
    client.close()


FORKED = """
import os, sys
sys.path.insert(0, {tests!r})
from test_dropin_many import echo, http, say
import allos

client = allos.OpenAI("chat_completions", base_url="http://mock.test/v1", api_key="k", state={state!r},
                      http_client=http.Client(transport=http.MockTransport(echo)))
first = client.responses.create(model="m", input="parent")
child = os.fork()
if not child:
    assert client.responses.retrieve(first.id).output_text == "parent"
    answer = client.responses.create(model="m", input="child", previous_response_id=first.id)
    os._exit(0 if answer.output_text == "child" else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert client.responses.retrieve("chatcmpl-child").previous_response_id == first.id
"""


@pytest.mark.fault("N8")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_uses_the_client_and_the_state_of_its_parent(tmp_path: Path) -> None:
    code = FORKED.format(tests=str(Path(__file__).parent), state=str(tmp_path / "state.db"))
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (ran.returncode, ran.stderr) == (0, "")
