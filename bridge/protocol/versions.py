"""The protocol versions, oldest first, and what differs between them for a bridge."""

from __future__ import annotations

HANDSHAKE_VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
LATEST_HANDSHAKE = HANDSHAKE_VERSIONS[-1]
MODERN_VERSION = "2026-07-28"


#: From here on an event stream begins with an empty event to come back with; older clients cannot read it.
PRIMED_SINCE = "2025-11-25"
#: The one version with batches.
BATCH_VERSION = "2025-03-26"


def is_handshake(version: str) -> bool:
    """Whether sessions of this version begin with ``initialize``."""
    return version in HANDSHAKE_VERSIONS
