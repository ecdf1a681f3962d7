"""What stands in the cassettes and what must not, and that nothing but `make record` writes them."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import openai
import pytest
import yaml
from vcr.errors import CannotOverwriteExistingCassetteException

import allos
import cassettes
from cassettes import REQUEST_HEADERS, RESPONSE_HEADERS, ROOT, SERVERS, Recorder, replayed

FILES = sorted(ROOT.glob("*/*.yaml"))
# Shapes of keys: OpenAI's and those made after them, GitHub's, Google's, AWS's, bearer tokens, JSON web tokens.
SECRET = re.compile(
    r"\b(sk|gsk|xai|pplx|nvapi|hf|ghp|gho|r8)[-_](?!mock)[A-Za-z0-9_-]{12,}|AIza[\w-]{30,}|AKIA[A-Z0-9]{16}|"
    r"\beyJ[\w-]{10,}\.[\w-]{10,}\.|bearer\s+\S|authorization|api[-_]key\W|set-cookie|/home/|/root/|/tmp/",
    re.IGNORECASE,
)
WORDS_OF_ERRORS = re.compile(r"invalid api key|incorrect api key", re.IGNORECASE)


def exchanges(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load(path.read_text(encoding="utf-8"))["interactions"])


def test_two_servers_and_both_apis_whole_and_streamed_are_there():
    kept = {f"{path.parent.name}/{path.stem}" for path in FILES}
    for server in ("llamacpp", "vllm", "ogx"):
        for case in ("text-whole", "text-stream", "tool-whole", "tool-stream"):
            assert {f"{server}/chat-{case}", f"{server}/responses-{case}"} <= kept


@pytest.mark.fault("D4")
@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_cassette_holds_no_secret_and_no_noise(path: Path):
    text = WORDS_OF_ERRORS.sub("", path.read_text(encoding="utf-8"))
    assert not SECRET.search(text)
    for exchange in exchanges(path):
        assert set(exchange["request"]["headers"]) <= REQUEST_HEADERS
        assert set(exchange["response"]["headers"]) <= RESPONSE_HEADERS
        assert re.match(r"http://\w+\.test/v\d/", exchange["request"]["uri"])


def test_every_server_with_cassettes_says_how_it_is_started():
    assert {path.parent.name for path in FILES} == {server.endpoint for server in SERVERS.values()}


def test_every_cassette_is_replayed_by_a_test():
    source = Path(__file__).with_name("test_servers.py").read_text(encoding="utf-8")
    cases = re.findall(r'f?"((?:\{wire\}-)?[a-z-]+(?:-\{way\})?)"', source)
    spelled = {
        case.replace("{wire}", wire).replace("{way}", way)
        for case in cases
        for wire in ("chat", "responses")
        for way in ("whole", "stream")
    }
    assert {path.stem for path in FILES} - spelled == set()


class _RealServer(BaseHTTPRequestHandler):
    """Answers in gzip, with headers that change every time."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        message = {"role": "assistant", "content": "Paris"}
        answer = {
            "id": "1",
            "model": "/home/ada/models/m.gguf",
            "choices": [{"message": message, "finish_reason": "stop"}],
        }
        body = gzip.compress(json.dumps(answer).encode())
        self.send_response(200)
        for name, value in {
            "content-type": "application/json",
            "content-encoding": "gzip",
            "content-length": str(len(body)),
            "set-cookie": "session=secret-of-a-session",
            "x-request-id": "req-noise",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def real_server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _RealServer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


def ask(base_url: str, prompt: str = "The capital of France?") -> str:
    with allos.Client("llamacpp", "m", base_url=base_url, api_key="sk-very-secret-key", max_retries=0) as client:
        return client.chat(prompt).text


@pytest.fixture
def recorded(real_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cassette that was recorded from a server a moment ago."""
    monkeypatch.setattr(cassettes, "ROOT", tmp_path / "cassettes")
    with replayed(SERVERS["llamacpp"], "case", Recorder({"llamacpp": real_server})) as base_url:
        assert base_url == real_server
        assert ask(base_url) == "Paris"
    return tmp_path / "cassettes" / "llamacpp" / "case.yaml"


def test_a_recording_keeps_the_exchange_readable_and_nothing_secret(recorded: Path, real_server: str):
    text = recorded.read_text(encoding="utf-8")
    assert '"content": "The capital of France?"' in text
    assert '"content": "Paris"' in text
    for secret in ("sk-very-secret-key", "secret-of-a-session", "req-noise", real_server.removesuffix("/v1"), "/home/"):
        assert secret not in text
    assert not SECRET.search(text)


@pytest.mark.usefixtures("recorded")
def test_a_cassette_answers_only_the_request_that_was_recorded():
    # Older releases of the SDK say of every failure below them that the connection failed.
    unanswered = (CannotOverwriteExistingCassetteException, openai.APIConnectionError)
    with replayed(SERVERS["llamacpp"], "case") as base_url:
        with pytest.raises(unanswered, match="play back"):
            ask(base_url, "The capital of Italy?")
        with pytest.raises(unanswered, match="play back"):
            ask(base_url.replace("/v1", "/v2"))
        assert ask(base_url) == "Paris"


@pytest.mark.usefixtures("recorded")
def test_a_recorded_request_that_is_not_made_again_is_told():
    with pytest.raises(AssertionError, match="not made"), replayed(SERVERS["llamacpp"], "case"):
        pass


def test_without_its_cassette_a_test_fails_and_records_nothing(real_server, tmp_path, monkeypatch):
    monkeypatch.setattr(cassettes, "ROOT", tmp_path)
    monkeypatch.setenv(SERVERS["llamacpp"].variable, real_server)
    with pytest.raises(AssertionError, match="make record"), replayed(SERVERS["llamacpp"], "case") as base_url:
        ask(base_url)
    assert not list(tmp_path.rglob("*.yaml"))


@pytest.mark.parametrize(
    ("address", "status", "words"), [(None, 2, "ALLOS_RECORD_VLLM"), ("http://127.0.0.1:1/v1", 1, "no server answers")]
)
def test_make_record_says_what_it_needs(address, status, words, monkeypatch):
    for server in SERVERS.values():
        monkeypatch.delenv(server.variable, raising=False)
    if address is not None:
        monkeypatch.setenv("ALLOS_RECORD_LLAMACPP", address)
    script = Path(__file__).parents[1] / "tools" / "record.py"
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert done.returncode == status
    assert words in done.stderr
