"""``servers.json`` changed as text: what was there stays as it was."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.config.editing import with_entries, without_entries
from bridge.config.errors import ConfigError
from bridge.config.jsonfile import parse_json

NEW = {"new": {"command": "x", "args": ["a"]}}
LAYOUT = """\
// mine
{
    "mcpServers": {
        "one": { "command": "a" }, // the first
        /* why */
        'two': {
            "command": "b", "env": {"X": "},"}
        }   // no comma
        // the end
    },
    "other": [1, {}]
}
"""


def test_an_entry_is_added_behind_the_last_in_the_layout_of_the_file() -> None:
    assert with_entries(LAYOUT, NEW, "s") == LAYOUT.replace(
        "        }   // no comma\n",
        "        },   // no comma\n"
        '        "new": {\n            "command": "x",\n            "args": ["a"]\n        }\n',
    )


def test_an_entry_is_removed_with_its_own_lines_only() -> None:
    assert without_entries(LAYOUT, ["one"], "s") == LAYOUT.replace(
        '        "one": { "command": "a" }, // the first\n', ""
    )
    assert without_entries(LAYOUT, ["two"], "s") == re.sub(r" *'two'.*no comma\n", "", LAYOUT, flags=re.DOTALL).replace(
        "}, // the first", "} // the first"
    )


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("{}", '{\n  "new": {}\n}'),
        ('{"mcpServers": {}}', '{"mcpServers": {\n  "new": {}\n}}'),
        ('{"a": {}}', '{"a": {}, "new": {}}'),
        ('{"a": {},}', '{"a": {}, "new": {}}'),
        ('{\r\n\t"a": {},\r\n}', '{\r\n\t"a": {},\r\n\t"new": {},\r\n}'),
        ("{ // here\n}", '{ // here\n  "new": {}\n}'),
        ('{"servers": {a: {}}}', '{"servers": {a: {}, "new": {}}}'),
    ],
)
def test_small_files(text: str, after: str) -> None:
    assert with_entries(text, {"new": {}}, "s") == after
    assert parse_json(without_entries(after, ["new"], "s"), "s") == parse_json(text, "s")


GAPS = st.sampled_from(["", " ", "\n", "\r\n", "\n  ", "\t", "// a } , {\n", ' /* b\n" */ ', "\n// c\n    "])
NAMES = st.sampled_from(['"a"', "'b'", "c", '"d\\"e"', '"\\u0066"'])
VALUES = st.sampled_from(["{}", "{x: 1,}", '{"command": "//}"}', '{"args": ["}", /* } */ {}],}', "7", "'{'"])


@st.composite
def layouts(draw: st.DrawFn) -> str:
    names = draw(st.lists(NAMES, max_size=4, unique=True))
    parts = [draw(GAPS), "{", draw(GAPS)]
    for at, name in enumerate(names):
        parts += [name, draw(GAPS), ":", draw(GAPS), draw(VALUES), draw(GAPS)]
        parts += [",", draw(GAPS)] if at < len(names) - 1 or draw(st.booleans()) else []
    parts += ["}", draw(GAPS)]
    text = "".join(parts)
    return f'{{"x": 1, "mcpServers": {text}}}' if draw(st.booleans()) else text


def comments(text: str) -> list[str]:
    return re.findall(r"// a } , \{|/\* b\r?\n\" \*/|// c", text)


@given(layouts())
def test_in_any_layout_it_is_added_and_removed_again_and_comments_stay(text: str) -> None:
    added = with_entries(text, NEW, "s")  # reads the result again, and raises where that is not what it should be
    assert comments(added) == comments(text)
    removed = without_entries(added, ["new"], "s")
    assert comments(removed) == comments(text)
    assert parse_json(removed, "s") == parse_json(text, "s")
    table = parse_json(text, "s")
    table = table.get("mcpServers", table)
    if table:
        without_entries(text, [next(iter(table))], "s")


@given(st.dictionaries(st.sampled_from("abc"), st.just({"command": "x"}), max_size=3), st.sampled_from([None, 2, "\t"]))
def test_strict_json_stays_strict(entries: dict[str, object], indent: int | str | None) -> None:
    text = json.dumps({"mcpServers": entries}, indent=indent)
    added = with_entries(text, NEW, "s")
    assert json.loads(added)["mcpServers"] == {**entries, **NEW}
    for name in [*entries, "new"]:
        added = without_entries(added, [name], "s")
        json.loads(added)


@pytest.mark.parametrize(
    ("text", "names", "words"),
    [
        ("{", [], "is not JSON"),
        ("[]", [], "must be an object"),
        ('{"new": {}}', [], 'already; to replace it: mcp-bridge remove new'),
        ('{"a": {}}', ["b"], 'there is no server "b"; there are: a'),
        ('{"a": {}, "a": {}}', ["a"], 'there are two "a"'),
    ],
)  # fmt: skip
def test_what_cannot_be_changed_is_said(text: str, names: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        without_entries(text, names, "s") if names else with_entries(text, NEW, "s")
