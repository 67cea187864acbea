"""The whole bridge, wired: what listens, what reaps, and how it all ends.

``web/front`` stands before every route: ``Host``, ``Origin`` and token, and errors as answers. aiohttp cancels
a handler when its client hangs up (``handler_cancellation``): a ``/bridge`` call is then cancelled on its child, while
a call of a session goes on, because it belongs to the session and not to the handler.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from aiohttp import web

from bridge.children.owner import ChildLimits
from bridge.children.registry import Registry
from bridge.config.errors import ConfigError
from bridge.config.servers import Servers
from bridge.config.settings import Settings
from bridge.sessions.bridge import BridgeClient, BridgeClients
from bridge.sessions.directory import SessionDirectory
from bridge.sessions.modern import ModernCalls
from bridge.sessions.parking import Parking
from bridge.sessions.pool import SessionPool
from bridge.sessions.reaper import BRIDGE_WORDS, STREAM_WORDS, Reaper
from bridge.sessions.streamable import StreamableSession
from bridge.sessions.timing import Timing
from bridge.web.bridge import BridgeFace
from bridge.web.drain import Drain
from bridge.web.front import Front
from bridge.web.guards import Guards
from bridge.web.mcp import McpFace
from bridge.web.modern import ModernFace
from bridge.web.reply import keep_alive
from bridge.web.sse import SseFace
from bridge.web.status import StatusFace

log = logging.getLogger(__name__)

#: Seconds that connections get to send the errors with which a shutdown ends what still runs.
LAST_WORDS = 2.0


class Service:
    """One bridge: :meth:`start` it, :meth:`stop` it. Must be made on the event loop that it runs on.

    ``stderr_sink`` makes, for a server id, the function that takes each line its children write to stderr.
    """

    def __init__(
        self, settings: Settings, servers: Servers, stderr_sink: Callable[[str], Callable[[bytes], None]]
    ) -> None:
        self._settings = settings
        timing = Timing(settings, servers.entries)
        limits = ChildLimits(settings.max_message_bytes, settings.start_timeout)
        self.registry = Registry(servers.entries, limits, settings.max_children, stderr_sink)
        bridge_pool: SessionPool[BridgeClient] = SessionPool("bridge", time.monotonic, settings.max_sessions)
        stream_pool: SessionPool[StreamableSession] = SessionPool("streamable", time.monotonic, settings.max_sessions)
        self._clients = BridgeClients(self.registry, bridge_pool, timing.bridge_ttl)
        self._sessions = SessionDirectory(self.registry, stream_pool, timing.stream_ttl)
        self._reapers: tuple[Reaper[BridgeClient], Reaper[StreamableSession]] = (
            Reaper(
                bridge_pool,
                BRIDGE_WORDS,
                ttl=settings.bridge_ttl,
                interval=timing.bridge_interval(),
                enabled=not settings.disable_bridge_cleanup,
            ),
            Reaper(
                stream_pool,
                STREAM_WORDS,
                ttl=settings.stream_ttl,
                interval=timing.stream_interval(),
                enabled=not settings.disable_stream_cleanup,
            ),
        )
        self._drain = Drain()
        self._parking = Parking()
        self._calls = ModernCalls(self.registry, self._clients, timing, self._parking)
        self._guards = Guards(settings)
        silence = keep_alive()
        self._mcp = McpFace(
            self.registry,
            self._sessions,
            ModernFace(self._calls, self._drain, silence),
            timing,
            self._drain,
            silence,
            implicit=settings.implicit_initialize,
        )
        self._bridge = BridgeFace(self.registry, self._clients, timing, self._drain)
        self._routes = web.AppRunner(
            _application(
                settings,
                self._mcp,
                SseFace(self.registry, self._sessions, timing, self._drain, silence),
                self._bridge,
                StatusFace(self.registry, (bridge_pool, stream_pool), self._parking, servers.problems, self._guards),
            )
        )
        self._runner: web.ServerRunner | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.url = ""

    @property
    def draining(self) -> bool:
        """Whether it has begun to stop."""
        return self._drain.begun

    async def start(self) -> None:
        """Listen and reap. Raises :class:`ConfigError` when the address cannot be had."""
        host, port = self._settings.host, self._settings.port
        self._runner = web.ServerRunner(await self._server(), shutdown_timeout=LAST_WORDS)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port, backlog=1024).start()
        except OSError as error:
            await self._runner.cleanup()
            await self._routes.cleanup()
            raise ConfigError(
                f"PORT: cannot listen on {host}:{port}: {error.strerror or error}; choose another with --port"
            ) from None
        name = f"[{host}]" if ":" in host else host
        self.url = f"http://{name}:{self._runner.addresses[0][1]}"
        self.registry.keep_warm()
        for reaper in self._reapers:
            reaper.announce()
            self._tasks.append(asyncio.create_task(reaper.run(), name="reaper"))

    async def _server(self) -> web.Server:
        """The front, with the application behind it."""
        await self._routes.setup()
        routes = self._routes.server
        assert routes is not None
        posts = {"mcp": self._mcp.serve, "bridge": self._bridge.serve}
        return web.Server(
            Front(self._guards, posts, self.registry.entries, routes.request_handler).answer,
            request_factory=routes.request_factory,
            handler_cancellation=True,
            access_log=None,
        )

    async def stop(self) -> None:
        """Refuse new work, give running calls their time, end every session, stop every child."""
        running = self._drain.begin()
        if running:
            log.info("waiting for %d running call(s), at most %g s", running, self._settings.shutdown_timeout)
            left = await self._drain.wait(self._settings.shutdown_timeout)
            if left:
                log.warning("%d call(s) did not end within SHUTDOWN_TIMEOUT_MS and end with an error", left)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._parking.close()
        why = "the bridge is shutting down"
        assert self._runner is not None
        await asyncio.gather(self._sessions.close(why), self._clients.close(why), self._runner.cleanup())
        await self._routes.cleanup()
        await self.registry.close()

    def kill(self) -> None:
        """End every child at once, without asking it."""
        for child in self.registry.children():
            child.connection.transport.kill()


def _application(
    settings: Settings, mcp: McpFace, sse: SseFace, bridge: BridgeFace, status: StatusFace
) -> web.Application:
    app = web.Application(client_max_size=settings.max_request_bytes)
    app.add_routes(
        [
            web.post("/mcp/{server_id}", mcp.post),
            web.get("/mcp/{server_id}", mcp.get, allow_head=False),
            web.delete("/mcp/{server_id}", mcp.delete),
            web.get("/sse/{server_id}", sse.connect, allow_head=False),
            web.post("/messages/{server_id}", sse.post),
            web.post("/bridge", bridge.post_any),
            web.post("/bridge/{server_id}", bridge.post),
            web.get("/health", status.health),
        ]
    )
    for name, handler in (("servers", status.servers), ("sessions", status.sessions), ("children", status.children)):
        app.add_routes([web.get(f"/{name}", handler), web.get(f"/api/v1/{name}", handler)])
    return app
