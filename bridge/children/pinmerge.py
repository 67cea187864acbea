"""What two processes have written down of the same tools, as one: nothing that either has seen or approved is lost.

Rows are those of ``PINS_FILE``. ``base`` is what both knew, ``ours`` and ``theirs`` are what has become of it.
"""

from __future__ import annotations

from typing import Any

from bridge.children.pins import MOST_TOOLS

Row = dict[str, Any]


def merge(base: Row | None, ours: Row, theirs: Row | None) -> Row:
    """Return the row of a server."""
    if theirs is None:
        return ours
    before: Row = {} if base is None else base["tools"]
    tools = dict(theirs["tools"])
    for name, tool in ours["tools"].items():
        if name in tools:
            tools[name] = _merge_tool(before.get(name), tool, tools[name])
        elif len(tools) < MOST_TOOLS:
            tools[name] = tool
    since = [row["since"] for row in (ours, theirs) if row["since"] is not None]
    return {
        "since": min(since, default=None),
        "complete": bool(ours["complete"] or theirs["complete"]),
        "tools": tools,
    }


def _merge_tool(base: Row | None, ours: Row, theirs: Row) -> Row:
    if ours == base:
        return theirs
    if theirs == base:
        return ours
    known = base or {"pinned": None, "pending": None}
    pinned, pending = (_newer(known[part], ours[part], theirs[part]) for part in ("pinned", "pending"))
    if known["pinned"] is None and theirs["pinned"] is not None:
        # Both have trusted what they saw first: the first to say so is right, and the other has seen news.
        pinned, pending = theirs["pinned"], pending or ours["pinned"]
    if pinned is not None and pending is not None and pinned["sha256"] == pending["sha256"]:
        pending = None  # it is approved
    return {"pinned": pinned, "pending": pending}


def _newer(base: Row | None, ours: Row | None, theirs: Row | None) -> Row | None:
    """Whichever has changed; ours where both have, if there is any."""
    if ours == base:
        return theirs
    return ours if theirs == base else ours or theirs
