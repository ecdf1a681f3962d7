"""JSON schemas in the plainer forms that some services want."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["named", "without_references"]

_LARGEST = 10_000  # nodes; references that are used often can make a small schema very large


def without_references(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with what `$ref` names written in its place.

    A schema that contains itself, one that would become very large, or one with a reference to elsewhere comes
    back as it is, because it can't be written out.
    """
    try:
        written = _Writer(schema).write(schema, ())
    except _CannotWrite:
        return dict(schema)
    return {key: value for key, value in written.items() if key not in ("$defs", "definitions")}


class _CannotWrite(Exception):
    pass


class _Writer:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._nodes = 0

    def write(self, node: Any, inside: tuple[str, ...]) -> Any:
        self._nodes += 1
        if self._nodes > _LARGEST:
            raise _CannotWrite
        if isinstance(node, list):
            return [self.write(entry, inside) for entry in node]
        if not isinstance(node, Mapping):
            return node
        reference = node.get("$ref")
        rest = {
            key: self.write(value, inside)
            for key, value in node.items()
            if key != "$ref" and not (node is self._root and key in ("$defs", "definitions"))
        }
        if not isinstance(reference, str):
            return rest if reference is None else {"$ref": self.write(reference, inside), **rest}
        if reference in inside:
            raise _CannotWrite
        node = named(reference, self._root)
        if node is None:
            raise _CannotWrite
        return {**self.write(node, (*inside, reference)), **rest}


def named(reference: str, root: Any) -> Mapping[str, Any] | None:
    """What a reference such as "#/$defs/City" names in a schema; None where it leads elsewhere or nowhere."""
    if reference == "#":
        return root if isinstance(root, Mapping) else None
    if not reference.startswith("#/"):
        return None
    node: Any = root
    for step in reference[2:].split("/"):
        node = node.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(node, Mapping) else None
    return node if isinstance(node, Mapping) else None
