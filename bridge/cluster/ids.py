"""Session ids that name who holds the session: ``<node>.<epoch>.<128 random bits>.<seal>``.

A node that has started again has a higher epoch. A forged id, or one of another cluster, is told by its seal, so that
nobody has to be asked about it.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

from bridge.cluster.keys import Sealer
from bridge.config.values import NODE

__all__ = ["NODE", "Birth", "SessionIds"]

#: Ids that have been checked and are remembered.
MOST_REMEMBERED = 10_000
_ID = re.compile(rf"(({NODE.pattern})\.([0-9]{{1,16}})\.[\w-]{{22}})\.([\w-]{{22}})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Birth:
    """Which node made something, and in which of its lives."""

    node: str
    epoch: int


class SessionIds:
    """Mints the ids of one node and checks those of all: they have the same ``key``."""

    def __init__(self, birth: Birth, key: bytes) -> None:
        self._prefix = f"{birth.node}.{birth.epoch}"
        self._sealer = Sealer(key, "session id")
        self._good: dict[str, Birth] = {}

    def mint(self) -> str:
        """Return a new id: 128 random bits, visible ASCII, good in URLs."""
        name = f"{self._prefix}.{secrets.token_urlsafe(16)}"
        return f"{name}.{self._sealer.seal(name)}"

    def birth_of(self, session_id: str) -> Birth | None:
        """Return who minted an id; None for one that no node of this cluster has."""
        birth = self._good.get(session_id)
        if birth is not None:
            return birth
        found = _ID.fullmatch(session_id)
        if found is None or not self._sealer.is_good(found[1], found[4]):
            return None
        if len(self._good) >= MOST_REMEMBERED:
            self._good.clear()
        birth = self._good[session_id] = Birth(found[2], int(found[3]))
        return birth
