"""Clients that the bridge itself owns: one per server and principal, for calls that have no session of their own.

The first call to a server opens its client, calls that arrive meanwhile wait for the same start, and the reaper ends it
when nobody has called for its TTL. A client whose child has died is replaced at the next call.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable

from bridge.aio.flights import Flights
from bridge.children.exchange import Exchange
from bridge.children.policy import Need
from bridge.children.registry import Registry
from bridge.children.seat import Listener, Seat
from bridge.protocol.errors import client_gone
from bridge.protocol.messages import Request
from bridge.protocol.mux import Undirected
from bridge.sessions.pool import Entry, SessionPool

log = logging.getLogger(__name__)

_numbers = itertools.count(1)


class BridgeClient:
    """One bridge-owned client on a server, used by any number of calls of one principal at once.

    ``is_modern``: its child was greeted in the modern era, which holds for as long as the client lives, whatever its
    server becomes meanwhile.
    """

    def __init__(self, server: str, seat: Seat, owner: str, *, is_modern: bool) -> None:
        self._server = server
        self.is_modern = is_modern
        self._owner = owner
        self._label = f"client_{next(_numbers)}"
        self.seat = seat
        self._listeners: list[Listener] = []

    @property
    def server(self) -> str:
        """Id of its server."""
        return self._server

    @property
    def owner(self) -> str:
        """Digest of the principal that it calls for."""
        return self._owner

    @property
    def label(self) -> str:
        """``client_<number>``."""
        return self._label

    @property
    def pid(self) -> int | None:
        """Process id of its child, None when it has none of its own."""
        return self.seat.pid

    @property
    def greeting(self) -> bytes:
        """The child's InitializeResult."""
        return self.seat.greeting

    def listen(self, listener: Listener) -> None:
        """Hear what the server announces, beside others who do."""
        if not self._listeners:
            self.seat.introduce(b"{}")  # one that translates says nothing to clients who have not said hello
            self.seat.listen(self._hear)
        self._listeners.append(listener)

    def _hear(self, message: Undirected) -> None:
        for listener in self._listeners:
            listener(message)

    async def call(self, request: Request, silence: float | None) -> Exchange:
        """Send a request. Raises what :meth:`Seat.send` raises."""
        exchange = Exchange(request)
        await self.seat.send(exchange, silence)
        return exchange

    async def close(self, why: str) -> None:
        """Give the child back and wait for its end."""
        self.release()
        await self.seat.gone()

    def release(self) -> None:
        """Give the child back; the last holder's release stops it."""
        self.seat.release()


async def last(exchange: Exchange) -> bytes:
    """The answer; what precedes it has no way to a caller who takes one. Cancelled with whoever waits here."""
    try:
        while True:
            message = await exchange.receive()
            if message is exchange.answer:
                return message
    except asyncio.CancelledError:  # the caller hung up, and nobody else could fetch the answer
        exchange.abandon(client_gone())
        raise


class BridgeClients:
    """The bridge pool and how it fills. ``ttl_of`` gives a server's idle time in seconds, None for never."""

    def __init__(
        self, registry: Registry, pool: SessionPool[BridgeClient], ttl_of: Callable[[str], float | None]
    ) -> None:
        self._registry = registry
        self.pool = pool
        self._ttl_of = ttl_of
        self._opening: Flights[str, Entry[BridgeClient]] = Flights("bridge client")

    async def client(self, server: str, owner: str, need: Need = Need.BRIDGE, asker: str = "") -> Entry[BridgeClient]:
        """Return the client of a server for a principal, opening it if need be; there may be one of each era.

        ``asker`` is the principal that it is opened for, where it serves everyone.

        Raises :class:`Rejection` for a server that is not there and what :meth:`ChildPool.lease` raises.
        """
        key = f"{server} {need.name} {owner}"
        entry = self.pool.find(key)
        if entry is not None:
            return entry
        return await self._opening.join(key, lambda: self._open(key, server, owner, need, asker))

    async def _open(self, key: str, server: str, owner: str, need: Need, asker: str) -> Entry[BridgeClient]:
        self.pool.check_room(server)
        seat = await self._registry.seat(server, need, owner, asker=asker)
        client = BridgeClient(server, seat, owner, is_modern=need is Need.MODERN)
        entry = self.pool.add(key, client, self._ttl_of(server))
        self.pool.opened(entry)
        seat.on_closed = lambda: self._child_ended(entry)
        if seat.closed:  # between its greeting and now
            self._child_ended(entry)
        log.info("Bridge client %s opened on server %s", client.label, server)
        return entry

    async def free(self, entry: Entry[BridgeClient], why: str) -> None:
        """End a client that idles; the next call opens another."""
        if self.pool.take(entry):
            self.pool.reaped["limit"] += 1
            log.info("Bridge client %s ends: %s", entry.session.label, why)
            await entry.session.close(why)

    async def close(self, why: str) -> None:
        """End every client and wait for their children."""
        entries = [entry for entry in self.pool.entries() if self.pool.take(entry)]
        await asyncio.gather(*(entry.session.close(why) for entry in entries))

    def _child_ended(self, entry: Entry[BridgeClient]) -> None:
        if self.pool.take(entry):
            log.warning("bridge client %s ends with its child of server %s", entry.session.label, entry.session.server)
            entry.session.release()
