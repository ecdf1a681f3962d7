"""Whether a JSON value fits a schema, as far as that is worth asking a model again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from allos.wire.schema import named

__all__ = ["kind_of", "problem"]

_LONGEST_WAY = 20  # references that lead to references
_KINDS: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}


def problem(value: Any, schema: Any) -> str | None:
    """What of a value breaks the schema's types, enumerations, alternatives or required keys; None where nothing does.

    Other keywords are not looked at; what can't be followed, such as a reference to elsewhere, counts as kept.
    """
    try:
        return _problem(value, schema, "", schema)
    except RecursionError:
        return None


def kind_of(schema: Mapping[str, Any]) -> str | None:
    """The type that a schema names for the whole value, such as "object"; None where it names none or several."""
    node: Any = _followed(schema, schema)
    kind = node.get("type", "object" if "properties" in node else None) if isinstance(node, Mapping) else None
    return kind if isinstance(kind, str) else None


def _followed(schema: Any, root: Any) -> Any:
    """What a schema's reference names, or the schema itself; None where it leads nowhere."""
    for _ in range(_LONGEST_WAY):
        if not isinstance(schema, Mapping) or not isinstance(reference := schema.get("$ref"), str):
            return schema
        schema = named(reference, root)
    return None


def _problem(value: Any, schema: Any, place: str, root: Any) -> str | None:
    schema = _followed(schema, root)
    if not isinstance(schema, Mapping) or (value is None and schema.get("nullable") is True):
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
            said = [_problem(value, way, place, root) for way in ways]
            if None not in said:
                return said[0]
    if isinstance(value, dict):
        required = schema.get("required")
        if (
            missing := [key for key in required if isinstance(key, str) and key not in value]
            if isinstance(required, list)
            else ()
        ):
            return f"{where} lacks {missing[0]!r}"
        properties = schema.get("properties")
        known = properties if isinstance(properties, Mapping) else {}
        inner = [(value[key], known[key], f"{place}.{key}".strip(".")) for key in value if key in known]
    elif isinstance(value, list):
        inner = [(entry, schema.get("items"), f"{place}[{index}]") for index, entry in enumerate(value)]
    else:
        return None
    found = (_problem(entry, its, at, root) for entry, its, at in inner)
    return next((wrong for wrong in found if wrong is not None), None)


def _is_kind(value: Any, kind: Any) -> bool:
    kinds = _KINDS.get(kind) if isinstance(kind, str) else None
    if kinds is None:
        return True
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, kinds) and (kind == "boolean" or not isinstance(value, bool))
