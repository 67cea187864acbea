"""The whole bridge, wired: what listens, what reaps, and how it all ends.

``web/front`` stands before every route: ``Host``, ``Origin`` and token, and errors as answers. aiohttp cancels
a handler when its client hangs up (``handler_cancellation``): a ``/bridge`` call is then cancelled on its child, while
a call of a session goes on, because it belongs to the session and not to the handler.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

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
from bridge.web.drain import DRAIN_LOOK, Drain
from bridge.web.faces import Faces
from bridge.web.handover import Handover
from bridge.web.oauth import oauth_of
from bridge.web.port import Port
from bridge.web.stays import Stays
from bridge.web.tls import Certificate

if TYPE_CHECKING:
    from bridge.web.joined import Joined
    from bridge.web.traces import Traces

log = logging.getLogger(__name__)

#: Seconds that clients of a node which ends have to close their connections.
SEEN_OFF = 2.0


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
        stays = Stays(lambda request: self.faces.admit(request))
        takeover = None if joined is None else joined.connect(core.sessions)
        self._cluster = None if node is None else Cluster(node, self._drain, core, settings.base_path, stays, takeover)
        self._oauth = oauth_of(settings)
        self._traces = _traces(settings)
        self._certificate = _certificate(settings)
        self.faces = Faces(
            settings,
            servers,
            core,
            self._drain,
            stays,
            self._oauth,
            self._traces,
            self._cluster,
            None if joined is None else joined.peers,
            self._troubles,
            lambda: self.on_drain(),
            lambda: self.on_reload(),
            lambda patience: self.on_restart(patience),
        )
        self._tasks: list[asyncio.Task[None]] = []
        #: Set when it may be stopped, after :meth:`drain`, or when another bridge has taken over.
        self.drained = asyncio.Event()
        #: Where clients come in.
        self.port = Port(settings, None if self._certificate is None else self._certificate.context)
        #: Taking over from another bridge, and giving way to one.
        self.handover = Handover(
            core,
            self._drain,
            self.port,
            settings.base_path,
            stays,
            comes,
            freed,
            opens_door=node is None,
            stand=self.faces.stand_between,
            drained=self.drained,
        )
        #: Does what :meth:`drain` does, for a client that asks for it.
        self.on_drain: Callable[[], None] = self.drain
        #: Has another bridge take over within so many seconds, and says what came of it. Raises :class:`Rejection`.
        self.on_restart: Restart = _no_restart
        #: Reads the configuration again and calls :meth:`reload`. Raises :class:`ConfigError`.
        self.on_reload: Callable[[], Changes] = lambda: self.reload(servers)
        #: Says why the configuration on disk is not what is served; None where it is.
        self.refused: Callable[[], str | None] = lambda: None

    @property
    def url(self) -> str:
        """Where it listens."""
        return self.port.url

    @property
    def draining(self) -> bool:
        """Whether it has begun to stop."""
        return self._drain.begun

    async def start(self, listening: Sequence[socket.socket] = ()) -> None:
        """Listen and reap; on sockets that listen already, where some are given. A bridge that takes over from another
        does not :meth:`listen` yet. Raises :class:`ConfigError` when the address cannot be had.
        """
        server = await self.faces.server(self.handover.across)
        await self.port.open(server)
        try:
            if self.handover.across is None:
                await self.port.listen(listening)
            if self._node is not None and self._node.socket is not None:
                await self.port.open_door(self._node.socket)
            await self.handover.open_door()
        except ConfigError:
            await self.port.close()
            await self.faces.routes.cleanup()
            raise
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
            await self.keep_stopped()
        self.core.registry.keep_warm()
        if self._certificate is not None:
            self._run("certificate", self._certificate.run())
        if self._oauth is not None:  # so that what is wrong with it is in the log before the first client comes
            self._run("keys", self._oauth.keys.fetched.refresh())
        for name, chore in self.core.chores():
            self._run(name, chore)

    async def listen(self, listening: Sequence[socket.socket]) -> None:
        """Take connections from these sockets, which are closed with it: a bridge that takes over from another."""
        await self.port.listen(listening)
        self.handover.begin()

    async def keep_stopped(self) -> None:
        """Stop what an operator has stopped at the other nodes, who do not tell it to one that comes later."""
        registry = self.core.registry
        while self._cluster is not None:
            before = registry.stopped
            stopped = await self._cluster.stopped()
            if registry.stopped == before:  # else somebody has said something meanwhile, which counts
                await registry.keep_stopped(before if stopped is None else stopped)
                return

    def _run(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run something beside the requests, until the end."""
        self._tasks.append(asyncio.create_task(work, name=name))

    def _troubles(self) -> list[str]:
        """What keeps the bridge from being all that it should be."""
        troubles = self.core.troubles()
        for part in (self._joined, self._oauth):
            if part is not None and part.problem is not None:
                troubles.append(part.problem)
        if (refused := self.refused()) is not None:
            troubles.append(refused)
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
        if self._joined is not None:
            await self._joined.withdraw()
        while self._is_needed():  # noqa: ASYNC110
            await asyncio.sleep(DRAIN_LOOK)
        log.info("drained: every session has ended or is kept")
        self.drained.set()

    def _is_needed(self) -> bool:
        """Whether a call runs, or a session is open that is not kept; those of the other bridge of a restart too, which
        ends with this one.
        """
        return bool(self._drain.running) or not self.core.has_left() or self.handover.across is not None

    async def stop(self) -> None:
        """Refuse new work, give running calls their time, end every session, stop every child."""
        if self._joined is not None:
            self._drain.hands_over = True
            await self._joined.hand_over(self._settings.shutdown_timeout)
            await self.port.see_off(SEEN_OFF)
        running = self._drain.begin()
        self.core.finish_listens()
        if running:
            log.info("waiting for %d running call(s), at most %g s", running, self._settings.shutdown_timeout)
            left = await self._drain.wait(self._settings.shutdown_timeout)
            if left:
                log.warning("%d call(s) did not end within SHUTDOWN_TIMEOUT_MS and end with an error", left)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.handover.rest()
        await self.core.rest()
        await self.faces.events.close()
        await asyncio.gather(self.core.end("the bridge is shutting down"), self.port.close())
        await self.core.write()
        if self._joined is not None:
            await self._joined.leave()
        if self._cluster is not None:
            self._cluster.close()
        if self._oauth is not None:
            await self._oauth.close()
        await self.handover.close()
        await self.faces.routes.cleanup()
        await self.core.close()
        if self._traces is not None:
            await self._traces.close()

    def kill(self) -> None:
        """End every child at once, without asking it."""
        for child in self.core.registry.children():
            child.stop()  # so that none counts as one that ends by itself
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
