"""The command as a process in an empty home, and a server that answers what a test tells it to."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

PATH = "/v1/chat/completions"


@dataclass
class Canned:
    """One answer, sent piece by piece; with `hold` the connection then stays open until the client leaves."""

    pieces: list[bytes]
    status: int = 200
    type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    hold: bool = False


def as_json(data: Any, status: int = 200, **headers: str) -> Canned:
    return Canned([json.dumps(data).encode()], status, headers=headers)


def chat_chunk(text: str | None = None, finish: str | None = None, **delta: Any) -> bytes:
    said = {**delta, **({} if text is None else {"content": text})}
    chunk = {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "tiny",
        "choices": [{"index": 0, "delta": said, "finish_reason": finish}],
    }
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def chat_stream(*texts: str, finish: str | None = "stop", hold: bool = False) -> Canned:
    """A Chat stream of these texts; a cut one where `finish` is None."""
    end = [] if finish is None else [chat_chunk(finish=finish), b"data: [DONE]\n\n"]
    return Canned([*map(chat_chunk, texts), *end], type="text/event-stream", hold=hold)


def chat_reply(text: str | None, finish: str = "stop", **message: Any) -> Canned:
    return as_json(
        {
            "id": "c1",
            "object": "chat.completion",
            "created": 1,
            "model": "tiny",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text, **message},
                    "finish_reason": finish,
                    "logprobs": None,
                }
            ],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        }
    )


class Server:
    """Answers each path with what stands in `answers`, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Canned] = {}
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.dropped = threading.Event()  # a client left before its answer was whole
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.requests.append((self.path, dict(self.headers), json.loads(body) if body else None))
                answer = outer.answers.get(self.path) or as_json({"detail": "Not Found"}, 404)
                outer.send(self, answer)

            do_GET = do_POST

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def url(self) -> str:
        return f"{self.root}/v1"

    def send(self, handler: BaseHTTPRequestHandler, answer: Canned) -> None:
        try:
            handler.send_response(answer.status)
            handler.send_header("Content-Type", answer.type)
            for name, value in answer.headers.items():
                handler.send_header(name.replace("_", "-"), value)
            handler.end_headers()
            for piece in answer.pieces:
                handler.wfile.write(piece)
                handler.wfile.flush()
            if answer.hold:
                handler.connection.settimeout(20)
                if handler.connection.recv(1) == b"":
                    self.dropped.set()
        except OSError:
            self.dropped.set()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def clean_environment(home: Path) -> dict[str, str]:
    """An environment that knows no key, no setting and no file of the person who runs the tests."""
    kept = ("PATH", "SYSTEMROOT", "VIRTUAL_ENV")
    return {
        **{name: os.environ[name] for name in kept if name in os.environ},
        "HOME": str(home),
        "USERPROFILE": str(home),
        "APPDATA": str(home),
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "PYTHONIOENCODING": "",
        "PYTHONUTF8": "1",
        "PYTHONDEVMODE": "1",
    }


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return clean_environment(tmp_path)


def screen(terminal: int) -> bytes:
    """All that a process wrote to the other end of a pseudo-terminal, until it closed it."""
    came = b""
    with os.fdopen(terminal, "rb", buffering=0) as ours:
        while True:
            try:
                piece = ours.read(4096)
            except OSError:  # how Linux says that the other end is closed
                return came
            if not piece:
                return came
            came += piece


COMMAND = [sys.executable, "-m", "allos"]


@pytest.fixture
def start(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts the command as a process of its own; what still runs at the end is killed."""
    running: list[subprocess.Popen[bytes]] = []

    def run(*arguments: str | bytes, **options: Any) -> subprocess.Popen[bytes]:
        options = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "cwd": tmp_path,
            **options,
            "env": environment | options.get("env", {}),
        }
        running.append(subprocess.Popen([*COMMAND, *arguments], **options))
        return running[-1]

    yield run
    for process in running:
        process.kill()
        process.communicate()


class Ran(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def call(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Ran]:
    """Runs the command within this process: the status, and what it wrote."""
    from allos.cli import process

    def run(*arguments: str, stdin: bytes = b"", **variables: str) -> Ran:
        with monkeypatch.context() as patch:
            for name in os.environ:
                patch.delenv(name)
            for name, value in (environment | variables).items():
                patch.setenv(name, value)
            patch.chdir(tmp_path)
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
            status = process.call(arguments)
        return Ran(status, *capfd.readouterr())

    return run


@pytest.fixture
def ask(call: Callable[..., Ran], server: Server) -> Callable[..., Ran]:
    """Asks the test's server over Chat Completions."""

    def run(*arguments: str, **options: Any) -> Ran:
        return call("-p", "chat_completions", "--base-url", server.url, "-m", "tiny", *arguments, **options)

    return run
