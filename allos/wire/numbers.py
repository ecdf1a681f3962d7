"""Numbers of JSON. Python's reader also takes NaN, Infinity and integers that no float can hold."""

from __future__ import annotations

from typing import Any, TypeGuard

__all__ = ["is_number"]

_INFINITE = float("inf")


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether a value is a number that can be counted with; a boolean is none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -_INFINITE < value < _INFINITE
