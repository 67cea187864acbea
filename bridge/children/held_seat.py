"""Seats that hold a child for as long as their client is there: a child of its own, or one that many hold."""

from __future__ import annotations

from collections.abc import Callable

from bridge.children.crowd import told
from bridge.children.exchange import Exchange
from bridge.children.policy import Greeting, Need
from bridge.children.pool import Lease
from bridge.children.seat import Listener
from bridge.protocol.messages import Response
from bridge.protocol.mux import Undirected
from bridge.protocol.states import ChildEvent, ChildState


class OwnSeat:
    """A child that nobody else holds."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._connection = lease.connection
        self.on_closed: Callable[[], None] = _nothing
        self._connection.on_closed[self._closed] = None

    @property
    def greeting(self) -> bytes:
        """InitializeResult, where the bridge asked for it."""
        return self._lease.child.greeting

    @property
    def pid(self) -> int | None:
        """Process id."""
        return self._lease.child.pid

    @property
    def frees(self) -> bool:
        """Whether nobody else holds it."""
        return self._lease.child.holders == 1

    @property
    def obituary(self) -> str:
        """How the child ended."""
        return self._connection.obituary()

    @property
    def closed(self) -> bool:
        """Whether the child has ended."""
        return self._connection.closed

    def listen(self, listener: Listener) -> None:
        """Hear all that the child says."""
        if self._lease.child.ahead is None:
            self._connection.on_undirected = listener
        else:
            self._lease.child.ahead.listen(listener)

    async def send(self, exchange: Exchange, silence: float | None) -> None:
        """Send a request, unless the child has heard it ahead."""
        ahead = self._lease.child.ahead
        if ahead is not None and exchange.request.method == "initialize":
            ahead.answer(exchange)
        else:
            self.send_now(exchange, silence)

    def send_now(self, exchange: Exchange, silence: float | None) -> bool:
        """Send a request, as it is."""
        self._connection.exchange(exchange, silence)
        return True

    def introduce(self, params: bytes) -> None:
        """The child hears it from the client itself, or not at all."""

    def greeted(self) -> None:
        """The child has answered its client's ``initialize``. It may have begun to end since."""
        if self._lease.child.state is ChildState.GREETING:
            self._lease.child.move(ChildEvent.GREETED)

    def tell(self, line: bytes) -> None:
        """Send a notification."""
        self._connection.send(line)

    def answer(self, response: Response) -> bool:
        """Hand an answer to the child."""
        return self._connection.answer(response)

    def refuse(self, question: int, why: str) -> None:
        """Answer a question with an error."""
        self._connection.refuse(question, why)

    def release(self) -> None:
        """Give the child back, which ends it."""
        self._connection.on_undirected = None
        self._lease.release()

    async def gone(self) -> None:
        """Wait for the end of the child."""
        await self._lease.gone()

    def _closed(self) -> None:
        self.on_closed()


class SharedSeat(OwnSeat):
    """One of many holders of a child."""

    def __init__(self, lease: Lease, need: Need) -> None:
        super().__init__(lease)
        self._need = need
        assert lease.child.crowd is not None
        self._crowd = lease.child.crowd
        self._listener: Listener | None = None
        self._crowd.join(self)

    @property
    def greeting(self) -> bytes:
        """The child's InitializeResult, as far as it holds for one of many."""
        child = self._lease.child
        return told(child.greeting, child.sharing, self._need)

    def listen(self, listener: Listener) -> None:
        """Hear what concerns all, and updates of what was subscribed to over this seat."""
        self._listener = listener
        if self._lease.child.sharing.greeting is Greeting.MODERN:
            self._crowd.hear_changes(self.greeting)

    def hear(self, message: Undirected) -> None:
        """Something that concerns this seat."""
        if self._listener is not None:
            self._listener(message)

    def send_now(self, exchange: Exchange, silence: float | None) -> bool:
        """Send a request, except for those that would change the child for everyone."""
        if not self._crowd.settles(self, exchange):
            self._connection.exchange(exchange, silence)
        return True

    def greeted(self) -> None:
        """The bridge has greeted this child."""

    def tell(self, line: bytes) -> None:
        """Nothing: a client's notifications are about a handshake, or capabilities, that this child was not given."""

    def release(self) -> None:
        """Leave the others alone with it, who may hold it for months; the last one's release ends it."""
        self._connection.on_closed.pop(self._closed, None)
        try:
            self._crowd.part(self)
        finally:  # a lease that nobody gives back keeps the child for ever
            self._lease.release()


def _nothing(*_: object) -> None:
    """Nobody wants to know."""
