"""What of a value breaks a schema."""

from __future__ import annotations

import pytest

from allos.wire.fits import kind_of, problem

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
NODE = {
    "$ref": "#/$defs/Node",
    "$defs": {
        "Node": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}},
            "required": ["name"],
        }
    },
}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"n": 1, "tags": ["a"]}, None),
        ({"n": None, "tags": []}, None),
        ({"n": 3.0}, None),
        ({"n": 3.5}, "n is no integer or null"),
        ([], "the answer is no object"),
        ({"tags": []}, "the answer lacks 'n'"),
        ({"n": True, "tags": []}, "n is no integer or null"),
        ({"n": 1, "tags": ["a", 2]}, "tags[1] is no string"),
        ({"n": 1, "tags": ["z"]}, "tags[0] is none of ['a', 'b']"),
        ({"n": 1, "kind": "y"}, "kind is not 'x'"),
        ({"n": 1, "size": None}, None),
        ({"n": 1, "size": "big"}, "size is no number"),
        ({"n": 1, "note": None}, None),
        ({"n": 1, "note": 2}, "note is no string"),
    ],
)
def test_what_breaks_a_schema_is_said_with_its_place(value, said):
    tags = {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}}
    size = {"anyOf": [{"type": "number"}, {"type": "null"}]}
    its = {"n": {"type": ["integer", "null"]}, "tags": tags, "kind": {"const": "x"}, "size": size}
    its["note"] = {"type": "string", "nullable": True}
    assert problem(value, {"type": "object", "properties": its, "required": ["n"]}) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"name": "a", "next": {"name": "b", "next": None}}, None),
        ({"name": "a", "next": {"next": None}}, "next lacks 'name'"),
        ({"x": 1}, "the answer lacks 'name'"),
    ],
)
def test_a_schema_that_contains_itself_is_followed_as_far_as_the_value_goes(value, said):
    assert problem(value, NODE) == said


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {"type": "object", "properties": {"city": {"required": True}}},
        {"required": 5},
        {"required": [["city"]]},
        {"type": [["x"]]},
        {"type": 5},
        {"$ref": "#/nowhere"},
        {"$ref": "https://elsewhere.test/schema"},
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
        {"anyOf": []},
        {"anyOf": "x"},
        {"properties": []},
        {"enum": {}},
    ],
)
def test_a_schema_that_says_nothing_sensible_is_kept_by_every_value(schema):
    assert problem({"city": "Paris"}, schema) is None


def test_a_value_that_is_nested_too_deep_is_not_looked_at():
    value: list[object] = []
    for _ in range(100_000):
        value = [value]
    assert problem(value, {"$ref": "#/$defs/a", "$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}}) is None


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        (CITY, "object"),
        ({"properties": {}}, "object"),
        (NODE, "object"),
        ({"type": "array"}, "array"),
        ({"enum": ["a"]}, None),
        ({"anyOf": [CITY]}, None),
        ({"type": ["object", "null"]}, None),
        ({}, None),
    ],
)
def test_the_kind_of_a_schema_is_that_of_the_whole_value(schema, kind):
    assert kind_of(schema) == kind
