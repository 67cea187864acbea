"""The seat of a session that has no child: the first request wakes one.

The session does not know the difference; the calls of a live one pay nothing for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from bridge.children.exchange import Exchange
from bridge.children.seat import EmptySeat, Listener, Seat
from bridge.children.waiting import while_wanted
from bridge.protocol.messages import Response


class Vacant(EmptySeat):
    """``wake`` returns the seat at a child that has heard the recorded handshake; it may be awaited by many."""

    def __init__(self, wake: Callable[[], Awaitable[Seat]], greeting: bytes = b"") -> None:
        self._wake = wake
        self.on_closed: Callable[[], None] = _nothing
        self.greeting = greeting
        #: The seat at a child that hears the handshake just now, and may ask meanwhile.
        self.coming: Seat | None = None

    @property
    def obituary(self) -> str:
        """No child can end for it."""
        return "it had no child"

    def listen(self, listener: Listener) -> None:
        """Nobody says anything; the child that comes is listened to by then."""

    async def send(self, exchange: Exchange, silence: float | None) -> None:
        """Send a request to the child that it wakes. Raises what waking one raises."""
        seat = await while_wanted(exchange, self._wake())
        if seat is not None and not exchange.ended:
            await seat.send(exchange, silence)

    def send_now(self, exchange: Exchange, silence: float | None) -> bool:
        """No: there is no child yet."""
        return False

    def introduce(self, params: bytes) -> None:
        """The child that comes hears what is recorded."""

    def greeted(self) -> None:
        """There is no child."""

    def tell(self, line: bytes) -> None:
        """Nothing: a child that comes asks for what it wants to know."""

    def answer(self, response: Response) -> bool:
        """Hand an answer to the child that comes, if it has asked."""
        return self.coming is not None and self.coming.answer(response)

    def refuse(self, question: int, why: str) -> None:
        """Answer a question of the child that comes."""
        if self.coming is not None:
            self.coming.refuse(question, why)

    def release(self) -> None:
        """Nothing is held."""

    async def gone(self) -> None:
        """Nothing is held."""


def _nothing() -> None:
    """No child can end for it."""
