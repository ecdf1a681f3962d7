"""A service that refuses some ways of asking for an object, and what is asked of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import answers
from doors import http
from pydantic import BaseModel


class Place(BaseModel):
    """What an answer is parsed into."""

    city: str


PARIS = '{"city": "Paris"}'
STANDARD = ("json_schema", "tool", "json_object", "prompt")


def way_of(body: dict[str, Any]) -> str:
    """The way in which a request asks for its object."""
    form = body.get("response_format") or (body.get("text") or {}).get("format") or {}
    if body.get("tool_choice") not in (None, "auto"):
        return "tool"
    return form.get("type") or ("prompt" if '"city"' in json.dumps(body).replace("\\", "") else "none")


class Service:
    """Refuses some ways, and answers the others with what it is told to say, in a call where one is forced."""

    def __init__(self, refuses: tuple[str, ...] = (), say: Callable[[int], str] = lambda count: PARIS) -> None:
        self.ways: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self._refuses, self._say = refuses, say

    def __call__(self, request: Any) -> Any:
        body = answers.body(request)
        self.ways.append(way_of(body))
        self.bodies.append(body)
        if self.ways[-1] in self._refuses:
            return http.Response(400, json={"error": {"message": f"{self.ways[-1]}: this schema is not supported"}})
        text = self._say(len(self.ways))
        if self.ways[-1] == "tool" and text.startswith("{"):
            return answers.call(request, ("call_1", "Place", text))
        return answers.answer(request, *text.partition("city"))
