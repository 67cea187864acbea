"""All faces over one :class:`Core`, and what stands before each: guards, limits, calls that are followed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from aiohttp import web

from bridge.auth.keyring import Keyring
from bridge.auth.tokens import BadTokens
from bridge.config.errors import ConfigError
from bridge.config.servers import Servers
from bridge.config.settings import Settings
from bridge.config.values import Rate
from bridge.sessions.catalogue import Catalogue
from bridge.sessions.core import Core
from bridge.sessions.reload import Changes
from bridge.web.admin import AdminFace, Restart
from bridge.web.aggregate import AggregateFace, AggregateModernFace
from bridge.web.around import Around
from bridge.web.arrivals import has_arrived
from bridge.web.bridge import BridgeFace
from bridge.web.calls import Calls
from bridge.web.cluster import Cluster
from bridge.web.direct import DirectCalls
from bridge.web.drain import Drain
from bridge.web.events import EventsFace
from bridge.web.front import Front
from bridge.web.guards import Guards
from bridge.web.limits import Limits
from bridge.web.logs import LogsFace
from bridge.web.mcp import McpFace
from bridge.web.metrics import MetricsFace
from bridge.web.modern import ModernFace
from bridge.web.oauth import Door, MetadataFace
from bridge.web.pins import PinsFace
from bridge.web.reply import keep_alive
from bridge.web.routes import Face, application
from bridge.web.server import Handler, Server
from bridge.web.sessions import SessionsFace
from bridge.web.sse import SseFace
from bridge.web.static import PageFace
from bridge.web.status import StatusFace
from bridge.web.stays import Stays
from bridge.web.tools import ToolsFace
from bridge.web.variables import ClientVariables
from bridge.web.waiting import NEVER, Direct

if TYPE_CHECKING:
    from bridge.auth.oauth import OAuth
    from bridge.web.across import Across
    from bridge.web.traces import Traces


class Faces:
    """``oauth`` knows the tokens of an authorization server, ``traces`` makes spans, ``cluster`` is what stands around
    the bridge as one of several nodes, with the face ``peers``; each is None where it is not wanted. ``stays`` asks
    :meth:`admit`. ``troubles`` says what degrades the bridge, ``on_drain``, ``on_reload`` and ``on_restart`` do what
    operators ask for.
    """

    def __init__(
        self,
        settings: Settings,
        servers: Servers,
        core: Core,
        drain: Drain,
        stays: Stays,
        oauth: OAuth | None,
        traces: Traces | None,
        cluster: Cluster | None,
        peers: Face | None,
        troubles: Callable[[], list[str]],
        on_drain: Callable[[], None],
        on_reload: Callable[[], Changes],
        on_restart: Restart,
    ) -> None:
        self._server: Server | None = None
        self._is_across = False
        self._base = base = settings.base_path
        self._registry = registry = core.registry
        self._cluster = cluster
        self._problems = servers.problems
        nodes = None if cluster is None else cluster.nodes
        page = PageFace()
        door = None if oauth is None else Door(oauth, base, settings.allowed_hosts)
        self.guards = guards = Guards(settings, _keyring(settings), door, page.paths)
        self._limits = limits = Limits(settings.rate_limit, _rates(servers), guards.open_paths)
        self._calls = calls = Calls(_most_concurrent(servers), traces)
        variables = ClientVariables(registry.entries)
        around = Around(core, drain, limits, calls, keep_alive(), stays, variables, nodes)
        implicit = settings.implicit_initialize
        modern = ModernFace(around)
        self._mcp = McpFace(around, modern, implicit=implicit)
        recall = guards.recall if cluster is None else cluster.recall
        self._direct = DirectCalls(around, recall, modern, settings.max_request_bytes, base)
        aggregate = AggregateFace(
            around, AggregateModernFace(around, core.aggregate_calls), core.aggregates, implicit=implicit
        )
        self._bridge = BridgeFace(around)
        is_sure = (lambda: True) if nodes is None else (lambda: nodes.is_sure)
        status = StatusFace(
            registry, core.pools, core.parking, lambda: self._problems, troubles, drain, core.pins, is_sure
        )
        sessions = SessionsFace(core.sessions, core.pools, core.timing, drain, time.time, base, variables)
        self.events = EventsFace(status, sessions, self.admit)
        faces: list[Face] = [
            self._mcp,
            aggregate,
            SseFace(around, base),
            self._bridge,
            ToolsFace(registry, self._bridge, Catalogue(core.bridge_pool, core.timing), limits, guards, base),
            status,
            sessions,
            AdminFace(registry, on_drain, on_reload, on_restart),
            PinsFace(registry, core.pins, core.sessions.announce),
            LogsFace(registry, settings.log_dir, drain, stays),
            MetadataFace(oauth, base),
            MetricsFace(registry, core.pools, core.parking),
            self.events,
            page,
        ]
        if peers is not None:
            faces.append(peers)
        self.routes = web.AppRunner(application(settings, faces, limits))

    def adopt(self, servers: Servers) -> None:
        """Take over what these servers allow their callers."""
        self._problems = servers.problems
        self._limits.adopt(_rates(servers))
        self._calls.most = _most_concurrent(servers)

    async def server(self, across: Across | None) -> Server:
        """Return what answers every request: the front, with the routes behind it."""
        await self.routes.setup()
        routes = self.routes.server
        assert routes is not None
        answer, direct = self._answer(across)
        self._server = Server(answer, direct, request_factory=routes.request_factory, handler_cancellation=True)
        return self._server

    def stand_between(self, across: Across | None) -> None:
        """Answer for the other bridge of a restart too from now on; None: for this one only."""
        assert self._server is not None
        self._server.use(*self._answer(across))

    def _answer(self, across: Across | None) -> tuple[Handler, Direct]:
        self._is_across = across is not None
        assert self.routes.server is not None
        posts = {"mcp": self._mcp.serve, "bridge": self._bridge.serve}
        servers, routes = self._registry.entries, self.routes.server.request_handler
        if self._cluster is not None:
            direct = self._direct if across is None else NEVER
            return self._cluster.front(self.guards, posts, servers, routes, self._limits, across), direct
        if across is not None:
            return across.front(self.guards, posts, servers, routes, self._limits), NEVER
        return Front(self.guards, posts, servers, routes, self._limits, self._base).answer, self._direct

    async def admit(self, request: web.BaseRequest) -> None:
        """Raise :class:`Rejection` unless the client of a stream may still be here. Those of other nodes ask them."""
        if (self._cluster is None and not self._is_across) or not has_arrived(request):
            await self.guards.admit(request)


def _keyring(settings: Settings) -> Keyring:
    try:
        return Keyring(settings.access_token, settings.tokens_file)
    except BadTokens as error:
        raise ConfigError(f"TOKENS_FILE: {error}") from None


def _rates(servers: Servers) -> dict[str, Rate]:
    return {each.id: each.rate_limit for each in servers.entries.values() if each.rate_limit is not None}


def _most_concurrent(servers: Servers) -> dict[str, int]:
    return {each.id: each.max_concurrent for each in servers.entries.values() if each.max_concurrent is not None}
