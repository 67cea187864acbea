"""The command line: verbs, flags, exit codes.

Exit codes: 0 ok, 1 error, 2 usage or configuration, 3 no bridge is running.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bridge.cli import servers as servers_verb
from bridge.cli import sessions as sessions_verb
from bridge.cli.check import check
from bridge.config.errors import ConfigError
from bridge.config.servers import Servers, load_servers, parse_servers, single_command
from bridge.config.settings import Settings, load_environment, read_settings
from bridge.version import __version__

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_NOT_RUNNING = 3

#: Flags of ``serve`` and ``check`` that stand for a setting.
_FLAG_SETTINGS = {"host": "HOST", "port": "PORT", "config": "SERVERS_FILE", "log_level": "LOG_LEVEL"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    given, command = _split(given)
    parser = _parser()
    options = parser.parse_args(given)
    if options.verb == "version":
        print(f"mcp-bridge {__version__}")
        return 0
    if options.verb in ("sessions", "servers"):
        return _ask(options)
    try:
        settings, servers = _configure(options, command)
    except ConfigError as error:
        print(f"mcp-bridge: {error}", file=sys.stderr)
        return EXIT_USAGE
    if options.verb == "check":
        return check(settings, servers)
    return _serve(settings, servers)


def _serve(settings: Settings, servers: Servers) -> int:
    from bridge.cli.serve import serve  # aiohttp is slow to import, and `check` does not need it

    try:
        return serve(settings, servers)
    except ConfigError as error:
        print(f"mcp-bridge: {error}", file=sys.stderr)
        return EXIT_ERROR


def _ask(options: argparse.Namespace) -> int:
    """A verb that asks a running bridge."""
    from bridge.cli.client import Client, NotRunning, Refused
    from bridge.cli.servers import servers
    from bridge.cli.sessions import sessions

    verb = {"sessions": sessions, "servers": servers}[options.verb]
    try:
        environ = load_environment(os.environ, options.env_file)
        return verb(Client(read_settings(environ, _overrides(options))), options)
    except ConfigError as error:
        print(f"mcp-bridge: {error}", file=sys.stderr)
        return EXIT_USAGE
    except NotRunning as error:
        print(f"mcp-bridge: {error}", file=sys.stderr)
        return EXIT_NOT_RUNNING
    except Refused as error:
        print(f"mcp-bridge: {error}", file=sys.stderr)
        return EXIT_ERROR


def _configure(options: argparse.Namespace, command: list[str]) -> tuple[Settings, Servers]:
    environ = load_environment(os.environ, options.env_file)
    settings = read_settings(environ, _overrides(options))
    if command:
        if options.config is not None:
            raise ConfigError("--config and a command after -- exclude each other")
        return settings, single_command(command, environ)
    if settings.servers_inline is not None and options.config is None:
        return settings, parse_servers(settings.servers_inline, "MCP_SERVERS", environ)
    return settings, load_servers(settings.servers_file, environ)


def _overrides(options: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {
        setting: value
        for flag, setting in _FLAG_SETTINGS.items()
        if (value := getattr(options, flag, None)) is not None
    }
    if getattr(options, "session_timeout", None) is not None:
        milliseconds = _milliseconds(options.session_timeout)
        found |= {"STREAM_SESSION_TTL_MS": milliseconds, "BRIDGE_SESSION_TTL_MS": milliseconds}
    if getattr(options, "cleanup_interval", None) is not None:
        found["SESSION_CLEANUP_INTERVAL_SECONDS"] = options.cleanup_interval
    return found


def _milliseconds(seconds: str) -> str:
    try:
        return str(float(seconds) * 1000)
    except ValueError:
        return seconds  # "never", or something that the setting itself will refuse


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Cut off what follows ``--``: the command to serve."""
    if "--" not in arguments:
        return arguments, []
    at = arguments.index("--")
    return arguments[:at], arguments[at + 1 :]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mcp-bridge", description="Turns MCP servers that speak stdio into HTTP services."
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    serve = verbs.add_parser(
        "serve",
        help="start the bridge",
        usage="mcp-bridge serve [options] [-- COMMAND ARG...]",
        epilog="With a COMMAND after -- it alone is served, as /mcp/default, and servers.json is not read. "
        "Every setting can also stand in the environment or in .env: see .env.example.",
    )
    check = verbs.add_parser("check", help="read the configuration and say what is wrong with it")
    sessions = verbs.add_parser("sessions", help="list, show or end sessions of a running bridge")
    sessions_verb.add_arguments(sessions)
    servers = verbs.add_parser("servers", help="list, start, stop or restart servers of a running bridge")
    servers_verb.add_arguments(servers)
    for verb in (serve, check, sessions, servers):
        verb.add_argument("--env-file", type=Path, metavar="FILE", help="settings file (default .env, if there is one)")
        verb.add_argument("--host", help="address of the bridge (HOST, default 127.0.0.1)")
        verb.add_argument(
            "-p", "--port", help="port of the bridge (PORT, default 3000; serve takes 0 for any free one)"
        )
    for verb in (serve, check):
        verb.add_argument("-c", "--config", metavar="FILE", help="servers file (SERVERS_FILE, default servers.json)")
        verb.add_argument("--log-level", metavar="LEVEL", help="DEBUG, INFO, WARNING or ERROR (LOG_LEVEL)")
        verb.add_argument(
            "--session-timeout",
            metavar="SECONDS",
            help='idle time of sessions in both pools, or "never" (STREAM_SESSION_TTL_MS, BRIDGE_SESSION_TTL_MS)',
        )
        verb.add_argument(
            "--cleanup-interval",
            metavar="SECONDS",
            help="time between two looks for idle sessions (SESSION_CLEANUP_INTERVAL_SECONDS, default a third)",
        )
    verbs.add_parser("version", help="print the version")
    return parser
