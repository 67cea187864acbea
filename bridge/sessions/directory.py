"""Opens, finds and ends streamable sessions; remembers why the last ones ended.

A client that uses an ended session gets 404 with that reason, and initializes again (specification, session
management).
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable

from bridge.children.connection import Exchange
from bridge.children.policy import Need
from bridge.children.registry import Registry
from bridge.children.seat import Seat
from bridge.children.stream import RequestStream
from bridge.protocol import handshake, messages
from bridge.protocol.errors import BridgeError, Fault, Rejection
from bridge.protocol.messages import Request, Response
from bridge.sessions.ids import mint, shorten
from bridge.sessions.pool import Entry, SessionPool
from bridge.sessions.streamable import StreamableSession

log = logging.getLogger(__name__)

#: Ended sessions whose reason is remembered.
GRAVES = 1000

SessionEntry = Entry[StreamableSession]


class SessionDirectory:
    """All streamable sessions. ``ttl_of`` gives the idle time of a server's sessions in seconds, None for never."""

    def __init__(
        self, registry: Registry, pool: SessionPool[StreamableSession], ttl_of: Callable[[str], float | None]
    ) -> None:
        self._registry = registry
        self.pool = pool
        self._ttl_of = ttl_of
        self._graves: OrderedDict[str, str] = OrderedDict()

    async def open(self, server: str, need: Need = Need.SESSION) -> SessionEntry:
        """Start a child and mint a session on it, which opens with the client's own ``initialize``.

        Raises :class:`Rejection` for a server that is not there and what :meth:`ChildPool.lease` raises.
        """
        self.pool.check_room(server)
        seat = await self._registry.seat(server, need)
        session = StreamableSession(mint(), server, seat)
        entry = self.pool.add(session.id, session, self._ttl_of(server))
        session.enter = lambda: self.pool.enter(entry)
        session.leave = lambda: self.pool.leave(entry)
        session.on_end = lambda why: self._bury(session.id, why)
        self._watch(entry, seat)
        return entry

    def _watch(self, entry: SessionEntry, seat: Seat) -> None:
        seat.on_closed = lambda: self._child_ended(entry)
        if seat.closed:  # between its start and now
            self._child_ended(entry)

    async def open_greeted(self, server: str) -> SessionEntry:
        """Open a session that the bridge initializes itself, for a client that did not."""
        entry = await self.open(server, Need.IMPLICIT)
        session = entry.session
        session.version = _version(session.greeting)
        self._opened(entry)
        return entry

    async def initialize(
        self, entry: SessionEntry, request: Request, silence: float | None, into: RequestStream | None = None
    ) -> Exchange:
        """Send the client's ``initialize``, verbatim; the session is open when the child has accepted it."""

        def ended(exchange: Exchange) -> None:
            if entry.session.closed:
                return
            answer = messages.fields(exchange.answer)
            if "result" not in answer:
                self.end(entry, "its initialize failed")
                return
            entry.session.version = _version(bytes(answer["result"]))
            entry.session.greeted()
            self._opened(entry)

        entry.session.capabilities = messages.member(request.params, "capabilities", b"{}")
        entry.session.introduce(request.params)
        exchange = Exchange(request, ended, into)
        if entry.session.greeting:  # a child that others hold too was greeted by the bridge
            _answer(exchange, entry.session.greeting)
        else:
            leg = await entry.session.call(request, silence=silence)
            entry.session.own(self._greet(entry, leg, exchange))
        return exchange

    async def _greet(self, entry: SessionEntry, leg: Exchange, exchange: Exchange) -> None:
        """Hand the child's own answer to the client; a child of the other era is replaced and spoken to in that."""
        await leg.relay_to(exchange)
        session = entry.session
        if leg.failure is not None:
            exchange.fail(leg.failure)
        elif handshake.is_other_era(messages.member(leg.answer, "error")):
            self._registry.learn_modern_only(session.server)
            try:
                seat = await self._registry.seat(session.server, Need.SESSION)
            except BridgeError as error:
                exchange.fail(error)
                return
            if session.closed:
                seat.release()
                exchange.fail(Rejection(Fault.UNKNOWN_SESSION, "session ended"))
                return
            session.change_seat(seat)
            self._watch(entry, seat)
            session.introduce(exchange.request.params)
            _answer(exchange, session.greeting)
        else:
            exchange.finish(leg.answer)

    def _opened(self, entry: SessionEntry) -> None:
        self.pool.opened(entry)
        log.info("Session created session_id=%s total_sessions=%d", entry.session.label, len(self.pool))

    def find(self, session_id: str, server: str) -> SessionEntry:
        """Return a live session of this server. Raises :class:`Rejection` (404) that says why there is none."""
        entry = self.pool.find(session_id)
        if entry is not None and entry.session.server == server:
            if log.isEnabledFor(logging.DEBUG):
                log.debug("Using existing session session_id=%s", entry.session.label)
            return entry
        why = self._graves.get(session_id) if entry is None else None
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

    def _bury(self, session_id: str, why: str) -> None:
        log.info("Session removed session_id=%s total_sessions=%d", shorten(session_id), len(self.pool))
        self._graves[session_id] = why
        while len(self._graves) > GRAVES:
            self._graves.popitem(last=False)

    async def close(self, why: str) -> None:
        """End every session and wait for their children."""
        entries = [entry for entry in self.pool.entries() if self.end(entry, why)]
        await asyncio.gather(*(entry.session.close(why) for entry in entries))

    def _child_ended(self, entry: SessionEntry) -> None:
        session = entry.session
        if not session.closed:
            log.warning("session %s ends with its child of server %s", shorten(entry.key), session.server)
            self.end(entry, f"its server ended ({session.obituary})")


def _version(initialized: bytes) -> str:
    return messages.string(messages.member(initialized, "protocolVersion")) or ""


def _answer(exchange: Exchange, greeting: bytes) -> None:
    """Answer a client's ``initialize`` from what the bridge knows of the child."""
    result = handshake.agreed(greeting, exchange.request.params)
    exchange.finish(messages.response_line(Response(exchange.request.id, result)))
