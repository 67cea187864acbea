"""The settings of the bridge as one frozen value, read from the environment, an env file and the command line.

The command line wins over the environment, which wins over the env file. Every name is part of the contract with users:
it stands in ``.env.example`` and in the README.
"""

from __future__ import annotations

import ipaddress
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bridge.config import values
from bridge.config.env_file import find_env_file, read_env_file
from bridge.config.errors import ConfigError
from bridge.config.redis_address import LOCAL, RedisAddress, redis_address
from bridge.config.spelling import meant
from bridge.config.values import UNSET, Unset

MIB = 1024 * 1024
#: The one of OpenTelemetry's protocols that is spoken.
HTTP_PROTOBUF = "http/protobuf"
#: What the paths of the bridge itself begin with. A test holds them against its routes.
OWN_PATHS = frozenset(
    (
        *("mcp", "sse", "messages", "bridge", "api", "servers", "sessions", "children", "page", ".well-known"),
        *("health", "livez", "readyz", "metrics", "openapi.json"),
    )
)


def _setting(name: str, default: Any, read: Callable[[Any], Any], **options: Any) -> Any:
    return field(default=default, repr="secret" not in options, metadata={"name": name, "read": read, **options})


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings. Durations are seconds; a duration of None means never."""

    host: str = _setting("HOST", "127.0.0.1", values.host)
    port: int = _setting("PORT", 3000, values.whole(0, 65535))
    access_token: str | None = _setting("ACCESS_TOKEN", None, values.token, alias="AUTH_TOKEN", secret=True)
    tokens_file: Path | None = _setting("TOKENS_FILE", None, values.path)
    ssl_certfile: Path | None = _setting("SSL_CERTFILE", None, values.path)
    ssl_keyfile: Path | None = _setting("SSL_KEYFILE", None, values.path)
    oauth_issuer: str | None = _setting("OAUTH_ISSUER", None, values.issuer)
    oauth_audience: tuple[str, ...] = _setting("OAUTH_AUDIENCE", (), values.names)
    oauth_jwks_url: str | None = _setting("OAUTH_JWKS_URL", None, values.secure_url)
    oauth_scopes: tuple[str, ...] = _setting("OAUTH_SCOPES", (), values.scopes)
    oauth_introspection_url: str | None = _setting("OAUTH_INTROSPECTION_URL", None, values.secure_url)
    oauth_client_id: str | None = _setting("OAUTH_CLIENT_ID", None, values.text)
    oauth_client_secret: str | None = _setting("OAUTH_CLIENT_SECRET", None, values.text, secret=True)
    allow_unauthenticated: bool = _setting("ALLOW_UNAUTHENTICATED", False, values.flag)
    allowed_origins: tuple[str, ...] = _setting("ALLOWED_ORIGINS", (), values.origins)
    allowed_hosts: tuple[str, ...] = _setting("ALLOWED_HOSTS", (), values.hosts)
    rate_limit: values.Rate | None = _setting("RATE_LIMIT", None, values.rate)
    trust_proxy: tuple[values.Network, ...] = _setting("TRUST_PROXY", (), values.networks)
    base_path: str = _setting("BASE_PATH", "", values.base_path)
    log_level: str = _setting("LOG_LEVEL", "INFO", values.choice("DEBUG", "INFO", "WARNING", "ERROR"))
    log_dir: Path = _setting("LOG_DIR", Path("logs"), values.path)
    log_format: str = _setting("LOG_FORMAT", "text", values.choice("text", "json"))
    audit_log: bool = _setting("AUDIT_LOG", False, values.flag)
    otlp_endpoint: str | None = _setting(
        "OTEL_EXPORTER_OTLP_ENDPOINT", None, values.text, alias="OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", alias_wins=True
    )
    otlp_protocol: str = _setting(
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", HTTP_PROTOBUF, values.text, alias="OTEL_EXPORTER_OTLP_PROTOCOL"
    )
    traces_exporter: str = _setting("OTEL_TRACES_EXPORTER", "otlp", values.text)
    otel_disabled: bool = _setting("OTEL_SDK_DISABLED", False, values.flag)
    servers_file: Path = _setting("SERVERS_FILE", Path("servers.json"), values.path)
    servers_inline: str | None = _setting("MCP_SERVERS", None, values.text, secret=True)
    stream_ttl: float | Unset | None = _setting("STREAM_SESSION_TTL_MS", UNSET, values.milliseconds_or_never)
    bridge_ttl: float | Unset | None = _setting("BRIDGE_SESSION_TTL_MS", UNSET, values.milliseconds_or_never)
    ttl_hours: float | Unset | None = _setting("SESSION_TTL_HOURS", UNSET, values.hours_or_never)
    disable_stream_cleanup: bool = _setting("DISABLE_STREAM_CLEANUP", False, values.flag)
    disable_bridge_cleanup: bool = _setting("DISABLE_BRIDGE_CLEANUP", False, values.flag)
    cleanup_interval: float | None = _setting("SESSION_CLEANUP_INTERVAL_SECONDS", None, values.seconds)
    persistence_required: bool = _setting("PERSISTENCE_REQUIRED", False, values.flag)
    session_store: str = _setting("SESSION_STORE", "memory", values.choice("memory", "file", "redis"))
    session_dir: Path = _setting("SESSION_DIR", Path(".sessions"), values.path)
    pins_file: Path | None = _setting("PINS_FILE", None, values.path)
    redis_enabled: bool = _setting("REDIS_ENABLED", False, values.flag)
    redis_url: RedisAddress = _setting("REDIS_URL", LOCAL, redis_address, secret=True)
    redis_prefix: str = _setting("REDIS_PREFIX", "persistent_session:", values.text)
    max_sessions: int = _setting("MAX_SESSIONS", 10_000, values.whole(1, 10_000_000))
    max_sessions_per_user: int = _setting("MAX_SESSIONS_PER_USER", 1000, values.whole(1, 10_000_000))
    max_children: int = _setting("MAX_CHILDREN", 200, values.whole(1, 1_000_000))
    max_request_bytes: int = _setting("MAX_REQUEST_BYTES", 4 * MIB, values.whole(1024, 1024 * MIB))
    max_message_bytes: int = _setting("MAX_MESSAGE_BYTES", 64 * MIB, values.whole(1024, 4096 * MIB))
    request_timeout: float | None = _setting("REQUEST_TIMEOUT_MS", None, values.milliseconds_or_never)
    start_timeout: float = _setting("START_TIMEOUT_MS", 60.0, values.milliseconds)
    shutdown_timeout: float = _setting("SHUTDOWN_TIMEOUT_MS", 10.0, values.milliseconds)

    workers: int = _setting("WORKERS", 1, values.whole(1, 256))
    cluster: str | None = _setting("CLUSTER", None, values.choice("redis"))
    cluster_key: str | None = _setting("CLUSTER_KEY", None, values.key, secret=True)
    node_id: str | None = _setting("NODE_ID", None, values.node_id)
    node_url: str | None = _setting("NODE_URL", None, values.node_url)
    watch: bool = _setting("WATCH", False, values.flag)
    aggregate_separator: str = _setting("AGGREGATE_SEPARATOR", "__", values.separator)
    aggregate_patience: float = _setting("AGGREGATE_PATIENCE_MS", 10.0, values.milliseconds)
    implicit_initialize: bool = _setting("IMPLICIT_INITIALIZE", True, values.flag)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the listening address."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def url(self, port: int) -> str:
        """Return where the bridge is to be found that listens on this port."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        scheme = "http" if self.ssl_certfile is None else "https"
        return f"{scheme}://{name}:{port}{self.base_path}"

    def serves(self, url: str) -> bool:
        """Whether servers are at this address because the bridge itself serves them there."""
        try:
            parts = urlsplit(url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            return False
        path = parts.path.removeprefix(self.base_path).split("/")[1:2]
        is_here = parts.hostname is not None and (parts.hostname == self.host or values.is_loopback(parts.hostname))
        return is_here and port == self.port and path in (["mcp"], ["sse"])

    @property
    def needs_token(self) -> bool:
        """Whether callers have to say who they are."""
        return self.access_token is not None or self.tokens_file is not None or self.oauth_issuer is not None

    @property
    def wants_traces(self) -> bool:
        """Whether spans are to be sent somewhere, as OpenTelemetry's own variables say."""
        return self.otlp_endpoint is not None and self.traces_exporter == "otlp" and not self.otel_disabled

    @property
    def pins_path(self) -> Path:
        """Where the pins of tools are kept: beside the session store, where nothing is said."""
        return self.pins_file or self.session_dir / "pins.json"

    @property
    def store(self) -> str:
        """Where persistent sessions are kept: ``memory``, ``file`` or ``redis``. REDIS_ENABLED and CLUSTER win."""
        return "redis" if self.redis_enabled or self.cluster is not None else self.session_store

    @property
    def node_name(self) -> str:
        """What this node is called: the name of its host, where nothing is said."""
        return socket.gethostname() if self.node_id is None else self.node_id


def setting_names() -> tuple[str, ...]:
    """Every name that is read from the environment, aliases left out."""
    return tuple(each.metadata["name"] for each in fields(Settings))


class Environ(dict[str, str]):
    """An environment, part of which stands in a file."""

    file: Path | None = None
    from_file: frozenset[str] = frozenset()

    def misspelt(self) -> list[tuple[str, str]]:
        """Return names of the file that are no settings, and the settings that they are almost called."""
        settings = setting_names()
        known = {*settings, *(each.metadata.get("alias") for each in fields(Settings)), "MCP_BRIDGE_TOKEN"}
        found = [(name, meant(name, settings)) for name in sorted(self.from_file - known)]
        return [(name, setting) for name, setting in found if setting is not None]


def load_environment(environ: Mapping[str, str], env_file: Path | None) -> Environ:
    """Return the environment with the env file filling what it leaves unset.

    Without a name the file is ``.env`` in the working directory, which may be absent; a named file must exist. Raises
    :class:`ConfigError`, also where a line of it cannot be understood, or where it is there and leads to no file.
    ``BRIDGE_PYTHON``, the Python that runs the bridge, is added for ``servers.json``: its ``python`` may be another.
    """
    ours = Environ({"BRIDGE_PYTHON": sys.executable, **environ})
    path = find_env_file(env_file)
    if path is None:
        return ours
    filled = read_env_file(path)
    for each in fields(Settings):  # a setting under its other name is set all the same
        if ours.get(each.metadata.get("alias", "")):
            filled.pop(each.metadata["name"], None)
    found = Environ({**filled, **ours})
    found.file, found.from_file = path, frozenset(filled) - ours.keys()
    return found


def read_settings(environ: Mapping[str, str], overrides: Mapping[str, Any] | None = None) -> Settings:
    """Build the settings of a bridge. ``overrides`` are by setting name, from the command line.

    Raises :class:`ConfigError` naming the setting, the value seen and the value wanted.
    """
    settings = read_client_settings(environ, overrides)
    _check(settings)
    return settings


def read_client_settings(environ: Mapping[str, str], overrides: Mapping[str, Any] | None = None) -> Settings:
    """Build the same for who asks a bridge, which may be elsewhere: each is read by itself, and not held against what
    else a bridge would need. Raises what :func:`read_settings` raises.
    """
    found: dict[str, Any] = {}
    for each in fields(Settings):
        names = [each.metadata["name"], each.metadata.get("alias")]
        if each.metadata.get("alias_wins"):
            names.reverse()
        for source, origin in ((overrides or {}, "command line"), (environ, "environment")):
            used = next((name for name in names if name and source.get(name) not in (None, "")), None)
            if used is None:
                continue
            if origin == "environment" and isinstance(environ, Environ) and used in environ.from_file:
                origin = str(environ.file)
            found[each.name] = _read(used, source[used], each.metadata, origin)
            break
    return Settings(**found)


def _read(name: str, value: Any, metadata: Mapping[str, Any], origin: str) -> Any:
    try:
        return metadata["read"](value)
    except values.Wanted as wanted:
        seen = "(hidden)" if metadata.get("secret") else repr(value)
        raise ConfigError(f"{origin}: {name}: is {seen}, must be {wanted}") from None


def _check(settings: Settings) -> None:
    if (settings.ssl_certfile is None) != (settings.ssl_keyfile is None):
        missing = "SSL_CERTFILE" if settings.ssl_certfile is None else "SSL_KEYFILE"
        raise ConfigError(f"{missing}: is not set; TLS needs both SSL_CERTFILE and SSL_KEYFILE")
    if not settings.is_loopback and not settings.needs_token and not settings.allow_unauthenticated:
        raise ConfigError(
            f"HOST: {settings.host!r} can be reached from other machines and no token is needed; set ACCESS_TOKEN or "
            "TOKENS_FILE or OAUTH_ISSUER, or HOST=127.0.0.1, or ALLOW_UNAUTHENTICATED=true if everyone may call your "
            "servers"
        )
    first = settings.base_path.removeprefix("/").partition("/")[0]
    if first in OWN_PATHS:  # nobody could tell which of the two is meant
        raise ConfigError(
            f"BASE_PATH: {settings.base_path} begins with /{first}, a path of the bridge itself; choose another"
        )
    _check_oauth(settings)
    if settings.cluster is not None:
        _check_cluster(settings)


def _check_cluster(settings: Settings) -> None:
    if settings.workers > 1:
        raise ConfigError(
            f"WORKERS: is {settings.workers}, and with CLUSTER=redis each node is one process; start more nodes instead"
        )
    if settings.redis_url is LOCAL:
        raise ConfigError("REDIS_URL: is unset; CLUSTER=redis needs the Redis that all nodes share")
    if settings.cluster_key is None:
        raise ConfigError(
            "CLUSTER_KEY: is unset; set it to the same secret on all nodes, which sign session ids and what they send "
            "each other with it: openssl rand -hex 32"
        )
    if settings.node_url is None:
        raise ConfigError(
            "NODE_URL: is unset; set it to the address at which the other nodes reach this one, such as "
            f"http://10.0.0.7:{settings.port or 3000}"
        )
    if not values.NODE.fullmatch(settings.node_name):
        raise ConfigError(
            f"NODE_ID: is unset, and the name of this host, {settings.node_name!r}, cannot be taken instead; set it to "
            "1 to 63 of A-Z a-z 0-9 _ -, another for each node"
        )
    if settings.session_store == "file":
        raise ConfigError(
            "SESSION_STORE: is file, which no other node can read; leave it out, CLUSTER=redis means redis"
        )


def _check_oauth(settings: Settings) -> None:
    if settings.oauth_issuer is None:
        return
    asks = settings.oauth_introspection_url is not None
    if asks and not (settings.oauth_client_id and settings.oauth_client_secret):
        raise ConfigError(
            "OAUTH_INTROSPECTION_URL: needs OAUTH_CLIENT_ID and OAUTH_CLIENT_SECRET, by which the authorization server "
            "knows who asks"
        )
    if "*" in settings.allowed_hosts and not settings.oauth_audience:
        raise ConfigError(
            "OAUTH_AUDIENCE: is unset and ALLOWED_HOSTS is *, so that tokens for any service would be taken; set it to "
            "the address of this bridge, such as https://bridge.example.com"
        )
