"""A program of the official client, unchanged but for its import, run on other services by its environment alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import answers
import pytest

PROGRAM = """
from {package} import OpenAI

client = OpenAI()
response = client.responses.create(model="gpt-4o", input="Where?")
print(response.output_text, response.model)
for event in client.responses.create(model="gpt-4o", input="Where?", stream=True):
    if event.type == "response.output_text.delta":
        print(event.delta, end="|")
print()
completion = client.chat.completions.create(model="gpt-4o", messages=[{{"role": "user", "content": "Where?"}}])
print(completion.choices[0].message.content)
with client.chat.completions.stream(model="gpt-4o", messages=[]) as stream:
    print(stream.get_final_completion().choices[0].message.content)
"""
PRINTED = "Paris. m-1\nPar|is.|\nParis.\nParis.\n"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["content-length"]))
        request = SimpleNamespace(content=content, url=SimpleNamespace(path=self.path))
        server: Any = self.server
        server.asked.append((self.path, self.headers.get("authorization"), json.loads(content)["model"]))
        if self.path.removeprefix("/v1") not in server.paths:
            self._send(404, "text/plain", b"404 page not found")
        else:
            response = answers.answer(request, "Par", "is.")
            self._send(200, response.headers["content-type"], response.content)

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Nothing."""


@pytest.fixture
def serve() -> Iterator[Any]:
    """`serve(path, …)`: a server on this machine that has these paths and keeps in `asked` what came."""
    running = []

    def start(*paths: str) -> Any:
        server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        server.paths, server.asked = paths, []
        server.url = f"http://127.0.0.1:{server.server_port}/v1"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        running.append(server)
        return server

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def run(package: str, **environment: str) -> str:
    code = PROGRAM.format(package=package)
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "SYSTEMROOT", "COVERAGE_PROCESS_START")
            if name in os.environ}  # fmt: skip
    command = [sys.executable, "-W", "error", "-c", code]
    ran = subprocess.run(command, env=kept | environment, capture_output=True, text=True, timeout=120)
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


def test_the_environment_alone_moves_a_program(serve: Any, tmp_path: Path) -> None:
    both = serve("/chat/completions", "/responses")
    here, there = serve("/chat/completions"), serve("/responses")
    folder = tmp_path / "config" / "allos"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(
        f"""
[endpoints.here]
base_url = "{here.url}"
key_variables = ["HERE_API_KEY"]
responses = false
models = {{ "gpt-4o" = "small-here" }}

[endpoints.there]
base_url = "{there.url}"
key_variables = ["THERE_API_KEY"]
chat = false
responses = true
"""
    )
    keys = {"OPENAI_API_KEY": "sk-openai", "HERE_API_KEY": "k-here", "THERE_API_KEY": "k-there"}
    shared = keys | {"XDG_CONFIG_HOME": str(folder.parent)}
    assert run("openai", OPENAI_BASE_URL=both.url, **shared) == PRINTED
    assert run("allos", OPENAI_BASE_URL=both.url, **shared) == PRINTED
    first, second = both.asked[:4], both.asked[4:]
    assert first == second, "with nothing of Allos set, the same goes to the same place"
    assert run("allos", ALLOS_PROVIDER="here", **shared) == PRINTED
    assert here.asked == [("/v1/chat/completions", "Bearer k-here", "small-here")] * 4
    assert run("allos", ALLOS_PROVIDER="there", ALLOS_MODEL="large-there", **shared) == PRINTED
    assert there.asked == [("/v1/responses", "Bearer k-there", "large-there")] * 4
    assert len(both.asked) == 8


def test_the_api_may_be_chosen_by_the_environment(serve: Any) -> None:
    both = serve("/chat/completions", "/responses")
    where = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": both.url, "ALLOS_PROVIDER": "openai"}
    for wire, path in (("chat", "/v1/chat/completions"), ("responses", "/v1/responses")):
        both.asked.clear()
        assert run("allos", ALLOS_WIRE=wire, **where) == PRINTED
        assert {asked[0] for asked in both.asked} == {path}
