"""Adding and removing entries of ``servers.json`` as text, so that comments, order and layout stay what they were.

What it does to the text is checked by reading the result again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from bridge.config.errors import ConfigError
from bridge.config.layout import Table, Token, scan
from bridge.config.servers import TABLE_KEYS, entries_in

_DEFAULT_INDENT = "  "
#: Characters of a list or an object that is written on one line.
_SHORT = 100


def with_entries(text: str, entries: Mapping[str, Any], source: str) -> str:
    """Return the text with these entries behind the others. Raises :class:`ConfigError`, also where an id is taken."""
    before = entries_in(text, source)
    if taken := [name for name in entries if name in before]:
        raise ConfigError(
            f"{source}: there is a server {json.dumps(taken[0])} already; to replace it: mcp-bridge remove {taken[0]}"
        )
    after = text
    for name, entry in entries.items():
        after = _insert(after, name, entry, source)
    return _checked(after, {**before, **entries}, source)


def without_entries(text: str, names: list[str], source: str) -> str:
    """Return the text without these entries. Raises :class:`ConfigError`, also where there is none."""
    before = entries_in(text, source)
    if missing := [name for name in names if name not in before]:
        raise ConfigError(f"{source}: there is no server {json.dumps(missing[0])}; there are: {', '.join(before)}")
    after = text
    for name in dict.fromkeys(names):
        after = _cut(after, name, source)
    return _checked(after, {name: entry for name, entry in before.items() if name not in names}, source)


def _checked(text: str, wanted: dict[str, Any], source: str) -> str:
    try:
        if entries_in(text, source) == wanted:
            return text
    except ConfigError:
        pass
    raise ConfigError(f"{source}: its layout is too unusual to be changed by a program; change it by hand")


def _insert(text: str, name: str, entry: Any, source: str) -> str:
    newline = "\r\n" if "\r\n" in text else "\n"
    root, tokens = scan(text, source)
    table = _table(root)
    unit = _unit(text, root)
    base = _indent_at(text, table.start)
    is_one_line = "\n" not in text[table.start : table.end]
    if table.members and is_one_line:
        last = table.members[-1]
        comma, at = ("", last.comma) if last.comma is not None else (",", last.end)
        return f"{text[:at]}{comma} {json.dumps(name)}: {json.dumps(entry)}{text[at:]}"
    inner = _indent_at(text, table.members[-1].start) if table.members else base + unit
    shown = _written(entry, unit, newline + inner)
    member = f"{newline}{inner}{json.dumps(name)}: {shown}"
    if not table.members:
        at = max(token.end for token in tokens if token.end < table.end and token.kind != "space")
        rest = text[at:]
        return text[:at] + member + ("" if "\n" in text[at : table.end] else newline + base) + rest
    last = table.members[-1]
    if last.comma is not None:
        at = _end_of_remark(tokens, last.comma)
        return f"{text[:at]}{member},{text[at:]}"
    at = _end_of_remark(tokens, last.end)
    rest = text[at:]
    closing = "" if "\n" in text[at : table.end] else newline + base
    return f"{text[: last.end]},{text[last.end : at]}{member}{closing}{rest}"


def _written(value: Any, unit: str, line: str) -> str:
    """JSON as people write it: what is short and holds nothing deeper is one line. ``line`` begins another one."""
    short = json.dumps(value, ensure_ascii=False)
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    is_flat = not any(isinstance(item, dict | list) for item in inside)
    if not value or not isinstance(value, dict | list) or (is_flat and len(short) <= _SHORT):
        return short
    if isinstance(value, dict):
        parts = [
            f"{json.dumps(key, ensure_ascii=False)}: {_written(item, unit, line + unit)}" for key, item in value.items()
        ]
        return f"{{{line}{unit}{f',{line}{unit}'.join(parts)}{line}}}"
    parts = [_written(item, unit, line + unit) for item in value]
    return f"[{line}{unit}{f',{line}{unit}'.join(parts)}{line}]"


def _cut(text: str, name: str, source: str) -> str:
    root, tokens = scan(text, source)
    table = _table(root)
    member = table.member(name)
    assert member is not None
    place = table.members.index(member)
    before = table.members[place - 1] if place else None
    end = member.comma or member.end
    start = member.start
    line = text.rfind("\n", 0, start) + 1
    if not text[line:start].strip():  # it begins a line: its own lines go, with what is remarked behind it
        remark = _end_of_remark(tokens, end)
        rest = re.compile(r"[ \t]*\r?\n").match(text, remark)
        if rest is not None:
            start, end = line, rest.end()
    else:
        while text[end : end + 1] in (" ", "\t"):
            end += 1
    cut = text[:start] + text[end:]
    if before is not None and member.comma is None and before.comma is not None:
        # It was the last one, and nothing was behind it: nothing may be behind the one that is last now.
        cut = cut[: before.comma - 1] + cut[before.comma :]
    return cut


def _table(root: Table) -> Table:
    """The object that holds the entries."""
    for key in TABLE_KEYS:
        member = root.member(key)
        if member is not None and member.value is not None:
            return member.value
    return root


def _end_of_remark(tokens: list[Token], at: int) -> int:
    """Where the line of ``at`` ends, if only a comment follows on it; else ``at``."""
    for token in tokens:
        if token.start < at:
            continue
        if token.kind == "space":
            if "\n" in token.text:
                return at
        elif token.kind == "comment":
            at = token.end
        else:
            return at
    return at


def _indent_at(text: str, at: int) -> str:
    """The white space that the line of ``at`` begins with."""
    line = text.rfind("\n", 0, at) + 1
    return text[line : line + len(text[line:]) - len(text[line:].lstrip(" \t"))]


def _unit(text: str, root: Table) -> str:
    """One level of indentation, as the file has it."""
    if root.members and "\n" in text[root.start : root.members[0].start]:
        return _indent_at(text, root.members[0].start) or _DEFAULT_INDENT
    return _DEFAULT_INDENT
