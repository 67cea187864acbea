"""The whole bridge, wired: what listens, what reaps, and how it all ends.

``web/front`` stands before every route: ``Host``, ``Origin`` and token, and errors as answers. aiohttp cancels
a handler when its client hangs up (``handler_cancellation``): a ``/bridge`` call is then cancelled on its child, while
a call of a session goes on, because it belongs to the session and not to the handler.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from aiohttp import web

from bridge.cluster.node import Node
from bridge.cluster.side import Between
from bridge.config.errors import ConfigError
from bridge.config.extras import check_extras, untraced
from bridge.config.servers import Servers
from bridge.config.settings import Settings
from bridge.protocol.errors import Fault, Rejection
from bridge.sessions.core import Core
from bridge.sessions.ids import mint
from bridge.sessions.kept import store_of
from bridge.sessions.reload import Changes
from bridge.web.admin import Restart
from bridge.web.cluster import Cluster
from bridge.web.coming import Coming
from bridge.web.drain import Drain
from bridge.web.faces import Faces
from bridge.web.leaving import Leaving
from bridge.web.listening import BACKLOG, listen
from bridge.web.oauth import oauth_of
from bridge.web.tls import Certificate

if TYPE_CHECKING:
    from bridge.web.joined import Joined
    from bridge.web.traces import Traces

log = logging.getLogger(__name__)

#: Seconds that connections get to send the errors with which a shutdown ends what still runs.
LAST_WORDS = 2.0

#: Seconds that clients of a node which ends have to close their connections; those of a bridge that another has taken
#: over from, on which nothing comes any more.
SEEN_OFF, LINGER = 2.0, 10.0
#: Seconds between two looks at whether the last session has ended.
DRAIN_LOOK = 0.25


class Service:
    """One bridge: :meth:`start` it, :meth:`stop` it. Must be made on the event loop that it runs on.

    ``stderr_sink`` makes, for a server id, the function that takes each line its children write to stderr. ``node`` is
    what this bridge is among others; None where it is alone. ``comes`` is its place where it takes over from another.
    """

    def __init__(
        self,
        settings: Settings,
        servers: Servers,
        stderr_sink: Callable[[str], Callable[[bytes], None]],
        node: Node | None = None,
        comes: Between | None = None,
    ) -> None:
        check_extras(settings)
        self._settings = settings
        self._joined = joined = _joined(settings)
        self._node = node = node if joined is None else joined.node
        self.core = core = Core(
            settings,
            servers,
            stderr_sink,
            mint if node is None else node.ids.mint,
            store_of(settings) if joined is None else joined.store,
            None if joined is None else joined.store.release,
            freed := None if comes is None or settings.store == "memory" else asyncio.Event(),
        )
        self._drain = Drain()
        takeover = None if joined is None else joined.connect(core.sessions)
        self._cluster = None if node is None else Cluster(node, self._drain, core, settings.base_path, takeover)
        self._oauth = oauth_of(settings)
        self._traces = _traces(settings)
        self._certificate = _certificate(settings)
        self.faces = Faces(
            settings,
            servers,
            core,
            self._drain,
            self._oauth,
            self._traces,
            self._cluster,
            None if joined is None else joined.peers,
            self._troubles,
            self.drain,
            lambda: self.on_reload(),
            lambda patience: self.on_restart(patience),
        )
        self._runner: web.ServerRunner | None = None
        self._sites: list[web.SockSite] = []  # of the port
        self._door: web.UnixSite | None = None  # for the other bridge of a restart, where there are no workers
        self._place = comes
        self._across: Coming | Leaving | None = None
        if comes is not None:
            self._across = Coming(core, self._drain, comes, settings.base_path, freed or asyncio.Event())
        self._going: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.url = ""
        #: The sockets of the port.
        self.listening: list[socket.socket] = []
        #: Has another bridge take over within so many seconds, and says what came of it. Raises :class:`Rejection`.
        self.on_restart: Restart = _no_restart
        #: Reads the configuration again and calls :meth:`reload`. Raises :class:`ConfigError`.
        self.on_reload: Callable[[], Changes] = lambda: self.reload(servers)
        #: Set when it may be stopped, after :meth:`drain`.
        self.drained = asyncio.Event()

    @property
    def draining(self) -> bool:
        """Whether it has begun to stop."""
        return self._drain.begun

    async def start(self, listening: Sequence[socket.socket] = ()) -> None:
        """Listen and reap; on sockets that listen already, where some are given. A bridge that takes over from another
        does not :meth:`listen` yet. Raises :class:`ConfigError` when the address cannot be had.
        """
        server = await self.faces.server(self._across)
        await self._set_up(server, listening)
        self._run("connections", server.run())
        if self._cluster is not None:
            self._run("cluster", self._cluster.run())
        await self.core.start()
        if self._joined is not None:
            try:
                await self._joined.start()
            except ConfigError:
                await self.stop()
                raise
        self.core.registry.keep_warm()
        if self._certificate is not None:
            self._run("certificate", self._certificate.run())
        if self._oauth is not None:  # so that what is wrong with it is in the log before the first client comes
            self._run("keys", self._oauth.keys.fetched.refresh())
        for name, chore in self.core.chores():
            self._run(name, chore)

    async def _set_up(self, server: web.Server, listening: Sequence[socket.socket]) -> None:
        self._runner = web.ServerRunner(server, shutdown_timeout=LAST_WORDS)
        await self._runner.setup()
        try:
            if self._across is None:
                await self.listen(listening or listen(self._settings.host, self._settings.port))
            if self._node is not None and self._node.socket is not None:
                await web.UnixSite(self._runner, self._node.socket, backlog=BACKLOG).start()
            elif self._place is not None:
                await self._open_door(self._place)
        except ConfigError:
            await self._runner.cleanup()
            await self.faces.routes.cleanup()
            raise

    async def listen(self, listening: Sequence[socket.socket]) -> None:
        """Take connections from these sockets, which are closed with it."""
        assert self._runner is not None
        context = None if self._certificate is None else self._certificate.context
        self.listening = [*listening]
        self.url = self._settings.url(self.listening[0].getsockname()[1])
        self._sites = [
            web.SockSite(self._runner, each, backlog=BACKLOG, ssl_context=context) for each in self.listening
        ]
        for site in self._sites:
            await site.start()
        if isinstance(self._across, Coming):
            self._run("coming", self._outlive(self._across))

    async def _open_door(self, place: Between) -> None:
        assert self._runner is not None
        assert place.node.socket is not None
        self._door = web.UnixSite(self._runner, place.node.socket, backlog=BACKLOG)
        await self._door.start()

    async def _outlive(self, coming: Coming) -> None:
        """Be alone again when the bridge before this one has gone."""
        await coming.run()
        self.faces.stand_between(None)
        await self._be_alone()

    async def _be_alone(self) -> None:
        across, self._across = self._across, None
        if across is not None:
            across.close()
        if self._door is not None and self._place is not None and self._runner is not None:
            if self._door in self._runner.sites:
                await self._door.stop()
            self._door = None
            shutil.rmtree(self._place.own.directory, ignore_errors=True)

    @property
    def is_restarting(self) -> bool:
        """Whether another bridge takes over, or the one before it still lives."""
        return self._across is not None

    async def give_way(self, place: Between, patience: float) -> None:
        """Leave what comes to another bridge, and ask for the end when what is here has ended: in ``patience`` seconds
        at most.
        """
        leaving = Leaving(self.core, self._drain, place, self._settings.base_path)
        self._place, self._across = place, leaving
        if self._node is None:
            await self._open_door(place)
        self.faces.stand_between(leaving)
        self.listening = [each.dup() for each in self.listening]  # should the other one die
        for site in self._sites:
            await site.stop()
        self._drain.hands_over = True
        log.info("the new bridge takes over; this one ends with its sessions, in %g s at most", patience)
        self._going = asyncio.create_task(self._go(leaving, patience), name="leaving")

    async def _go(self, leaving: Leaving, patience: float) -> None:
        try:
            async with asyncio.timeout(patience):
                await leaving.give()
                while self._drain.running or not self.core.has_left():  # noqa: ASYNC110
                    await asyncio.sleep(DRAIN_LOOK)
            log.info("every session has ended or is with the new bridge")
        except TimeoutError:
            log.warning("%d session(s) did not end in time and end now", len(self.core.stream_pool))
        await self._see_off(LINGER)
        self.drained.set()

    async def come_back(self) -> None:
        """Go on as before: the bridge that was to take over has died."""
        if self._going is not None:
            self._going.cancel()
            await asyncio.wait([self._going])
        self.drained.clear()
        await self.core.read_again()
        self.faces.stand_between(None)
        await self._be_alone()
        self._drain.hands_over = False
        await self.listen(self.listening)

    def _run(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run something beside the requests, until the end."""
        self._tasks.append(asyncio.create_task(work, name=name))

    def _troubles(self) -> list[str]:
        """What keeps the bridge from being all that it should be."""
        troubles = self.core.troubles()
        for part in (self._joined, self._oauth):
            if part is not None and part.problem is not None:
                troubles.append(part.problem)
        if not self._drain.admits:
            troubles.append("draining: no new sessions")
        return troubles

    def reload(self, servers: Servers) -> Changes:
        """Serve these servers from now on: only what has changed is touched, and no running call is lost."""
        self.faces.adopt(servers)
        return self.core.reload(servers)

    def adopt(self, settings: Settings) -> None:
        """Take over what may change while the bridge runs: request timeout and times to live."""
        self.core.timing.adopt(settings)

    def drain(self) -> None:
        """Take no new sessions, and ask for the end when the ones that are open have ended, or may be kept."""
        if self._drain.admits:
            log.info("draining: no new sessions; the bridge ends when the open ones have")
            self._drain.admits = False
            self._run("drain", self._wait_for_the_last())

    async def _wait_for_the_last(self) -> None:
        while self._drain.running or not self.core.has_left():  # noqa: ASYNC110
            await asyncio.sleep(DRAIN_LOOK)
        log.info("drained: every session has ended or is kept")
        self.drained.set()

    async def stop(self) -> None:
        """Refuse new work, give running calls their time, end every session, stop every child."""
        if self._joined is not None:
            self._drain.hands_over = True
            await self._joined.hand_over(self._settings.shutdown_timeout)
            await self._see_off(SEEN_OFF)
        running = self._drain.begin()
        self.core.finish_listens()
        if running:
            log.info("waiting for %d running call(s), at most %g s", running, self._settings.shutdown_timeout)
            left = await self._drain.wait(self._settings.shutdown_timeout)
            if left:
                log.warning("%d call(s) did not end within SHUTDOWN_TIMEOUT_MS and end with an error", left)
        tasks = [*self._tasks, *([] if self._going is None else [self._going])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.core.rest()
        await self.faces.events.close()
        assert self._runner is not None
        await asyncio.gather(self.core.end("the bridge is shutting down"), self._runner.cleanup())
        await self.core.write()
        if self._joined is not None:
            await self._joined.leave()
        if self._cluster is not None:
            self._cluster.close()
        if self._oauth is not None:
            await self._oauth.close()
        await self._be_alone()
        for each in self.listening:
            each.close()
        await self.faces.routes.cleanup()
        await self.core.close()
        if self._traces is not None:
            await self._traces.close()

    async def _see_off(self, seconds: float) -> None:
        """Wait for clients to close their connections: each answer asks them to, load balancers see that this node is
        not ready, and what is sent meanwhile is passed on. A request that crosses with a connection that we close would
        get no answer, and so would one that waits to be accepted when we stop listening.
        """
        assert self._runner is not None
        end = asyncio.get_running_loop().time() + seconds
        while self._has_clients() and asyncio.get_running_loop().time() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    def _has_clients(self) -> bool:
        """Whether there are connections of clients. Those of other processes of this host come over a unix socket."""
        server = None if self._runner is None else self._runner.server
        connections = [] if server is None else server.connections
        transports = (each.transport for each in connections)
        return any(each is not None and isinstance(each.get_extra_info("sockname"), tuple) for each in transports)

    def kill(self) -> None:
        """End every child at once, without asking it."""
        for child in self.core.registry.children():
            child.connection.transport.kill()


def _joined(settings: Settings) -> Joined | None:
    """What it takes to be a node, which most bridges are not."""
    if settings.cluster is None:
        return None
    from bridge.web.joined import Joined

    return Joined(settings)


async def _no_restart(_: float) -> dict[str, Any]:
    raise Rejection(Fault.CONFLICT, "only a bridge that was started by mcp-bridge serve can be restarted")


def _certificate(settings: Settings) -> Certificate | None:
    if settings.ssl_certfile is None or settings.ssl_keyfile is None:
        return None
    return Certificate(settings.ssl_certfile, settings.ssl_keyfile)


def _traces(settings: Settings) -> Traces | None:
    if not settings.wants_traces or untraced(settings):
        return None
    from bridge.web.traces import Traces  # with OpenTelemetry, which is an extra and takes its time

    return Traces()
