"""Characters that a service cut in two: JSON can send a half by itself, and no text that holds one can be written."""

from __future__ import annotations

import re

__all__ = ["whole_characters"]

_FIRST_HALF = re.compile("[\ud800-\udbff]")


def whole_characters(text: str) -> str:
    """The text with each pair of halves as the character that it is."""
    if _FIRST_HALF.search(text) is None:
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
