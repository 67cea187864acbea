"""A bridge as one of the two of a restart: it comes, is alone, and goes when another one comes."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable

from bridge.cluster.side import Between
from bridge.sessions.core import Core
from bridge.web.across import Across
from bridge.web.coming import Coming
from bridge.web.drain import DRAIN_LOOK, Drain
from bridge.web.leaving import Leaving
from bridge.web.port import Port
from bridge.web.stays import Stays

log = logging.getLogger(__name__)

#: Seconds that clients have to close connections on which nothing comes any more.
LINGER = 10.0


class Handover:
    """``comes`` is the place of a bridge that takes over from another, ``freed`` is set when the store is free for it.

    ``opens_door``: other processes of this host do not reach this one in any case. ``stand`` has requests answered for
    both bridges, or for this one only; ``drained`` is set when it may end.
    """

    def __init__(
        self,
        core: Core,
        drain: Drain,
        port: Port,
        base: str,
        stays: Stays,
        comes: Between | None,
        freed: asyncio.Event | None,
        *,
        opens_door: bool,
        stand: Callable[[Across | None], None],
        drained: asyncio.Event,
    ) -> None:
        self._core = core
        self._drain = drain
        self._port = port
        self._base = base
        self._stays = stays
        self._place = comes
        self._opens_door = opens_door
        self._stand = stand
        self._drained = drained
        self._task: asyncio.Task[None] | None = None
        self._coming = None if comes is None else Coming(core, drain, comes, base, stays, freed or asyncio.Event())
        #: What stands between this bridge and the other; None while there is none.
        self.across: Across | None = self._coming

    async def open_door(self) -> None:
        """Let the other bridge reach this one."""
        if self._opens_door and self._place is not None and self._place.node.socket is not None:
            await self._port.open_door(self._place.node.socket)

    def begin(self) -> None:
        """It listens now; be alone when the bridge before it has gone."""
        if self._coming is not None:
            self._task = asyncio.create_task(self._outlive(self._coming), name="coming")

    async def _outlive(self, coming: Coming) -> None:
        await coming.run()
        self._stand(None)
        await self._be_alone()

    async def is_alone(self) -> bool:
        """Whether there is no other bridge. It is looked for now: one that has just ended is not in the way."""
        coming = self._coming
        if coming is not None and self.across is coming and self._task is not None and not await coming.is_there():
            await asyncio.wait([self._task])
        return self.across is None

    async def give_way(self, place: Between, patience: float) -> None:
        """Leave what comes to another bridge, and ask for the end when what is here has ended: in ``patience`` seconds
        at most.
        """
        await self.is_alone()  # what has begun while the other was there ends first
        leaving = Leaving(self._core, self._drain, place, self._base, self._stays)
        self._place, self.across = place, leaving
        await self.open_door()
        self._stand(leaving)
        await self._port.rest()
        self._drain.hands_over = True
        log.info("the new bridge takes over; this one ends with its sessions, in %g s at most", patience)
        self._task = asyncio.create_task(self._go(leaving, patience), name="leaving")

    async def _go(self, leaving: Leaving, patience: float) -> None:
        try:
            async with asyncio.timeout(patience):
                await leaving.give()
                while self._drain.running or not self._core.has_left():  # noqa: ASYNC110
                    await asyncio.sleep(DRAIN_LOOK)
            log.info("every session has ended or is with the new bridge")
        except TimeoutError:
            log.warning("%d session(s) did not end in time and end now", len(self._core.stream_pool))
        await self._port.see_off(LINGER)
        self._drained.set()

    async def come_back(self) -> None:
        """Go on as before: the bridge that was to take over has died."""
        await self.rest()
        self._drained.clear()
        await self._core.read_again()
        self._stand(None)
        await self._be_alone()
        self._drain.hands_over = False
        await self._port.listen(self._port.sockets)

    async def rest(self) -> None:
        """Do nothing more by itself."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def close(self) -> None:
        """Let go of the other bridge."""
        await self.rest()
        await self._be_alone()

    async def _be_alone(self) -> None:
        across, self.across = self.across, None
        if across is not None:
            across.close()
        if self._opens_door and self._place is not None and self._place.node.socket is not None:
            await self._port.close_door(self._place.node.socket)
            shutil.rmtree(self._place.own.directory, ignore_errors=True)
