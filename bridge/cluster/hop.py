"""How a node believes another that a request was let in: a signed header with who it is from and where it goes.

The node that took the request has checked Host, Origin and token; the one that answers it checks the seal instead. The
header is good for one node, one method and path, and :data:`LIFE` seconds, and whoever gets it never sends it on.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import NamedTuple

from bridge.cluster.keys import Sealer

#: Seconds for which a header is good, which is also how far the clocks of two nodes may be apart.
LIFE = 30.0


class Hop(NamedTuple):
    """``to`` and ``sender`` are nodes. ``caller`` is who asks, in words of ``web``; address, scheme and host are those
    that the client has, and has used.
    """

    to: str
    sender: str
    method: str
    target: str
    caller: Sequence[object]
    address: str
    scheme: str
    host: str


class HopSeals:
    """Writes and reads the header, with the ``key`` that all nodes have."""

    def __init__(self, key: bytes) -> None:
        self._sealer = Sealer(key, "hop")

    def write(self, hop: Hop, now: float) -> str:
        """Return the header. ``now`` is the time of day in seconds."""
        text = base64.urlsafe_b64encode(json.dumps([*hop, round(now, 3)], separators=(",", ":")).encode()).decode()
        return f"{text}.{self._sealer.seal(text)}"

    def read(self, header: str, *, to: str, method: str, target: str, now: float) -> Hop | None:
        """Return what a header says; None for one that is forged, too old, or for another node or request."""
        text, _, seal = header.partition(".")
        if not self._sealer.is_good(text, seal):
            return None
        *members, at = json.loads(base64.urlsafe_b64decode(text))
        hop = Hop(*members)
        is_right = (hop.to, hop.method, hop.target) == (to, method, target)
        return hop if is_right and abs(now - at) <= LIFE else None
