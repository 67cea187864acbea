"""How one client reaches its server: over a child of its own, over one that it shares, or over one per request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from bridge.children.audience import uri_of
from bridge.children.crowd import SET_LEVEL, SUBSCRIBE, UNSUBSCRIBE, accept, is_granted, note, refuse_level
from bridge.children.exchange import Exchange
from bridge.children.policy import Greeting, Sharing
from bridge.children.pool import ChildPool, Lease
from bridge.children.waiting import while_wanted
from bridge.protocol.capabilities import without
from bridge.protocol.messages import Response
from bridge.protocol.mux import Undirected
from bridge.protocol.states import ChildEvent, ChildState

Listener = Callable[[Undirected], None]


class Seat(Protocol):
    """What a client needs of its server. ``on_closed`` is called once when the child it depends on has ended."""

    on_closed: Callable[[], None]

    @property
    def greeting(self) -> bytes:
        """InitializeResult that the bridge was given; empty where the client greets."""
        ...

    @property
    def pid(self) -> int | None:
        """Process id of the child, None while it has none."""
        ...

    @property
    def frees(self) -> bool:
        """Whether its release ends a child."""
        ...

    @property
    def obituary(self) -> str:
        """How the child ended."""
        ...

    @property
    def closed(self) -> bool:
        """Whether the child it depends on has ended."""
        ...

    def listen(self, listener: Listener) -> None:
        """Hear what the child says outside of any request of ours."""
        ...

    async def send(self, exchange: Exchange, silence: float | None) -> None:
        """Send a request. Raises what :meth:`ChildConnection.exchange` and :meth:`ChildPool.lease` raise."""
        ...

    def send_now(self, exchange: Exchange, silence: float | None) -> bool:
        """Do the same where nothing has to be waited for, else nothing and return False."""
        ...

    def introduce(self, params: bytes) -> None:
        """The client's ``initialize`` params, where the bridge answers that for it."""
        ...

    def greeted(self) -> None:
        """The client's own ``initialize`` was accepted."""
        ...

    def tell(self, line: bytes) -> None:
        """Send a notification."""
        ...

    def answer(self, response: Response) -> bool:
        """Hand an answer to a question of the child to it; False when it did not ask that."""
        ...

    def refuse(self, question: int, why: str) -> None:
        """Answer a question of the child with an error."""
        ...

    def release(self) -> None:
        """Give back what is held."""
        ...

    async def gone(self) -> None:
        """Wait for the end of the child, if the release has made one."""
        ...


async def take_seat(pool: ChildPool, sharing: Sharing, asker: str = "") -> Seat:
    """Return the seat that a policy gives. Raises what :meth:`ChildPool.lease` raises."""
    lease = await pool.lease(sharing, asker)
    if sharing.is_private:
        return OwnSeat(lease)
    if sharing.hold == "session":
        return SharedSeat(lease)
    seat = PooledSeat(pool, sharing, lease.child.greeting, asker)
    lease.release()
    return seat


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

    def __init__(self, lease: Lease) -> None:
        super().__init__(lease)
        assert lease.child.crowd is not None
        self._crowd = lease.child.crowd
        self._listener: Listener | None = None
        self._crowd.join(self)

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


class PooledSeat:
    """A child for the length of each request, which must leave it clean for the next one."""

    def __init__(self, pool: ChildPool, sharing: Sharing, greeting: bytes, asker: str = "") -> None:
        self._pool = pool
        self._asker = asker
        self._sharing = sharing
        self._greeting = without(greeting, "tasks")  # the child that is asked for one is hardly the one that has it
        self._listener: Listener = _nothing
        self._watch = pool.watch(sharing)
        self._watch.join(self)
        self.on_closed: Callable[[], None] = _nothing

    @property
    def greeting(self) -> bytes:
        """InitializeResult of the child that was asked first, as far as it holds for a child per request."""
        return self._greeting

    @property
    def pid(self) -> int | None:
        """It has no process of its own."""
        return None

    @property
    def frees(self) -> bool:
        """It holds none."""
        return False

    @property
    def obituary(self) -> str:
        """No child can end for it."""
        return "its child ended"

    @property
    def closed(self) -> bool:
        """It depends on no child."""
        return False

    def listen(self, listener: Listener) -> None:
        """Hear that a list of any such child has changed, and updates of what was subscribed to over this seat."""
        self._listener = listener

    def hear(self, message: Undirected) -> None:
        """Something that concerns this seat."""
        self._listener(message)

    async def send(self, exchange: Exchange, silence: float | None) -> None:
        """Lease a child for this request."""
        request = exchange.request
        if request.method == SET_LEVEL:
            refuse_level(exchange)  # it would hold for another client's next request
            return
        if request.method == UNSUBSCRIBE:
            self._watch.unsubscribe(self, uri_of(request.params))
            accept(exchange)
            return
        lease = await while_wanted(exchange, self._pool.lease(self._sharing, self._asker))
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
