"""The embedded model: a real server inside the process, started once, quiet, and for this process only."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from doors import AsyncDoor, Door, SyncDoor, asked
from embedded import bring
from programs import done

import allos
from allos import AsyncClient, AsyncOpenAI, Client, OpenAI, local, weights
from allos.errors import ConfigurationError

QUESTION = "What is the capital of France?"


@pytest.fixture
def small() -> Path:
    """The small model, brought into the test's home; its real place."""
    return bring(weights.DEFAULT)


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """A Python of its own, with the test's home and in development mode, so that nothing is left open unseen."""
    command = [sys.executable, "-X", "dev", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120, **{"check": False, **options}
    )


@pytest.mark.live
@pytest.mark.parametrize("way", ["whole", "stream"])
async def test_both_clients_are_answered_over_both_apis(small: Path, colour: str, wire: str, way: str) -> None:
    door: Door = (
        SyncDoor(Client("local", wire=wire)) if colour == "sync" else AsyncDoor(AsyncClient("local", wire=wire))
    )
    reply = await asked(door, QUESTION, streamed=way == "stream", max_tokens=30, temperature=0)
    await door.close()
    assert "Paris" in reply.text
    assert reply.finish_reason == "stop"
    assert reply.model == weights.DEFAULT
    assert reply.usage is not None
    assert reply.usage.output_tokens


@pytest.mark.live
@pytest.mark.parametrize("way", ["whole", "stream"])
async def test_the_drop_in_is_answered_over_both_apis(small: Path, colour: str, wire: str, way: str) -> None:
    given: dict[str, Any] = {"model": "any", "temperature": 0, "stream": way == "stream"}
    said = [{"role": "user", "content": QUESTION}]
    if wire == "chat":
        given |= {"messages": said, "max_tokens": 30}
    else:
        given |= {"input": said, "max_output_tokens": 30}
    if colour == "sync":
        with OpenAI(provider="local", model=weights.DEFAULT) as client:
            call = client.chat.completions.create if wire == "chat" else client.responses.create
            answer: Any = call(**given)
            answer = list(answer) if way == "stream" else answer
    else:
        async with AsyncOpenAI(provider="local", model=weights.DEFAULT) as other:
            acall = other.chat.completions.create if wire == "chat" else other.responses.create
            answer = await acall(**given)
            answer = [event async for event in answer] if way == "stream" else answer
    assert "Paris" in _text(answer, wire)


