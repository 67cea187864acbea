"""Opens, finds and ends streamable sessions.

A client that uses an ended session gets 404 with the reason, and initializes again (specification, session management).
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from typing import Any

from bridge.children.policy import Need
from bridge.children.registry import Registry
from bridge.children.seat import Seat
from bridge.children.variables import OwnVariables
from bridge.config.values import LONGEST
from bridge.observe import audit
from bridge.observe.ids import shorten
from bridge.protocol import messages
from bridge.protocol.errors import Fault, Rejection
from bridge.protocol.mux import Undirected
from bridge.protocol.states import SessionState
from bridge.sessions.graves import Graves
from bridge.sessions.greeting import Greeting
from bridge.sessions.ids import mint
from bridge.sessions.kept import Kept
from bridge.sessions.pool import SessionPool
from bridge.sessions.room import Room, SessionEntry
from bridge.sessions.seating import Seating
from bridge.sessions.streamable import StreamableSession
from bridge.sessions.timing import Timing
from bridge.sessions.vacant import Vacant
from bridge.stores.record import Event, SessionRecord

log = logging.getLogger(__name__)


class SessionDirectory:
    """All streamable sessions, with and without a child. ``kept`` is what outlives the bridge, ``mint`` makes ids."""

    def __init__(
        self,
        registry: Registry,
        pool: SessionPool[StreamableSession],
        timing: Timing,
        room: Room,
        kept: Kept,
        mint: Callable[[], str] = mint,
    ) -> None:
        self._mint = mint
        self._registry = registry
        self.pool = pool
        self._timing = timing
        self._room = room
        self.kept = kept
        self._graves = Graves(pool.clock, "STREAM_SESSION_TTL_MS")
        self.seating = Seating(registry, pool, timing, self.end)
        self.greeting = Greeting(registry, pool, kept, self.seating, self.end)

    async def open(
        self,
        server: str,
        owner: str,
        need: Need = Need.SESSION,
        *,
        lasting: bool = True,
        variables: OwnVariables | None = None,
        seat: Seat | None = None,
        words: bytes = b"",
    ) -> SessionEntry:
        """Start a child and mint a session on it, which opens with the client's own ``initialize``.

        ``lasting``: it may outlive the connection that opened it. With a ``seat`` no child is started. ``words`` are
        the params of that ``initialize``, where they are known and a child may have heard them ahead. Raises
        :class:`Rejection` for a server that is not there or too many sessions, and what :meth:`ChildPool.lease` raises.
        """
        persistent = lasting and self.is_persistent(server)
        if persistent:
            self.kept.check()
        self._room.take(server, owner, self.end)
        try:
            seat = seat or await self.seating.take(server, need, owner, variables, words)
        except BaseException:
            self._room.give_back(server, owner)
            raise
        session = StreamableSession(self._mint(), server, seat, owner)
        session.variables = variables
        session.is_kept = self.kept.is_lasting and (persistent or (lasting and self._survives_node(server)))
        ttl = self._timing.stream_ttl(server, persistent=persistent and session.is_kept)
        entry = self._enter(session, ttl)
        self.seating.watch(entry)
        return entry

    def is_persistent(self, server: str) -> bool:
        """Whether sessions of a server are kept unless somebody says otherwise. Raises :class:`Rejection`."""
        self._registry.pool(server)
        return self._registry.entries[server].persistent

    def _survives_node(self, server: str) -> bool:
        return self.kept.is_shared and self._registry.entries[server].survives_node

    async def open_greeted(self, server: str, owner: str, variables: OwnVariables | None = None) -> SessionEntry:
        """Open a session that the bridge initializes itself, for a client that did not."""
        return await self.greeting.greeted(await self.open(server, owner, Need.IMPLICIT, variables=variables))

    async def create(
        self,
        server: str,
        owner: str,
        *,
        persistent: bool,
        ttl: float | None,
        metadata: dict[str, Any],
        variables: OwnVariables | None = None,
    ) -> SessionEntry:
        """Mint a session without a child: its client's first request starts one, ``initialize`` or any other.

        Raises :class:`Rejection` for a server that is not there or too many sessions.
        """
        self._registry.pool(server)
        if persistent:
            self.kept.check()
        self._room.take(server, owner, self.end)
        session = StreamableSession(self._mint(), server, Vacant(_no_child), owner)
        session.is_kept = persistent and self.kept.is_lasting
        session.metadata = metadata
        session.variables = variables
        entry = self._enter_dormant(session, ttl)
        try:
            await self.kept.settle(entry)
        except BaseException:
            self.end(entry, "it could not be written to the store")
            raise
        total = len(self.pool)
        log.info("Session created session_id=%s total_sessions=%d server=%s", session.label, total, session.server)
        return entry

    def find(self, session_id: str, server: str, owner: str) -> SessionEntry:
        """Return a live session of this server and owner. Raises :class:`Rejection` that says why there is none:
        404, or 503 while the store that may hold it cannot be read.
        """
        entry = self.pool.find(session_id)
        if entry is not None and entry.session.server == server and entry.session.owner == owner:
            if log.isEnabledFor(logging.DEBUG):
                log.debug("Using existing session session_id=%s", entry.session.label)
            return entry
        why = self._graves.reason(session_id) if entry is None else None
        if why is None and entry is None and not self.kept.is_known:
            raise Rejection(Fault.UNAVAILABLE, "the session store cannot be read yet; try again", retry_in=1)
        raise Rejection(
            Fault.UNKNOWN_SESSION,
            f"session ended: {why}; initialize again" if why else "session not found; initialize again",
        )

    def end(self, entry: SessionEntry, why: str) -> bool:
        """Take a session out and end it; its child is stopped in the background. False when it was out already."""
        if not self.pool.take(entry):
            return False
        entry.session.end(why)
        return True

    def delete(self, entry: SessionEntry) -> None:
        """End a session because its client said so."""
        if self.pool.take(entry):
            label = entry.session.label
            log.info("Session closed by client DELETE request session_id=%s total_sessions=%d", label, len(self.pool))
            entry.session.end("the client deleted it")

    def announce(self, server: str, method: str) -> None:
        """Tell all clients of a server that a list has changed, also those whose session has no child."""
        self._registry.pool(server).announce(method)
        for entry in self.pool.entries():
            if entry.session.server == server and entry.state is SessionState.DORMANT:
                entry.session.announce(Undirected(method, messages.notification_line(method)))

    async def close(self, why: str) -> None:
        """End every session and wait for their children. Kept ones stay in the store, as they are now."""
        for entry in self.pool.entries():
            self.kept.leave(entry)
        entries = [entry for entry in self.pool.entries() if self.end(entry, why)]
        await asyncio.gather(*(entry.session.close(why) for entry in entries))
        await self.seating.close()

    def _enter(self, session: StreamableSession, ttl: float | None) -> SessionEntry:
        return self._wire(self.pool.add(session.id, session, ttl))

    def _enter_dormant(
        self, session: StreamableSession, ttl: float | None, age: float = 0.0, idle: float = 0.0
    ) -> SessionEntry:
        entry = self._wire(self.pool.add_dormant(session.id, session, ttl, age=age, idle=idle))
        self.seating.vacate(entry)
        return entry

    def _wire(self, entry: SessionEntry) -> SessionEntry:
        session = entry.session
        session.enter = functools.partial(self.pool.enter, entry)
        session.leave = functools.partial(self.pool.leave, entry)
        session.on_recorded = lambda: self.kept.save(entry)
        session.on_end = lambda why: self._bury(entry, why)
        self.kept.follow(entry)
        _record("session_open", session, "restored" if session.restored else "opened")
        return entry

    def lose(self, session_id: str) -> None:
        """End a session here that another node has taken; it goes on there."""
        entry = self.pool.find(session_id)
        if entry is None:
            self.kept.keeper.drop(session_id)
        else:
            self.kept.disown(entry)
            self.end(entry, "another node has taken it over")
        self._graves.forget(session_id)

    def hand_over(self, entry: SessionEntry) -> None:
        """End a kept session here, for another node to go on with it when its next request comes."""
        self.kept.leave(entry)
        self.end(entry, "it was handed over to another node")
        self._graves.forget(entry.key)

    def has_ended(self, session_id: str) -> bool:
        """Whether a session is known to have ended here, in the store too or soon."""
        return self._graves.reason(session_id) is not None or self.kept.keeper.owes(session_id)

    def adopt(self, record: SessionRecord, events: list[Event], *, node_lost: bool = False) -> None:
        """Take in what the store has kept; a session that cannot go on is ended, with a reason for its client.

        ``node_lost``: the node that had it ended without giving it up.
        """
        what = "its node was lost" if node_lost else "the bridge was restarted"
        config = self._registry.entries.get(record.server)
        if config is None or config.disabled:
            why = "its server is not configured any longer"
        elif config.restore == "refuse":
            why = f"{what}, and its server keeps its state in memory (restore: refuse)"
        elif config.header_env:
            why = f"{what}, and what headers of its client told its server is not kept (headerEnv)"
        elif node_lost and not config.survives_node:
            why = f"{what} (onNodeLoss: end)"
        elif config.digest != record.config:
            why = "the configuration of its server has changed"
        else:
            session = self.kept.session_of(record, events)
            self._room.count(session.server, session.owner)
            ttl = None if record.ttl is None else min(record.ttl, LONGEST)
            self._enter_dormant(session, ttl, self.kept.age(record), self.kept.idle(record))
            return
        self._graves.bury(record.id, why, expired=False)
        log.info("Session not restored session_id=%s: %s", shorten(record.id), why)
        if config is not None:
            self.kept.keeper.delete(record.id)

    def _bury(self, entry: SessionEntry, why: str) -> None:
        session, total = entry.session, len(self.pool)
        said = "Session removed session_id=%s total_sessions=%d server=%s: %s"
        log.info(said, session.label, total, session.server, why)
        _record("session_close", session, why)
        self._room.give_back(session.server, session.owner)
        self._graves.bury(session.id, why, expired=entry.was_reaped)
        self.kept.forget(entry)


def _record(event: str, session: StreamableSession, why: str) -> None:
    owner = audit.name_of(session.owner)
    audit.record(event, server=session.server, session=session.label, principal=owner, why=why)


async def _no_child() -> Seat:
    raise AssertionError("replaced when the session enters its pool")
