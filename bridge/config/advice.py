"""What is set and does not count, or contradicts something else: no mistake, and worth a line at the start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from bridge.config.extras import untraced
from bridge.config.server import ServerConfig
from bridge.config.settings import Settings
from bridge.config.values import UNSET

#: Times that nobody means to be below a second: the key of an entry, the setting, the field of either.
_TIMES = (
    ("requestTimeout", "REQUEST_TIMEOUT_MS", "request_timeout"),
    ("startTimeout", "START_TIMEOUT_MS", "start_timeout"),
    ("sessionTtlMs", "STREAM_SESSION_TTL_MS", "stream_ttl"),
    ("bridgeTtlMs", "BRIDGE_SESSION_TTL_MS", "bridge_ttl"),
    ("idleStopMs", None, "idle_stop"),
    (None, "SHUTDOWN_TIMEOUT_MS", "shutdown_timeout"),
)
_ENTRY_FIELDS = {"stream_ttl": "session_ttl"}


def advice(settings: Settings, servers: Mapping[str, ServerConfig]) -> list[str]:
    """Return what a user should know of a configuration, one line each."""
    found = []
    if all(server.disabled for server in servers.values()):
        found.append("no server is enabled, so nothing is served; add one: mcp-bridge add ID -- COMMAND ARG...")
    if settings.oauth_issuer is None:
        found += [
            f"{each.metadata['name']} does nothing without OAUTH_ISSUER"
            for each in fields(settings)
            if each.name.startswith("oauth_") and getattr(settings, each.name)
        ]
    elif not settings.oauth_audience and not settings.is_loopback:
        found.append(
            "OAUTH_AUDIENCE is unset: what tokens must be for is taken from the Host of each request; set it to the "
            "address of this bridge"
        )
    if not settings.is_loopback and not settings.allowed_hosts:
        found.append(
            f"HOST is {settings.host} and ALLOWED_HOSTS is unset: whoever calls the bridge by an address or name "
            "of this machine gets 403; set ALLOWED_HOSTS to those that clients use, as in "
            "192.0.2.5,bridge.example.com, or to * for any"
        )
    if why := untraced(settings):
        found.append(why)
    if settings.redis_enabled and settings.session_store == "file":
        found.append("SESSION_STORE is file, but REDIS_ENABLED=true wins: sessions are kept in Redis")
    if settings.ttl_hours is not UNSET:
        for name, value in (
            ("STREAM_SESSION_TTL_MS", settings.stream_ttl),
            ("BRIDGE_SESSION_TTL_MS", settings.bridge_ttl),
        ):
            if value is not UNSET:
                found.append(f"{name} and SESSION_TTL_HOURS are both set; {name} wins")
    found += _seconds_taken_for_milliseconds(settings, servers)
    persistent = [server.id for server in servers.values() if server.persistent and not server.disabled]
    if settings.store == "memory" and persistent:
        found.append(
            f"{', '.join(persistent)}: persistent, but SESSION_STORE is memory: its sessions are temporary, and end "
            "when they idle or with the bridge; set SESSION_STORE=file"
        )
    if settings.store == "memory" and settings.persistence_required:
        found.append("PERSISTENCE_REQUIRED is set, but SESSION_STORE is memory: persistent sessions get 503")
    if settings.store != "memory" and not persistent:
        found.append(
            f'SESSION_STORE is {settings.store}, but no server has "persistent": true: only sessions that are created '
            "as persistent by POST /api/v1/sessions are kept"
        )
    if settings.cluster is None:
        alone = [each.id for each in servers.values() if each.on_node_loss is not None and not each.disabled]
        if alone:
            found.append(f'{", ".join(alone)}: "onNodeLoss" does nothing without CLUSTER')
        if settings.node_id is not None or settings.node_url is not None:
            found.append("NODE_ID and NODE_URL do nothing without CLUSTER")
    found += [
        f'{server.id}: "idleStopMs" is not used where "restore" is refuse: another process would not be the same'
        for server in servers.values()
        if server.idle_stop is not None and server.restore == "refuse"
    ]
    found += [
        f'{server.id}: its "url" is this bridge itself: at /mcp a session would begin another one, and so on until '
        f"MAX_CHILDREN; remove it: mcp-bridge remove {server.id}"
        for server in servers.values()
        if server.url is not None and not server.disabled and settings.serves(server.url)
    ]
    for server in servers.values():
        if server.header_env and not server.disabled:
            found += _header_env(server)
    return found


def _seconds_taken_for_milliseconds(settings: Settings, servers: Mapping[str, ServerConfig]) -> list[str]:
    found = [
        f"{name} is {_doubt(getattr(settings, field))}"
        for _, name, field in _TIMES
        if name is not None and _doubt(getattr(settings, field))
    ]
    for server in servers.values():
        for key, _, field in _TIMES:
            if key is not None and (doubt := _doubt(getattr(server, _ENTRY_FIELDS.get(field, field)))):
                found.append(f'{server.id}: "{key}" is {doubt}')
    return found


def _doubt(seconds: object) -> str:
    """What is said of a time that is below a second; nothing of others."""
    if not isinstance(seconds, int | float) or not 0 < seconds < 1:
        return ""
    return f"{seconds * 1000:g} milliseconds; did you mean {seconds * 1_000_000:.10g}?"


def _header_env(server: ServerConfig) -> list[str]:
    found = []
    if server.persistent:
        found.append(
            f'{server.id}: persistent, but what its "headerEnv" takes from clients is kept nowhere: its sessions end '
            "with the bridge"
        )
    early = [key for key, value in (("warm", server.warm), ("preload", server.preload is not None)) if value]
    if early:
        found.append(f'{server.id}: {" and ".join(early)} are for sessions without the headers of its "headerEnv"')
    return found
