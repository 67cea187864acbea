"""The right of this node to its sessions: a lease in Redis, and what holds while Redis is away.

A node looks at its own clock before each request (:attr:`Lease.is_held`), so that one that was stopped for longer than
its lease knows it before it says anything. Redis is asked by :meth:`Lease.run` only, and by a request only when the
lease has run out.

While nobody reaches Redis, nobody can take anything: nodes go on with what they have. One that alone cannot reach it
must stop. So it asks the others, and those that cannot reach Redis either promise to take nothing for the length of a
lease.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence

from bridge.aio.flights import Flights
from bridge.cluster.beat import About, Beats
from bridge.cluster.ids import Birth
from bridge.cluster.members import Member
from bridge.cluster.roll import Roll
from bridge.config.errors import ConfigError
from bridge.config.settings import Settings
from bridge.stores.record import StoreUnavailable
from bridge.stores.redis import cluster_prefix
from bridge.stores.redis_link import RedisLink
from bridge.stores.redis_owned import PATIENCE

log = logging.getLogger(__name__)

#: Seconds for which a node is believed to live after it was heard of; it says so three times meanwhile.
LEASE = 3.0
#: Nodes that are named to a node with each beat. Where there are more, names are read less often: all nodes reading all
#: names each second is what would end first (docs/scaling.md).
NAMES_PER_BEAT = 50

_TAKEN = "another node that lives has this NODE_ID"

#: Asks nodes whether they cannot reach Redis either; True when all that live agree.
AskOthers = Callable[[Sequence[Member]], Awaitable[bool]]


def awake() -> float:
    """Seconds that also pass while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def lease_of(settings: Settings, *, now: Callable[[], float] = time.time) -> Lease:
    """Return the lease of a node that begins now, by settings that have been checked (``CLUSTER``)."""
    assert settings.node_url is not None
    birth = Birth(settings.node_name, int(now() * 1000))
    link = RedisLink(settings.redis_url, PATIENCE)
    return Lease(link, cluster_prefix(settings.redis_prefix), birth, settings.node_url)


