"""``mcp-bridge sessions``: what lives in the pools of a running bridge."""

from __future__ import annotations

import argparse
import json
import sys
import urllib.parse
from typing import Any

from bridge.cli.client import Client, quoted
from bridge.cli.errors import Refused, UsageError
from bridge.cli.options import add_address
from bridge.cli.table import duration, show

_COLUMNS = {
    "session_id": "SESSION",
    "pool": "POOL",
    "server": "SERVER",
    "state": "STATE",
    "in_use": "IN USE",
    "kept": "KEPT",
    "pid": "PID",
    "age": "AGE",
    "idle": "IDLE",
    "ends": "ENDS IN",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words after ``sessions``."""
    add_address(parser)
    parser.add_argument("action", nargs="?", choices=("ls", "show", "rm"), default="ls", help="default: ls")
    parser.add_argument("ids", nargs="*", metavar="ID", help="session id; without one ls lists all")
    parser.add_argument("--pool", choices=("bridge", "streamable"), help="only sessions of this pool")
    parser.add_argument("--server", metavar="ID", help="only sessions of this server")
    parser.add_argument("--state", help="only sessions in this state")
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(options: argparse.Namespace) -> int:
    """Do what the words say; return the exit code. Raises what :meth:`Client.ask` raises."""
    client = Client(options)
    if options.action == "ls":
        return _list(client, options)
    if not options.ids:
        raise UsageError(f"sessions {options.action}: which? give an ID of: mcp-bridge sessions")
    code = 0
    for session_id in options.ids:
        path = f"/api/v1/sessions/{quoted(session_id)}"
        try:
            found = client.ask("GET" if options.action == "show" else "DELETE", path)
        except Refused as refused:
            print(f"mcp-bridge: {session_id}: {refused}", file=sys.stderr)
            code = 1
            continue
        if options.action == "show":
            print(json.dumps(found, indent=2))
    return code


def _list(client: Client, options: argparse.Namespace) -> int:
    asked = {name: getattr(options, name) for name in ("pool", "server", "state") if getattr(options, name)}
    rows = client.ask("GET", "/api/v1/sessions?" + urllib.parse.urlencode(asked, errors="surrogateescape"))
    if options.server and not rows:
        _check_server(client, options.server)
    if options.ids:
        rows = _only(rows, options.ids)
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    for row in rows:
        row["kept"] = row["persistent"]
        row["age"], row["idle"] = duration(row["age_s"]), duration(row["idle_s"])
        left = row["expires_in_s"]
        row["ends"] = "in use" if left is None and row["in_use"] else duration(left)
    show(rows, _COLUMNS)
    return 0


def _check_server(client: Client, server: str) -> None:
    """Raise :class:`UsageError` where there is no such server."""
    servers = [row["id"] for row in client.ask("GET", "/api/v1/servers")]
    if server not in servers:
        raise UsageError(f'no server "{server}"; there are: {", ".join(servers)}')


def _only(rows: list[dict[str, Any]], ids: list[str]) -> list[dict[str, Any]]:
    """Those with these ids, of which either side may have the beginning only. Raises :class:`UsageError`."""
    found: list[dict[str, Any]] = []
    for wanted in (each.removesuffix("...") for each in ids):
        shown = [(row, row["session_id"].removesuffix("...")) for row in rows]
        these = [row for row, id_ in shown if id_.startswith(wanted) or wanted.startswith(id_)]
        if not these:
            raise UsageError(f"sessions ls: there is no session {wanted}")
        found += [row for row in these if row not in found]
    return found
