"""A bridge that another one takes over from: it keeps what it has, gives away what it can, and passes on all else."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator

from aiohttp import web

from bridge.cluster.side import Between
from bridge.protocol.errors import Fault, Rejection
from bridge.sessions.core import Core
from bridge.sessions.parcel import packed
from bridge.sessions.room import SessionEntry
from bridge.web.across import SESSION, STORE, Across, Ways
from bridge.web.drain import Drain
from bridge.web.links import Broken, Unreachable
from bridge.web.stays import Stays

log = logging.getLogger(__name__)

#: Seconds between two looks at whether calls have ended.
LOOK = 0.05


class Leaving(Across):
    """The one that goes."""

    def __init__(self, core: Core, drain: Drain, place: Between, base: str, stays: Stays) -> None:
        super().__init__(core, drain, place, base, stays)
        self._given: set[str] = set()  # sessions that the other has by now, or in a moment
        self._used: Counter[str] = Counter()  # requests of each session

    async def give(self) -> None:
        """Give every kept session away as soon as no request of it runs, and then the store."""
        kept, pool = self._core.kept, self._core.stream_pool
        if not kept.is_lasting or self._other.newest(self._node.members.own.node) is None:
            return  # nobody comes who has the same store
        while entries := [entry for entry in pool.entries() if entry.session.is_kept]:
            for entry in entries:
                if kept.keeper.problem is None and not entry.session.is_busy and not self._used[entry.key]:
                    await self._give(entry)
            await asyncio.sleep(LOOK)
        await self._core.write()
        await self._tell(STORE, b"")
        log.info("%d kept session(s) are with the new bridge, and so is the store", len(self._given))

    async def _give(self, entry: SessionEntry) -> None:
        self._given.add(entry.key)
        self._core.sessions.hand_over(entry)
        found = await self._core.kept.keeper.load(entry.key)
        if found is not None:
            await self._tell(SESSION, packed(*found))

    async def _tell(self, path: str, body: bytes) -> None:
        member = self._other.newest(self._node.members.own.node)
        try:
            status = 0 if member is None else await self._there.tell(member, path, body)
        except (Unreachable, Broken) as error:
            log.warning("the new bridge does not answer (%s): it will find in the store what there is", error)
        else:
            if status != 204:
                log.warning("the new bridge refuses a session (%d): it will find in the store what there is", status)

    async def _ways(self, session_id: str | None) -> Ways:
        if session_id is not None and (member := self._other.minter(session_id)) is not None:
            return [(self._there, member)]
        successor = None if session_id is None else self._other.successor(session_id)
        ways = [(self._there, each) for each in ([successor] if successor else self._other.all()[:1])]
        own = None if session_id is None else self._own.minter(session_id)
        if own is not None and own.address != self._node.members.own.address:
            ways.insert(0, (self._here, own))
        return ways

    async def _answer(self, session_id: str, local: Callable[[], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
        with self._using(session_id):
            return await local()

    async def _arrived(
        self, request: web.BaseRequest, session_id: str | None, local: Callable[[], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if session_id is None:
            return await local()
        if session_id in self._given:
            raise Rejection(Fault.ELSEWHERE, "the new bridge has this session")
        # An open stream holds nothing up: its client comes back to the new one.
        return await (local() if request.method == "GET" else self._answer(session_id, local))

    async def _told(self, path: str, body: bytes) -> web.StreamResponse:
        raise Rejection(Fault.UNKNOWN_PATH, f"{path} is for the bridge that comes")

    @contextlib.contextmanager
    def _using(self, session_id: str) -> Iterator[None]:
        self._used[session_id] += 1
        try:
            yield
        finally:
            self._used[session_id] -= 1
            if not self._used[session_id]:
                del self._used[session_id]
