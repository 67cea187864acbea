"""One of the servers that a session has at once: a child of its own, once it is asked for anything."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from bridge.aio.flights import Flights
from bridge.children.exchange import Exchange
from bridge.children.seat import Seat
from bridge.children.waiting import while_wanted
from bridge.protocol.capabilities import has
from bridge.protocol.errors import ConnectionClosed, Fault, Rejection
from bridge.protocol.messages import Response
from bridge.protocol.mux import Undirected
from bridge.sessions.recording import RECORDED, Recording

log = logging.getLogger(__name__)

#: Takes what gets each seat before its child hears anything; returns the seat, and the child's InitializeResult.
TakeSeat = Callable[[Callable[[Seat], None]], Awaitable[tuple[Seat, bytes]]]


class Member:
    """``take`` gets it a seat whose child has heard what is in ``recording``. ``hear`` gets what that says outside of
    requests, ``on_lost`` is called when it has ended, or has retired.
    """

    def __init__(
        self,
        server: str,
        recording: Recording,
        take: TakeSeat,
        hear: Callable[[Member, Undirected], None],
        on_lost: Callable[[Member], None],
    ) -> None:
        self.server = server
        self.recording = recording
        self.greeting = b""
        self._take = take
        self._hear = hear
        self._on_lost = on_lost
        self._seat: Seat | None = None
        self._coming: Seat | None = None
        self._opening: Flights[None, Seat] = Flights("member")
        self._exchanges: set[Exchange] = set()
        self._retires = False
        self.is_released = False

    @property
    def pid(self) -> int | None:
        """Process id of its child, None while it has none."""
        return None if self._seat is None else self._seat.pid

    @property
    def frees(self) -> bool:
        """Whether its release ends a child."""
        return self._seat is not None and self._seat.frees

    @property
    def is_ready(self) -> bool:
        """Whether it has a seat."""
        return self._seat is not None

    def has(self, group: str) -> bool:
        """Whether its server declares a capability."""
        return has(self.greeting, group)

    async def ready(self) -> Seat:
        """Wait for its child. Raises what taking a seat raises."""
        return self._seat or await self._opening.join(None, self._open)

    async def _open(self) -> Seat:
        try:
            seat, greeting = await self._take(self._come)
        finally:
            self._coming = None
        if self.is_released:
            seat.release()
            raise Rejection(Fault.CHILD_FAILED, f'server "{self.server}" is not wanted any more')
        self.greeting, self._seat = greeting, seat
        seat.on_closed = self._ended
        if seat.closed:  # between its greeting and now
            self._ended()
            raise ConnectionClosed(self.server, seat.obituary)
        return seat

    def _come(self, seat: Seat) -> None:
        self._coming = seat
        seat.listen(lambda message: self._hear(self, message))

    async def send(self, exchange: Exchange, silence: float | None) -> None:
        """Send a request. Raises what :meth:`Seat.send` and :meth:`ready` raise."""
        self._exchanges.add(exchange)
        exchange.before_end(self._done)
        try:
            seat = self._seat or await while_wanted(exchange, self.ready())
            if seat is not None and not exchange.ended:
                await seat.send(exchange, silence)
        except BaseException:
            self._done(exchange)
            raise

    def _done(self, exchange: Exchange) -> None:
        if exchange.ended and exchange.request.method in RECORDED:
            self.recording.hear(exchange)
        self._exchanges.discard(exchange)
        if self._retires and not self._exchanges:
            self._leave()

    def tell(self, line: bytes) -> None:
        """Send a notification, if there is somebody to hear it."""
        if self._seat is not None:
            self._seat.tell(line)

    def answer(self, response: Response) -> bool:
        """Hand an answer to a question of the child to it; False when it did not ask that."""
        return any(seat is not None and seat.answer(response) for seat in (self._seat, self._coming))

    def refuse(self, question: int, why: str) -> None:
        """Answer a question of the child with an error."""
        for seat in (self._seat, self._coming):
            if seat is not None:
                seat.refuse(question, why)

    def retire(self) -> None:
        """Give the child back when the last request to it has ended."""
        self._retires = True
        if not self._exchanges:
            self._leave()

    def _leave(self) -> None:
        if not self.is_released:
            self._on_lost(self)
            self.release()

    def release(self) -> None:
        """Give the child back."""
        self.is_released = True
        self._opening.cancel()
        if self._seat is not None:
            self._seat.on_closed = _nothing
            self._seat.release()

    async def gone(self) -> None:
        """Wait for the end of the child, if the release has made one."""
        await self._opening.settle()
        if self._seat is not None:
            await self._seat.gone()

    def _ended(self) -> None:
        seat, self._seat = self._seat, None
        if seat is not None:
            log.warning("a session at all servers has lost its child of server %s (%s)", self.server, seat.obituary)
            seat.release()
            self._on_lost(self)


def _nothing() -> None:
    """Nobody wants to know."""
