"""Rows as columns of plain text: one line per row, so that grep, awk and people can read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    """Return lines with a head. ``columns`` gives the title of each member that is shown."""
    cells = [list(columns.values()), *([_text(row.get(name)) for name in columns] for row in rows)]
    widths = [max(len(line[at]) for line in cells) for at in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )


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


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    # What a server or a client chose may hold line ends and terminal escapes.
    return "".join(char if char.isprintable() else "?" for char in str(value))