@pytest.fixture
def started(small: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The models that were started; the small one answers for each."""
    names: list[Any] = []
    start = local.start
    monkeypatch.setattr(local, "start", lambda model=None: (names.append(model), start())[1])
    return names


async def said_by_drop_in(colour: str, wire: str, model: str, **options: Any) -> Any:
    """What `allos.receipt` says of a call that names this model, of the local provider where no other is given."""
    said = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3}
    if wire == "responses":
        said = {"input": "Hi", "max_output_tokens": 16}
    client: Any = (OpenAI if colour == "sync" else AsyncOpenAI)(**({"provider": "local"} | options))
    call = client.chat.completions.create if wire == "chat" else client.responses.create
    try:
        return allos.receipt(await done(call(model=model, **said)))
    finally:
        await done(client.close())


async def said_by_client(colour: str, model: str) -> Any:
    """The notes of a reply to a call that names this model."""
    door: Door = SyncDoor(Client("local")) if colour == "sync" else AsyncDoor(AsyncClient("local"))
    try:
        return (await asked(door, "Hi", streamed=False, model=model, max_tokens=3)).notes
    finally:
        await door.close()


@pytest.mark.live
async def test_a_call_to_the_drop_in_may_name_other_weights(
    started: list[Any], tmp_path: Path, colour: str, wire: str
) -> None:
    mine = str(tmp_path / "mine.gguf")
    for model in (mine, "qwen2.5-coder-1.5b"):
        receipt = await said_by_drop_in(colour, wire, model)
        assert started[-2:] == [None, model], "its own first, then that of the call"
        assert (receipt.model, receipt.notes) == (model, [])
    await said_by_drop_in(colour, wire, f"local/{mine}", provider=None, api_key="sk-other")
    assert started[-1] == mine


@pytest.mark.live
async def test_the_name_of_the_provider_may_stand_before_that_of_its_model_everywhere(
    started: list[Any], colour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, own = "qwen2.5-coder-1.5b", f"local/{weights.DEFAULT}"
    receipt = await said_by_drop_in(colour, "chat", f"local/{other}")
    assert (started.pop(), receipt.model, receipt.notes) == (other, other, [])
    assert (await said_by_client(colour, f"local/{other}"), started.pop()) == ((), other)
    assert (await said_by_drop_in(colour, "chat", own)).notes == list(await said_by_client(colour, own)) == []
    assert Client("local", f"local/{other}").target.model == other
    monkeypatch.setenv("ALLOS_MODEL", f"local/{other}")
    assert Client("local").target.model == other


@pytest.mark.live
async def test_what_all_prompts_go_to_by_a_setting_is_not_what_a_call_that_names_weights_goes_to(
    started: list[Any], colour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALLOS_LOCAL_MODEL", weights.DEFAULT)
    for said in (said_by_drop_in(colour, "chat", "qwen2.5-coder-1.5b"), said_by_client(colour, "qwen2.5-coder-1.5b")):
        assert "answers for" not in str(await said)
        assert started[-1] == "qwen2.5-coder-1.5b"
    receipt = await said_by_drop_in(colour, "chat", "gpt-4o")
    assert [note.reason for note in receipt.notes] == [f"{weights.DEFAULT} answers for gpt-4o, which does not run here"]


@pytest.mark.live
async def test_a_call_to_a_client_may_name_other_weights(started: list[Any], colour: str) -> None:
    assert await said_by_client(colour, "qwen2.5-coder-1.5b") == ()
    assert started == ["qwen2.5-coder-1.5b"]


@pytest.mark.live
async def test_a_model_of_elsewhere_is_answered_and_the_answer_says_by_whom(small: Path, colour: str) -> None:
    receipt = await said_by_drop_in(colour, "responses", "gpt-4o")
    said = f"{weights.DEFAULT} answers for gpt-4o, which does not run here"
    assert [(note.action, note.what, note.reason) for note in receipt.notes] == [("changed", "model", said)]
    assert list(await said_by_client(colour, "gpt-4o")) == receipt.notes


def test_the_other_model_of_a_call_has_a_circuit_of_its_own() -> None:
    client = Client("local", fallback=["local/qwen2.5-coder-0.5b"])
    other = client._running("local/qwen2.5-coder-1.5b")
    assert other is client._running("qwen2.5-coder-1.5b")
    assert client._running("gpt-4o") is client
    for _ in range(3):
        client._ways[0].failed()
    assert not client._ways[0].allows()
    assert other._ways[0].allows()
    client._ways[0].worked()


@pytest.mark.live
async def test_weights_that_a_call_names_and_that_are_not_here_are_told_with_the_way_to_get_them(
    small: Path, colour: str
) -> None:
    for said in (said_by_drop_in(colour, "chat", "qwen2.5-coder-0.5b"), said_by_client(colour, "qwen2.5-coder-0.5b")):
        with pytest.raises(ConfigurationError, match=r"Get them with: allos local pull qwen2\.5-coder-0\.5b"):
            await said


def _text(answer: Any, wire: str) -> str:
    if isinstance(answer, list):
        if wire == "chat":
            return "".join(chunk.choices[0].delta.content or "" for chunk in answer if chunk.choices)
        answer = answer[-1].response
    return str(answer.choices[0].message.content if wire == "chat" else answer.output_text)


@pytest.mark.live
@pytest.mark.parametrize("options", [[], ["-p", "local", "--no-stream"], ["-p", "local", "--wire", "responses"]])
def test_the_command_answers_and_says_nothing_else(small: Path, options: list[str]) -> None:
    ran = run("-m", "allos", *options, "-t", "0", "--max-tokens", "30", QUESTION)
    assert ran.returncode == 0
    assert "Paris" in ran.stdout
    assert ran.stderr == ("" if options else "No provider is set and no API key was found; using the embedded model.\n")


@pytest.mark.live
@pytest.mark.parametrize("stopped", [False, True])
def test_a_program_ends_cleanly_and_quietly(small: Path, stopped: bool) -> None:
    code = f"""
import allos, os, sys, threading
client = allos.Client("local")
print(client.chat({QUESTION!r}, temperature=0, max_tokens=30).text)
stream = client.stream("Count to a hundred.")
next(stream)  # and it is left unread
print(os.environ["OMP_WAIT_POLICY"])
{"allos.local._stop()" if stopped else ""}
"""
    ran = run("-c", code)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "Paris" in ran.stdout
    assert ran.stdout.endswith("passive\n")


@pytest.mark.live
@pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_mid_answer_ends_the_command_at_once(small: Path, number: signal.Signals, status: int) -> None:
    command = [sys.executable, "-m", "allos", "-p", "local", "--max-tokens", "1500", "Tell me a very long story."]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        came = os.read(process.stdout.fileno(), 4096)
        process.send_signal(number)
        rest, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (status, b"")
    assert came
    assert (came + rest).endswith(b"\n")


@pytest.mark.live
def test_it_is_started_once_and_shared_by_all_threads(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local._stop()
    launched: list[Path] = []
    launch = local._launch
    monkeypatch.setattr(local, "_launch", lambda path, row: launched.append(path) or launch(path, row))
    gate = threading.Barrier(8)

    def start(_: int) -> local.LocalServer:
        gate.wait()
        return local.start()

    with ThreadPoolExecutor(8) as threads:
        servers = list(threads.map(start, range(8)))
    assert len(launched) == 1
    assert all(server is servers[0] for server in servers)
    assert local.start(weights.DEFAULT) is servers[0], "the default by its name is the same model"


def test_a_known_model_keeps_its_settings_when_its_file_was_started_before(
    any_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, row = Path(any_model).resolve(), weights.find(None)
    monkeypatch.setattr(local, "_running", {})
    monkeypatch.setattr(local, "_launch", lambda path, row: (local.LocalServer("", "", row and row.name, path), None))
    monkeypatch.setattr(local, "locate", lambda model: (file, row if model == row.name else None))
    monkeypatch.setattr("atexit.register", lambda _: None)
    assert local.start(any_model).model is None
    assert local.start(row.name).model == row.name
    assert local.start(any_model) is local.start(any_model)


@pytest.mark.live
def test_several_threads_are_answered_at_once(small: Path) -> None:
    with Client("local") as client, ThreadPoolExecutor(6) as threads:
        replies = list(threads.map(lambda _: client.chat(QUESTION, max_tokens=12, temperature=0), range(6)))
    assert all("Paris" in reply.text for reply in replies)


@pytest.mark.live
@pytest.mark.parametrize("key", [None, "sk-guessed"])
def test_nobody_else_is_answered(small: Path, key: str | None) -> None:
    server = local.start()
    assert server.base_url.startswith("http://127.0.0.1:")
    headers = {"Content-Type": "application/json"} | ({} if key is None else {"Authorization": f"Bearer {key}"})
    request = urllib.request.Request(f"{server.base_url}/chat/completions", b'{"messages": []}', headers)
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=10)
    caught.value.close()
    assert caught.value.code == 401
    assert server.api_key not in repr(server)
    assert len(server.api_key) > 30


@pytest.mark.live
def test_it_starts_again_after_it_was_stopped(small: Path) -> None:
    first = local.start()
    local._stop()
    with Client("local") as client:
        assert "Paris" in client.chat(QUESTION, max_tokens=30, temperature=0).text
    assert local.start().api_key != first.api_key


@pytest.mark.live
def test_it_can_be_stopped_as_soon_as_it_was_started(small: Path) -> None:
    code = "from allos import local\nfor _ in range(5): local.start(); local._stop()\nlocal.start()"
    ran = run("-c", code)  # an engine that is let go before its loop runs would never end
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


@pytest.mark.live
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_has_a_server_of_its_own_and_leaves_the_parents_alone(small: Path) -> None:
    code = f"""
import os, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of fork and threads
from allos import Client, local
mine = local.start()
child = os.fork()
with Client("local") as client:
    answer = client.chat({QUESTION!r}, temperature=0, max_tokens=30).text
if child == 0:
    os._exit(0 if "Paris" in answer and local.start().base_url != mine.base_url else 1)
print(answer, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), local.start() == mine)
"""
    ran = run("-c", code)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.endswith(" 0 True\n")


@pytest.mark.live
def test_its_context_is_the_one_it_was_trained_on(small: Path) -> None:
    import openai

    with Client("local", max_retries=0) as client, pytest.raises(openai.BadRequestError, match="too long") as caught:
        client.chat("word " * 3000, max_tokens=4)
    assert "2048" in str(caught.value)


@pytest.mark.live
def test_a_damaged_model_is_one_clear_line(small: Path, tmp_path: Path) -> None:
    file = tmp_path / "damaged.gguf"
    with small.open("rb") as whole:
        file.write_bytes(whole.read(100_000))
    ran = run("-m", "allos", "-p", "local", "-m", str(file), "hi")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith(f"Error: llama.cpp can't load the model '{file}'")
    assert ran.stderr.count("\n") == 1


@pytest.mark.live
@pytest.mark.parametrize("way", ["whole", "stream"])
async def test_a_tool_is_really_called_and_its_result_is_used(wire: str, way: str) -> None:
    model = "qwen2.5-coder-1.5b"  # the smallest that makes something of a result
    bring(model)
    called: list[str] = []

    def get_weather(city: str) -> str:
        """The weather in a city."""
        called.append(city)
        return "Rain, 11 degrees"

    door = SyncDoor(Client("local", model, wire=wire, timeout=120))
    question = "Use the tool: what is the weather in Paris?"
    reply = await asked(door, question, streamed=way == "stream", tools=[get_weather], max_tokens=100, temperature=0)
    await door.close()
    local._stop()  # it is large
    assert called == ["Paris"]
    assert "11" in reply.text
    assert reply.finish_reason == "stop"


ENGINE = """
import os

