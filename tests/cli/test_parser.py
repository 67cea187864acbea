"""Options stand where people put them, and what is not understood is told with what was meant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bridge.cli.main import parser_of
from tests.cli.conftest import Serve, run
from tests.conftest import peer

#: What is typed, and what the verb gets of it.
TYPED: list[tuple[str, dict[str, Any]]] = [
    ("client-config cursor --url https://x demo", {"client": "cursor", "url": "https://x", "servers": ["demo"]}),
    ("client-config claude-desktop --show-token demo a", {"show_token": True, "servers": ["demo", "a"]}),
    ("client-config cursor --one-url demo", {"one_url": True, "servers": ["demo"]}),
    ("call demo add --json a=1 -p 1 b=2", {"json": True, "port": "1", "tool": "add", "arguments": ["a=1", "b=2"]}),
    ("call demo --json add -", {"json": True, "arguments": ["-"]}),
    ("call demo add", {"arguments": []}),
    ("call demo --json add -- -a=-1 --json", {"json": True, "arguments": ["-a=-1", "--json"]}),
    ("servers stop --json demo", {"action": "stop", "json": True, "ids": ["demo"]}),
    ("servers --json", {"action": "ls", "json": True, "ids": []}),
    ("sessions rm --json A B", {"action": "rm", "json": True, "ids": ["A", "B"]}),
    ("sessions rm -- -A", {"action": "rm", "json": False, "ids": ["-A"]}),
    ("pins approve --json demo", {"action": "approve", "json": True, "server": "demo", "tool": None}),
    ("ps demo --json time", {"json": True, "servers": ["demo", "time"]}),
    ("doctor demo --no-start time", {"no_start": True, "servers": ["demo", "time"]}),
    ("remove a -c f b", {"config": "f", "ids": ["a", "b"]}),
    ("logs --tail=3 demo -f", {"tail": 3, "server": "demo", "follow": True}),
    ("token add y --file f", {"action": "add", "name": "y", "file": Path("f")}),
    ("token --file f add y", {"action": "add", "name": "y", "file": Path("f")}),
    ("token rm a --file f b", {"action": "rm", "names": ["a", "b"], "file": Path("f")}),
    ("token ls", {"action": "ls", "file": None, "env_file": None}),
]


@pytest.mark.parametrize(("typed", "wanted"), TYPED)
def test_options_may_stand_anywhere(typed: str, wanted: dict[str, Any]) -> None:
    words = typed.split()
    options, unknown = parser_of({words[0]}).parse_known_args(words)
    assert ({name: vars(options)[name] for name in wanted}, unknown) == (wanted, [])


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("check --prot 3", "unrecognized arguments: --prot 3; did you mean --port?\n"),
        ("ps demo --jsn time", "unrecognized arguments: --jsn time; did you mean --json?\n"),
        ("serve --ttl 5", "unrecognized arguments: --ttl 5\n"),
        ("call demo", "the following arguments are required: TOOL\n"),
        ("client-config", "the following arguments are required: CLIENT\n"),
        ("logs demo --tail x", "argument --tail: 'x' is no whole number"),
        ("restart -- cat", "unrecognized arguments: cat\n"),
        ("completion tcsh", "invalid choice: 'tcsh' (choose from "),
    ],
)
async def test_what_is_not_understood_is_told_with_the_usage(tmp_path: Path, typed: str, words: str) -> None:
    code, out, err = await run(tmp_path, *typed.split())
    assert (code, out, err.startswith(f"usage: mcp-bridge {typed.split()[0]} ")) == (2, "", True)
    assert words in err
    assert "ids" not in err.rpartition("choose from")[2]


async def test_a_call_takes_its_options_and_arguments_in_any_order(tmp_path: Path, serve: Serve) -> None:
    port = (await serve(servers={"peer": peer()})).url.rpartition(":")[2]
    for typed in (
        ("echo", "--json", "a=1", "--port", port, "b=-2"),
        ("--port", port, "echo", "--json", "--", "a=1", "b=-2"),
    ):
        code, out, err = await run(tmp_path, "call", "peer", *typed)
        assert (code, err) == (0, "")
        assert json.loads(out) == {"a": 1, "b": -2}
