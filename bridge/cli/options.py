"""Options that verbs share, and the configuration that they lead to."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from bridge.config import values
from bridge.config.errors import ConfigError
from bridge.config.servers import Problem, Servers, load_servers, parse_servers, single_command
from bridge.config.settings import Environ, Settings, load_environment, read_client_settings, read_settings

#: Flags that stand for a setting.
_FLAG_SETTINGS = {
    "host": "HOST",
    "port": "PORT",
    "config": "SERVERS_FILE",
    "log_level": "LOG_LEVEL",
    "watch": "WATCH",
    "workers": "WORKERS",
    "ssl_certfile": "SSL_CERTFILE",
    "ssl_keyfile": "SSL_KEYFILE",
}


def add_address(parser: argparse.ArgumentParser) -> None:
    """Where the bridge listens, and the file of settings that says it."""
    add_env_file(parser)
    parser.add_argument("--host", help="address of the bridge (HOST, default 127.0.0.1)")
    parser.add_argument("-p", "--port", help="port of the bridge (PORT, default 3000; serve takes 0 for any free one)")


def add_configuration(parser: argparse.ArgumentParser) -> None:
    """What the bridge serves, and how."""
    add_address(parser)
    _add_config(parser)
    parser.add_argument("--log-level", metavar="LEVEL", help="DEBUG, INFO, WARNING or ERROR (LOG_LEVEL)")
    parser.add_argument("--ssl-certfile", metavar="FILE", help="speak https with this certificate, PEM (SSL_CERTFILE)")
    parser.add_argument("--ssl-keyfile", metavar="FILE", help="the key of that certificate, PEM (SSL_KEYFILE)")
    parser.add_argument(
        "--session-timeout",
        metavar="SECONDS",
        help='idle time of sessions in both pools, or "never" (STREAM_SESSION_TTL_MS, BRIDGE_SESSION_TTL_MS)',
    )
    parser.add_argument(
        "--cleanup-interval",
        metavar="SECONDS",
        help="time between two looks for idle sessions (SESSION_CLEANUP_INTERVAL_SECONDS, default a third)",
    )


def add_servers_file(parser: argparse.ArgumentParser) -> None:
    """Which file a verb changes."""
    add_env_file(parser)
    _add_config(parser)


def add_env_file(parser: argparse.ArgumentParser) -> None:
    """The file of settings."""
    parser.add_argument("--env-file", type=Path, metavar="FILE", help="settings file (default .env, if there is one)")


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-c", "--config", metavar="FILE", help="servers file (SERVERS_FILE, default servers.json)")


def settings_of(options: argparse.Namespace) -> tuple[Settings, Environ]:
    """Return the settings, and the environment that they were read from: that which this process was given, where
    it keeps one because its own has changed since. Raises :class:`ConfigError`.
    """
    environ = load_environment(getattr(options, "environ", os.environ), options.env_file)
    return read_settings(environ, _overrides(options)), environ


def client_settings_of(options: argparse.Namespace) -> tuple[Settings, Environ]:
    """Return the same for a verb that asks a bridge, wherever that is. Raises :class:`ConfigError`."""
    environ = load_environment(os.environ, options.env_file)
    return read_client_settings(environ, _overrides(options)), environ


def env_file_of(options: argparse.Namespace) -> Path:
    """Return the file of settings, whether there is one or not."""
    named: Path | None = options.env_file
    return named or Path(".env")


def configuration_of(options: argparse.Namespace) -> tuple[Settings, Servers]:
    """Return the settings and the servers. Raises :class:`ConfigError`."""
    settings, environ = settings_of(options)
    return settings, servers_of(options, settings, environ)


def servers_of(options: argparse.Namespace, settings: Settings, environ: Environ) -> Servers:
    """Return the servers, where the settings are known. Raises :class:`ConfigError`."""
    if options.command:
        if options.config is not None:
            raise ConfigError("--config and a command after -- exclude each other")
        servers = single_command(options.command, environ)
    elif settings.servers_inline is not None and options.config is None:
        servers = parse_servers(settings.servers_inline, "MCP_SERVERS", environ)
    else:
        servers = load_servers(settings.servers_file, environ)
    return _with_misspelt_settings(servers, environ)


def count_of(servers: Servers) -> str:
    """How many servers a client gets, in words, and how many entries it gets none of."""
    disabled = sum(1 for server in servers.entries.values() if server.disabled)
    others = [f", {n} {what}" for n, what in ((disabled, "disabled"), (len(servers.mistaken), "invalid")) if n]
    return f"{len(servers.entries) - disabled} server(s){''.join(others)}"


def unusable(name: str, servers: Servers) -> str:
    """Say why there is no such server for a client; nothing where there is one."""
    if name in servers.entries:
        return f'server "{name}" is disabled in {servers.source}' if servers.entries[name].disabled else ""
    for problem in servers.problems:
        if problem.fatal and problem.server == name:
            return f'server "{name}" is invalid: {problem.text}'
    return f'no server "{name}" in {servers.source}; there are: {", ".join(servers.entries)}'


def _with_misspelt_settings(servers: Servers, environ: Environ) -> Servers:
    """Tell of names in the file of settings that are almost settings. It may hold variables of servers too."""
    misspelt = environ.misspelt()
    if environ.file is None or not misspelt:
        return servers
    used = _text(servers, environ)
    found = [
        Problem(f'{environ.file}: {name} is no setting; did you mean "{setting}"?', "bridge", fatal=False)
        for name, setting in misspelt
        if name not in used and environ.file.resolve() not in {path.resolve() for path in servers.files}
    ]
    return replace(servers, problems=(*servers.problems, *found))


def _text(servers: Servers, environ: Environ) -> str:
    """What the entries were read from. Raises :class:`ConfigError`."""
    if servers.files:
        try:
            return servers.files[0].read_text(encoding="utf-8", errors="replace")
        except OSError as error:  # it was there a moment ago: an editor is about to put another one in its place
            raise ConfigError(f"{servers.files[0]}: cannot be read: {error.strerror}") from None
    return environ.get("MCP_SERVERS", "")


def _overrides(options: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {
        setting: value
        for flag, setting in _FLAG_SETTINGS.items()
        if (value := getattr(options, flag, None)) is not None
    }
    if getattr(options, "session_timeout", None) is not None:
        milliseconds = _milliseconds("--session-timeout", options.session_timeout)
        found |= {"STREAM_SESSION_TTL_MS": milliseconds, "BRIDGE_SESSION_TTL_MS": milliseconds}
    if getattr(options, "cleanup_interval", None) is not None:
        found["SESSION_CLEANUP_INTERVAL_SECONDS"] = options.cleanup_interval
    return found


def _milliseconds(flag: str, given: str) -> str:
    try:
        if values.milliseconds_or_never(given) is None:
            return given
        return str(values.seconds(given) * 1000)
    except values.Wanted:
        raise ConfigError(f'{flag}: is {given!r}, must be a number of seconds above 0, or "never"') from None
