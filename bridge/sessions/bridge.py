"""Clients that the bridge itself owns: one per server, for calls that have no session of their own.

The first call to a server opens its client, calls that arrive meanwhile wait for the same start, and the reaper ends it
when nobody has called for its TTL. A client whose child has died is replaced at the next call.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable

from bridge.children.connection import Exchange
from bridge.children.policy import SHARED
from bridge.children.pool import Lease
from bridge.children.registry import Registry
from bridge.protocol.errors import Fault, Rejection
from bridge.protocol.messages import Notification, Request, notification_line
from bridge.sessions.pool import Entry, SessionPool

log = logging.getLogger(__name__)

_numbers = itertools.count(1)


class BridgeClient:
    """One bridge-owned client on a server, used by any number of calls at once."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._label = f"client_{next(_numbers)}"
        self._lease: Lease | None = None

    @property
    def server(self) -> str:
        """Id of its server."""
        return self._server

    @property
    def label(self) -> str:
        """``client_<number>``."""
        return self._label

    @property
    def pid(self) -> int | None:
        """Process id of its child, None before it has one."""
        return self._lease.child.pid if self._lease else None

    @property
    def greeting(self) -> bytes:
        """The child's InitializeResult."""
        assert self._lease is not None
        return self._lease.child.greeting

    def hold(self, lease: Lease) -> None:
        """Take the lease that all its calls use."""
        self._lease = lease

    def call(self, request: Request, silence: float | None) -> Exchange:
        """Send a request. Raises what :meth:`ChildConnection.exchange` raises."""
        assert self._lease is not None
        exchange = Exchange(request)
        self._lease.connection.exchange(exchange, silence)
        return exchange

    def abandon(self, exchange: Exchange) -> None:
        """Its caller has gone: cancel it on the child."""
        assert self._lease is not None
        self._lease.connection.abandon(exchange, Rejection(Fault.TIMED_OUT, "the client has gone"))

    def tell(self, note: Notification) -> None:
        """Send a notification."""
        assert self._lease is not None
        self._lease.connection.send(notification_line(note.method, note.params))

    async def close(self, why: str) -> None:
        """Give the child back and wait for its end."""
        self.release()
        if self._lease is not None:
            await self._lease.gone()

    def release(self) -> None:
        """Give the child back; the last holder's release stops it."""
        if self._lease is not None:
            self._lease.release()


class BridgeClients:
    """The bridge pool and how it fills. ``ttl_of`` gives a server's idle time in seconds, None for never."""

    def __init__(
        self, registry: Registry, pool: SessionPool[BridgeClient], ttl_of: Callable[[str], float | None]
    ) -> None:
        self._registry = registry
        self.pool = pool
        self._ttl_of = ttl_of
        self._opening: dict[str, asyncio.Task[Entry[BridgeClient]]] = {}

    async def client(self, server: str) -> Entry[BridgeClient]:
        """Return the client of a server, opening it if need be.

        Raises :class:`Rejection` for a server that is not there and what :meth:`ChildPool.lease` raises.
        """
        entry = self.pool.find(server)
        if entry is not None:
            return entry
        task = self._opening.get(server)
        if task is None:
            task = self._opening[server] = asyncio.create_task(self._open(server), name=f"bridge client {server}")
            task.add_done_callback(lambda done: self._opened(server, done))
        return await asyncio.shield(task)

    def _opened(self, server: str, task: asyncio.Task[Entry[BridgeClient]]) -> None:
        del self._opening[server]
        if not task.cancelled():
            task.exception()  # it has been raised to all who waited

    async def _open(self, server: str) -> Entry[BridgeClient]:
        children = self._registry.pool(server)
        self.pool.check_room(server)
        client = BridgeClient(server)
        lease = await children.lease(SHARED)
        client.hold(lease)
        entry = self.pool.add(server, client, self._ttl_of(server))
        self.pool.opened(entry)
        lease.connection.on_closed.append(lambda: self._child_ended(entry))
        if lease.connection.closed:  # it ended between its greeting and now
            self._child_ended(entry)
        log.info("Bridge client %s opened on server %s", client.label, server)
        return entry

    async def close(self, why: str) -> None:
        """End every client and wait for their children."""
        entries = [entry for entry in self.pool.entries() if self.pool.take(entry)]
        await asyncio.gather(*(entry.session.close(why) for entry in entries))

    def _child_ended(self, entry: Entry[BridgeClient]) -> None:
        if self.pool.take(entry):
            log.warning("bridge client %s ends with its child of server %s", entry.session.label, entry.session.server)
            entry.session.release()
