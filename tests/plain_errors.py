"""What recorded errors say, read by plain code that shares nothing with `allos.wire.fault`."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import plain_chat


class Said(NamedTuple):
    """The service's own words, and what it names beside them."""

    words: str
    status: int
    code: str | None = None
    kind: str | None = None


# Statuses that a service only names by a word.
WORDS = {"rate_limit_exceeded": 429}


def read(record: dict[str, Any]) -> Said:
    """The error of an exchange, wherever it stands: in an error's body, in a 200 answer, or in a stream."""
    status, body = record["response"]["status"], record["response"]["body"]
    if record["streaming"]:
        data = next(payload for payload in plain_chat.chunks(body) if payload.get("error"))
        said = _nested(data["error"])
    else:
        try:
            said = _whole(json.loads(body))
        except ValueError:
            said = {"words": body}
    inner = said.pop("status", None)
    code = said.get("code")
    if status == 200:
        status = inner or (int(code) if str(code).isdigit() else WORDS[str(code)])
    code = None if code is None else str(code)
    return Said(said["words"], status, code, said.get("kind"))


def _nested(error: dict[str, Any]) -> dict[str, Any]:
    said = {"words": error["message"], "code": error.get("code"), "kind": error.get("type")}
    return {**said, "status": error.get("status_code")}


def _whole(data: Any) -> dict[str, Any]:
    error, detail = data.get("error"), data.get("detail")
    if isinstance(error, dict):
        return _nested(error)
    if isinstance(error, str):
        return {"words": error, "code": data.get("code"), "kind": data.get("error_type")}
    if isinstance(detail, str):
        return {"words": detail}
    if isinstance(detail, list):
        return {"words": detail[0]["msg"]}
    return {"words": data["message"], "code": data.get("code"), "kind": data.get("type")}
