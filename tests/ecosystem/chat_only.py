"""A server that has Chat Completions and nothing else, with a model that does the obvious thing.

It calls the first tool it is offered, says what a tool's result was, and answers a schema with a value that fits.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HEAD = {"id": "chatcmpl-1", "created": 1700000000, "model": "obvious"}
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


class ChatOnly:
    """`url` is its base URL, `asked` what it was asked, as (path, body)."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[tuple[str, Any]] = []

    @property
    def paths(self) -> set[str]:
        return {path for path, _ in self.asked}

    def said_to(self, role: str) -> list[Any]:
        """The messages of a role in the last request."""
        return [message for message in self.asked[-1][1]["messages"] if message["role"] == role]


@contextmanager
def chat_only() -> Iterator[ChatOnly]:
    """The server, running on loopback."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "null")
            server.asked.append((self.path, body))
            if self.path != "/v1/chat/completions":
                self._send(404, "application/json", b'{"detail":"Not Found"}')
            elif body.get("stream"):
                self._send(200, "text/event-stream", b"".join(_events(_message(body))))
            else:
                message = _message(body)
                choice = {"index": 0, "message": message, "finish_reason": _finish(message)}
                whole = {**HEAD, "object": "chat.completion", "choices": [choice], "usage": USAGE}
                self._send(200, "application/json", json.dumps(whole).encode())

        do_GET = do_POST

        def _send(self, status: int, kind: str, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = ChatOnly(f"http://127.0.0.1:{http.server_address[1]}/v1")
    thread = threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def _message(body: Mapping[str, Any]) -> dict[str, Any]:
    last = body["messages"][-1]
    if last["role"] == "tool":
        return {"role": "assistant", "content": f"The tool said: {_text(last['content'])}"}
    if body.get("tools") and body.get("tool_choice") != "none":
        function = body["tools"][0]["function"]
        call = {"name": function["name"], "arguments": json.dumps(_fitting(function.get("parameters") or {}))}
        return {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": call}],
        }
    form = body.get("response_format") or {}
    if form.get("type") == "json_schema":
        return {"role": "assistant", "content": json.dumps(_fitting(form["json_schema"]["schema"]))}
    heard = [_text(message["content"]) for message in body["messages"] if message["role"] == "user"]
    return {"role": "assistant", "content": f"You said: {' / '.join(heard)}"}


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content or ())


def _finish(message: Mapping[str, Any]) -> str:
    return "tool_calls" if message.get("tool_calls") else "stop"


def _fitting(schema: Mapping[str, Any], root: Mapping[str, Any] | None = None) -> Any:
    """A value that fits a schema: "Paris" for a text, 21 for a number."""
    root = root if root is not None else schema
    if "$ref" in schema:
        found: Any = root
        for step in schema["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        return _fitting(found, root)
    kind = schema.get("type", "object")
    if kind == "object":
        return {name: _fitting(inner, root) for name, inner in schema.get("properties", {}).items()}
    if kind == "array":
        return [_fitting(schema["items"], root)]
    return {"string": "Paris", "integer": 21, "number": 21.0, "boolean": True}.get(kind)


def _events(message: Mapping[str, Any]) -> Iterator[bytes]:
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": piece} for piece in re.findall(r"\S+\s*", message["content"] or "")]
    for index, call in enumerate(message.get("tool_calls", ())):
        arguments = call["function"]["arguments"]
        begun = {**call, "index": index, "function": {"name": call["function"]["name"], "arguments": ""}}
        deltas.append({"tool_calls": [begun]})
        for piece in (arguments[:5], arguments[5:]):
            deltas.append({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    chunk = {**HEAD, "object": "chat.completion.chunk"}
    for delta in deltas:
        yield _event({**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    yield _event({**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": _finish(message)}]})
    yield _event({**chunk, "choices": [], "usage": USAGE})
    yield b"data: [DONE]\n\n"


def _event(payload: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(payload).encode() + b"\n\n"
