"""Where the members of an object stand in a text: a small scanner for JSON that is known to be well-formed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from bridge.config.errors import ConfigError
from bridge.config.jsonfile import parse_json

_TOKEN = re.compile(
    r"""(?P<space>[\s\ufeff]+)|(?P<comment>//[^\n\r\u2028\u2029]*|/\*.*?\*/)"""
    r"""|(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?P<mark>[{}\[\]:,])|(?P<word>[^\s{}\[\]:,"'/]+)""",
    re.DOTALL,
)


@dataclass(slots=True)
class Member:
    """A name and a value, by their places in the text."""

    name: str
    start: int  # of its name
    end: int  # of its value
    value: Table | None  # where that is an object
    comma: int | None = None  # the end of the comma behind it


@dataclass(slots=True)
class Table:
    """An object; ``members`` in the order of the text."""

    start: int  # of the brace that opens it
    end: int = 0  # behind the brace that closes it
    members: list[Member] = field(default_factory=list)

    def member(self, name: str) -> Member | None:
        """Return the member of this name, None where there is none. Raises :class:`ConfigError` where there are two."""
        found = [member for member in self.members if member.name == name]
        if len(found) > 1:
            raise ConfigError(f"there are two {json.dumps(name)}; remove one of them by hand")
        return found[0] if found else None


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the text, of a kind: ``space``, ``comment``, ``string``, ``mark`` or ``word``."""

    kind: str
    text: str
    start: int
    end: int


def scan(text: str, source: str) -> tuple[Table, list[Token]]:
    """Return the object that a text is, and all its pieces.

    Raises :class:`ConfigError` where it is spelled in a way that this does not know.
    """
    tokens = list(_tokens(text, source))
    root, _ = _object([token for token in tokens if token.kind not in ("space", "comment")], 0)
    return root, tokens


def repeated(text: str) -> Iterator[tuple[str, list[int]]]:
    """Yield each name that an object of a text has more than once, and its lines. Objects in arrays are left out.

    Raises as :func:`scan`.
    """
    tables = [scan(text, "it")[0]]
    for table in tables:
        lines: dict[str, list[int]] = {}
        for member in table.members:
            lines.setdefault(member.name, []).append(text.count("\n", 0, member.start) + 1)
            if member.value is not None:
                tables.append(member.value)
        yield from ((name, found) for name, found in lines.items() if len(found) > 1)


def _tokens(text: str, source: str) -> Iterator[Token]:
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None or found.lastgroup is None:
            raise ConfigError(f"{source}: cannot be changed by a program; change it by hand")
        yield Token(found.lastgroup, found[0], at, found.end())
        at = found.end()


def _object(tokens: list[Token], at: int) -> tuple[Table, int]:
    """The object whose brace is the token ``at``, and the place behind it. The text is known to be well-formed."""
    table = Table(tokens[at].start)
    at += 1
    while tokens[at].text != "}":
        name = tokens[at]
        value, end = _value(tokens, at + 2)
        member = Member(_name(name), name.start, tokens[end - 1].end, value)
        table.members.append(member)
        at = end
        if tokens[at].text == ",":
            member.comma = tokens[at].end
            at += 1
    table.end = tokens[at].end
    return table, at + 1


def _value(tokens: list[Token], at: int) -> tuple[Table | None, int]:
    if tokens[at].text == "{":
        return _object(tokens, at)
    if tokens[at].text != "[":
        return None, at + 1
    at += 1
    while tokens[at].text != "]":
        at = at + 1 if tokens[at].text == "," else _value(tokens, at)[1]
    return None, at + 1


def _name(token: Token) -> str:
    return str(parse_json(token.text, "a name")) if token.kind == "string" else token.text
