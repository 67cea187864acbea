"""What a JSON schema refers to, and where that is when the schema stands at another place of a document. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bridge.protocol import jsontext
from bridge.protocol.jsontext import Raw

#: Objects and lists within each other, in a schema that is looked into.
DEEPEST = 64
#: Keywords whose value is data and no schema, though it may look like one.
DATA = frozenset({"const", "enum", "default", "examples", "example"})
#: Keywords whose value has names of its own for schemas.
NAMED = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"})
#: Keywords that refer to a schema.
_REFERS = frozenset({"$ref", "$dynamicRef", "$recursiveRef"})


class TooMuch(Exception):
    """A schema, or a check, is more than it may be."""


def references(schema: Any, deepest: int = DEEPEST) -> Iterator[str]:
    """Each reference of a schema. Raises :class:`TooMuch` where it is nested too deeply."""
    if deepest == 0:
        raise TooMuch
    if isinstance(schema, list):
        for item in schema:
            yield from references(item, deepest - 1)
    if not isinstance(schema, dict):
        return
    for name, value in schema.items():
        if name in _REFERS:
            if isinstance(value, str):
                yield value
        elif name in NAMED and isinstance(value, dict):
            for each in value.values():
                yield from references(each, deepest - 1)
        elif name not in DATA:
            yield from references(value, deepest - 1)


def moved(schema: bytes, to: str) -> bytes:
    """Return a schema whose place in a document is ``to`` (a reference): what it refers to within itself is there too.

    Raises :class:`bridge.protocol.errors.Rejection` or :class:`RecursionError` where it is nested too deeply.
    """
    return _moved(schema, to, named=False)


def _moved(node: bytes, to: str, *, named: bool) -> bytes:
    if node[:1] == b"[":
        return jsontext.encode([Raw(_moved(bytes(item), to, named=False)) for item in jsontext.items(node)])
    members = jsontext.fields(node)
    own = jsontext.string(bytes(members.get("$id", b'"#"'))) if not named else "#"
    if node[:1] != b"{" or own is None or not own.startswith("#"):  # with an id it is a document of its own
        return node
    for key, value in members.items():
        raw = bytes(value)
        if named:
            members[key] = Raw(_moved(raw, to, named=False))
        elif key in _REFERS:
            target = jsontext.string(raw)
            if target is not None and (target == "#" or target.startswith("#/")):
                members[key] = Raw(jsontext.encode(to + target[1:]))
        elif key not in DATA:
            members[key] = Raw(_moved(raw, to, named=key in NAMED))
    return jsontext.encode(members)
