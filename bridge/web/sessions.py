"""``/api/v1/sessions``: sessions as things that can be created, looked at, changed and ended.

A session belongs to the principal who opened it; to others it does not exist. Whoever may administer sees all of them,
with shortened ids.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from bridge.auth.principal import Principal
from bridge.config import values
from bridge.config.server import ALL_SERVERS
from bridge.observe.ids import SHOWN
from bridge.protocol import jsontext
from bridge.protocol.errors import Fault, Rejection
from bridge.protocol.states import SessionState
from bridge.sessions.bridge import BridgeClient
from bridge.sessions.directory import SessionDirectory
from bridge.sessions.pool import Entry, SessionPool
from bridge.sessions.room import SessionEntry
from bridge.sessions.streamable import StreamableSession
from bridge.sessions.timing import Timing
from bridge.web.address import base_url
from bridge.web.body import read_json
from bridge.web.drain import Drain
from bridge.web.prebuilt import gone
from bridge.web.principal import check_persist, check_server, is_admin, owner_of, principal_of
from bridge.web.reply import SESSION_HEADER, json_answer
from bridge.web.routes import aliased
from bridge.web.variables import ClientVariables

AnySession = BridgeClient | StreamableSession
AnyPool = SessionPool[BridgeClient] | SessionPool[StreamableSession]
Rows = list[dict[str, Any]]
Found = list[tuple[AnyPool, Entry[Any]]]

#: Bytes of ``metadata`` that a session may carry, as JSON.
MOST_METADATA = 16 * 1024
_CHANGEABLE = frozenset({"persistent", "ttl_ms", "ttl_hours", "metadata"})
#: The last second that has a date.
_LATEST = datetime.max.replace(tzinfo=UTC, microsecond=0).timestamp()
_STATES = frozenset(state.value for state in SessionState)


class SessionsFace:
    """The handlers of ``/api/v1/sessions``. ``wall`` is the time of day in seconds, ``base`` what
    stands before the paths of URLs.
    """

    def __init__(
        self,
        sessions: SessionDirectory,
        pools: Sequence[AnyPool],
        timing: Timing,
        drain: Drain,
        wall: Callable[[], float],
        base: str,
        variables: ClientVariables,
    ) -> None:
        self._base = base
        self._sessions = sessions
        self._pools = pools
        self._timing = timing
        self._drain = drain
        self._wall = wall
        self._variables = variables

    def routes(self) -> list[web.RouteDef]:
        """Return what it answers."""
        return [
            *aliased("sessions", self.list),
            web.post("/api/v1/sessions", self.create),
            web.get("/api/v1/sessions/stats", self.stats),
            web.get("/api/v1/sessions/{session_id}", self.get),
            web.patch("/api/v1/sessions/{session_id}", self.patch),
            web.delete("/api/v1/sessions/{session_id}", self.delete),
            web.post("/api/v1/sessions/{session_id}/touch", self.touch),
        ]

    async def create(self, request: web.Request) -> web.Response:
        """Mint a session; its id is used as ``Mcp-Session-Id``."""
        self._drain.check_new_session()
        body = await _body(request, _CHANGEABLE | {"server"})
        server = body.get("server")
        if not isinstance(server, str):
            raise Rejection(Fault.BAD_PARAMS, '"server" is missing; it names one of GET /servers')
        check_server(request, server)
        if body.get("persistent"):
            check_persist(request)
        usual = self._sessions.is_persistent(
            server
        )  # 404 for a server that is not there, before its times are looked up
        wanted = usual if body.get("persistent") is None else _flag(body)
        kept = wanted and self._sessions.kept.is_lasting
        ttl = _ttl(body) if body.keys() & {"ttl_ms", "ttl_hours"} else self._timing.stream_ttl(server, persistent=kept)
        entry = await self._sessions.create(
            server,
            owner_of(request),
            persistent=wanted,
            ttl=ttl,
            metadata=_metadata(body),
            variables=self._variables.take(request, server),
        )
        row = self._row(self._sessions.pool, entry, principal_of(request))
        if not row["persistent"] and (warning := self._sessions.kept.warning(wanted=wanted)):
            row["warning"] = warning
        row["mcp_url"] = f"{base_url(request, self._base)}/mcp/{server}"
        row["headers"] = {SESSION_HEADER: entry.key}
        return json_answer(row, status=201)

    async def list(self, request: web.Request) -> web.Response:
        """List what lives in the two pools: all that the caller may see, or ``?pool= &server= &state=`` of it."""
        unknown = sorted(set(request.query) - {"pool", "server", "state"})
        if unknown:
            raise Rejection(Fault.BAD_PARAMS, f"no filter {unknown[0][:40]!r}; there are pool, server and state")
        pool, server, state = (request.query.get(name) for name in ("pool", "server", "state"))
        if pool is not None and pool not in {each.name for each in self._pools}:
            names = " or ".join(each.name for each in self._pools)
            raise Rejection(Fault.BAD_PARAMS, f"pool is {pool[:40]!r}, must be {names}")
        if state is not None and state not in _STATES:
            raise Rejection(Fault.BAD_PARAMS, f"state is {state[:40]!r}, must be one of {', '.join(sorted(_STATES))}")
        return json_answer(
            [
                self._row(each, entry, principal_of(request))
                for each, entry in self._visible(principal_of(request))
                if pool in (None, each.name)
                and server in (None, entry.session.server)
                and state in (None, entry.state.value)
            ]
        )

    def recent_for(self, principal: Principal, most: int) -> tuple[Rows, int]:
        """Return the rows of the sessions that a principal may see and that were used last, ``most`` of them, and how
        many there are.
        """
        visible = self._visible(principal)
        recent = heapq.nlargest(most, visible, key=lambda found: (found[1].in_use > 0, found[1].last_used))
        return [self._row(pool, entry, principal) for pool, entry in recent], len(visible)

    def _visible(self, principal: Principal) -> Found:
        return [
            (pool, entry)
            for pool in self._pools
            for entry in pool.entries()
            if principal.is_admin or _is_own(entry, principal)
        ]

    async def get(self, request: web.Request) -> web.Response:
        """Show one session."""
        return json_answer(self._row(self._sessions.pool, self._find(request), principal_of(request)))

    async def patch(self, request: web.Request) -> web.Response:
        """Change time to live, metadata, or whether it is kept."""
        entry = self._find(request)
        body = await _body(request, _CHANGEABLE)
        ttl = _ttl(body) if body.keys() & {"ttl_ms", "ttl_hours"} else entry.ttl
        metadata = _metadata(body) if "metadata" in body else entry.session.metadata
        wanted = _flag(body) if "persistent" in body else entry.session.is_kept
        if wanted and not entry.session.is_kept:
            check_persist(request)
            if entry.session.server == ALL_SERVERS:
                raise Rejection(Fault.BAD_PARAMS, '"persistent" is for sessions at one server, and this one is at all')
        before = entry.session.metadata, entry.ttl
        entry.session.metadata = metadata
        self._sessions.pool.set_ttl(entry, ttl)
        try:
            await self._sessions.kept.keep(entry, wanted)
        except BaseException:
            entry.session.metadata, ttl = before
            self._sessions.pool.set_ttl(entry, ttl)
            raise
        row = self._row(self._sessions.pool, entry, principal_of(request))
        if not row["persistent"] and (warning := self._sessions.kept.warning(wanted=wanted)):
            row["warning"] = warning
        return json_answer(row)

    async def touch(self, request: web.Request) -> web.Response:
        """Begin its idle time anew."""
        entry = self._find(request)
        self._sessions.pool.touch(entry)
        self._sessions.kept.save(entry)
        return json_answer(self._row(self._sessions.pool, entry, principal_of(request)))

    async def delete(self, request: web.Request) -> web.Response:
        """End a session."""
        self._sessions.delete(self._find(request))
        return gone()

    async def stats(self, request: web.Request) -> web.Response:
        """Count sessions: of the caller, or of everyone for whoever may administer."""
        pool = self._sessions.pool
        seen = [entry for entry in pool.entries() if is_admin(request) or _is_own(entry, principal_of(request))]
        kept = [entry for entry in seen if entry.session.is_kept]
        temporary = [entry for entry in seen if not entry.session.is_kept]
        ttl = self._timing.stream_pool_ttl
        stats: dict[str, Any] = {
            "temporary_sessions": {
                "total": len(temporary),
                "active": sum(1 for entry in temporary if entry.in_use),
                "expired": sum(1 for entry in temporary if entry.expired(pool.clock())),
            },
            "persistent_sessions": len(kept),
            "total_sessions": len(seen),
            "default_ttl_hours": None if ttl is None else round(ttl / 3600, 6),
            "persistent_store_enabled": self._sessions.kept.is_lasting,
            "persistent_store": self._sessions.kept.keeper.name,
        }
        if is_admin(request):
            stats["pools"] = {each.name: _pool_stats(each) for each in self._pools}
        return json_answer(stats)

    def _find(self, request: web.Request) -> SessionEntry:
        """The session of the path: by its id for its owner, by its beginning, as in logs or longer, for whoever may
        administer.
        """
        session_id = request.match_info["session_id"]
        entry = self._sessions.pool.find(session_id)
        if entry is not None and _is_own(entry, principal_of(request)):
            return entry
        if is_admin(request):
            entries = [*self._sessions.pool.entries()]
            begins = session_id.removesuffix("...")
            alike = [each for each in entries if each.key == session_id]
            if not alike and len(begins) >= SHOWN:
                shown = begins + "..."
                alike = [each for each in entries if each.key.startswith(begins) or each.session.label == shown]
            if len(alike) == 1:
                return alike[0]
            if alike:
                raise Rejection(Fault.CONFLICT, f"{len(alike)} sessions begin like that; give more of the id")
            if any(session_id in (each.key, each.session.label) for pool in self._pools for each in pool.entries()):
                why = "this is a client of the bridge's own: it ends when it has idled for its TTL, and with its server"
                raise Rejection(Fault.UNKNOWN_SESSION, why)
        raise Rejection(Fault.UNKNOWN_SESSION, "there is no such session, or no longer")

    def _row(self, pool: AnyPool, entry: Entry[Any], principal: Principal) -> dict[str, Any]:
        session: AnySession = entry.session
        idle, now = pool.idle_for(entry), self._wall()
        own = _is_own(entry, principal)
        left = None if entry.ttl is None or not pool.is_reaped else max(0.0, entry.ttl - idle)
        row: dict[str, Any] = {
            "pool": pool.name,
            "session_id": entry.key if own else session.label,
            "server": session.server,
            "state": entry.state.value,
            "in_use": entry.in_use,
            "persistent": False,
            "pid": session.pid,
            "created_at": _iso(now - pool.age_of(entry)),
            "last_used_at": _iso(now - idle),
            "expires_at": None if left is None else _iso(now + left),
            "age_s": round(pool.age_of(entry), 1),
            "idle_s": round(idle, 1),
            "ttl_ms": None if entry.ttl is None else round(entry.ttl * 1000),
            "expires_in_s": None if left is None or entry.in_use else round(left, 1),
        }
        if isinstance(session, StreamableSession):
            row["persistent"] = self._sessions.kept.is_stored(entry) and self._sessions.kept.is_lasting
            row["restored"] = session.restored
            row["protocol_version"] = session.version or None
            row["metadata"] = session.metadata if own else {}
        return row


def _is_own(entry: Entry[Any], principal: Principal) -> bool:
    session = entry.session
    if not isinstance(session, StreamableSession) or session.owner != principal.owner:
        return False
    if session.server == ALL_SERVERS:
        return True  # who may use none of them finds none in there
    return principal.may_use(session.server)  # the same user may come with a token for another server


def _pool_stats(pool: AnyPool) -> dict[str, Any]:
    entries: list[Entry[Any]] = [*pool.entries()]
    servers: dict[str, int] = {}
    states: dict[str, int] = {}
    for entry in entries:
        servers[entry.session.server] = servers.get(entry.session.server, 0) + 1
        states[entry.state.value] = states.get(entry.state.value, 0) + 1
    return {"total": len(entries), "reaped": dict(pool.reaped), "states": states, "servers": servers}


def _iso(wall: float) -> str:
    return (
        datetime.fromtimestamp(min(max(wall, 0.0), _LATEST), UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )


async def _body(request: web.Request, allowed: frozenset[str]) -> dict[str, Any]:
    found = jsontext.decode(await read_json(request))
    if not isinstance(found, dict):
        raise Rejection(Fault.BAD_PARAMS, "the body must be a JSON object")
    unknown = sorted(found.keys() - allowed)
    if unknown:
        names = ", ".join(sorted(allowed))
        raise Rejection(Fault.BAD_PARAMS, f"unknown member {unknown[0][:40]!r}; there are {names}")
    return found


def _flag(body: dict[str, Any]) -> bool:
    wanted = body["persistent"]
    if not isinstance(wanted, bool):
        raise Rejection(Fault.BAD_PARAMS, f'"persistent" is {_shown(wanted)}, must be true or false')
    return wanted


def _ttl(body: dict[str, Any]) -> float | None:
    if "ttl_ms" in body and "ttl_hours" in body:
        raise Rejection(Fault.BAD_PARAMS, '"ttl_ms" and "ttl_hours" are both given; keep one of them')
    name, read = ("ttl_ms", values.milliseconds_or_never) if "ttl_ms" in body else ("ttl_hours", values.hours_or_never)
    try:
        return read(body[name])
    except values.Wanted as wanted:
        raise Rejection(Fault.BAD_PARAMS, f'"{name}" is {_shown(body[name])}, must be {wanted}') from None


def _metadata(body: dict[str, Any]) -> dict[str, Any]:
    metadata = body.get("metadata")
    if metadata is None:
        return {}
    if not isinstance(metadata, dict):
        raise Rejection(Fault.BAD_PARAMS, f'"metadata" is {_shown(metadata)}, must be an object')
    size = len(jsontext.encode(metadata))
    if size > MOST_METADATA:
        raise Rejection(Fault.BODY_TOO_LARGE, f'"metadata" has {size} bytes, may have {MOST_METADATA}')
    return metadata


def _shown(value: Any) -> str:
    return jsontext.encode(value)[:60].decode(errors="replace")
