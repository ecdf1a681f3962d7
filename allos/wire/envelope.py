"""A Chat service's thoughts as `encrypted_content`, for programs that keep their history themselves.

Chat Completions has no encrypted reasoning. What a program hands back unread in that field is here the thought with
the field that it came in, its signature and its details, so that the service gets it back as it said it.
It is packed and not encrypted: whoever holds it can read it, as the service's own answer could be read.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

from allos.messages import Reasoning

__all__ = ["is_sealed", "opened", "seal", "seal_items"]

_PREFIX = "allos."
_VERSION = "1"
_LONGEST = 16 * 2**20  # bytes that one thought may unpack to


def seal(thought: Reasoning) -> str:
    """The thought as one opaque text."""
    said = {
        "text": thought.text,
        "summary": list(thought.summary),
        "encrypted": thought.encrypted,
        "signature": thought.signature,
        "source": thought.source,
        "extra": dict(thought.extra),
    }
    packed = zlib.compress(json.dumps({name: value for name, value in said.items() if value}).encode())
    return f"{_PREFIX}{_VERSION}.{base64.urlsafe_b64encode(packed).decode()}"


def is_sealed(value: object) -> bool:
    """Whether a text was made by `seal`, of whatever version."""
    return isinstance(value, str) and value.startswith(_PREFIX)


def opened(value: object, item_id: str | None = None) -> Reasoning | None:
    """The thought in such a text; None for any other, a damaged one, and one of another version."""
    if not isinstance(value, str) or not value.startswith(f"{_PREFIX}{_VERSION}."):
        return None
    try:
        unpacker = zlib.decompressobj()
        packed = unpacker.decompress(base64.urlsafe_b64decode(value.split(".", 2)[2]), _LONGEST)
        said = json.loads(packed)
    except (ValueError, zlib.error):
        return None
    if not isinstance(said, dict):
        return None
    return Reasoning(
        str(said.get("text", "")),
        tuple(map(str, said.get("summary", ()))),
        said.get("encrypted"),
        said.get("signature"),
        item_id,
        said.get("source"),
        said.get("extra", {}),
    )


def seal_items(items: Iterable[Mapping[str, Any]], thoughts: Iterable[Reasoning]) -> None:
    """Put the thoughts of a reply into its reasoning items, which stand in the same order."""
    own = [item for item in items if item.get("type") == "reasoning"]
    for item, thought in zip(own, thoughts, strict=False):
        if isinstance(item, dict) and thought.source is not None:
            item["encrypted_content"] = seal(thought)
