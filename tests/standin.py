"""A network that leads nowhere: every HTTP request of this process is answered here, as a service would.

It is there for the examples of the documentation. Each service of the table answers at its own address, over the
APIs that the table says it has. What it answers follows rules that a reader of a page can check: the capital of
France is Paris, and a tool is called once for each city that the question names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from doors import http

from allos import endpoints, local, weights
from allos.errors import Unsupported
from allos.messages import Choice, Delta, Message, Reasoning, Reply, Request, Text, ToolCall, Usage, Wire
from allos.wire.answer import CODECS
from allos.wire.collect import deltas

ROUTES: dict[str, Wire] = {"/chat/completions": "chat", "/responses": "responses"}
CAPITALS = {"France": "Paris", "Italy": "Rome"}
VALUES = {"city": "Paris", "name": "Paris", "country": "France", "population": 2_100_000, "on_a_river": True}
BY_TYPE = {"string": "text", "integer": 1, "number": 1.5, "boolean": True, "array": [], "object": {}, "null": None}
MODELS = ("large-1", "small-1")


@dataclass
class Network:
    """Answers requests. `sent` keeps them as (URL, headers, body)."""

    sent: list[tuple[str, Mapping[str, str], Any]] = field(default_factory=list)
    turns: dict[str, tuple[Message, ...]] = field(default_factory=dict)

    def answer(self, request: Any) -> Any:
        """The response to one request; raises what the HTTP library raises where nobody listens."""
        url, body = str(request.url), json.loads(request.read() or b"null")
        self.sent.append((url, request.headers, body))
        if request.url.port == 9:
            raise http.ConnectError("[Errno 111] Connection refused", request=request)
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        row = endpoints.for_base_url(url)
        if "wrong" in key or (not key and row is not None and row.needs_key):
            return _error(401, "Incorrect API key provided.", "invalid_api_key")
        if url.endswith("/models"):
            rows = [{"id": name, "object": "model", "created": 1, "owned_by": "example"} for name in MODELS]
            return http.Response(200, json={"object": "list", "data": rows})
        wire = next((wire for route, wire in ROUTES.items() if url.endswith(route)), None)
        spoken = ("chat", "responses") if request.url.host in ("localhost", "127.0.0.1") else ("chat",)
        if row is not None:
            spoken = tuple(wire for wire in ("chat", "responses") if getattr(row, wire))
        if wire is None or wire not in spoken or not re.search(r"/v\d|/openai|/inference", url):
            return http.Response(404, text="404 page not found")
        if "no-such" in body.get("model", ""):
            return _error(404, f"The model {body['model']!r} does not exist.", "model_not_found")
        return self._say(wire, body)

    def _say(self, wire: Wire, body: dict[str, Any]) -> Any:
        codec = CODECS[wire]
        try:
            request: Request = codec.load_request(body)
        except Unsupported as error:
            return _error(400, str(error), error.code)
        said = (*self.turns.get(body.get("previous_response_id", ""), ()), *request.messages)
        number = len(self.sent)
        id = f"resp_{number}" if wire == "responses" else f"chatcmpl-{number}"
        reply = answered(request, said, id)
        self.turns[id] = (*said, reply.message)
        if not request.stream:
            return http.Response(200, json=codec.dump_reply(reply, request=request))
        encoder = codec.Encoder(request=request)
        payloads = [payload for delta in _in_words(reply) for payload in encoder.feed(delta)]
        frames = b"".join(codec.frame(payload) for payload in [*payloads, *encoder.end(reply)])
        return http.Response(200, content=frames + codec.TAIL, headers={"content-type": "text/event-stream"})


def _error(status: int, message: str, code: str) -> Any:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return http.Response(status, json={"error": error})


def _in_words(reply: Reply) -> list[Delta]:
    """The reply's deltas, with text that comes word by word."""
    found: list[Delta] = []
    for delta in deltas(reply):
        if not delta.text:
            found.append(delta)
            continue
        found += [Delta(word, index=delta.index) for word in re.findall(r"\s*\S+\s*$|\s*\S+", delta.text)]
        found.append(Delta(part=delta.part, index=delta.index))
    return found


def answered(request: Request, said: tuple[Message, ...], id: str) -> Reply:
    """What the model of this network answers."""
    parts: list[Any] = [Reasoning("The answer is known.")] if request.reasoning_effort not in (None, "none") else []
    calls = _calls(request, said)
    text = "" if calls else _text(request, said)
    finish = "tool_calls" if calls else "stop"
    words = text.split(" ")
    if request.max_tokens is not None and len(words) > request.max_tokens:
        text, finish = " ".join(words[: request.max_tokens]), "length"
    message = Message("assistant", (*parts, *([Text(text)] if text else []), *calls))
    usage = Usage(12, len(text.split()) or 8, 12 + (len(text.split()) or 8), 0, 0)
    return Reply((Choice(message, finish),), id, request.model, 1_790_000_000, usage)


def _calls(request: Request, said: tuple[Message, ...]) -> list[ToolCall]:
    """A call of the first tool for each city in the question, unless the results are there already."""
    if not request.tools or said[-1].role == "tool" or (request.tool_choice and request.tool_choice.mode == "none"):
        return []
    tool, cities = request.tools[0], [city for city in CAPITALS.values() if city in said[-1].text]
    name = next(iter((tool.parameters or {}).get("properties", {})), None)
    return [ToolCall(f"call_{city.lower()}", tool.name, json.dumps({name: city})) for city in cities if name]


def _text(request: Request, said: tuple[Message, ...]) -> str:
    question = next((message.text for message in reversed(said) if message.role == "user"), "")
    if request.format is not None and request.format.schema is not None:
        return json.dumps(_instance(request.format.schema))
    if said and said[-1].role == "tool":
        results = [message.text for message in said if message.role == "tool"]
        return f"It is {', and '.join(results)}."
    for country, capital in CAPITALS.items():
        if f"capital of {country}" in question:
            return f"{capital}."
    names = [found[1] for message in said if (found := re.search(r"[Mm]y name is (\w+)", message.text))]
    if "my name?" in question and names:
        return f"Your name is {names[-1]}."
    if "Count" in question:
        return "One two three four five six seven eight nine ten."
    return "Hello! How can I help?"


def _instance(schema: Mapping[str, Any]) -> Any:
    """A value that fits a JSON schema of the simple kind that examples have."""
    made = {}
    for name, inner in schema.get("properties", {}).items():
        kind = inner.get("type", "string")
        made[name] = VALUES.get(name, inner.get("enum", [BY_TYPE[kind]])[0])
    return made


def connect(monkeypatch: pytest.MonkeyPatch, file: Path) -> Network:
    """Let every request of this process, and the embedded model with its weights in `file`, be answered from here."""
    network = Network()

    def handle(transport: Any, request: Any) -> Any:
        return network.answer(request)

    async def handle_async(transport: Any, request: Any) -> Any:
        return network.answer(request)

    monkeypatch.setattr(http.HTTPTransport, "handle_request", handle)
    monkeypatch.setattr(http.AsyncHTTPTransport, "handle_async_request", handle_async)
    server = local.LocalServer("http://127.0.0.1:49152/v1", "sk-embedded", "smollm2-135m", file)
    monkeypatch.setattr(local, "start", lambda model=None: server)
    monkeypatch.setattr(weights, "pull", lambda name=None, tell=None: file)
    return network