class Lease:
    """The lease of one node. ``members`` are all nodes, ``address`` is where this one is reached, ``seconds`` how long
    it is believed to live.
    """

    def __init__(
        self,
        link: RedisLink,
        prefix: str,
        birth: Birth,
        address: str,
        *,
        seconds: float = LEASE,
        clock: Callable[[], float] = awake,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._link = link
        self._birth = birth
        #: How it is named where it owns something.
        self.owner = f"{birth.node}.{birth.epoch}"
        self._seconds = seconds
        self._clock = clock
        self._sleep = sleep
        self._beats = Beats(prefix, birth, seconds)
        self._about = About(address)
        self.members = Roll(birth, self._about)
        self._until = self._promised = -1.0
        self._has_begun = self._has_left = False
        self._is_sure = True  # that nothing was taken while the lease had run out
        self._skipped = 0  # beats without names
        self._renewing: Flights[None, None] = Flights("lease")
        #: Why the lease cannot be renewed; None while it can.
        self.problem: str | None = "it has not been asked for yet"
        self.ask_others: AskOthers = _agreed
        #: Awaited when a lease that had run out was got back, before it counts; may raise :class:`StoreUnavailable`.
        self.on_return: Callable[[], Awaitable[None]] = _nothing
        #: Called when what is in Redis may be gone.
        self.on_reach: Callable[[], object] = lambda: None

    def __repr__(self) -> str:
        return f"<Lease of {self._birth.node}, {'held' if self.is_held else 'not held'}: {self.problem or 'well'}>"

    @property
    def is_held(self) -> bool:
        """Whether this node may serve its sessions: a comparison, for each request."""
        return self._clock() < self._until

    @property
    def may_take(self) -> bool:
        """Whether nothing was promised to a node that cannot reach Redis."""
        return self._clock() >= self._promised

    def cannot_reach(self) -> bool:
        """Whether Redis cannot be reached from here; if so, this node takes nothing for the length of a lease."""
        if self.problem is None:
            return False
        self._promised = self._clock() + self._seconds
        return True

    async def begin(self) -> None:
        """Get the lease, if Redis can be reached. Raises :class:`ConfigError` where another node has this name."""
        end = self._clock() + 1.5 * self._seconds  # the node that had the name may just have ended
        await self.renew()
        while self.problem is _TAKEN and self._clock() < end:
            await self._sleep(self._seconds / 3)
            await self.renew()
        if self.problem is _TAKEN:
            raise ConfigError(f"NODE_ID: another node called {self._birth.node} lives; give each node its own name")

    async def run(self) -> None:
        """Renew it for ever."""
        while True:
            begun = self._clock()
            try:
                await self.renew()
            except Exception:
                log.exception("the lease could not be renewed; it is tried again")
            await self._sleep(max(0.0, self._seconds / 3 - (self._clock() - begun)))

    async def renew(self) -> None:
        """Renew it now, or find out that it does not count any longer; many may wait for the same answer."""
        if not self._has_left:
            await self._renewing.join(None, self._renew)

    async def look_up(self, node: str) -> Member | None:
        """Ask Redis for a node that was not named yet. Raises :class:`StoreUnavailable`."""
        found = await self._link.ask(lambda client: self._beats.find(client, node))
        if found is not None:
            self.members.learn({node: found}, is_all=False)
        return self.members.find(node)

    async def drain(self) -> None:
        """Tell the others that this node takes no new sessions."""
        self._about.takes = False
        await self.renew()

    @property
    def is_leaving(self) -> bool:
        """Whether this node is about to end, and takes nothing more."""
        return not self._about.takes

    async def leave(self) -> None:
        """Give it back at once, so that nobody waits until it has run out."""
        self._until, self._has_left = -1.0, True
        await self._renewing.close()
        try:
            if self._has_begun:
                await self._link.ask(self._beats.leave)
        except StoreUnavailable as error:
            log.warning("node %s could not give back its lease: %s", self._birth.node, error)
        await self._link.close()

    async def _renew(self) -> None:
        begun = self._clock()
        names_all = self._skipped >= (len(self.members) - 1) // NAMES_PER_BEAT
        try:
            self._link.open()
            heard = await self._link.ask(lambda client: self._beats.beat(client, self._about, names_all=names_all))
            if heard.holder != self._birth.epoch:
                self._until, self._is_sure = -1.0, False
                return self._say(_TAKEN)
            if names_all:
                self.members.learn(heard.members, is_all=not heard.is_settling)
            self._skipped = 0 if names_all else self._skipped + 1
            # Redis alone may not say so: a beat whose answer is lost is sent again by the client, and then finds the
            # lease that it has just made.
            if self._has_begun and (heard.had_run_out or not self.is_held):
                self._is_sure = False
            self._has_begun = True
            if not self._is_sure:
                await self.on_return()
        except StoreUnavailable as error:
            # It may arrive all the same, and late: then the next one would find no lease that had run out.
            self._is_sure = False
            self._say(str(error))
            if await self.ask_others(self.members.others()):
                self._until = max(self._until, begun + self._seconds)
            return None
        self._until = begun + self._seconds
        was_away, self._is_sure = self.problem is not None or not self._is_sure, True
        self._say(None)
        if was_away:
            self.on_reach()
        return None

    def _say(self, problem: str | None) -> None:
        if problem != self.problem:
            if problem is None:
                log.info("node %s has its lease, among %d node(s)", self._birth.node, len(self.members))
            else:
                log.warning("node %s cannot renew its lease: %s", self._birth.node, problem)
        self.problem = problem


async def _agreed(_: Sequence[Member]) -> bool:
    """There are no others."""
    return True


async def _nothing() -> None:
    """Nobody wants to know."""
