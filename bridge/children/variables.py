"""Variables that one client has given its own child: kept in memory, with the session, and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping


class OwnVariables:
    """They are equal to nothing but themselves, so that children that have them are never anybody else's."""

    __slots__ = ("values",)

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values = values

    def __repr__(self) -> str:
        return f"<OwnVariables {' '.join(self.values)}>"  # never what they hold
