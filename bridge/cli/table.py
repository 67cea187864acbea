"""Rows as columns of text: one line per row, so that grep, awk and people can read them.

At a terminal rich cuts them to its width and colors the states (not with ``NO_COLOR``); into a pipe goes plain text,
whole, without a look at rich.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

#: The color of what people look for. A state is a word first: nothing is said by color alone.
_COLORS = {
    **dict.fromkeys(("running", "ready", "active", "ok"), "green"),
    **dict.fromkeys(("starting", "greeting", "idle", "warning", "dormant"), "yellow"),
    **dict.fromkeys(("backoff", "fatal", "invalid", "error", "expired"), "bold red"),
    **dict.fromkeys(("disabled", "stopped", "stopping"), "dim"),
}


def show(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> None:
    """Print a table. ``columns`` gives the title of each member that is shown."""
    if not sys.stdout.isatty():
        print(table(rows, columns))
        return
    from rich.console import Console

    Console(highlight=False).print(rich_table(rows, columns))


def table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    """Return the lines of a table, with a head."""
    cells = [list(columns.values()), *([text(row.get(name)) for name in columns] for row in rows)]
    widths = [max(len(line[at]) for line in cells) for at in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )


def rich_table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> Table:
    """Return a table for a terminal. Where there is too little room it is the last column that is cut."""
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    lines = [[text(row.get(name)) for name in columns] for row in rows]
    found = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    *others, last = columns.values()
    for at, title in enumerate(others):
        # Half a number is another number, so these are as wide as they must be.
        width = max(cell_len(cell) for cell in (title, *(line[at] for line in lines)))
        found.add_column(title, no_wrap=True, min_width=width)
    # Where room is missing rich takes it from columns that may wrap, which this one may, and its cells may not.
    found.add_column(Text(last, no_wrap=True, overflow="ellipsis"), ratio=1)
    for line in lines:
        # Text and not str: what a server says is never read as markup.
        found.add_row(*(Text(cell, _COLORS.get(cell, ""), no_wrap=True, overflow="ellipsis") for cell in line))
    return found


def duration(seconds: float | None) -> str:
    """Seconds in the two largest units that matter: ``4m 7s``; ``never`` for None."""
    if seconds is None:
        return "never"
    units = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
    left = int(seconds)
    found: list[str] = []
    for name, size in units:
        count, left = divmod(left, size)
        if count or (name == "s" and not found):
            found.append(f"{count}{name}")
    return " ".join(found[:2])


def amount(count: float | None) -> str | None:
    """Bytes in the unit that fits: ``45.2M``, as top writes it."""
    if count is None:
        return None
    for unit in ("B", "K", "M", "G"):
        if count < 1024 or unit == "G":
            break
        count /= 1024
    return f"{count:.0f}{unit}" if unit == "B" or count >= 100 else f"{count:.1f}{unit}"


def text(value: Any) -> str:
    """A value as one printable line, so that nothing a server or a client chose can move the cursor."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "".join(char if char.isprintable() else "?" for char in str(value))
