"""Where a bridge is reached: the sockets of its port, and unix sockets for other processes of this host."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from pathlib import Path
from ssl import SSLContext

from aiohttp import web

from bridge.config.errors import ConfigError
from bridge.config.settings import Settings
from bridge.web.listening import BACKLOG, listen

#: Seconds that connections get to send the errors with which a shutdown ends what still runs.
LAST_WORDS = 2.0


class Port:
    """Takes connections for one server, which :meth:`open` is given. ``context`` is that of https."""

    def __init__(self, settings: Settings, context: SSLContext | None) -> None:
        self._settings = settings
        self._context = context
        self._runner: web.ServerRunner | None = None
        self._sites: list[web.SockSite] = []
        self._doors: dict[Path, web.UnixSite] = {}
        #: The sockets of the port.
        self.sockets: list[socket.socket] = []
        self.url = ""

    async def open(self, server: web.Server) -> None:
        """Get ready to take connections."""
        self._runner = web.ServerRunner(server, shutdown_timeout=LAST_WORDS)
        await self._runner.setup()

    async def listen(self, sockets: Sequence[socket.socket] = ()) -> None:
        """Take them from these sockets, or from new ones. Raises :class:`ConfigError` if the address cannot be had."""
        assert self._runner is not None
        self.sockets = [*sockets] or listen(self._settings.host, self._settings.port)
        self.url = self._settings.url(self.sockets[0].getsockname()[1])
        self._sites = [
            web.SockSite(self._runner, each, backlog=BACKLOG, ssl_context=self._context) for each in self.sockets
        ]
        for site in self._sites:
            await site.start()

    async def rest(self) -> None:
        """Take none any more, and keep the sockets."""
        self.sockets = [each.dup() for each in self.sockets]
        for site in self._sites:
            await site.stop()

    async def open_door(self, path: Path) -> None:
        """Take connections from a unix socket too. Raises :class:`ConfigError`."""
        assert self._runner is not None
        self._doors[path] = web.UnixSite(self._runner, path, backlog=BACKLOG)
        try:
            await self._doors[path].start()
        except OSError as error:
            raise ConfigError(f"{path}: cannot listen there: {error.strerror or error}") from None

    async def close_door(self, path: Path) -> None:
        """Take none from there any more."""
        door = self._doors.pop(path, None)
        if door is not None and self._runner is not None and door in self._runner.sites:
            await door.stop()

    async def see_off(self, seconds: float) -> None:
        """Wait for clients to close their connections: each answer asks them to, load balancers see that this node is
        not ready, and what is sent meanwhile is passed on. A request that crosses with a connection that we close would
        get no answer, and so would one that waits to be accepted when we stop listening.
        """
        end = asyncio.get_running_loop().time() + seconds
        while self._has_clients() and asyncio.get_running_loop().time() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    async def close(self) -> None:
        """End every connection."""
        if self._runner is not None:
            await self._runner.cleanup()
        for each in self.sockets:
            each.close()

    def _has_clients(self) -> bool:
        """Whether there are connections of clients. Those of other processes of this host come over a unix socket."""
        server = None if self._runner is None else self._runner.server
        connections = [] if server is None else server.connections
        transports = (each.transport for each in connections)
        return any(each is not None and isinstance(each.get_extra_info("sockname"), tuple) for each in transports)
