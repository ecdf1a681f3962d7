"""A connection on which a stream was read to its end carries the next call, in every door."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from typing import Any

import answers
import pytest
from doors import AsyncDoor, SyncDoor, asked, http
from loopback import serving
from programs import PROGRAMS, done, each

from allos import AsyncClient, AsyncOpenAI, Client, OpenAI, drain

STREAMS = 3


class _Service(BaseHTTPRequestHandler):
    """Streams in chunks, and ends the body after the answer; or leaves it open, as some do."""

    protocol_version = "HTTP/1.1"
    ports: set[int]
    ends = True

    def do_POST(self) -> None:
        self.ports.add(self.client_address[1])
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        wire = "chat" if self.path.endswith("completions") else "responses"
        for line in answers.stream(wire, "Par", "is."):
            self._write(f"{line}\n\n".encode())
        if self.ends:
            self._write(b"")
        else:
            self.rfile.read(1)  # until the client closes
            self.close_connection = True

    def _write(self, chunk: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        self.wfile.flush()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(params=["ends", "stays open"])
def service(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    handler = type("_Service", (_Service,), {"ports": set(), "ends": request.param == "ends"})
    if handler.ends:  # this machine may be busy, and the end late
        monkeypatch.setattr(drain, "_MOMENT", 30.0)
    with serving(handler) as server:
        server.used = handler.ports
        server.expected = 1 if handler.ends else STREAMS
        yield server


@pytest.mark.parametrize("asked_api", ["chat", "responses"])
async def test_the_drop_in_uses_a_connection_again(service: Any, colour: str, wire: str, asked_api: str) -> None:
    kind = OpenAI if colour == "sync" else AsyncOpenAI
    client: Any = kind("chat_completions", base_url=service.url, api_key="k", wire=wire, max_retries=0)
    program = PROGRAMS[asked_api](client)
    for _ in range(STREAMS):
        assert await each(await program.create("Where?", stream=True))
    assert len(service.used) == service.expected
    await done(client.close())


async def test_a_client_uses_a_connection_again(service: Any, colour: str, wire: str) -> None:
    made: dict[str, Any] = {"base_url": service.url, "api_key": "k", "model": "m", "wire": wire, "max_retries": 0}
    door: Any = SyncDoor(Client(**made)) if colour == "sync" else AsyncDoor(AsyncClient(**made))
    for _ in range(STREAMS):
        assert (await asked(door, "Where?", streamed=True)).text == "Paris."
    assert len(service.used) == service.expected
    await door.close()


def test_who_has_the_connection_next_waits_as_long_as_it_likes() -> None:
    """The haste is of the thread that throws away the rest of a body; the connection may be another's by then."""

    class Connection:
        def read(self, most: int, timeout: float | None = None) -> float | None:
            return timeout

    connection = Connection()
    extensions = {"network_stream": connection, "http_version": b"HTTP/1.1"}
    response = http.Response(200, extensions=extensions, request=http.Request("GET", "http://a.test"))
    with drain._in_a_moment(response), drain._in_a_moment(response), ThreadPoolExecutor(1) as other:
        assert connection.read(1, 30.0) == drain._MOMENT
        assert other.submit(connection.read, 1, timeout=30.0).result() == 30.0
    assert connection.read(1, timeout=30.0) == 30.0
