"""Who gives up a child for somebody else, where there are too many (``MAX_CHILDREN``, ``maxChildren``).

The longest idle of the same principal, or of what serves everyone; after these what others have abandoned. A temporary
session ends, a kept one is parked, and a client of the bridge's own is opened again by the next call.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from functools import partial

from bridge.protocol.errors import AtCapacity
from bridge.protocol.states import SessionState
from bridge.sessions.bridge import BridgeClients
from bridge.sessions.room import ABANDONED, Room
from bridge.sessions.seating import Seating

#: Whether it is somebody else's and works at a task, when it was used last, and how it gives up its child: the first of
#: these goes.
_Choice = tuple[tuple[bool, bool], float, Callable[[str], Awaitable[None]]]


class Berths:
    """Looks among sessions and the bridge's own clients for one whose child can go."""

    def __init__(self, room: Room, seating: Seating, clients: BridgeClients) -> None:
        self._room = room
        self._seating = seating
        self._clients = clients

    async def free(self, full: AtCapacity, asker: str) -> bool:
        """End a child that is not used, and wait for its end; False where none may go."""
        choices = [*self._sessions(full, asker), *self._bridge_clients(full, asker)]
        if not choices:
            return False
        _, last_used, give_up = min(choices, key=lambda choice: choice[:2])
        idle = self._clients.pool.clock() - last_used
        await give_up(
            f"it was idle for {idle:.0f} s and made room ({'maxChildren' if full.of_server else 'MAX_CHILDREN'})"
        )
        return True

    def _sessions(self, full: AtCapacity, asker: str) -> Iterator[_Choice]:
        for entry in self._room.idle(asker, others=True):
            session = entry.session
            if session.seat.frees and (not full.of_server or session.server == full.server):
                yield (session.owner != asker, session.works), entry.last_used, partial(self._seating.free, entry)

    def _bridge_clients(self, full: AtCapacity, asker: str) -> Iterator[_Choice]:
        pool = self._clients.pool
        for entry in pool.entries():
            client = entry.session
            if entry.state is not SessionState.IDLE or entry.in_use or not client.seat.frees:
                continue
            if full.of_server and client.server != full.server:
                continue
            is_foreign = client.owner not in ("", asker)
            is_new = entry.last_used == entry.created  # whoever has opened it is about to use it
            if pool.idle_for(entry) >= ABANDONED or not (is_foreign or is_new):
                yield (is_foreign, False), entry.last_used, partial(self._clients.free, entry)
