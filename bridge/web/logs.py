"""``/api/v1/logs`` and ``/api/v1/servers/{id}/logs``: the log files, for who has no shell on this machine.

``?tail=N`` gives the last lines as JSON; with ``&follow=true`` they come as events, one line each, and so does what is
written later. Files are read in a thread, and no answer is larger than what a person looks at.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from bridge.children.registry import Registry
from bridge.config import values
from bridge.observe.tail import LOOK, MOST_LINES, Tail
from bridge.protocol.errors import Fault, Rejection
from bridge.web.drain import Drain
from bridge.web.principal import check_admin
from bridge.web.reply import KEEP_ALIVE, PING, event_stream, json_answer
from bridge.web.stays import Stays

#: Lines where the caller does not say how many.
DEFAULT_LINES = 100
#: Streams at the same time: each looks at its file a few times a second.
MOST_FOLLOWERS = 50


class LogsFace:
    """The handlers of logs, which lie in ``directory``."""

    def __init__(self, registry: Registry, directory: Path, drain: Drain, stays: Stays) -> None:
        self._registry = registry
        self._directory = directory
        self._drain = drain
        self._stays = stays
        self._followers = 0

    def routes(self) -> list[web.RouteDef]:
        """Return what it answers."""
        return [
            web.get("/api/v1/logs", self.bridge, allow_head=False),
            web.get("/api/v1/servers/{server_id}/logs", self.server, allow_head=False),
        ]

    async def server(self, request: web.Request) -> web.StreamResponse:
        """Tell what the children of a server wrote to stderr: for operators, as it may hold what anyone has called."""
        check_admin(request)
        server = request.match_info["server_id"]
        if server not in self._registry.entries:
            self._registry.check(server)
        return await self._tell(request, self._directory / "servers" / f"{server}.log")

    async def bridge(self, request: web.Request) -> web.StreamResponse:
        """Tell what the bridge itself has logged."""
        check_admin(request)
        return await self._tell(request, self._directory / "bridge.log")

    async def _tell(self, request: web.Request, path: Path) -> web.StreamResponse:
        count = _asked(request, "tail", values.whole(0, MOST_LINES), DEFAULT_LINES)
        follows = _asked(request, "follow", values.flag, False)
        with Tail(path) as tail:
            lines = await self._read(tail, count)
            if not follows:
                return json_answer({"lines": lines})
            if self._followers >= MOST_FOLLOWERS:
                raise Rejection(Fault.UNAVAILABLE, f"{MOST_FOLLOWERS} callers follow logs already", retry_in=30)
            self._followers += 1
            try:
                with self._stays.during(request):
                    return await self._follow(request, tail, lines)
            finally:
                self._followers -= 1

    async def _read(self, tail: Tail, count: int | None) -> list[str]:
        """Return the last lines, or for None those written since. Raises :class:`Rejection` where there is no file."""
        loop = asyncio.get_running_loop()
        try:
            if count is None:
                return await loop.run_in_executor(None, tail.more)
            if not await loop.run_in_executor(None, _can_be_written, self._directory / "servers"):
                raise Rejection(
                    Fault.UNKNOWN_PATH, "there are no log files: LOG_DIR cannot be written, as the console said"
                )
            return await loop.run_in_executor(None, tail.last, count)
        except OSError as error:
            raise Rejection(Fault.UNKNOWN_PATH, f"the log cannot be read: {error.strerror}") from None

    async def _follow(self, request: web.Request, tail: Tail, lines: list[str]) -> web.StreamResponse:
        response = event_stream(request)
        await response.prepare(request)
        data, silent = _events(lines) or PING, 0.0
        with contextlib.suppress(ConnectionError, Rejection):  # the client has gone, or the file has
            while not self._drain.begun:
                if data:
                    await response.write(data)  # waits for a slow reader: what it has not read stays in the file
                    silent = 0.0
                await asyncio.sleep(LOOK)
                silent += LOOK
                data = _events(await self._read(tail, None)) or (PING if silent >= KEEP_ALIVE else b"")
            await response.write_eof()
        return response


def _can_be_written(folder: Path) -> bool:
    """Whether there is such a folder for us, or one in which the next line makes it again."""
    there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    return there.is_dir() and os.access(there, os.W_OK)


def _events(lines: list[str]) -> bytes:
    return b"".join(b"data: %b\n\n" % line.encode(errors="backslashreplace") for line in lines)


def _asked(request: web.Request, name: str, read: Callable[[Any], Any], default: Any) -> Any:
    value = request.query.get(name)
    if value is None:
        return default
    try:
        return read(value)
    except values.Wanted as wanted:
        raise Rejection(Fault.BAD_PARAMS, f'"{name}" is {value[:40]!r}, must be {wanted}') from None
