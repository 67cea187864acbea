"""The children of one configured server, lent by lease.

A hundred callers that arrive at a cold shared server wait for one start. A child without holders is stopped, or kept
for the next exchange where the policy lends it for exchanges.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from weakref import WeakValueDictionary

from bridge.children.child import Child
from bridge.children.connection import ChildConnection
from bridge.children.guard import Guard
from bridge.children.launcher import Launcher
from bridge.children.owner import ChildLimits, Owner
from bridge.children.policy import Sharing
from bridge.children.queue import LeaseQueue
from bridge.children.restart import FIRST_DELAY, Restarts
from bridge.children.spares import Spares
from bridge.children.starts import Starts
from bridge.children.traffic import Traffic
from bridge.children.watch import Watch
from bridge.config.server import ServerConfig
from bridge.protocol import messages
from bridge.protocol.errors import AtCapacity, ChildUnavailable, Resting
from bridge.protocol.mux import Undirected
from bridge.protocol.states import StartState

#: Seconds for which a spare child of a pool waits for the next exchange.
LINGER = 30.0
#: Seconds that an exchange waits for a child of a pool to come back.
LEASE_PATIENCE = 30.0


class Capacity:
    """How many children may live at once, over all servers (``MAX_CHILDREN``), and how many may be starting."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0
        self.starts = Starts()
        #: Asked for room when there is none, with the digest of the principal that wants it; says whether it made some.
        self.make_room: Callable[[AtCapacity, str], Awaitable[bool]] = no_room

    def take(self, server: str) -> None:
        """Count one more. Raises :class:`ChildUnavailable` when there is no room."""
        if self.used >= self.most:
            raise AtCapacity(server, f"all {self.most} child processes are in use (MAX_CHILDREN)", of_server=False)
        self.used += 1

    def give_back(self) -> None:
        """Count one less."""
        self.used -= 1


class Lease:
    """The right to use a child until :meth:`release`."""

    def __init__(self, pool: ChildPool, child: Child) -> None:
        self._pool = pool
        self.child = child
        self._held = True

    @property
    def connection(self) -> ChildConnection:
        """The child's connection."""
        return self.child.connection

    def release(self) -> None:
        """Give the child back; the last holder's release stops it."""
        if self._held:
            self._held = False
            self._pool.returned(self.child)

    async def gone(self) -> None:
        """Wait for the end of the child, if the release has made one."""
        if self.child.is_stopping:
            await self.child.ended.wait()


