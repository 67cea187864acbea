"""What Prometheus is told. Names follow OpenTelemetry's conventions for MCP where there is one."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from prometheus_client import (
    CONTENT_TYPE_PLAIN_1_0_0,
    CollectorRegistry,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from bridge.children.child import Child
from bridge.children.registry import Registry
from bridge.children.traffic import BOUNDS
from bridge.process.usage import Usage
from bridge.sessions.parking import Parking
from bridge.version import __version__
from bridge.web.sessions import AnyPool

CONTENT_TYPE = CONTENT_TYPE_PLAIN_1_0_0
#: Why a session is ended that nobody has ended (:attr:`SessionPool.reaped`).
REASONS = ("ttl", "limit", "pressure")


def of_pools(pools: Sequence[AnyPool], servers: Collection[str]) -> list[Metric]:
    """Sessions and bridge clients: what lives, and what was reaped."""
    live = GaugeMetricFamily(
        "mcp_bridge_sessions", "Sessions and bridge clients that live.", labels=["pool", "server", "state"]
    )
    reaped = CounterMetricFamily(
        "mcp_bridge_reaped", "Sessions and bridge clients that were ended for their age.", labels=["pool", "reason"]
    )
    for pool in pools:
        counts = Counter((entry.session.server, entry.state.value) for entry in pool.entries())
        for (server, state), count in sorted(counts.items()):
            if server in servers:
                live.add_metric([pool.name, server, state], count)
        for reason in REASONS:
            reaped.add_metric([pool.name, reason], pool.reaped[reason])
    return [live, reaped]


def of_children(children: Iterable[Child]) -> Metric:
    """Processes."""
    family = GaugeMetricFamily("mcp_bridge_children", "Processes that live.", labels=["server", "state"])
    for (server, state), count in sorted(Counter((child.server, child.state.value) for child in children).items()):
        family.add_metric([server, state], count)
    return family


def of_servers(registry: Registry, parking: Parking, servers: Collection[str]) -> list[Metric]:
    """What has become of servers and their requests."""
    restarts = CounterMetricFamily(
        "mcp_bridge_restarts", "Starts of a process after one that failed.", labels=["server"]
    )
    parked = GaugeMetricFamily(
        "mcp_bridge_parked_calls", "Modern calls that wait for the answer to a question.", labels=["server"]
    )
    durations = HistogramMetricFamily(
        "mcp_server_operation_duration_seconds",
        "From a request at a process to its answer; error_type is empty for a result.",
        labels=["server", "mcp_method_name", "error_type"],
    )
    for server in sorted(servers):
        history = registry.restarts(server)
        if history is not None:  # a disabled one has none
            restarts.add_metric([server], history.total)
            parked.add_metric([server], parking.count(server))
        traffic = registry.traffic(server)
        results = {(method, ""): found for method, found in traffic.results.items()}
        for (method, kind), found in {**results, **traffic.errors, **traffic.lost}.items():
            buckets = list(zip((*map(str, BOUNDS), "+Inf"), itertools.accumulate(found.counts), strict=True))
            durations.add_metric([server, method, kind], buckets, found.seconds)
    return [restarts, parked, durations]


def of_memory(servers: Mapping[int, str], usage: Mapping[int, Usage]) -> Metric:
    """Memory by server. ``servers`` are those of processes, by process id."""
    resident: Counter[str] = Counter()
    for pid, used in usage.items():
        resident[servers[pid]] += used.resident_bytes
    family = GaugeMetricFamily(
        "mcp_bridge_child_resident_bytes", "Memory of all processes of a server.", labels=["server"]
    )
    for server, size in sorted(resident.items()):
        family.add_metric([server], size)
    return family


def text(found: Sequence[Metric]) -> bytes:
    """Write all of it down, and how this process itself is. Reads /proc: call it off the event loop."""
    registry = CollectorRegistry()
    registry.register(
        _Found([InfoMetricFamily("mcp_bridge", "Which bridge this is.", {"version": __version__}), *found])
    )
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return generate_latest(registry)


class _Found(Collector):
    def __init__(self, found: Sequence[Metric]) -> None:
        self._found = found

    def collect(self) -> Iterable[Metric]:
        return self._found
