"""Exchanges with real servers, recorded once by `make record` and replayed by the tests.

A cassette is `cassettes/<endpoint>/<case>.yaml`.
Requests are matched on method, path, query and body, so a request that changes fails its test.
Tests only replay; the `Recorder` that turns replaying into recording is handed to pytest by `tools/record.py` alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import vcr
import yaml
from vcr.serializers import yamlserializer

ROOT = Path(__file__).parents[1] / "cassettes"
REQUEST_HEADERS = frozenset({"accept", "content-type"})
RESPONSE_HEADERS = frozenset({"content-type", "retry-after"})
_FOLDERS = re.compile(rb"/(?:root|home|tmp|Users)(?:/[\w.@-]+)+/")  # where a server on this machine keeps its models


@dataclass(frozen=True)
class Server:
    """One real server as it was started for recording."""

    name: str
    endpoint: str
    model: str
    start: str
    provider: str = "chat_completions"
    key: str | None = None

    @property
    def variable(self) -> str:
        """The environment variable that tells `make record` where this server runs."""
        return f"ALLOS_RECORD_{self.name.upper().replace('-', '_')}"

    @property
    def address(self) -> str:
        """The address that stands in the cassettes; it leads nowhere."""
        return f"http://{self.endpoint}.test/v1"


_QWEN = "qwen2.5-coder-1.5b"
SERVERS = {
    server.name: server
    for server in (
        Server("llamacpp", "llamacpp", _QWEN, f"llamacpp.sh 8101 {_QWEN}", "llamacpp"),
        Server("llamacpp-think", "llamacpp", _QWEN, f"TEMPLATE=think llamacpp.sh 8102 {_QWEN}", "llamacpp"),
        Server("llamacpp-keyed", "llamacpp", "smollm2-135m", "API_KEY=… llamacpp.sh 8103", "llamacpp"),
        Server("vllm", "vllm", _QWEN, f"vllm.sh 8105 {_QWEN}", "vllm"),
        Server("ogx", "ogx", f"local/{_QWEN}", "ogx.sh 8108 http://127.0.0.1:8101/v1"),
    )
}


class Recorder:
    """A pytest plugin that records the cassettes of the servers at these addresses, by name, and skips all others."""

    __name__ = "recorder"  # what pytest registers it under

    def __init__(self, addresses: Mapping[str, str]) -> None:
        self.addresses = addresses

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Keep one colour of each test: both send the same bytes."""
        asynchronous = [item for item in items if "[async" in item.name or "-async" in item.name]
        config.hook.pytest_deselected(items=asynchronous)
        items[:] = [item for item in items if item not in asynchronous]


@contextmanager
def replayed(server: Server, case: str, recorder: Recorder | None = None) -> Iterator[str]:
    """The base URL to ask while the cassette runs; with a recorder, that of the real server.

    Fails when a recorded request was not made again.
    """
    path = ROOT / server.endpoint / f"{case}.yaml"
    if recorder is None:
        assert path.exists(), f"{path} is missing; `make record` makes it"
        with _vcr(server).use_cassette(path, record_mode="none") as cassette:
            yield server.address
        assert cassette.all_played, f"{path.name} holds requests that were not made"
        return
    if server.name not in recorder.addresses:
        pytest.skip(f"{server.variable} is not set")
    path.unlink(missing_ok=True)
    with _vcr(server).use_cassette(path, record_mode="once"):
        yield recorder.addresses[server.name]


def _vcr(server: Server) -> vcr.VCR:
    made = vcr.VCR(
        match_on=("method", "path", "query", "body"),
        decode_compressed_response=True,
        before_record_request=lambda request: _kept_request(request, server),
        before_record_response=_kept_response,
        serializer="readable",
    )
    made.register_serializer("readable", Readable)
    return made


def _kept_request(request: Any, server: Server) -> Any:
    request.headers = _only(request.headers, REQUEST_HEADERS)
    real, shown = urlsplit(request.uri), urlsplit(server.address)
    request.uri = real._replace(scheme=shown.scheme, netloc=shown.netloc).geturl()
    return request


def _kept_response(response: dict[str, Any]) -> dict[str, Any]:
    body = _FOLDERS.sub(b"/models/", response["body"]["string"])
    return {**response, "headers": _only(response["headers"], RESPONSE_HEADERS), "body": {"string": body}}


def _only(headers: Mapping[str, Any], allowed: frozenset[str]) -> dict[str, Any]:
    return {name.lower(): value for name, value in headers.items() if name.lower() in allowed}


class Readable:
    """vcrpy's YAML with bodies as blocks of lines: event streams as they came, whole JSON indented."""

    deserialize = staticmethod(yamlserializer.deserialize)

    @staticmethod
    def serialize(cassette: dict[str, Any]) -> str:
        """The text of a cassette."""
        for exchange in cassette["interactions"]:
            request, response = exchange["request"], exchange["response"]
            request["body"] = _indented(request["body"])
            response["body"]["string"] = _indented(response["body"]["string"])
        return yaml.dump(cassette, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)


def _indented(body: Any) -> Any:
    try:
        return json.dumps(json.loads(body), indent=1, ensure_ascii=False)
    except (TypeError, ValueError):
        return body


class _Dumper(yaml.SafeDumper):
    pass


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