at_import = os.environ.get("OMP_WAIT_POLICY")

class CommonParams:
    def __init__(self):
        self.model = self.sampling = self

class Server:
    def __init__(self, params):
        print(at_import, params.hostnames, params.port)
        raise RuntimeError("No.")
"""


@pytest.mark.parametrize(("given", "expected"), [(None, "passive"), ("active", "active")])
def test_threads_that_wait_are_told_to_sleep_before_the_engine_is_imported(
    tmp_path: Path, given: str | None, expected: str
) -> None:
    (tmp_path / "xllamacpp.py").write_text(ENGINE)
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    paths = os.pathsep.join([str(tmp_path), str(Path(local.__file__).parents[1])])
    environment = {**os.environ, "PYTHONPATH": paths} | ({} if given is None else {"OMP_WAIT_POLICY": given})
    if given is None:
        environment.pop("OMP_WAIT_POLICY", None)
    ran = run("-c", "from allos import local; local.start('./m.gguf')", env=environment, cwd=tmp_path)
    assert ran.stdout == f"{expected} ['127.0.0.1'] 0\n"
    assert "ConfigurationError: llama.cpp can't load the model" in ran.stderr


@pytest.fixture
def any_model(tmp_path: Path) -> str:
    file = tmp_path / "any.gguf"
    file.write_bytes(b"GGUF")
    return str(file)


def test_a_missing_engine_names_the_command_that_gets_it(any_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(ConfigurationError, match=r'is not installed\. Install it with: pip install "allos\[local\]"$'):
        local.start(any_model)


def test_an_engine_that_cannot_be_loaded_says_why(any_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def find_spec(self, name: str, *_: Any) -> None:
            if name == "xllamacpp":
                raise ImportError("libgomp.so.1: cannot open shared object file", name="xllamacpp.core")

    monkeypatch.delitem(sys.modules, "xllamacpp", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(ConfigurationError, match=r"libgomp\.so\.1"):
        local.start(any_model)
