"""What every test has: an environment of its own, and clients of both colours that need no network."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import hypothesis
import openai
import pytest
from all_doors import Sockets
from doors import AsyncDoor, Door, SyncDoor, http

from allos.client import AsyncClient, Client
from allos.ladder import _Memory
from allos.store import MemoryStore
from cassettes import SERVERS, replayed

KEEP = ("ALLOS_RECORDINGS", "ALLOS_LIVE_", "ALLOS_RECORD_")
FOREIGN = ("ALLOS_", "OPENAI_", "AZURE_", "XDG_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
FOREIGN_ENDS = ("_API_KEY", "_BASE_URL", "_API_BASE", "_TOKEN", "_HOST")


# A busy machine is slow, and that is no fault of what is tested.
hypothesis.settings.register_profile("patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("patient")


def pytest_configure(config: pytest.Config) -> None:
    # The lists of services that tests are made from are read before any fixture: without the rows of who runs them.
    os.environ["XDG_CONFIG_HOME"] = os.devnull
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what runs in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)  # else our children would ignore it too
    config.addinivalue_line("markers", "cassette: replays exchanges with a real server; `make record` records them")
    config.addinivalue_line("markers", "fault(row): holds a row of docs/reliability.md, as the fault bench does others")
    config.addinivalue_line("markers", "live: needs a real server or the embedded engine, else it is skipped")


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting, key, proxy or home folder of the person who runs the tests, and no state of a test before it."""
    monkeypatch.setattr("allos.store._MEMORY", MemoryStore())
    monkeypatch.setattr("allos.retry._budgets", {})
    monkeypatch.setattr("allos.ladder._memory", _Memory())
    for name in os.environ:
        upper = name.upper()
        if not upper.startswith(KEEP) and (upper.startswith(FOREIGN) or upper.endswith(FOREIGN_ENDS)):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))


@pytest.fixture(params=["sync", "async"])
def colour(request: pytest.FixtureRequest) -> str:
    """`Client` or `AsyncClient`: a test that takes it runs once with each."""
    return str(request.param)


@pytest.fixture(params=["chat", "responses"])
def wire(request: pytest.FixtureRequest) -> str:
    """The API that is spoken."""
    return str(request.param)


@pytest.fixture(params=[False, True], ids=["whole", "stream"])
def streamed(request: pytest.FixtureRequest) -> bool:
    """The answer is asked for as a whole or as a stream."""
    return bool(request.param)


@pytest.fixture
def sockets(monkeypatch: pytest.MonkeyPatch) -> Sockets:
    """Answers in the place of every host; see `all_doors.Sockets`."""
    made = Sockets()
    made.stand_in(monkeypatch)
    return made


@pytest.fixture
def mock_client() -> Callable[..., Client]:
    """`mock_client(handler, **arguments)`: a `Client` whose requests are answered by a function."""

    def make(handler: Callable[[Any], Any], **arguments: Any) -> Client:
        transport = openai.DefaultHttpxClient(transport=http.MockTransport(handler))
        return Client(http_client=transport, **_where(arguments))

    return make


@pytest.fixture
def mock_door(colour: str, mock_client: Callable[..., Client]) -> Callable[..., Door]:
    """`mock_door(handler, **arguments)`: the same in both colours, behind one face."""

    def make(handler: Callable[[Any], Any], **arguments: Any) -> Door:
        if colour == "sync":
            return SyncDoor(mock_client(handler, **arguments))
        transport = openai.DefaultAsyncHttpxClient(transport=http.MockTransport(handler))
        return AsyncDoor(AsyncClient(http_client=transport, **_where(arguments)))

    return make


def _where(arguments: dict[str, Any]) -> dict[str, Any]:
    standard = {
        "provider": "chat_completions",
        "model": "m",
        "base_url": "http://mock.test/v1",
        "api_key": "sk-mock-key",
    }
    return standard | {"max_retries": 0} | arguments


@pytest.fixture
async def server_door(request: pytest.FixtureRequest, colour: str) -> AsyncIterator[Callable[..., Door]]:
    """`server_door(server, case, **arguments)`: a client, of either colour, of a server that a cassette stands for."""
    recorder = request.config.pluginmanager.get_plugin("recorder")
    async with AsyncExitStack() as stack:

        def make(name: str, case: str, path: str = "/v1", **arguments: Any) -> Door:
            server = SERVERS[name]
            base_url = stack.enter_context(replayed(server, case, recorder)).removesuffix("/v1") + path
            given = {"provider": server.provider, "model": server.model, "base_url": base_url, "max_retries": 0}
            kind, client = (SyncDoor, Client) if colour == "sync" else (AsyncDoor, AsyncClient)
            door: Door = kind(client(**given | arguments))
            stack.push_async_callback(door.close)
            return door

        yield make
