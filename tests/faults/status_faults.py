"""What goes wrong with a status: rows C1 to C9."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import openai
from doors_under_fire import KEY
from raw_server import HOLD, RESET, Script
from scenario import HTML, PLAIN, RETRIES, Fails, Right, Scenario, good, problem, refused, said, sized, then_good

__all__ = ["STATUS"]

SOON = "retry-after-ms: 1"
BUSY = problem("busy")
AFTER = {
    "zero": "0",
    "negative": "-3",
    "past": "Wed, 21 Oct 2015 07:28:00 GMT",
    "nan": "nan",
    "inf": "inf",
    "garbage": "soon",
    "fraction": "0.01",
}
BODIES: dict[str, Any] = {
    "text": {"error": "no GPU left"},
    "detail text": {"detail": "no GPU left"},
    "detail list": {"detail": [{"loc": ["body", "model"], "msg": "no GPU left", "type": "value_error"}]},
    "message at the top": {"message": "no GPU left", "object": "error"},
    "list": [{"error": {"code": 400, "message": "no GPU left", "status": "INVALID_ARGUMENT"}}],
    "nested": {"error": {"error": {"message": "no GPU left"}}},
    "cloudflare": {"success": False, "errors": [{"code": 7003, "message": "no GPU left"}]},
    "openrouter": problem("Provider returned error", metadata={"raw": '{"error":{"message":"no GPU left"}}'}),
    "plain text": b"no GPU left",
}
TOO_LONG = {
    "OpenAI": "This model's maximum context length is 4097 tokens. However, your messages resulted in 5000 tokens.",
    "llama.cpp": "the request exceeds the available context size (4096 tokens), try increasing it",
    "Groq": "Please reduce the length of the messages or completion.",
    "Mistral": "Prompt contains 40000 tokens, too large for model with 32768 maximum context length",
}
NO_ROUTE = {
    "text": refused(404, b"404 page not found", kind=PLAIN),
    "detail": refused(404, {"detail": "Not Found"}),
    "page": refused(404, b"<html><body><h1>Not Found</h1></body></html>", kind=HTML),
    "empty": refused(404, b""),
}


def _retried() -> list[Scenario]:
    def case(name: str, *first: Any, **options: Any) -> Scenario:
        scripts = lambda wire, way: [list(first), [good(wire, way)]]  # noqa: E731
        return Scenario("C1", name, scripts, Right(requests=2), options={**RETRIES, **options})

    always = Fails(openai.InternalServerError, ("busy", "503"), requests=3)
    return [
        *(case(str(status), refused(status, BUSY, SOON)) for status in (408, 409, 429, 500, 502, 503, 504, 520, 529)),
        case("reset", RESET),
        case("closed without a word", b""),
        case("no reply in time", HOLD, timeout=1.0),
        Scenario("C1", "always busy", said(refused(503, BUSY, SOON)), always, options=RETRIES),
    ]


def _waited() -> list[Scenario]:
    hour = said(refused(429, problem("slow down"), "Retry-After: 3600"))
    told = Fails(openai.RateLimitError, ("slow down", "3600"))
    found = {name: then_good(refused(503, BUSY, f"Retry-After: {value}")) for name, value in AFTER.items()}
    return [
        *(Scenario("C2", name, scripts, Right(requests=2), options=RETRIES) for name, scripts in found.items()),
        Scenario("C2", "an hour", hour, told, options=RETRIES),
    ]


def _not_retried() -> list[Scenario]:
    def case(row: str, name: str, answer: bytes, kind: type[Exception], *words: str) -> Scenario:
        return Scenario(row, name, said(answer), Fails(kind, words), options=RETRIES)

    quota = refused(429, problem("You exceeded your current quota", code="insufficient_quota"))
    echo = problem(f"Incorrect API key provided: {KEY}", code="invalid_api_key")
    where = ("key came from", "127.0.0.1")
    return [
        case("C3", "quota", quota, openai.RateLimitError, "quota"),
        case("C3", "402", refused(402, problem("No balance")), openai.APIStatusError, "No balance", "quota"),
        case("C4", "401", refused(401, echo), openai.AuthenticationError, *where),
        case("C4", "403", refused(403, echo), openai.PermissionDeniedError, *where),
    ]


def _no_model(wire: str, way: str) -> Sequence[Script]:
    missing = refused(404, problem("The model `m` does not exist", code="model_not_found"))
    listed = sized(json.dumps({"object": "list", "data": [{"id": "m9", "object": "model"}]}).encode())
    return [[missing], [listed]]


def _explained() -> list[Scenario]:
    no_route = Fails(openai.NotFoundError, ("base url", "127.0.0.1"))
    no_gpu = Fails(openai.BadRequestError, ("no GPU left",))
    too_long = Fails(openai.BadRequestError, ("too long for the model",))
    return [
        *(Scenario("C5", name, said(answer), no_route) for name, answer in NO_ROUTE.items()),
        Scenario("C6", "no such model", _no_model, Fails(openai.NotFoundError, ("model `m` does not exist",))),
        *(Scenario("C7", name, said(refused(400, shape)), no_gpu) for name, shape in BODIES.items()),
        *(Scenario("C8", name, said(refused(400, problem(text))), too_long) for name, text in TOO_LONG.items()),
    ]


def _redirects() -> list[Scenario]:
    def to(place: str) -> bytes:
        return sized(b"", 307, PLAIN, f"Location: {place}")

    abroad = Fails(openai.APIStatusError, ("redirects to", "elsewhere.invalid"))
    return [
        Scenario("C9", "within the origin", then_good(to("/v1/elsewhere")), Right(requests=2)),
        Scenario("C9", "to another host", said(to("http://elsewhere.invalid/v1/chat/completions")), abroad),
    ]


STATUS = [*_retried(), *_waited(), *_not_retried(), *_explained(), *_redirects()]
