"""Session ids are minted and shortened here and nowhere else."""

from __future__ import annotations

import uuid

#: Characters of an id that may appear in logs and lists: enough to recognise one, useless to take it over.
SHOWN = 8


def mint() -> str:
    """Return a new id: 122 random bits, visible ASCII (specification, Streamable HTTP, session management)."""
    return str(uuid.uuid4())


def shorten(session_id: str) -> str:
    """Return the form of an id that logs and lists may show."""
    return f"{session_id[:SHOWN]}..."
