"""Responses of the HTTP library, made for the SDK to read."""

from __future__ import annotations

import datetime
import json
import uuid
from typing import TYPE_CHECKING, Any

import openai

from allos.receipts import came_back
from allos.transport import HTTP
from allos.wire.responses import frame

if TYPE_CHECKING:
    from allos.dropin.route import Call

__all__ = ["answered_here", "as_page", "faulty", "like", "remade", "whole"]

_NOT_COPIED = {"content-length", "content-encoding", "transfer-encoding", "content-type"}  # headers about the bytes


def as_page(response: Any) -> Any:
    """The list of models as the object around it that the SDK expects, where a service sends the bare list."""
    request = response.request
    is_list = request.method == "GET" and request.url.path.rstrip("/").endswith("/models") and response.is_closed
    if not is_list or not response.content.lstrip().startswith(b"["):
        return response
    return like(response, content=b'{"object":"list","data":' + response.content + b"}")


def like(response: Any, content: bytes | None = None, *, stream: Any = None, status: int | None = None) -> Any:
    """A response to the same request with other bytes.

    Its reason phrase is not the server's: that is shown, and may hold what should not be.
    """
    headers = [(name, value) for name, value in response.headers.multi_items() if name.lower() not in _NOT_COPIED]
    headers.append(("content-type", "text/event-stream" if stream is not None else "application/json"))
    made = HTTP.Response(
        status or response.status_code,
        headers=headers,
        request=response.request,
        extensions={name: value for name, value in response.extensions.items() if name != "reason_phrase"},
        **({"content": content} if stream is None else {"stream": stream}),
    )
    made.history = response.history
    if stream is None:
        made.elapsed = _elapsed(response)
    return made


def answered_here(call: Call, request: Any) -> Any:
    """The answer to a call that never leaves the process."""
    assert call.served is not None  # asked by the caller
    status, answer = call.served
    if isinstance(answer, list):
        content = b"".join(frame(event) for event in answer)
        kind = "text/event-stream"
    else:
        content, kind = json.dumps(answer).encode(), "application/json"
    headers = {"content-type": kind, "x-request-id": f"allos_{uuid.uuid4().hex}", "x-should-retry": "false"}
    made = HTTP.Response(status, headers=headers, content=content, request=request)
    made.elapsed = datetime.timedelta()
    return made


def whole(response: Any, call: Call, came: bytes, said: bytes, *, stream: bool) -> Any:
    """The response with a whole answer: the server's own one where its bytes may pass and the SDK reads it at once."""
    if said is not came or stream or "json" not in response.headers.get("content-type", ""):
        return remade(response, call, said)
    return _known(response, call)


def _known(response: Any, call: Call) -> Any:
    """The response, so that its receipt is found."""
    request_id = response.headers.setdefault("x-request-id", f"allos_{uuid.uuid4().hex}")
    if call.receipt is not None:
        came_back(call.receipt, request_id)
    return response


def remade(
    response: Any, call: Call, content: bytes | None = None, *, stream: Any = None, status: int | None = None
) -> Any:
    """The response in which the SDK finds what the program asked for; headers are the server's."""
    return _known(like(response, content, stream=stream, status=status), call)


def faulty(response: Any, call: Call, error: openai.APIStatusError) -> Any:
    """The refusal that a stream with an error as its first event should have been, so that the SDK may ask again."""
    said = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
    return remade(response, call, json.dumps({"error": said}).encode(), status=error.status_code)


def _elapsed(response: Any) -> datetime.timedelta:
    try:
        return response.elapsed  # type: ignore[no-any-return]  # of the HTTP library, which is not imported by name
    except RuntimeError:  # a transport that answers at once never measured it
        return datetime.timedelta()
