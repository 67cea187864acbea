"""The whole bridge, wired: what listens, what reaps, and how it all ends.

``web/front`` stands before every route: ``Host``, ``Origin`` and token, and errors as answers. aiohttp cancels
a handler when its client hangs up (``handler_cancellation``): a ``/bridge`` call is then cancelled on its child, while
a call of a session goes on, because it belongs to the session and not to the handler.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from aiohttp import web

from bridge.auth.keyring import Keyring
from bridge.auth.tokens import BadTokens
from bridge.children.owner import ChildLimits
from bridge.children.pinbook import PinBook
from bridge.children.registry import Registry
from bridge.cluster.node import Node
from bridge.config.errors import ConfigError
from bridge.config.extras import check_extras, untraced
from bridge.config.servers import Servers
from bridge.config.settings import Settings
from bridge.config.values import Rate
from bridge.process import pressure
from bridge.process.memory import Heap, Trimmer
from bridge.sessions.aggregate_modern import AggregateCalls
from bridge.sessions.aggregates import Aggregates
from bridge.sessions.bridge import BridgeClient, BridgeClients
from bridge.sessions.catalogue import Catalogue
from bridge.sessions.directory import SessionDirectory
from bridge.sessions.ids import mint
from bridge.sessions.keeper import Keeper
from bridge.sessions.kept import Kept, store_of
from bridge.sessions.modern import ModernCalls
from bridge.sessions.parking import Parking
from bridge.sessions.pool import SessionPool
from bridge.sessions.reaper import BRIDGE_WORDS, STREAM_WORDS, Reaper
from bridge.sessions.relief import Relief, Resource
from bridge.sessions.reload import Changes, Reload
from bridge.sessions.room import Room
from bridge.sessions.roster import Roster
from bridge.sessions.streamable import StreamableSession
from bridge.sessions.timing import Timing
from bridge.sessions.upkeep import Upkeep
from bridge.web.admin import AdminFace
from bridge.web.aggregate import AggregateFace, AggregateModernFace
from bridge.web.arrivals import has_arrived
from bridge.web.bridge import BridgeFace
from bridge.web.calls import Calls
from bridge.web.cluster import Cluster
from bridge.web.drain import Drain
from bridge.web.events import EventsFace
from bridge.web.front import Front
from bridge.web.guards import Guards
from bridge.web.limits import Limits
from bridge.web.logs import LogsFace
from bridge.web.mcp import McpFace
from bridge.web.metrics import MetricsFace
from bridge.web.modern import ModernFace
from bridge.web.oauth import Door, MetadataFace, oauth_of
from bridge.web.pins import PinsFace
from bridge.web.reply import keep_alive
from bridge.web.routes import Face, application
from bridge.web.server import Server
from bridge.web.sessions import SessionsFace
from bridge.web.sse import SseFace
from bridge.web.static import PageFace
from bridge.web.status import StatusFace
from bridge.web.tls import Certificate
from bridge.web.tools import ToolsFace
from bridge.web.variables import ClientVariables

if TYPE_CHECKING:
    from bridge.web.joined import Joined
    from bridge.web.traces import Traces

log = logging.getLogger(__name__)

#: Seconds that connections get to send the errors with which a shutdown ends what still runs.
LAST_WORDS = 2.0

#: Connections that may wait to be taken.
BACKLOG = 1024

#: Seconds that clients of a node which ends have to close their connections.
SEEN_OFF = 2.0
#: Seconds between two looks at whether the last session has ended.
DRAIN_LOOK = 0.25


class Service:
    """One bridge: :meth:`start` it, :meth:`stop` it. Must be made on the event loop that it runs on.

    ``stderr_sink`` makes, for a server id, the function that takes each line its children write to stderr. ``node`` is
    what this bridge is among others; None where it is alone.
    """

    def __init__(
        self,
        settings: Settings,
        servers: Servers,
        stderr_sink: Callable[[str], Callable[[bytes], None]],
        node: Node | None = None,
    ) -> None:
        check_extras(settings)
        self._settings = settings
        limits = ChildLimits(settings.max_message_bytes, settings.start_timeout)
        #: What tools were when they were first seen.
        self.pins = PinBook(settings.pins_path)
        self.registry = Registry(servers.entries, limits, settings.max_children, stderr_sink, self.pins)
        self._timing = timing = Timing(settings, self.registry.known)
        self._problems = servers.problems
        bridge_pool: SessionPool[BridgeClient] = SessionPool("bridge", time.monotonic, settings.max_sessions)
        stream_pool: SessionPool[StreamableSession] = SessionPool("streamable", time.monotonic, settings.max_sessions)
        self._clients = BridgeClients(self.registry, bridge_pool, timing.bridge_ttl)
        room = Room(
            stream_pool,
            per_user=settings.max_sessions_per_user,
            per_server=lambda server: self.registry.known[server].max_sessions,
        )
        self._joined = joined = _joined(settings)
        if joined is not None:
            node = joined.node
        self._keeper = Keeper(
            store_of(settings) if joined is None else joined.store,
            lambda record, events: self._sessions.adopt(record, events),
            lambda: self._sessions.kept.save_all(),
        )
        kept = Kept(
            self._keeper,
            self.registry,
            stream_pool,
            required=settings.persistence_required,
            release=None if joined is None else joined.store.release,
        )
        self._node = node
        self._sessions = SessionDirectory(
            self.registry, stream_pool, timing, room, kept, mint if node is None else node.ids.mint
        )
        self._relief = Relief(
            stream_pool,
            self._sessions.seating,
            (
                Resource(pressure.memory, high=0.95, low=0.9, sheds=True),
                Resource(pressure.descriptors, high=0.85, low=0.75, sheds=True),
                Resource(self.registry.children_in_use, high=0.9, low=0.8, sheds=False),
            ),
            self._sessions.end,
        )
        self._upkeep = Upkeep(stream_pool, self._sessions.seating, kept, timing)
        self._reapers: tuple[Reaper[BridgeClient], Reaper[StreamableSession]] = (
            Reaper(
                bridge_pool,
                BRIDGE_WORDS,
                ttl=timing.bridge_pool_ttl,
                interval=timing.bridge_interval(),
                enabled=not settings.disable_bridge_cleanup,
                fixed=settings.cleanup_interval is not None,
            ),
            Reaper(
                stream_pool,
                STREAM_WORDS,
                ttl=timing.stream_pool_ttl,
                interval=timing.stream_interval(),
                enabled=not settings.disable_stream_cleanup,
                fixed=settings.cleanup_interval is not None,
            ),
        )
        self._drain = Drain()
        self._cluster = (
            None
            if node is None
            else Cluster(
                node,
                self._drain,
                stream_pool,
                self.registry,
                settings.base_path,
                None if joined is None else joined.connect(self._sessions),
            )
        )
        nodes = None if self._cluster is None else self._cluster.nodes
        self._parking = Parking()
        self._calls = ModernCalls(self.registry, self._clients, timing, self._parking)
        self._oauth = oauth_of(settings)
        page = PageFace()
        door = None if self._oauth is None else Door(self._oauth, settings.base_path)
        self._guards = Guards(settings, _keyring(settings), door, page.paths)
        self._reload = Reload(self.registry, self._sessions, bridge_pool, self._calls)
        self._certificate = (
            Certificate(settings.ssl_certfile, settings.ssl_keyfile)
            if settings.ssl_certfile is not None and settings.ssl_keyfile is not None
            else None
        )
        self._limits = Limits(settings.rate_limit, _rates(servers), self._guards.open_paths)
        silence = keep_alive()
        self._traces = _traces(settings)
        self._counted = calls = Calls(_most_concurrent(servers), self._traces)
        variables = ClientVariables(self.registry.entries)
        self._mcp = McpFace(
            self.registry,
            self._sessions,
            ModernFace(self._calls, self._drain, silence, calls, nodes),
            timing,
            self._drain,
            silence,
            calls,
            variables,
            nodes,
            implicit=settings.implicit_initialize,
        )
        roster = Roster(self.registry, settings.aggregate_separator, settings.aggregate_patience)
        self._aggregate = AggregateCalls(self.registry, roster, self._calls)
        aggregate = AggregateFace(
            self.registry,
            self._sessions,
            AggregateModernFace(
                self._calls, self._drain, silence, calls, self._aggregate, self._limits, variables, nodes
            ),
            timing,
            self._drain,
            silence,
            calls,
            variables,
            Aggregates(self.registry, self._sessions, timing, roster),
            self._limits,
            nodes,
            implicit=settings.implicit_initialize,
        )
        self._bridge = BridgeFace(self.registry, self._clients, timing, self._drain, self._limits, calls, variables)
        status = StatusFace(
            self.registry,
            (bridge_pool, stream_pool),
            self._parking,
            lambda: self._problems,
            self._troubles,
            self._drain,
            self.pins,
        )
        sessions = SessionsFace(
            self._sessions, (bridge_pool, stream_pool), timing, self._drain, time.time, settings.base_path, variables
        )
        self._events = EventsFace(status, sessions, self._admit)
        faces: tuple[Face, ...] = (
            self._mcp,
            aggregate,
            SseFace(self.registry, self._sessions, timing, self._drain, silence, calls, settings.base_path, variables),
            self._bridge,
            ToolsFace(
                self.registry,
                self._bridge,
                Catalogue(bridge_pool, timing),
                self._limits,
                self._guards,
                settings.base_path,
            ),
            status,
            sessions,
            AdminFace(self.registry, self.drain, lambda: self.on_reload()),
            PinsFace(self.registry, self.pins, self._sessions.announce),
            LogsFace(self.registry, settings.log_dir, self._drain),
            MetadataFace(self._oauth, settings.base_path),
            MetricsFace(self.registry, (bridge_pool, stream_pool), self._parking),
            self._events,
            page,
        )
        if joined is not None:
            faces += (joined.peers,)
        self._routes = web.AppRunner(application(settings, faces, self._limits))
        self._runner: web.ServerRunner | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.url = ""
        #: Reads the configuration again and calls :meth:`reload`. Raises :class:`ConfigError`.
        self.on_reload: Callable[[], Changes] = lambda: self.reload(servers)
        #: Set when it may be stopped, after :meth:`drain`.
        self.drained = asyncio.Event()

    @property
    def draining(self) -> bool:
        """Whether it has begun to stop."""
        return self._drain.begun

    async def start(self, listening: Sequence[socket.socket] = ()) -> None:
        """Listen and reap; on sockets that listen already, where some are given. Raises :class:`ConfigError` when the
        address cannot be had.
        """
        host, port = self._settings.host, self._settings.port
        server = await self._server()
        context = None if self._certificate is None else self._certificate.context
        self._runner = web.ServerRunner(server, shutdown_timeout=LAST_WORDS)
        await self._runner.setup()
        try:
            if not listening:
                await web.TCPSite(self._runner, host, port, backlog=BACKLOG, ssl_context=context).start()
            for each in listening:
                await web.SockSite(self._runner, each, backlog=BACKLOG, ssl_context=context).start()
            if self._node is not None and self._node.socket is not None:
                await web.UnixSite(self._runner, self._node.socket, backlog=BACKLOG).start()
        except OSError as error:
            await self._runner.cleanup()
            await self._routes.cleanup()
            raise ConfigError(
                f"PORT: cannot listen on {host}:{port}: {error.strerror or error}; choose another with --port"
            ) from None
        if self._cluster is not None:
            self._tasks.append(asyncio.create_task(self._cluster.run(), name="cluster"))
        self.url = self._settings.url(self._runner.addresses[0][1])
        await self._keeper.start()
        if self._joined is not None:
            try:
                await self._joined.start()
            except ConfigError:
                await self.stop()
                raise
        self.registry.keep_warm()
        self._tasks.append(asyncio.create_task(server.run(), name="connections"))
        if self._certificate is not None:
            self._tasks.append(asyncio.create_task(self._certificate.run(), name="certificate"))
        self._tasks.append(asyncio.create_task(self._upkeep.run(), name="upkeep"))
        self._tasks.append(asyncio.create_task(self.pins.run(), name="pins"))
        self._tasks.append(asyncio.create_task(Trimmer(Heap()).run(), name="memory"))
        if not self._settings.disable_stream_cleanup:
            self._tasks.append(asyncio.create_task(self._relief.run(), name="relief"))
        if self._oauth is not None:  # so that what is wrong with it is in the log before the first client comes
            self._tasks.append(asyncio.create_task(self._oauth.keys.fetched.refresh(), name="keys"))
        for reaper in self._reapers:
            reaper.announce()
            self._tasks.append(asyncio.create_task(reaper.run(), name="reaper"))

    def _troubles(self) -> list[str]:
        """What keeps the bridge from being all that it should be."""
        troubles = [f"{text} in use" for text in self._relief.reasons]
        if self._sessions.kept.problem is not None:
            troubles.append(self._sessions.kept.problem)
        if self._joined is not None and self._joined.problem is not None:
            troubles.append(self._joined.problem)
        if self._oauth is not None and self._oauth.problem is not None:
            troubles.append(self._oauth.problem)
        troubles += self.registry.troubles()
        if not self._drain.admits:
            troubles.append("draining: no new sessions")
        return troubles

    def reload(self, servers: Servers) -> Changes:
        """Serve these servers from now on: only what has changed is touched, and no running call is lost."""
        self._problems = servers.problems
        self._limits.adopt(_rates(servers))
        self._counted.most = _most_concurrent(servers)
        found = self._reload.apply(servers.entries)
        self.registry.keep_warm()
        return found

    def adopt(self, settings: Settings) -> None:
        """Take over what may change while the bridge runs: request timeout and times to live."""
        self._timing.adopt(settings)

    def drain(self) -> None:
        """Take no new sessions, and ask for the end when the ones that are open have ended, or may be kept."""
        if self._drain.admits:
            log.info("draining: no new sessions; the bridge ends when the open ones have")
            self._drain.admits = False
            self._tasks.append(asyncio.create_task(self._wait_for_the_last(), name="drain"))

    async def _wait_for_the_last(self) -> None:
        while self._drain.running or any(not entry.session.is_kept for entry in self._sessions.pool.entries()):  # noqa: ASYNC110
            await asyncio.sleep(DRAIN_LOOK)
        log.info("drained: every session has ended or is kept")
        self.drained.set()

    async def _server(self) -> Server:
        """The front, with the application behind it."""
        await self._routes.setup()
        routes = self._routes.server
        assert routes is not None
        posts = {"mcp": self._mcp.serve, "bridge": self._bridge.serve}
        servers, base = self.registry.entries, self._settings.base_path
        answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
        if self._cluster is None:
            answer = Front(self._guards, posts, servers, routes.request_handler, self._limits, base).answer
        else:
            answer = self._cluster.front(self._guards, posts, servers, routes.request_handler, self._limits)
        return Server(
            answer,
            request_factory=routes.request_factory,
            handler_cancellation=True,
        )

    async def _admit(self, request: web.BaseRequest) -> None:
        """Raise :class:`Rejection` unless the client of a stream may still be here. Those of other nodes ask them."""
        if self._cluster is None or not has_arrived(request):
            await self._guards.admit(request)

    async def stop(self) -> None:
        """Refuse new work, give running calls their time, end every session, stop every child."""
        if self._joined is not None:
            self._drain.hands_over = True
            await self._joined.hand_over(self._settings.shutdown_timeout)
            await self._see_off()
        running = self._drain.begin()
        self._aggregate.finish_listens()
        self._calls.finish_listens()
        if running:
            log.info("waiting for %d running call(s), at most %g s", running, self._settings.shutdown_timeout)
            left = await self._drain.wait(self._settings.shutdown_timeout)
            if left:
                log.warning("%d call(s) did not end within SHUTDOWN_TIMEOUT_MS and end with an error", left)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._parking.close()
        await self._reload.close()
        await self._aggregate.close()
        why = "the bridge is shutting down"
        assert self._runner is not None
        await self._events.close()
        await asyncio.gather(self._sessions.close(why), self._clients.close(why), self._runner.cleanup())
        await self._keeper.close()
        if self._joined is not None:
            await self._joined.leave()
        if self._cluster is not None:
            self._cluster.close()
        if self._oauth is not None:
            await self._oauth.close()
        await self._routes.cleanup()
        await self.registry.close()
        await self.pins.close()
        if self._traces is not None:
            await self._traces.close()

    async def _see_off(self) -> None:
        """Wait for clients to close their connections: each answer asks them to, load balancers see that this node is
        not ready, and what is sent meanwhile is passed on. A request that crosses with a connection that we close would
        get no answer, and so would one that waits to be accepted when we stop listening.
        """
        assert self._runner is not None
        end = asyncio.get_running_loop().time() + SEEN_OFF
        server = self._runner.server
        while server is not None and server.connections and asyncio.get_running_loop().time() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    def kill(self) -> None:
        """End every child at once, without asking it."""
        for child in self.registry.children():
            child.connection.transport.kill()


def _joined(settings: Settings) -> Joined | None:
    """What it takes to be a node, which most bridges are not."""
    if settings.cluster is None:
        return None
    from bridge.web.joined import Joined

    return Joined(settings)


def _keyring(settings: Settings) -> Keyring:
    try:
        return Keyring(settings.access_token, settings.tokens_file)
    except BadTokens as error:
        raise ConfigError(f"TOKENS_FILE: {error}") from None


def _traces(settings: Settings) -> Traces | None:
    if not settings.wants_traces or untraced(settings):
        return None
    from bridge.web.traces import Traces  # with OpenTelemetry, which is an extra and takes its time

    return Traces()


def _rates(servers: Servers) -> dict[str, Rate]:
    return {each.id: each.rate_limit for each in servers.entries.values() if each.rate_limit is not None}


def _most_concurrent(servers: Servers) -> dict[str, int]:
    return {each.id: each.max_concurrent for each in servers.entries.values() if each.max_concurrent is not None}
