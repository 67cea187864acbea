"""Whether arguments are what the input schema of a tool says. Pure.

Schemas come from servers, so each is bounded: in size, in what it may refer to, and in the steps that a check may take.
What cannot be checked is no fault of the caller: it goes to the server, which has to check for itself anyway. For the
same reason patterns are left to servers: Python's expressions may take for ever, and nothing can stop them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from bridge.protocol import jsontext
from bridge.protocol.schemas import TooMuch, references

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

#: Bytes of a schema.
LARGEST = 64 * 1024
#: Looks at a member, an item or a choice, in one check: some tenths of a second.
MOST_STEPS = 20_000
#: Items that are compared with each other: the library's way is quadratic.
MOST_COMPARED = 100
#: Characters of what is said of a fault; it may repeat the value.
LONGEST = 300
#: What runs foreign expressions, and what looks for those by itself.
LEFT_TO_SERVERS = ("pattern", "patternProperties", "unevaluatedItems", "unevaluatedProperties")

Keyword = Callable[["Validator", Any, Any, Any], "Iterator[Any] | None"]


class ArgumentSchema:
    """A schema that can be used: it is valid, small, and refers to nothing outside of itself."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self.schema = schema
        self._steps = 0
        self._validator = self._made()

    def fault(self, arguments: Any) -> tuple[str, str] | None:
        """Return what is wrong with arguments and where (a JSON pointer, RFC 6901); None where nothing is."""
        from jsonschema.exceptions import best_match

        self._steps = MOST_STEPS
        try:
            found = best_match(self._validator.iter_errors(arguments))
        except Exception:  # whatever a foreign schema makes a library raise: it was too much, or too deep
            return None
        if found is None:
            return None
        said = found.message if len(found.message) <= LONGEST else found.message[:LONGEST] + "..."
        return said, "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in found.absolute_path)

    def _made(self) -> Validator:
        """Raises whatever the library raises for a schema that is none."""
        from jsonschema import Draft202012Validator, validators
        from referencing import Registry

        library: Any = validators
        dialect = library.validator_for(self.schema, default=Draft202012Validator)
        dialect.check_schema(self.schema, format_checker=None)
        counted = {name: self._counted(check) for name, check in dialect.VALIDATORS.items()}
        counted |= dict.fromkeys(LEFT_TO_SERVERS, _unchecked)
        counted["additionalProperties"] = _unless_named(counted["additionalProperties"])
        if "uniqueItems" in counted:
            counted["uniqueItems"] = _unless_many(counted["uniqueItems"])
        made: Validator = library.extend(dialect, counted)(self.schema, registry=Registry())
        return made

    def _counted(self, check: Keyword) -> Keyword:
        def counted(validator: Validator, value: Any, instance: Any, schema: Any) -> Iterator[Any] | None:
            self._steps -= 1 + _size(value) + _size(instance)
            if self._steps < 0:
                raise TooMuch
            return check(validator, value, instance, schema)

        return counted


def usable(raw: bytes) -> ArgumentSchema | None:
    """Return a schema as it can be used; None for one that cannot."""
    schema = jsontext.decode(raw) if len(raw) <= LARGEST else None
    if not isinstance(schema, dict):
        return None
    try:
        return ArgumentSchema(schema) if all(_leads(schema, ref) for ref in references(schema)) else None
    except Exception:  # it is no schema, in one of the many ways that a library has to say so
        return None


def _leads(schema: Any, ref: str) -> bool:
    """Whether a reference leads to a place in its own schema; those to anchors, and to elsewhere, do not count."""
    if ref != "#" and not ref.startswith("#/"):
        return False
    for part in ref.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(schema, list) and name.isascii() and name.isdecimal() and int(name) < len(schema):
            schema = schema[int(name)]
        elif isinstance(schema, dict) and name in schema:
            schema = schema[name]
        else:
            return False
    return isinstance(schema, dict | bool)


def _size(value: Any) -> int:
    return len(value) if isinstance(value, list | dict) else 0


def _unchecked(validator: Validator, value: Any, instance: Any, schema: Any) -> None:
    """Left to the server."""


def _unless_named(check: Keyword) -> Keyword:
    """What is additional is known only to who has looked at the patterns."""
    return lambda validator, value, instance, schema: (
        None if "patternProperties" in schema else check(validator, value, instance, schema)
    )


def _unless_many(check: Keyword) -> Keyword:
    return lambda validator, value, instance, schema: (
        None if _size(instance) > MOST_COMPARED else check(validator, value, instance, schema)
    )
