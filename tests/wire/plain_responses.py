"""Recorded exchanges over the Responses API, and what their streams say, read by plain code."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from plain_chat import FOLDER


def recordings(keep: Callable[[dict[str, Any]], bool]) -> list[Any]:
    """Pytest parameters, one a recorded exchange; a skipped one where there are no recordings."""
    found = [json.loads(path.read_text("utf-8")) for path in sorted(FOLDER.glob("*/*.json"))]
    kept = [pytest.param(record, id=record["id"]) for record in found if record["api"] == "responses" and keep(record)]
    return kept or [pytest.param({}, marks=pytest.mark.skip(reason=f"no recordings in {FOLDER}"))]


def payloads(body: str) -> list[dict[str, Any]]:
    """The events of a recorded stream."""
    lines = [line[5:].strip() for line in body.splitlines() if line.startswith("data:")]
    found = [json.loads(line) for line in lines if line and line != "[DONE]"]
    return [payload for payload in found if isinstance(payload, dict)]
