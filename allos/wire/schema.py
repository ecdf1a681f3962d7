"""JSON schemas in the plainer forms that some services want."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["problem", "without_references"]

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
        return {**self.write(self._find(reference), (*inside, reference)), **rest}

    def _find(self, reference: str) -> Mapping[str, Any]:
        if not reference.startswith("#/"):
            raise _CannotWrite
        node: Any = self._root
        for step in reference[2:].split("/"):
            node = node.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(node, Mapping) else None
        if not isinstance(node, Mapping):
            raise _CannotWrite
        return node


_KINDS: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}


def problem(value: Any, schema: Any, place: str = "") -> str | None:
    """What of a value breaks the schema's types, enumerations, alternatives or required keys; None where nothing does.

    Other keywords are not looked at, and neither is what a reference names: `without_references` writes it out.
    """
    if not isinstance(schema, Mapping):
        return None
    where = place or "the answer"
    kinds = schema.get("type")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if isinstance(kinds, list) and not any(_is_kind(value, kind) for kind in kinds):
        return f"{where} is no {' or '.join(map(str, kinds))}"
    if isinstance(schema.get("enum"), list) and value not in schema["enum"]:
        return f"{where} is none of {schema['enum']}"
    if "const" in schema and value != schema["const"]:
        return f"{where} is not {schema['const']!r}"
    for ways in (schema.get("anyOf"), schema.get("oneOf")):
        if isinstance(ways, list) and ways:
            said = [problem(value, way, place) for way in ways]
            if None not in said:
                return said[0]
    if isinstance(value, dict):
        if missing := [key for key in schema.get("required") or () if key not in value]:
            return f"{where} lacks {missing[0]!r}"
        properties = schema.get("properties")
        known = properties if isinstance(properties, Mapping) else {}
        inner = [(value[key], known[key], f"{place}.{key}".strip(".")) for key in value if key in known]
    elif isinstance(value, list):
        inner = [(entry, schema.get("items"), f"{place}[{index}]") for index, entry in enumerate(value)]
    else:
        return None
    found = (problem(entry, its, at) for entry, its, at in inner)
    return next((wrong for wrong in found if wrong is not None), None)


def _is_kind(value: Any, kind: Any) -> bool:
    kinds = _KINDS.get(kind)
    if kinds is None:
        return True
    return isinstance(value, kinds) and (kind == "boolean" or not isinstance(value, bool))
