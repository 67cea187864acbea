"""Sessions at all servers at once."""

from __future__ import annotations

from collections.abc import Callable

from bridge.children.registry import Registry
from bridge.children.variables import OwnVariables
from bridge.config.server import ALL_SERVERS
from bridge.sessions.aggregate import AggregateSeat
from bridge.sessions.directory import SessionDirectory
from bridge.sessions.room import SessionEntry
from bridge.sessions.roster import Roster, View
from bridge.sessions.timing import Timing


class Aggregates:
    """Opens them, and tells them when servers come and go. They are not kept: each child would have to be."""

    def __init__(self, registry: Registry, sessions: SessionDirectory, timing: Timing, roster: Roster) -> None:
        self.roster = roster
        self._sessions = sessions
        self._timing = timing
        registry.on_change.append(self._change)

    async def open(
        self, view: View, owner: str, variables: Callable[[str], OwnVariables | None], *, greets: bool = False
    ) -> SessionEntry:
        """Open a session for what a client sees. ``greets``: it will not be initialized by its client.

        Raises what :meth:`SessionDirectory.open` raises.
        """
        seat = AggregateSeat(self.roster, self._sessions.seating, self._timing, view, owner, variables, greets=greets)
        entry = await self._sessions.open(ALL_SERVERS, owner, lasting=False, seat=seat)
        return await self._sessions.greeting.greeted(entry) if greets else entry

    def _change(self, concerned: frozenset[str], gone: frozenset[str]) -> None:
        for entry in self._sessions.pool.entries():
            if isinstance(entry.session.seat, AggregateSeat):
                entry.session.seat.change(concerned, gone)
