"""A server that sends exactly the bytes of a script, at the pace and with the end that the script says."""

from __future__ import annotations

import contextlib
import functools
import socket
import ssl
import struct
import threading
import unittest.mock
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import trustme

__all__ = [
    "HOLD",
    "RESET",
    "Forever",
    "RawServer",
    "Seen",
    "Step",
    "Trickle",
    "chunked",
    "dead_port",
    "quick_resolver",
    "server_tls",
]


@dataclass(frozen=True)
class Trickle:
    """Bytes, one a packet."""

    data: bytes


@dataclass(frozen=True)
class Forever:
    """Bytes again and again, until the client leaves."""

    data: bytes
    seconds: float = 0.02


class _Mark:
    pass


HOLD, RESET = _Mark(), _Mark()  # keep the connection open until the client leaves; end it with RST instead of FIN
Step = bytes | Trickle | Forever | _Mark
Script = Sequence[Step]


@dataclass(frozen=True)
class Seen:
    """One request: its first line, its headers in lower case, its body."""

    line: str
    headers: dict[str, str]
    body: bytes


class RawServer:
    """Serves the first request with the first script and so on; the last script serves all that follow."""

    def __init__(self, scripts: Sequence[Script], *, tls: ssl.SSLContext | None = None) -> None:
        self._scripts = scripts
        self._tls = tls
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self.seen: list[Seen] = []
        self.left = threading.Event()  # a client closed its end before the script was through
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def url(self, scheme: str = "http") -> str:
        return f"{scheme}://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> RawServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        with contextlib.suppress(OSError):  # wakes `accept`
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.add(connection)
        try:
            connection.settimeout(20)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            if (seen := _request(connection)) is None:
                return
            with self._lock:
                script = self._scripts[min(len(self.seen), len(self._scripts) - 1)]
                self.seen.append(seen)
            for step in script:
                self._play(connection, step)
        except OSError:
            self.left.set()
        finally:
            with self._lock:
                self._open.discard(connection)
            with contextlib.suppress(OSError):
                connection.close()

    def _play(self, connection: socket.socket, step: Step) -> None:
        if isinstance(step, bytes):
            connection.sendall(step)
        elif isinstance(step, Trickle):
            for byte in step.data:
                connection.sendall(bytes([byte]))
        elif isinstance(step, Forever):
            while not self._closing.wait(step.seconds):
                connection.sendall(step.data)
        elif step is RESET:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        elif connection.recv(1) == b"":
            self.left.set()


def _request(connection: socket.socket) -> Seen | None:
    """The request on a connection; None where the client left, or spoke no HTTP."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        data += piece
        if data[:1] == b"\x16":  # the first byte of TLS
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            return None
        if not piece:
            return None
    head, _, body = data.partition(b"\r\n\r\n")
    line, *rest = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (entry.partition(":") for entry in rest)}
    while len(body) < int(headers.get("content-length", 0)):
        body += connection.recv(65536)
    return Seen(line, headers, body)


def chunked(pieces: Iterable[bytes], *, end: bool = True) -> bytes:
    """The pieces in the chunked coding; without its `end` the answer is cut."""
    made = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces if piece)
    return made + (b"0\r\n\r\n" if end else b"")


@functools.cache
def dead_port() -> int:
    """A port at which nobody listens, and which nobody else can take."""
    _taken.bind(("127.0.0.1", 0))
    return int(_taken.getsockname()[1])


_taken = socket.socket()


@contextlib.contextmanager
def quick_resolver() -> Iterator[None]:
    """The name service says at once that a host below `.invalid` is not known; the real one may take its time."""
    resolve = socket.getaddrinfo

    def quickly(host: Any, *more: Any, **named: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else str(host)
        if name.rstrip(".").endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolve(host, *more, **named)

    with unittest.mock.patch.object(socket, "getaddrinfo", quickly):
        yield


@functools.cache
def server_tls() -> ssl.SSLContext:
    """TLS of an authority that nobody trusts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    return context