class ChildPool:
    """All children of one server. ``on_stderr`` gets the lines its children write to stderr.

    ``guard`` says which of their tools are for clients, None for all.
    """

    def __init__(
        self,
        config: ServerConfig,
        limits: ChildLimits,
        capacity: Capacity,
        on_stderr: Callable[[bytes], None],
        guard: Guard | None = None,
    ) -> None:
        self.config = config
        self._limits = limits
        self._capacity = capacity
        self._on_stderr = on_stderr
        self._guard = guard
        self._launcher = Launcher(config, capacity.starts, on_stderr)
        self.restarts = Restarts(config.id)
        self._closing = False
        self._retiring = False
        self._leaving: asyncio.Task[None] | None = None
        self._queue = LeaseQueue(self._hold, self._may_wait, self.returned, self._make_room)
        self._watches: WeakValueDictionary[Sharing, Watch] = WeakValueDictionary()  # as long as anyone has a use for it
        self.children: list[Child] = []
        self._spares = Spares(self.children, self._start_spare)
        self._past = Traffic()  # of children that have ended
        self.adjust(config)

    def adjust(self, config: ServerConfig) -> None:
        """Go by another configuration that is ``started_as`` this one."""
        self.config = config
        self.restarts.adjust(config.max_restarts, config.restart_delay or FIRST_DELAY)
        self._launcher.patience = config.start_timeout or self._limits.start_timeout

    def __repr__(self) -> str:
        held = sum(1 for child in self.children if child.holders)
        return f"<ChildPool {self.config.id} [{held} held, {len(self.children) - held} free]>"

    async def lease(self, sharing: Sharing, asker: str = "") -> Lease:
        """Return a lease on a child that is ready to be spoken to, starting one if need be.

        Where there are too many, one that nobody uses makes room, first of all one of the principal with the digest
        ``asker`` (that of ``sharing``, where it is not given). Under a policy that lends children for single exchanges,
        waits for one to come back when all are out.
        Raises :class:`ChildUnavailable` when there is no room for one, :class:`StartFailed` when it does not start.
        """
        child = await self._come_by(sharing, asker)
        self._launcher.hurry()
        try:
            await asyncio.shield(child.ready)
        except BaseException:
            self.returned(child)
            raise
        self._spares.taken(sharing)
        return Lease(self, child)

    def keep_warm(self, sharing: Sharing) -> None:
        """Start what the policy wants ready before anyone asks, as far as there is room for children."""
        if self.restarts.state is StartState.STOPPED:
            return
        if not (self._closing or self._retiring):
            self._launcher.prepare()
        self._spares.keep(sharing)

    def returned(self, child: Child) -> None:
        """A holder has gone. A child that nobody holds is stopped, or kept for the next exchange if it is clean."""
        child.holders -= 1
        if child.holders == 0 and not self._keeps(child):
            child.stop()
        self._queue.serve()

    def watch(self, sharing: Sharing) -> Watch:
        """Return where the children under a policy that lends them for exchanges are listened to."""
        watch = self._watches.get(sharing)
        if watch is None:
            watch = self._watches[sharing] = Watch()
        return watch

    def announce(self, method: str) -> None:
        """Tell whoever has a child here that a list has changed: the bridge has changed it, and no child says so.

        Who listens in two ways hears of it twice, which costs a list that is read once more.
        """
        message = Undirected(method, messages.notification_line(method))
        for watch in list(self._watches.values()):
            watch.hear(message)
        for child in list(self.children):
            child.connection.announce(message)

    @property
    def traffic(self) -> Traffic:
        """The requests that its children have got, those included that have ended."""
        return sum((child.connection.traffic for child in self.children), self._past)

    async def halt(self) -> None:
        """Stop every child, start none before :meth:`resume`."""
        self.restarts.stop()
        await self._stop_all()

    def resume(self) -> None:
        """Forget failures, and an earlier :meth:`halt`: the next request starts a child at once."""
        self.restarts.forgive()
        self._launcher = Launcher(self.config, self._capacity.starts, self._on_stderr)
        self.adjust(self.config)

    def retire(self) -> None:
        """Serve only who holds a child that is ready; when the last one has ended, nothing is left. The configuration
        has changed: who waits for a start may ask the pool that came after this one.
        """
        self._retiring = True
        for child in self.children:
            if child.holders == 0 or not child.ready.done():
                child.stop()
        if not self.children:
            self._retired()

    @property
    def is_retiring(self) -> bool:
        """Whether another configuration has taken its place."""
        return self._retiring

    def _retired(self) -> None:
        self._leaving = asyncio.create_task(self._launcher.close(), name=f"retire {self.config.id}")

    @property
    def is_gone(self) -> bool:
        """Whether it was retired, and nothing of it is left."""
        return self._leaving is not None and self._leaving.done() and not self.children

    async def _stop_all(self) -> None:
        owners = [child.owner for child in self.children if child.owner is not None]
        for child in self.children:
            child.stop()
        if owners:
            await asyncio.wait(owners)
        await self._launcher.close()

    async def close(self) -> None:
        """Stop every child and wait until none is left."""
        self._closing = True
        self._queue.serve()
        await self._stop_all()

    def _keeps(self, child: Child) -> bool:
        """Whether a child that has come back is clean and wanted (pgbouncer: a dirty connection is never lent on)."""
        if child.sharing.hold == "session" or not child.connection.is_clean or self._closing or self._retiring:
            return False
        idle = sum(1 for other in self.children if other.sharing == child.sharing and other.is_free)
        if idle > child.sharing.warm:
            child.leave_at = asyncio.get_running_loop().call_later(LINGER, self._leave, child)
        return True

    def _leave(self, child: Child) -> None:
        if child.holders == 0:
            child.stop()

    async def _come_by(self, sharing: Sharing, asker: str) -> Child:
        try:
            return await self._queue.child(sharing, LEASE_PATIENCE, asker or sharing.owner)
        except TimeoutError:
            raise ChildUnavailable(self.config.id, "all of its children are busy", retry_in=5) from None

    def _hold(self, sharing: Sharing) -> Child:
        child = self._choose(sharing)
        child.holders += 1
        child.used = True
        return child

    async def _make_room(self, full: AtCapacity, asker: str) -> bool:
        return await self._capacity.make_room(full, asker)

    def _may_wait(self, sharing: Sharing, why: ChildUnavailable) -> bool:
        """Whether a child may come back soon."""
        return sharing.hold == "exchange" and not self._closing and not isinstance(why, Resting)

    def _choose(self, sharing: Sharing) -> Child:
        if self._closing:
            raise ChildUnavailable(self.config.id, "the bridge is shutting down")
        free = [child for child in self.children if child.sharing == sharing and child.takes_holders]
        suiting = (child for child in free if child.suits(sharing.words))
        child = max(suiting, key=lambda child: child.has_answered, default=None)
        if child is not None:
            if child.leave_at is not None:
                child.leave_at.cancel()
                child.leave_at = None
            return child
        self._check_room(sharing)
        return self._start(replace(sharing, words=b""))  # its client is here, and greets it

    def _check_room(self, sharing: Sharing) -> None:
        alike = sum(1 for child in self.children if child.sharing == sharing and child.lives)
        if sharing.limit is not None and alike >= sharing.limit:
            why = f"all {sharing.limit} of its children are in use"
            if any(child.sharing == sharing and child.is_free for child in self.children):  # greeted for somebody else
                raise AtCapacity(self.config.id, why, of_server=True)
            raise ChildUnavailable(self.config.id, why, retry_in=1)
        most = self.config.max_children
        if most is not None and len(self.children) >= most:
            raise AtCapacity(self.config.id, f"all {most} of its children are in use (maxChildren)", of_server=True)

    def _start_spare(self, sharing: Sharing) -> None:
        """Start one for nobody yet, unless there are to be no more."""
        if not (self._closing or self._retiring):
            self._check_room(sharing)
            self._start(sharing)

    def _start(self, sharing: Sharing) -> Child:
        self._capacity.take(self.config.id)
        try:
            attempt = self.restarts.begin()
        except Resting:
            self._capacity.give_back()
            raise
        owner = Owner(self.config, self._limits, sharing, self._launcher, attempt, self._on_stderr, self._guard)
        child = owner.child
        self.children.append(child)
        if sharing.hold == "exchange":
            self._attend(child)
        child.owner = asyncio.create_task(self._own(owner), name=f"child {self.config.id}")
        return child

    def _attend(self, child: Child) -> None:
        """Have a child listened to from the moment that it is ready."""
        watch = self.watch(child.sharing)

        def ready(greeted: asyncio.Future[None]) -> None:
            if not greeted.cancelled() and greeted.exception() is None:
                watch.attend(child.connection)

        child.ready.add_done_callback(ready)

    async def _own(self, owner: Owner) -> None:
        try:
            await owner.run()
        finally:
            self.children.remove(owner.child)
            self._spares.ended(owner.child)
            self._past += owner.child.connection.traffic
            self._capacity.give_back()
            self._queue.serve()
            owner.child.ended.set()
            if self._retiring and not self.children:
                self._retired()


async def no_room(_full: AtCapacity, _asker: str) -> bool:
    """Nobody has a child to spare."""
    return False
