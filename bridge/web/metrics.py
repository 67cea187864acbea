"""``/metrics`` for Prometheus: what the lists say, as numbers with labels.

Rows that name a server are for those who may use it, as everywhere. Names follow OpenTelemetry's conventions for MCP
where there is one. The library is imported by the first scrape: most bridges are never asked.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from aiohttp import web

from bridge.children.child import Child
from bridge.children.registry import Registry
from bridge.children.traffic import BOUNDS
from bridge.process.usage import UsageMeter
from bridge.sessions.parking import Parking
from bridge.version import __version__
from bridge.web.principal import may_use
from bridge.web.sessions import AnyPool

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

#: Why a session is ended that nobody has ended (:attr:`SessionPool.reaped`).
REASONS = ("ttl", "limit", "pressure")


class MetricsFace:
    """The handler of ``/metrics``."""

    def __init__(self, registry: Registry, pools: Sequence[AnyPool], parking: Parking) -> None:
        self._registry = registry
        self._pools = pools
        self._parking = parking
        self._meter = UsageMeter()

    def routes(self) -> list[web.RouteDef]:
        """Return what it answers."""
        return [web.get("/metrics", self.scrape)]

    async def scrape(self, request: web.Request) -> web.Response:
        """Tell how things are now."""
        from prometheus_client import CONTENT_TYPE_PLAIN_1_0_0

        servers = {server for server in self._registry.entries if may_use(request, server)}
        children = [child for child in self._registry.children() if child.server in servers]
        found = [*self._bridge(), *self._sessions(servers), *self._children(children), *self._servers(servers)]
        body = await asyncio.get_running_loop().run_in_executor(None, self._render, found, children)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_PLAIN_1_0_0})

    def _bridge(self) -> list[Metric]:
        from prometheus_client.metrics_core import CounterMetricFamily, InfoMetricFamily

        reaped = CounterMetricFamily(
            "mcp_bridge_reaped", "Sessions and bridge clients that were ended for their age.", labels=["pool", "reason"]
        )
        for pool in self._pools:
            for reason in REASONS:
                reaped.add_metric([pool.name, reason], pool.reaped[reason])
        return [InfoMetricFamily("mcp_bridge", "Which bridge this is.", {"version": __version__}), reaped]

    def _sessions(self, servers: set[str]) -> list[Metric]:
        from prometheus_client.metrics_core import GaugeMetricFamily

        family = GaugeMetricFamily(
            "mcp_bridge_sessions", "Sessions and bridge clients that live.", labels=["pool", "server", "state"]
        )
        for pool in self._pools:
            counts = Counter((entry.session.server, entry.state.value) for entry in pool.entries())
            for (server, state), count in sorted(counts.items()):
                if server in servers:
                    family.add_metric([pool.name, server, state], count)
        return [family]

    def _children(self, children: list[Child]) -> list[Metric]:
        from prometheus_client.metrics_core import GaugeMetricFamily

        family = GaugeMetricFamily("mcp_bridge_children", "Processes that live.", labels=["server", "state"])
        for (server, state), count in sorted(Counter((child.server, child.state.value) for child in children).items()):
            family.add_metric([server, state], count)
        return [family]

    def _servers(self, servers: set[str]) -> list[Metric]:
        from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

        restarts = CounterMetricFamily(
            "mcp_bridge_restarts", "Starts of a process after one that failed.", labels=["server"]
        )
        parked = GaugeMetricFamily(
            "mcp_bridge_parked_calls", "Modern calls that wait for the answer to a question.", labels=["server"]
        )
        for server in sorted(servers):
            history = self._registry.restarts(server)
            if history is not None:  # a disabled one has none
                restarts.add_metric([server], history.total)
                parked.add_metric([server], self._parking.count(server))
        return [restarts, parked, self._durations(servers)]

    def _durations(self, servers: set[str]) -> Metric:
        from prometheus_client.metrics_core import HistogramMetricFamily

        family = HistogramMetricFamily(
            "mcp_server_operation_duration_seconds",
            "From a request at a process to its answer; error_type is empty for a result.",
            labels=["server", "mcp_method_name", "error_type"],
        )
        for server in sorted(servers):
            traffic = self._registry.traffic(server)
            results = {(method, ""): durations for method, durations in traffic.durations.items()}
            for (method, kind), durations in {**results, **traffic.failures}.items():
                buckets = list(zip((*map(str, BOUNDS), "+Inf"), itertools.accumulate(durations.counts), strict=True))
                family.add_metric([server, method, kind], buckets, durations.seconds)
        return family

    def _render(self, found: list[Metric], children: list[Child]) -> bytes:
        """Read what /proc says, and write it all down. Off the event loop."""
        from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, generate_latest
        from prometheus_client.metrics_core import GaugeMetricFamily
        from prometheus_client.registry import Collector

        usage = self._meter.measure([child.pid for child in children if child.pid is not None])
        resident: Counter[str] = Counter()
        for child in children:
            if child.pid in usage:
                resident[child.server] += usage[child.pid].resident_bytes
        family = GaugeMetricFamily(
            "mcp_bridge_child_resident_bytes", "Memory of all processes of a server.", labels=["server"]
        )
        for server, size in sorted(resident.items()):
            family.add_metric([server], size)

        class Found(Collector):
            def collect(self) -> list[Metric]:
                return [*found, family]

        registry = CollectorRegistry()
        registry.register(Found())
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        return generate_latest(registry)
