"""Server id to the pool of its children."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping

from bridge.children.child import Child
from bridge.children.crowd import told
from bridge.children.guard import guard_of
from bridge.children.held_seat import OwnSeat, SharedSeat
from bridge.children.owner import ChildLimits
from bridge.children.pinbook import PinBook
from bridge.children.policy import MODERN, Need, Sharing, choose, with_variables
from bridge.children.pool import Capacity, ChildPool, Lease, no_room
from bridge.children.pooled_seat import PooledSeat
from bridge.children.restart import Restarts
from bridge.children.seat import Seat
from bridge.children.startable import why_not
from bridge.children.traffic import Traffic
from bridge.children.upseat import UpSeat
from bridge.children.variables import OwnVariables
from bridge.config.server import ALL_SERVERS, ServerConfig
from bridge.process.pressure import Reading
from bridge.protocol.errors import AtCapacity, BridgeError, Fault, OtherEra, Rejection
from bridge.protocol.states import StartState

#: Servers of before that are remembered though nothing runs on them: those that went last.
MOST_BEFORE = 1000


class Registry:
    """All configured servers. ``stderr_sink`` makes the function that takes the stderr lines of one server.

    ``pins``: what their tools were when they were first seen; None where nobody wants to know.
    """

    def __init__(
        self,
        entries: Mapping[str, ServerConfig],
        limits: ChildLimits,
        max_children: int,
        stderr_sink: Callable[[str], Callable[[bytes], None]],
        pins: PinBook | None = None,
    ) -> None:
        self._capacity = Capacity(max_children)
        self._capacity.make_room = self._make_room
        #: Asked to end a child that is held and not used, for the principal with this digest; says whether it did.
        self.on_full: Callable[[AtCapacity, str], Awaitable[bool]] = no_room
        self._limits = limits
        self._stderr_sink = stderr_sink
        self._pins = pins
        self.entries: dict[str, ServerConfig] = {}
        #: Servers that cannot be served because of a mistake in their entry.
        self.mistaken: frozenset[str] = frozenset()
        #: Those of before as well: what still runs on them has to end by their rules. And what stands for all of them.
        self.known: dict[str, ServerConfig] = {ALL_SERVERS: ServerConfig(ALL_SERVERS, (), {})}
        #: Called when servers have come, gone, changed, stopped or started, with the ids of these, and of those among
        #: them whose children take no new client.
        self.on_change: list[Callable[[frozenset[str], frozenset[str]], None]] = []
        self._modern: dict[str, bool] = {}
        self._modern_only: set[str] = set()
        self._pools: dict[str, ChildPool] = {}
        self._retired: list[ChildPool] = []
        self.replace(entries)

    def replace(self, entries: Mapping[str, ServerConfig], restarted: Iterable[str] = ()) -> None:
        """Make these the servers. Children of ``restarted`` ones, or of those that are gone, serve who holds them. What
        an operator has stopped stays so for as long as it is a server.
        """
        active = {server for server, config in entries.items() if not config.disabled}
        gone = frozenset({*restarted, *(self._pools.keys() - active)})
        concerned = gone | (active - self._pools.keys())
        stopped = {server for server, pool in self._pools.items() if pool.restarts.state is StartState.STOPPED}
        for server in gone:
            pool = self._pools.pop(server)
            pool.retire()
            self._modern.pop(server, None)
            self._modern_only.discard(server)
            self._retired = [each for each in [*self._retired, pool] if not each.is_gone]
        self.entries.clear()
        self.entries.update(entries)
        self._remember(entries)
        for server in active:
            if server in self._pools:
                self._pools[server].adjust(entries[server])
            else:
                self._pools[server] = self._new_pool(entries[server])
                if server in stopped:
                    self._pools[server].restarts.stop()
        if concerned:
            self._tell(concerned, gone)

    def _remember(self, entries: Mapping[str, ServerConfig]) -> None:
        for server in entries:
            self.known.pop(server, None)  # so that what has gone stands before, in the order in which it went
        self.known.update(entries)
        needed = {ALL_SERVERS, *entries, *(pool.config.id for pool in self._retired if pool.children)}
        before = [server for server in self.known if server not in needed]
        for server in before[:-MOST_BEFORE]:
            del self.known[server]

    def _tell(self, concerned: frozenset[str], gone: frozenset[str] = frozenset()) -> None:
        for hear in list(self.on_change):
            hear(concerned, gone)

    def _new_pool(self, config: ServerConfig) -> ChildPool:
        guard = guard_of(config, None if self._pins is None else self._pins.of(config))
        pool = ChildPool(config, self._limits, self._capacity, self._stderr_sink(config.id), guard)
        why = why_not(config)
        pool.restarts.tell(why, why)
        return pool

    def speaks_modern(self, server: str) -> bool | None:
        """Whether children of a server speak the modern era; None as long as nobody has asked one.

        Raises what :meth:`pool` raises: the server may have gone while its caller waited for something.
        """
        era = self.pool(server).config.child_era
        return self._modern.get(server) if era == "auto" else era == "modern"

    def speaks_handshake(self, server: str) -> bool:
        """Whether they speak the handshake era: they do until one has refused ``initialize``.

        Raises what :meth:`pool` raises.
        """
        return self.pool(server).config.child_era != "modern" and server not in self._modern_only

    def learn(self, server: str, *, modern: bool) -> None:
        """Remember what a child has answered to ``server/discover``; what contradicts that is forgotten."""
        self._modern[server] = modern
        if not modern:
            self._modern_only.discard(server)

    def learn_modern_only(self, server: str) -> None:
        """Remember that a child has refused ``initialize``; what contradicts that is forgotten."""
        self._modern_only.add(server)
        if self._modern.get(server) is False:
            del self._modern[server]

    def check(self, server: str) -> None:
        """Raise :class:`Rejection` (404) where there is no such server, or it is disabled."""
        if server in self._pools or server in self.mistaken:
            return
        if server in self.entries:
            raise Rejection(Fault.UNKNOWN_SERVER, f'server "{server}" is disabled; set "disabled": false')
        raise Rejection(Fault.UNKNOWN_SERVER, f'no server "{server}" is in the configuration; GET /servers lists them')

    def pool(self, server: str) -> ChildPool:
        """Return the pool of a server. Raises :class:`Rejection` when there is none."""
        pool = self._pools.get(server)
        if pool is None:
            self.check(server)
            why = "there is a mistake in its configuration; mcp-bridge check tells which"  # and only who operates it
            raise Rejection(Fault.RESTING, f'server "{server}" cannot be started: {why}')
        return pool

    async def seat(
        self,
        server: str,
        need: Need,
        owner: str = "",
        variables: OwnVariables | None = None,
        asker: str = "",
        words: bytes = b"",
    ) -> Seat:
        """Return a seat at a server. Raises :class:`Rejection` when there is none, and what a lease raises.

        ``owner`` is the digest of the principal that it is for: a child that the bridge greets may keep what a caller
        did, so it serves one principal, unless ``sharing`` says otherwise. ``asker``, the same where not given, is
        that of the principal whose own idle children make room first. At a server that only speaks the modern era
        a handshake client's seat translates. With ``variables`` it is a child that nobody else gets. ``words`` are
        those with which its client will greet it, as far as they are known.
        """
        while True:
            pool = self.pool(server)
            sharing = with_variables(choose(self.entries[server], need, owner, words), variables)
            try:
                seat = await self._seat(pool, server, sharing, asker or owner, need)
            except BridgeError:
                if self._pools.get(server) is pool:
                    raise
                continue  # the configuration has changed meanwhile
            if self._pools.get(server) is pool:
                return seat
            seat.release()

    async def lease(self, server: str, sharing: Sharing, asker: str) -> Lease:
        """Return a lease on a child of a server. Raises what :meth:`seat` raises."""
        while True:
            pool = self.pool(server)
            try:
                return await pool.lease(sharing, asker)
            except BridgeError:
                if self._pools.get(server) is pool:
                    raise  # else the configuration has changed meanwhile

    async def _seat(self, pool: ChildPool, server: str, sharing: Sharing, asker: str, need: Need) -> Seat:
        modern = with_variables(MODERN, sharing.variables)
        if sharing == modern:
            return await _take(pool, modern, asker, need)
        if self.speaks_handshake(server):
            try:
                return await _take(pool, sharing, asker, need)
            except OtherEra:
                self.learn_modern_only(server)
                return UpSeat(await _take(pool, modern, asker, need), asker)
        try:
            return UpSeat(await _take(pool, modern, asker, need), asker)
        except OtherEra:  # it was, some time ago; a remote server may change
            self.learn(server, modern=False)
            if not self.speaks_handshake(server):
                raise
            return await _take(pool, sharing, asker, need)

    async def _make_room(self, full: AtCapacity, asker: str) -> bool:
        """Wait for one that is ending, or end one: one that nobody holds, before one that is held and not used."""
        children = self.pool(full.server).children if full.of_server else self.children()
        for child in sorted(children, key=lambda child: child.lives):
            if child.is_free:
                child.stop()
            elif child.lives:
                continue
            await child.ended.wait()
            return True
        return await self.on_full(full, asker)

    async def stop(self, server: str) -> None:
        """End every child of a server, those of an earlier configuration that still serve someone included, and start
        none before :meth:`start`. Raises :class:`Rejection`.
        """
        earlier = [pool for pool in self._retired if pool.config.id == server]
        await asyncio.gather(*(pool.halt() for pool in (self.pool(server), *earlier)))
        self._tell(frozenset([server]))

    @property
    def stopped(self) -> list[str]:
        """The servers that an operator has stopped."""
        found = (server for server, pool in self._pools.items() if pool.restarts.state is StartState.STOPPED)
        return sorted(found)

    async def keep_stopped(self, servers: Collection[str]) -> None:
        """Stop these and no others, as far as they are servers: what was said to a process before this one, or beside
        it, holds for this one too.
        """
        stopped = self.stopped
        for server in stopped:
            if server not in servers:
                self.start(server)
        late = [server for server in servers if server in self._pools and server not in stopped]
        await asyncio.gather(*map(self.stop, late))

    def start(self, server: str) -> None:
        """Let children of a server start again, whatever has happened. Raises :class:`Rejection`."""
        pool = self.pool(server)
        pool.resume()
        pool.keep_warm(choose(self.entries[server], Need.SESSION))
        self._tell(frozenset([server]))

    def restarts(self, server: str) -> Restarts | None:
        """What became of the last starts of a server; None for one that is disabled."""
        pool = self._pools.get(server)
        return None if pool is None else pool.restarts

    def traffic(self, server: str) -> Traffic:
        """The requests that the children of a server have got since the bridge was started."""
        pool = self._pools.get(server)
        return Traffic() if pool is None else pool.traffic

    def troubles(self) -> list[str]:
        """Which servers cannot be started just now, and why."""
        return [
            f"server {server} is in {pool.restarts.state.value}: {pool.restarts.public_error}"
            for server, pool in self._pools.items()
            if pool.restarts.state in (StartState.BACKOFF, StartState.FATAL)
        ]

    def keep_warm(self) -> None:
        """Start what should be ready before anyone asks."""
        for server, pool in self._pools.items():
            pool.keep_warm(choose(self.entries[server], Need.SESSION))

    def children_in_use(self) -> Reading:
        """How much of ``MAX_CHILDREN`` is in use."""
        used, most = self._capacity.used, self._capacity.most
        return Reading(used / most, f"{used} of {most} child processes (MAX_CHILDREN)")

    def children(self) -> list[Child]:
        """Every child that lives now."""
        return [child for pool in (*self._pools.values(), *self._retired) for child in pool.children]

    async def close(self) -> None:
        """Stop all children of all servers at the same time."""
        await asyncio.gather(*(pool.close() for pool in (*self._pools.values(), *self._retired)))


async def _take(pool: ChildPool, sharing: Sharing, asker: str, need: Need) -> Seat:
    """Return the seat that a policy gives. Raises what :meth:`ChildPool.lease` raises."""
    lease = await pool.lease(sharing, asker)
    if sharing.is_private:
        return OwnSeat(lease)
    if sharing.hold == "session":
        return SharedSeat(lease, need)
    seat = PooledSeat(pool, sharing, told(lease.child.greeting, sharing, need), asker)
    lease.release()
    return seat
