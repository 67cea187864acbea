"""Tables at a terminal of any width."""

from __future__ import annotations

import pytest
from rich.console import Console

from bridge.cli.table import rich_table

COLUMNS = {"id": "SERVER", "state": "STATE", "pid": "PID", "about": "LAST ERROR"}
ROWS = [
    {"id": "awslabs.core-mcp-server", "state": "disabled", "pid": None, "about": None},
    {
        "id": "\u65e5\u672c\u8a9e",
        "state": "running",
        "pid": 1234567,
        "about": "it exited with code 3; last words: " + "x" * 200,
    },
]


def drawn(width: int) -> list[str]:
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(rich_table(ROWS, COLUMNS))
    return capture.get().splitlines()


@pytest.mark.parametrize("width", [60, 80, 120])
def test_it_is_the_last_column_that_is_cut(width: int) -> None:
    head, disabled, running = drawn(width)
    assert head.split() == ["SERVER", "STATE", "PID", "LAST", "ERROR"]
    assert disabled.split() == ["awslabs.core-mcp-server", "disabled", "-", "-"]
    assert running.split()[:3] == ["\u65e5\u672c\u8a9e", "running", "1234567"]
    assert running.rstrip().endswith("\u2026")


def test_a_narrow_terminal_loses_what_is_to_the_right_and_no_half_of_a_number() -> None:
    lines = drawn(40)
    assert len(lines) == 3
    assert [line.split()[:2] for line in lines[1:]] == [
        ["awslabs.core-mcp-server", "disabled"],
        ["\u65e5\u672c\u8a9e", "running"],
    ]
