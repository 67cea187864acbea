"""Session ids of a bridge that is alone; those of one of several nodes are minted in :mod:`bridge.cluster.ids`."""

from __future__ import annotations

import uuid


def mint() -> str:
    """Return a new id: 122 random bits, visible ASCII (specification, Streamable HTTP, session management)."""
    return str(uuid.uuid4())
