"""Session ids are minted here and nowhere else."""

from __future__ import annotations

import uuid


def mint() -> str:
    """Return a new id: 122 random bits, visible ASCII (specification, Streamable HTTP, session management)."""
    return str(uuid.uuid4())
