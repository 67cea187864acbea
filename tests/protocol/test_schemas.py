"""References of a schema that stands at another place."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.protocol.schemas import DATA, NAMED, moved, references


@pytest.mark.parametrize("keyword", ["$ref", "$dynamicRef", "$recursiveRef"])
def test_what_a_schema_refers_to_moves_with_it(keyword: str) -> None:
    schema = {
        keyword: "#",
        "properties": {keyword: {keyword: "#/$defs/a"}, "default": {keyword: "#/x"}},
        "const": {keyword: "#"},
        "items": [{keyword: "#/items"}, {keyword: "#anchor"}, {"$id": "https://a.example/b", keyword: "#/c"}],
    }
    assert json.loads(moved(json.dumps(schema).encode(), "#/to")) == {
        keyword: "#/to",
        "properties": {keyword: {keyword: "#/to/$defs/a"}, "default": {keyword: "#/to/x"}},
        "const": {keyword: "#"},
        "items": [{keyword: "#/to/items"}, {keyword: "#anchor"}, {"$id": "https://a.example/b", keyword: "#/c"}],
    }


@pytest.mark.parametrize("name", sorted(DATA | NAMED | {"not"}))
def test_what_moves_is_what_is_referred_to(name: str) -> None:
    inner: Any = {"$ref": "#/x"}
    for schema in ({name: inner}, {name: {"$ref": inner}}, {name: {"a": inner}}):
        found = moved(json.dumps(schema).encode(), "#/to")
        assert (b"#/to/x" in found) == (list(references(schema)) == ["#/x"])
