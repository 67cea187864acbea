"""How a session opens: its client's ``initialize`` is answered by its child, or from what the bridge knows of that.

A session is in the store, where it is kept at all, before its client hears that it is open.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine

from bridge.children.ahead import words_of
from bridge.children.exchange import Exchange
from bridge.children.policy import Need
from bridge.children.registry import Registry
from bridge.children.seat import Seat
from bridge.children.stream import RequestStream
from bridge.protocol import handshake, jsontext, messages
from bridge.protocol.errors import BridgeError, Fault, Rejection
from bridge.protocol.messages import Request, Response
from bridge.protocol.states import SessionState
from bridge.sessions.kept import Kept
from bridge.sessions.pool import SessionPool
from bridge.sessions.room import SessionEntry
from bridge.sessions.seating import Seating
from bridge.sessions.streamable import StreamableSession

log = logging.getLogger(__name__)


class Greeting:
    """Brings sessions from their first request to where they are open. ``end`` ends one that cannot be opened."""

    def __init__(
        self,
        registry: Registry,
        pool: SessionPool[StreamableSession],
        kept: Kept,
        seating: Seating,
        end: Callable[[SessionEntry, str], object],
    ) -> None:
        self._registry = registry
        self._pool = pool
        self._kept = kept
        self._seating = seating
        self._end = end

    async def initialize(
        self, entry: SessionEntry, request: Request, silence: float | None, into: RequestStream | None = None
    ) -> Exchange:
        """Send the client's ``initialize``, verbatim; the session is open when the child has accepted it.

        Raises :class:`Rejection` where another request opens the session already, and what :meth:`Seating.take` raises.
        """
        session = entry.session
        if self._seating.is_coming(entry) or not session.is_fresh:
            why = "another request opens this session already; to open one more, send initialize without Mcp-Session-Id"
            raise Rejection(Fault.NOT_A_MESSAGE, why)
        if entry.state is SessionState.DORMANT:  # it was created without a child
            await self._seating.seat_created(entry, words_of(request))
        try:
            session.introduce(request.params)
        except BaseException:  # it may have a child by now, and nobody would end it
            self._end(entry, "its initialize failed")
            raise
        exchange = Exchange(request, session.has_opened, into)
        if session.greeting:  # a child that others hold too was greeted by the bridge
            session.own(self._ended(entry, exchange, self._finish_greeting(entry, exchange, session.greeting)))
        else:
            leg = await session.call(request, silence=silence)
            session.own(self._ended(entry, exchange, self._greet(entry, leg, exchange)))
        session.opening = exchange
        return exchange

    async def greeted(self, entry: SessionEntry) -> SessionEntry:
        """A session is open, because the bridge has greeted its child."""
        session = entry.session
        seat = session.seat
        try:
            session.version = _version(session.greeting)
            await self._kept.settle(entry)
        except BaseException:
            self._end(entry, "it could not be opened")
            raise
        self._opened(entry, seat)
        return entry

    async def _ended(self, entry: SessionEntry, exchange: Exchange, work: Coroutine[None, None, None]) -> None:
        """Whatever becomes of the work, its client hears of it."""
        try:
            await work
        except Exception:
            log.exception("session %s: its initialize ended in an unexpected error", entry.session.label)
            self._end(entry, "its initialize failed")
            exchange.fail(BridgeError("internal error; the log has the details"))

    async def _greet(self, entry: SessionEntry, leg: Exchange, exchange: Exchange) -> None:
        """Hand the child's own answer to the client; a child of the other era is replaced and spoken to in that."""
        await leg.relay_to(exchange)
        session = entry.session
        if leg.failure is not None:
            self._end(entry, "its initialize failed")
            exchange.fail(leg.failure)
        elif handshake.is_other_era(jsontext.member(leg.answer, "error")):
            self._registry.learn_modern_only(session.server)
            try:
                seat = await self._seating.take(session.server, Need.SESSION, session.owner, session.variables)
            except BridgeError as error:
                self._end(entry, "its initialize failed")
                exchange.fail(error)
                return
            if session.closed:
                seat.release()
                exchange.fail(Rejection(Fault.UNKNOWN_SESSION, "session ended"))
                return
            self._seating.sit(entry, seat)
            session.introduce(exchange.request.params)
            await self._finish_greeting(entry, exchange, session.greeting)
        elif "result" not in (answer := jsontext.fields(leg.answer)):
            self._end(entry, "its initialize failed")
            exchange.finish(leg.answer)
        else:
            await self._accept(entry, exchange, bytes(answer["result"]), leg.answer)

    async def _finish_greeting(self, entry: SessionEntry, exchange: Exchange, greeting: bytes) -> None:
        """Answer a client's ``initialize`` from what the bridge knows of the child."""
        result = handshake.agreed(greeting, exchange.request.params)
        line = messages.response_line(Response(exchange.request.id, result))
        await self._accept(entry, exchange, result, line)

    async def _accept(self, entry: SessionEntry, exchange: Exchange, result: bytes, line: bytes) -> None:
        """The child has accepted: the session is open, and in the store, before its client hears of it."""
        session, seat = entry.session, entry.session.seat
        if not session.closed:
            session.version = _version(result)
            session.greeted()
            try:
                await self._kept.settle(entry)
            except BridgeError as error:
                self._end(entry, "it could not be written to the store")
                exchange.fail(error)
                return
        if session.closed:
            exchange.fail(Rejection(Fault.UNKNOWN_SESSION, "session ended"))
            return
        self._opened(entry, seat)
        exchange.finish(line)

    def _opened(self, entry: SessionEntry, seat: Seat) -> None:
        """It is in the store. Where its child has ended meanwhile, it has been parked, and opens when it is woken."""
        if entry.session.seat is seat:
            self._pool.opened(entry)
        session, total = entry.session, len(self._pool)
        log.info("Session created session_id=%s total_sessions=%d server=%s", session.label, total, session.server)


def _version(initialized: bytes) -> str:
    return jsontext.string(jsontext.member(initialized, "protocolVersion")) or ""
