"""What logs and lists may show of an id that is as good as a password."""

from __future__ import annotations

#: Characters of an id that may appear: enough to recognise one, useless to take it over.
SHOWN = 8


def shorten(session_id: str) -> str:
    """Return the form of an id that logs and lists may show: its beginning, or that of what is random in it behind the
    node that it names.
    """
    if session_id.count(".") == 3:
        node, _, random, _ = session_id.split(".")
        return f"{node[:64]}.{random[:SHOWN]}..."
    return f"{session_id[:SHOWN]}..."
