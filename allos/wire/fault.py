"""Finds the server's own words in an error body, whatever its shape."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["Fault", "dig"]

_LONGEST = 300  # characters of a server's text that a message quotes
_PAGE = re.compile(r"<(?:!doctype|html|head|body)\b", re.IGNORECASE)
_TITLE = re.compile(r"<(title|h1)[^>]*>(.*?)</\1>", re.IGNORECASE | re.DOTALL)
_CODES = {
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "insufficient_quota": 429,
    "overloaded_error": 529,
    "overloaded": 529,
    "server_error": 500,
    "internal_error": 500,
    "api_error": 500,
    "invalid_api_key": 401,
    "authentication_error": 401,
}


class Fault(NamedTuple):
    """What an error body says; `status` only where the body itself names one."""

    message: str
    code: str | None = None
    type: str | None = None
    param: str | None = None
    status: int | None = None


def dig(body: Any) -> Fault:
    """The message, code, type and parameter of an error body: JSON of any known shape, plain text or a web page.

    The message is empty where the body holds no words.
    """
    if isinstance(body, (str, bytes)):
        return _from_text(body.decode("utf-8", "replace") if isinstance(body, bytes) else body)
    if isinstance(body, list):
        faults = [fault for entry in body if (fault := dig(entry)).message]
        return faults[0]._replace(message="; ".join(fault.message for fault in faults)) if faults else Fault("")
    if isinstance(body, Mapping):
        try:
            return _from_mapping(body)
        except RecursionError:  # nested to no purpose
            pass
    return Fault("")


def _from_text(text: str) -> Fault:
    text = text.strip()
    if text[:1] in ("{", "["):
        try:
            return dig(json.loads(text))
        except (ValueError, RecursionError):
            pass
    if _PAGE.search(text[:2000]):
        title = _TITLE.search(text)
        words = re.sub(r"<[^>]+>|\s+", " ", title.group(2)).strip() if title else ""
        return Fault(f"a web page{f' titled {words[:100]!r}' if words else ''}")
    return Fault(_short(text))


def _from_mapping(body: Mapping[str, Any]) -> Fault:
    error = body.get("error")
    if isinstance(error, (Mapping, list)) and error:
        inner = dig(error)
        outer = _named(body)
        return Fault(
            inner.message or outer.message,
            inner.code or outer.code,
            inner.type or outer.type,
            inner.param or outer.param,
            inner.status or outer.status,
        )
    own = _named(body)
    if own.message:
        return own
    for key in ("errors", "detail", "details", "msg", "reason"):
        if body.get(key) and (found := dig(body[key])).message:
            return Fault(_with_place(found.message, body), own.code, own.type, own.param, own.status)
    return own


def _named(body: Mapping[str, Any]) -> Fault:
    """What this level says under the usual names, without looking deeper for the message."""
    words = [body.get(key) for key in ("message", "error", "error_description", "detail", "msg", "title", "reason")]
    message = next((_short(text) for text in words if isinstance(text, str) and text.strip()), "")
    metadata = body.get("metadata")
    if isinstance(metadata, Mapping) and (raw := dig(metadata.get("raw"))).message and raw.message not in message:
        message = f"{message}: {raw.message}" if message else raw.message
    if message.startswith("{") and (inner := dig(message)).message:
        message = inner.message
    kind = body.get("type", body.get("error_type"))
    code = body.get("code", body.get("error_code"))
    status = next(
        (
            int(str(value))
            for value in (body.get("status_code"), body.get("http_status"), body.get("status"), code)
            if _is_status(value)
        ),
        None,
    )
    if status is None:
        status = next((_CODES[value] for value in (code, kind) if isinstance(value, str) and value in _CODES), None)
    return Fault(
        _with_place(message, body) if message else "",
        str(code) if code not in (None, "") and not isinstance(code, (dict, list)) else None,
        kind if isinstance(kind, str) else None,
        param if isinstance(param := body.get("param"), str) else None,
        status,
    )


def _with_place(message: str, body: Mapping[str, Any]) -> str:
    """FastAPI's validation errors say where in `loc`."""
    place = body.get("loc")
    return f"{'.'.join(str(step) for step in place)}: {message}" if isinstance(place, list) else message


def _is_status(value: object) -> bool:
    text = str(value)
    return len(text) == 3 and text.isascii() and text.isdigit() and 400 <= int(text) < 600


def _short(text: str) -> str:
    text = re.sub(r"\s+", " ", text).strip()
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
