"""Which session has a child, and which has none for now.

A session gives its child up when it is parked, when somebody else needs the room, or when the child dies; its next
request gets it another one that hears the recorded handshake first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from bridge.aio.flights import Flights
from bridge.children.ahead import words_of
from bridge.children.policy import Need
from bridge.children.registry import Registry
from bridge.children.seat import Seat
from bridge.children.variables import OwnVariables
from bridge.protocol import jsontext
from bridge.protocol.errors import BridgeError, Fault, OtherEra, Rejection
from bridge.protocol.messages import Request
from bridge.protocol.states import SessionState
from bridge.sessions.pool import SessionPool
from bridge.sessions.recording import Recording
from bridge.sessions.room import SessionEntry, is_temporary
from bridge.sessions.streamable import StreamableSession
from bridge.sessions.timing import Timing
from bridge.sessions.vacant import Vacant

log = logging.getLogger(__name__)


class Seating:
    """Gives sessions seats and takes them back. ``end`` ends a session that cannot go on without its child."""

    def __init__(
        self,
        registry: Registry,
        pool: SessionPool[StreamableSession],
        timing: Timing,
        end: Callable[[SessionEntry, str], object],
    ) -> None:
        self._registry = registry
        self._pool = pool
        self._timing = timing
        self._end = end
        self._waking: Flights[str, Seat] = Flights("wake")

    async def take(
        self, server: str, need: Need, owner: str, variables: OwnVariables | None, words: bytes = b""
    ) -> Seat:
        """Return a seat at a server. Raises what :meth:`Registry.seat` raises."""
        return await self._registry.seat(server, need, variables=variables, asker=owner, words=words)

    def sit(self, entry: SessionEntry, seat: Seat) -> None:
        """Put a session on a seat."""
        entry.session.change_seat(seat)
        self.watch(entry)

    def watch(self, entry: SessionEntry) -> None:
        """From now on, the end of its child concerns a session."""
        seat = entry.session.seat
        seat.on_closed = lambda: self._child_ended(entry)
        if seat.closed:  # between its start and now
            self._child_ended(entry)

    def vacate(self, entry: SessionEntry) -> None:
        """Leave a session without a child until its next request."""
        entry.session.change_seat(Vacant(lambda: self._woken(entry)))

    def park(self, entry: SessionEntry, why: str) -> None:
        """Stop the child of a session and keep the session."""
        log.info("Session parked session_id=%s: %s", entry.session.label, why)
        self.vacate(entry)
        self._pool.park(entry)

    def may_park(self, entry: SessionEntry) -> bool:
        """Whether a session could go on with another child: it is open, and its server allows a replay."""
        return self._registry.known[entry.session.server].restore == "replay" and entry.session.version != ""

    async def wake(self, entry: SessionEntry) -> None:
        """Give a session that has no child one before it asks; what goes wrong is found again by its next request."""
        try:
            await self._woken(entry)
        except BridgeError as error:
            log.warning("session %s has no child: %s", entry.session.label, error)

    def is_coming(self, entry: SessionEntry) -> bool:
        """Whether a session without a child is just getting one."""
        if entry.key in self._waking:
            return True
        return entry.state is SessionState.OPENING and isinstance(entry.session.seat, Vacant)

    async def seat_created(self, entry: SessionEntry, words: bytes) -> None:
        """Give a session its first child, which its client greets with ``words``. Raises what :meth:`take` raises."""
        session = entry.session
        self._pool.wake(entry)
        try:
            seat = await self.take(session.server, Need.SESSION, session.owner, session.variables, words)
        except BaseException:
            if not session.closed:
                self._pool.park(entry)
            raise
        if session.closed:
            seat.release()
            raise Rejection(Fault.UNKNOWN_SESSION, "session ended")
        self.sit(entry, seat)

    async def close(self) -> None:
        """Wait for the sessions that are just getting a child."""
        await self._waking.settle()

    async def free(self, entry: SessionEntry, why: str) -> None:
        """Take the child of an idle session: a kept one goes on without it, a temporary one ends."""
        seat = entry.session.seat
        if is_temporary(entry) or not self.may_park(entry):
            self._pool.reaped["limit"] += 1
            self._end(entry, why)
        else:
            self.park(entry, why)
        await seat.gone()

    async def _woken(self, entry: SessionEntry) -> Seat:
        """The seat of a session that had none; many may wait for the same start, but for one that their own client
        initializes.
        """
        if self.is_coming(entry) and entry.key not in self._waking:
            why = "initialize of this session is not answered yet; send other requests when it is"
            raise Rejection(Fault.NOT_A_MESSAGE, why)
        return await self._waking.join(entry.key, lambda: self._wake(entry))

    async def _wake(self, entry: SessionEntry) -> Seat:
        session = entry.session
        if session.closed:  # between the request that wakes it and now
            raise Rejection(Fault.UNKNOWN_SESSION, "session ended")
        vacant = session.seat
        assert isinstance(vacant, Vacant)
        self._pool.wake(entry)
        try:
            seat, result = await self._replay(session, vacant)
        except BaseException:
            if not session.closed:
                self._pool.park(entry)
            raise
        finally:
            vacant.coming = None
        if session.closed:
            seat.release()
            raise Rejection(Fault.UNKNOWN_SESSION, "session ended")
        if not session.version:  # else it is what its client was told, whatever this child says
            session.version = jsontext.string(jsontext.member(result, "protocolVersion")) or ""
        self._pool.opened(entry)
        self.sit(entry, seat)
        session.on_recorded()
        log.info("Session woken session_id=%s pid=%s", session.label, session.pid)
        return seat

    async def _replay(self, session: StreamableSession, vacant: Vacant) -> tuple[Seat, bytes]:
        """Return a seat at a child that has heard the recorded handshake, and its InitializeResult."""

        def coming(seat: Seat) -> None:
            vacant.coming = seat
            session.hear(seat)

        return await self.introduced(session.server, session.owner, session.variables, session.recording, coming)

    async def introduced(
        self,
        server: str,
        owner: str,
        variables: OwnVariables | None,
        recording: Recording,
        coming: Callable[[Seat], None],
    ) -> tuple[Seat, bytes]:
        """Return a seat at a child that has heard a recorded handshake, and its InitializeResult.

        ``coming`` gets each seat before its child hears anything. Raises what :meth:`take` and :meth:`Recording.replay`
        raise.
        """
        need = Need.IMPLICIT if recording.initialize is None else Need.SESSION
        words = b"" if recording.initialize is None else words_of(Request(b"0", "initialize", recording.initialize))
        while True:
            seat = await self.take(server, need, owner, variables, words)
            coming(seat)
            try:
                return seat, await recording.replay(seat, server, self._timing.start(server))
            except OtherEra:
                seat.release()
                self._registry.learn_modern_only(server)
            except BaseException:
                seat.release()
                raise

    def _child_ended(self, entry: SessionEntry) -> None:
        session = entry.session
        if session.closed:
            return
        why = f"its server ended ({session.obituary})"
        if session.is_kept and self.may_park(entry):
            log.warning(
                "session %s has lost its child of server %s; its next request gets it another",
                session.label,
                session.server,
            )
            session.drop_questions()
            self.park(entry, why)
        else:
            log.warning("session %s ends with its child of server %s", session.label, session.server)
            self._end(entry, why)
