"""Schemas of servers, which may be anything: what they say is checked, and none holds up the bridge."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from bridge.protocol.arguments import LARGEST, usable

DOUBLING = {f"a{i}": {"anyOf": [{"allOf": [{"$ref": f"#/$defs/a{i + 1}"}, False]}] * 2} for i in range(40)}
ITEMS = {"anyOf": [{"items": {"$ref": "#"}, "minItems": 9}, {"items": {"$ref": "#"}, "minItems": 9}]}


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("schema", "wrong", "path"),
    [
        ({"properties": {"a": {"type": "integer"}}}, {"a": "1"}, "/a"),
        ({"additionalProperties": False}, {"a": 1}, ""),
        ({"$schema": "http://json-schema.org/draft-04/schema#", "properties": {"n": {"maximum": 1}}}, {"n": 2}, "/n"),
        ({"$schema": "https://unheard.of/schema", "required": ["a"]}, {}, ""),
        ({"properties": {"a": {"$ref": "#/properties/b"}, "b": {"enum": [1]}}}, {"a": 2}, "/a"),
        ({"properties": {"a": {"uniqueItems": True}}}, {"a": [1, 1]}, "/a"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(schema: dict[str, Any], wrong: Any, path: str) -> None:
    found = usable(json.dumps(schema).encode())
    assert found is not None
    fault = found.fault(wrong)
    assert fault is not None
    assert fault[1] == path


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "http://127.0.0.1:1/x"},
        {"$ref": "file:///etc/passwd"},
        {"properties": {"a": {"$dynamicRef": "https://a.example/b"}}},
        {"$ref": "#/$defs/missing"},
        {"$ref": "other/$defs/a", "$defs": {"a": {}}},
        {"type": "integr"},
        {"required": "name"},
        {"description": "x" * LARGEST},
        json.loads('{"items":' * 70 + "{}" + "}" * 70),
        [],
        True,
    ],
    ids=lambda schema: str(schema)[:40],
)
def test_what_cannot_be_used_is_left_to_the_server(schema: Any) -> None:
    assert usable(json.dumps(schema).encode()) is None


@pytest.mark.parametrize(
    ("schema", "arguments"),
    [
        ({"$ref": "#"}, {}),
        ({"$ref": "#/$defs/a0", "$defs": {**DOUBLING, "a40": {}}}, {}),
        (ITEMS, nested(60)),
        ({"items": {"$ref": "#"}}, nested(900)),
        ({"properties": {"a": {"pattern": "^(a+)+$"}}}, {"a": "a" * 50 + "!"}),
        ({"patternProperties": {"^(a+)+$": {}}, "additionalProperties": False}, {"a" * 50 + "!": 1}),
        ({"unevaluatedProperties": False, "patternProperties": {"^(a+)+$": {}}}, {"a" * 50 + "!": 1}),
        ({"properties": {"a": {"uniqueItems": True}}}, {"a": [{"n": i} for i in range(5000)]}),
        ({"items": {"enum": [str(i) for i in range(5000)]}}, [*range(100_000)]),
    ],
    ids=["itself", "doubling", "choices", "deep", "pattern", "names", "unevaluated", "unique", "enum"],
)
def test_no_schema_holds_up_the_bridge(schema: dict[str, Any], arguments: Any) -> None:
    found = usable(json.dumps(schema).encode())
    assert found is not None
    begun = time.process_time()
    assert found.fault(arguments) is None
    assert time.process_time() - begun < 2


def test_a_fault_does_not_repeat_all_of_a_value() -> None:
    found = usable(b'{"properties": {"a": {"maxLength": 1}}}')
    assert found is not None
    fault = found.fault({"a": "x" * 100_000})
    assert fault is not None
    assert len(fault[0]) < 400
