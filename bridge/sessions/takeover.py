"""Sessions of nodes that have gone: finds out where one is, and makes it ours where it is nowhere.

A request of a session that is here, or on the node that its id names, asks nothing of this. What is found out about any
other is remembered, so that Redis is asked once per session and node, and not once per request.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from typing import NoReturn

from bridge.aio.flights import Flights
from bridge.cluster.ids import Birth
from bridge.cluster.lease import Lease
from bridge.cluster.members import Member
from bridge.config.settings import Settings
from bridge.observe.ids import shorten
from bridge.protocol.errors import Fault, Rejection
from bridge.sessions.directory import SessionDirectory
from bridge.sessions.reaper import Sleep
from bridge.stores.record import StoreUnavailable
from bridge.stores.redis_owned import OwnedRedisStore

log = logging.getLogger(__name__)

#: Sessions of which it is remembered which other node has taken them.
REMEMBERED = 100_000
#: Seconds after which a client may ask again for what cannot be known just now.
RETRY = 1.0
#: Seconds between two looks at whether calls have ended.
HAND_OVER_LOOK = 0.1
#: Seconds for which a node that has handed everything over sends requests on to others: load balancers need a moment to
#: see that it is not ready, and clients to close their connections.
LINGER = 1.0


def shared_store_of(settings: Settings, lease: Lease) -> OwnedRedisStore:
    """Return the sessions in Redis that the nodes share, as the node with this lease uses them."""
    return OwnedRedisStore(settings.redis_url, settings.redis_prefix, lease.owner)


class Takeover:
    """Wires lease, store and sessions of one node together."""

    def __init__(
        self,
        lease: Lease,
        store: OwnedRedisStore,
        sessions: SessionDirectory,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._sleep = sleep
        self._clock = sessions.pool.clock
        self._lease = lease
        self._store = store
        self._sessions = sessions
        self._elsewhere: OrderedDict[str, Birth] = OrderedDict()
        self._searches: Flights[str, Member | None] = Flights("takeover")
        store.on_lost = self._lose
        lease.on_return = self._look
        lease.on_reach = self._reached

    @property
    def is_held(self) -> bool:
        """Whether this node may answer for its sessions."""
        return self._lease.is_held

    async def confirm(self) -> None:
        """Find out whether a lease that has run out can be had again. Raises :class:`Rejection` (503) if not."""
        if not self._lease.is_held:
            await self._lease.renew()
        if not self._lease.is_held:
            why = "this node has lost its lease, and others may have its sessions; try again"
            raise Rejection(Fault.UNAVAILABLE, why, retry_in=RETRY)

    def known(self, session_id: str) -> Member | None:
        """Return the node that is known to have taken a session, if it lives."""
        birth = self._elsewhere.get(session_id)
        return None if birth is None else self._living(birth)

    def forget(self, session_id: str) -> None:
        """A node does not have what it was thought to have."""
        self._elsewhere.pop(session_id, None)

    async def find(self, session_id: str) -> Member | None:
        """Return the node that has a session; None where this one has it now, or it has ended.

        Raises :class:`Rejection` (503) while that cannot be known.
        """
        if self._lease.is_leaving and (successor := self._successor()) is not None:
            return successor
        if self._sessions.has_ended(session_id):
            return None
        return await self._searches.join(session_id, lambda: self._search(session_id))

    async def hand_over(self, seconds: float) -> None:
        """While there is another node, give up every kept session as soon as no call of it runs, within ``seconds``.

        What remains is given up when the bridge ends.
        """
        await self._lease.drain()
        end = self._clock() + seconds
        given = 0
        while self._successor() is not None:
            kept = [entry for entry in self._sessions.pool.entries() if entry.session.is_kept]
            for entry in kept:
                if not entry.session.is_busy:
                    self._sessions.hand_over(entry)
                    given += 1
            if not any(entry.session.is_busy for entry in kept) or self._clock() >= end:
                break
            await self._sleep(HAND_OVER_LOOK)
        if self._successor() is not None:
            await self._sleep(LINGER)
        log.info("%d session(s) handed over to other nodes", given)

    def _successor(self) -> Member | None:
        member = self._lease.members.least_loaded()
        return None if member.node == self._lease.members.own.node else member

    async def close(self) -> None:
        """Wait for what is being taken."""
        await self._searches.settle()

    async def _search(self, session_id: str) -> Member | None:
        await self.confirm()
        if not self._lease.may_take:
            self._refuse("another node cannot reach Redis, and was promised that nothing is taken meanwhile")
        try:
            found = await self._store.take(session_id)
            if isinstance(found, str):
                return await self._remember(session_id, found)
        except StoreUnavailable as error:
            self._refuse(str(error))
        if found is not None and self._sessions.pool.find(session_id) is None:
            self.forget(session_id)
            self._sessions.kept.keeper.found(session_id)
            self._sessions.adopt(found.record, found.events, node_lost=found.lost_by is not None)
            log.info("Session taken over session_id=%s from=%s", shorten(session_id), found.lost_by or "nobody")
        return None

    async def _remember(self, session_id: str, owner: str) -> Member:
        node, _, epoch = owner.rpartition(".")
        birth = Birth(node, int(epoch))
        self._elsewhere[session_id] = birth
        while len(self._elsewhere) > REMEMBERED:
            self._elsewhere.popitem(last=False)
        member = self._living(birth)
        if member is None:
            await self._lease.look_up(node)
            member = self._living(birth)
        if member is None:
            self._refuse(f"node {node}, which has it, is not known yet")
        return member

    def _living(self, birth: Birth) -> Member | None:
        member = self._lease.members.find(birth.node)
        return member if member is not None and member.epoch == birth.epoch else None

    async def _look(self) -> None:
        """The lease had run out: what was taken meanwhile is not ours any longer."""
        kept = [entry.key for entry in self._sessions.pool.entries() if entry.session.is_kept]
        for session_id in await self._store.moved(kept):
            self._lose(session_id)

    def _lose(self, session_id: str) -> None:
        log.warning("session %s was taken over by another node", shorten(session_id))
        self._sessions.lose(session_id)

    def _reached(self) -> None:
        """Redis is back, with or without what was in it."""
        self._sessions.kept.save_all()
        self._sessions.kept.keeper.hurry()

    def _refuse(self, why: str) -> NoReturn:
        text = f"its node may have gone, and it cannot be taken over now: {why}; try again"
        raise Rejection(Fault.UNAVAILABLE, text, retry_in=RETRY)
