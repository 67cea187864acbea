"""A bridge that takes over from another one: asks that about sessions it does not know, and gets kept ones from it."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Awaitable, Callable

from aiohttp import web

from bridge.cluster.side import Between
from bridge.protocol.errors import Fault, Rejection
from bridge.sessions.core import Core
from bridge.sessions.parcel import unpacked
from bridge.web.across import SESSION, Across, Ways
from bridge.web.drain import Drain
from bridge.web.stays import Stays

log = logging.getLogger(__name__)

#: Seconds between two looks at whether the other bridge lives.
LOOK = 0.25
#: Seconds for which a request waits for its session, which is on its way here.
PATIENCE = 10.0
#: Seconds between two looks at whether it has come.
ARRIVAL_LOOK = 0.01


class Coming(Across):
    """The one that comes. ``store_after`` is set when the other has closed the store."""

    def __init__(
        self, core: Core, drain: Drain, place: Between, base: str, stays: Stays, store_after: asyncio.Event
    ) -> None:
        super().__init__(core, drain, place, base, stays)
        self._store_after = store_after

    async def run(self) -> None:
        """Return when the other bridge has gone, and what it has left in the store is known."""
        while await self.is_there():  # noqa: ASYNC110
            await asyncio.sleep(LOOK)
        self._store_after.set()
        await self._core.kept.keeper.opened(PATIENCE)
        shutil.rmtree(self._other.directory, ignore_errors=True)
        log.info("the bridge before this one has gone")

    async def is_there(self) -> bool:
        """Look whether the other bridge lives."""
        own = self._node.members.own.node
        living = [member.node for member in self._other.all() if await answers(member.address.removeprefix("unix:"))]
        if own not in living:
            self._store_after.set()
        return bool(living)

    async def _ways(self, session_id: str | None) -> Ways:
        if session_id is None:
            return []
        member = self._other.minter(session_id)
        if member is None:
            if self._store_after.is_set():
                await self._core.kept.keeper.opened(PATIENCE)
            return []
        successor = self._own.successor(session_id)
        return [(self._there, member), *([] if successor is None else [(self._here, successor)])]

    async def _arrived(
        self, request: web.BaseRequest, session_id: str | None, local: Callable[[], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if session_id is not None:
            own = self._own.minter(session_id)
            if own is None or own.address == self._node.members.own.address:
                await self._wait_for(session_id)
        return await local()

    async def _wait_for(self, session_id: str) -> None:
        """Wait until a session that was on its way is here, or is known not to come."""
        sessions, keeper = self._core.sessions, self._core.kept.keeper
        end = asyncio.get_running_loop().time() + PATIENCE
        while not self.holds(session_id) and not sessions.has_ended(session_id):
            if (keeper.has_read and not keeper.waits) or asyncio.get_running_loop().time() >= end:
                return
            await asyncio.sleep(ARRIVAL_LOOK)

    async def _told(self, path: str, body: bytes) -> web.StreamResponse:
        if path == SESSION:
            self._adopt(body)
        else:
            self._store_after.set()
        return web.Response(status=204)

    def _adopt(self, body: bytes) -> None:
        try:
            record, events = unpacked(body)
        except ValueError as error:
            raise Rejection(Fault.BAD_PARAMS, f"this is no session: {error}") from None
        if not self.holds(record.id):
            self._core.sessions.adopt(record, events)
            if (entry := self._core.stream_pool.find(record.id)) is not None:
                self._core.kept.save(entry)


async def answers(path: str) -> bool:
    """Whether somebody listens on a unix socket."""
    try:
        async with asyncio.timeout(LOOK):
            _, writer = await asyncio.open_unix_connection(path)
    except TimeoutError:  # it hangs, and lives
        return True
    except OSError:
        return False
    writer.close()
    return True
