"""A seat that holds nothing between two requests: each gets a child, and leaves it clean for the next one."""

from __future__ import annotations

from collections.abc import Callable

from bridge.children.audience import uri_of
from bridge.children.crowd import NOT_POOLED, SUBSCRIBE, UNSUBSCRIBE, accept, is_granted, note, refuse
from bridge.children.exchange import Exchange
from bridge.children.policy import Sharing
from bridge.children.pool import ChildPool, Lease
from bridge.children.seat import EmptySeat, Listener
from bridge.children.waiting import while_wanted
from bridge.protocol.errors import BridgeError
from bridge.protocol.messages import Response
from bridge.protocol.mux import Undirected


class PooledSeat(EmptySeat):
    """A child for the length of each request, which must leave it clean for the next one.

    ``greeting`` is the InitializeResult, as far as it holds for a child per request.
    """

    def __init__(self, pool: ChildPool, sharing: Sharing, greeting: bytes, asker: str = "") -> None:
        self._pool = pool
        self._asker = asker
        self._sharing = sharing
        self.greeting = greeting
        self._listener: Listener = _nothing
        self._watch = pool.watch(sharing)
        self._watch.join(self)
        self.on_closed: Callable[[], None] = _nothing

    @property
    def obituary(self) -> str:
        """No child can end for it."""
        return "its child ended"

    def listen(self, listener: Listener) -> None:
        """Hear that a list of any such child has changed, and updates of what was subscribed to over this seat."""
        self._listener = listener

    def hear(self, message: Undirected) -> None:
        """Something that concerns this seat."""
        self._listener(message)

    async def send(self, exchange: Exchange, silence: float | None) -> None:
        """Lease a child for this request."""
        request = exchange.request
        if (why := NOT_POOLED.get(request.method)) is not None:
            refuse(exchange, why)
            return
        if request.method == UNSUBSCRIBE:
            self._watch.unsubscribe(self, uri_of(request.params))
            accept(exchange)
            return
        lease = await while_wanted(exchange, self._lease())
        if lease is None:
            return
        if exchange.ended:  # nothing would give the child back
            lease.release()
            return
        connection = lease.connection

        def hear(message: Undirected) -> None:
            if message.question is not None:  # the child was offered no capabilities
                connection.refuse(message.question, f"no client of a pooled server answers {message.method}")
            else:
                note(connection.server, message)

        def ended(_: Exchange) -> None:
            lease.release()  # before the child may be asked for more: it is clean now
            if request.method == SUBSCRIBE and is_granted(exchange):
                self._watch.subscribe(self, uri_of(request.params), connection)

        exchange.before_end(ended)
        connection.on_undirected = hear  # until the next one: it may speak between them too
        try:
            connection.exchange(exchange, silence)
        except BaseException:
            lease.release()
            raise

    async def _lease(self) -> Lease:
        """A child for one request, which goes on here where the configuration changes while that starts."""
        was_retiring = self._pool.is_retiring
        try:
            return await self._pool.lease(self._sharing, self._asker)
        except BridgeError:
            if was_retiring or not self._pool.is_retiring:
                raise
        return await self._pool.lease(self._sharing, self._asker)

    def send_now(self, exchange: Exchange, silence: float | None) -> bool:
        """No: a lease may have to wait for a child."""
        return False

    def introduce(self, params: bytes) -> None:
        """The children were offered nothing."""

    def greeted(self) -> None:
        """The bridge has greeted each child."""

    def tell(self, line: bytes) -> None:
        """Nothing: there is nobody to tell between requests."""

    def answer(self, response: Response) -> bool:
        """No child asks anything."""
        return False

    def refuse(self, question: int, why: str) -> None:
        """No child asks anything."""

    def release(self) -> None:
        """No child is held between requests; nothing is listened to any more."""
        self._watch.part(self)

    async def gone(self) -> None:
        """Nothing is held between requests."""


def _nothing(*_: object) -> None:
    """Nobody wants to know."""
