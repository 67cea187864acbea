"""Streams stay open for days; whoever has one is asked again and again for a token that is still good.

So a token that was removed or has expired ends what was opened with it, as it ends the next request.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator

from aiohttp import web

from bridge.protocol.errors import Rejection

log = logging.getLogger(__name__)

#: Seconds between two looks at all open streams.
INTERVAL = 5.0


class Stays:
    """The streams that are open. ``admit`` raises :class:`Rejection` for a request that may not be here any longer."""

    def __init__(self, admit: Callable[[web.BaseRequest], Awaitable[None]]) -> None:
        self._admit = admit
        self._open: dict[int, web.BaseRequest] = {}  # by their identity: requests have no hash
        self._timer: asyncio.TimerHandle | None = None
        self._looking: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def during(self, request: web.BaseRequest) -> Iterator[None]:
        """Cut the connection of a request when it may not be here any longer, for the length of the block."""
        self._open[id(request)] = request
        self._look_later()
        try:
            yield
        finally:
            del self._open[id(request)]
            if not self._open and self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _look_later(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(INTERVAL, self._begin)

    def _begin(self) -> None:
        self._timer = None
        self._looking = asyncio.create_task(self._look(), name="stays")

    async def _look(self) -> None:
        try:
            for request in list(self._open.values()):
                try:
                    await self._admit(request)
                except Rejection as refused:
                    log.info("a stream ends: %s", refused)
                    if request.transport is not None:
                        request.transport.close()
        finally:
            if self._open:
                self._look_later()
