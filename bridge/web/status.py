"""What an operator looks at: health, servers, sessions, children. Read only; ids are shortened."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiohttp import web

from bridge.auth.principal import NOBODY, Principal
from bridge.children.child import Child
from bridge.children.pinbook import PinBook
from bridge.children.registry import Registry
from bridge.children.restart import Restarts
from bridge.children.traffic import Traffic
from bridge.config.servers import Problem
from bridge.process.usage import Usage, UsageMeter
from bridge.protocol.states import ChildState, StartState
from bridge.sessions.parking import Parking
from bridge.sessions.pool import Entry
from bridge.version import __version__
from bridge.web.drain import Drain
from bridge.web.pins import summary
from bridge.web.principal import principal_of
from bridge.web.reply import json_answer
from bridge.web.routes import aliased
from bridge.web.sessions import AnyPool


class StatusFace:
    """The handlers of ``/health``, ``/livez``, ``/readyz``, ``/servers`` and ``/children``.

    ``troubles`` says what degrades the bridge now, ``is_sure`` whether its sessions are its own.
    """

    def __init__(
        self,
        registry: Registry,
        pools: Sequence[AnyPool],
        parking: Parking,
        problems: Callable[[], Sequence[Problem]],
        troubles: Callable[[], list[str]],
        drain: Drain,
        pins: PinBook,
        is_sure: Callable[[], bool],
    ) -> None:
        self._parking = parking
        self._troubles = troubles
        self._drain = drain
        self._pins = pins
        self._is_sure = is_sure
        self._registry = registry
        self._pools = pools
        self._read_problems = problems
        self._meter = UsageMeter()
        self._started = time.monotonic()

    def routes(self) -> list[web.RouteDef]:
        """Return what it answers."""
        return [
            web.get("/health", self.health),
            web.get("/livez", self.alive),
            web.get("/readyz", self.ready),
            *aliased("servers", self.servers),
            *aliased("children", self.children),
        ]

    async def health(self, request: web.Request) -> web.Response:
        """Answer a probe. Only those with a token are told more than the status, and only operators why."""
        return json_answer(self.health_for(principal_of(request)))

    def health_for(self, principal: Principal) -> dict[str, Any]:
        """Return what a principal may know of the bridge."""
        reasons = [*(problem.text for problem in self._problems), *self._troubles()]
        body: dict[str, Any] = {"status": "degraded" if reasons else "ok"}
        if principal is not NOBODY:
            body["version"] = __version__
            body["uptime_s"] = round(time.monotonic() - self._started, 1)
            body["servers"] = sum(1 for config in self._registry.entries.values() if not config.disabled)
            body["children"] = len(self._registry.children())
            body["sessions"] = {pool.name: len(pool) for pool in self._pools}
            if reasons and principal.is_admin:
                body["reasons"] = reasons
        return body

    async def alive(self, _: web.Request) -> web.Response:
        """Answer a probe of whether the process works at all."""
        return json_answer({"status": "ok"})

    async def ready(self, _: web.Request) -> web.Response:
        """Answer a probe of whether new work may be sent here: not while the bridge is on its way out, or a node
        without its lease.
        """
        if not self._drain.is_ready:
            return json_answer({"status": "draining"}, status=503)
        if not self._is_sure():
            return json_answer({"status": "without a lease"}, status=503)
        return json_answer({"status": "ok"})

    async def servers(self, request: web.Request) -> web.Response:
        """List what is configured, as far as the caller may use it."""
        return json_answer(self.servers_for(principal_of(request)))

    def servers_for(self, principal: Principal) -> list[dict[str, Any]]:
        """Return the row of each server that a principal may use."""
        children: defaultdict[str, list[Child]] = defaultdict(list)
        for child in self._registry.children():
            children[child.server].append(child)
        sessions = Counter(entry.session.server for entry in self._entries())
        rows: list[dict[str, Any]] = [
            {
                "id": server,
                "description": config.description,
                "state": _server_state(config.disabled, children[server], self._registry.restarts(server)),
                **_restarts(self._registry.restarts(server), principal),
                "children": len(children[server]),
                "sessions": sessions[server],
                **summary(self._pins.find(server)),
                "parked_calls": self._parking.count(server),
                "mcp_url": f"/mcp/{server}",
                "bridge_url": f"/bridge/{server}",
                **_traffic(self._registry.traffic(server)),
            }
            for server, config in self._registry.entries.items()
            if principal.may_use(server)
        ]
        if principal.is_admin:
            rows += [{"id": problem.server, "state": "invalid", "error": problem.text} for problem in self._problems]
        return rows

    async def children(self, request: web.Request) -> web.Response:
        """List the child processes of the servers that the caller may use, with processor and memory."""
        pids = self.pids()
        usage = await asyncio.get_running_loop().run_in_executor(None, self._meter.measure, pids)
        return json_answer(self.children_for(principal_of(request), usage))

    def pids(self) -> list[int]:
        """Return the process ids of all children."""
        return [child.pid for child in self._registry.children() if child.pid is not None]

    def children_for(self, principal: Principal, usage: Mapping[int, Usage]) -> list[dict[str, Any]]:
        """Return the row of each child of the servers that a principal may use."""
        now = time.monotonic()
        children = (child for child in self._registry.children() if principal.may_use(child.server))
        return [_child_row(child, usage.get(child.pid or 0), now) for child in children]

    @property
    def _problems(self) -> list[Problem]:
        return [problem for problem in self._read_problems() if problem.fatal]

    def _entries(self) -> list[Entry[Any]]:
        return [entry for pool in self._pools for entry in pool.entries()]


def _server_state(disabled: bool, children: list[Child], restarts: Restarts | None) -> str:
    if disabled or restarts is None:
        return "disabled"
    if restarts.state is not StartState.ALLOWED:
        return str(restarts.state.value)
    if not children:
        return "idle"
    is_up = any(child.state is ChildState.READY or not child.holders for child in children)
    return "running" if is_up else "starting"


def _restarts(restarts: Restarts | None, principal: Principal) -> dict[str, Any]:
    if restarts is None:
        return {}
    return {
        "restarts": restarts.total,
        "retry_in_s": round(restarts.retry_in, 1) if restarts.state is StartState.BACKOFF else None,
        "last_error": (restarts.last_error if principal.is_admin else restarts.public_error) or None,
    }


def _traffic(traffic: Traffic) -> dict[str, Any]:
    return {"calls": traffic.calls, "answered": traffic.answered, "answer_seconds": round(traffic.seconds, 6)}


def _child_row(child: Child, usage: Usage | None, now: float) -> dict[str, Any]:
    return {
        "server": child.server,
        "pid": child.pid,
        "state": child.state.value,
        "holders": child.holders,
        "uptime_s": round(now - child.started, 1),
        **_traffic(child.connection.traffic),
        "open_calls": child.connection.open_exchanges,
        "open_questions": child.connection.open_questions,
        "cpu_percent": usage.cpu_percent if usage else None,
        "resident_bytes": usage.resident_bytes if usage else None,
    }
