"""``mcp-bridge servers``: what a running bridge serves, starting and stopping it, reading the servers file again."""

from __future__ import annotations

import argparse
import json
import sys

from bridge.cli.client import Client, quoted
from bridge.cli.errors import Refused, UsageError
from bridge.cli.options import add_address
from bridge.cli.table import show

_COLUMNS = {
    "id": "SERVER",
    "state": "STATE",
    "children": "CHILDREN",
    "sessions": "SESSIONS",
    "restarts": "RESTARTS",
    "error": "LAST ERROR",
}

#: What the answers of the bridge mean: nothing runs before somebody calls it, and it may fail again.
_SAID = {
    "started": "may start again; the next request starts it",
    "restarted": "its processes have ended; the next request starts another",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words after ``servers``."""
    add_address(parser)
    actions = ("ls", "start", "stop", "restart", "reload")
    parser.add_argument("action", nargs="?", choices=actions, default="ls", help="default: ls; reload reads the file")
    parser.add_argument("ids", nargs="*", metavar="ID", help="server id; without one ls lists all")
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(options: argparse.Namespace) -> int:
    """Do what the words say; return the exit code. Raises what :meth:`Client.ask` raises."""
    client = Client(options)
    if options.action == "ls":
        return _list(client, options)
    if options.action == "reload":
        return _reload(client, options)
    if not options.ids:
        raise UsageError(f"servers {options.action}: which? give an ID of: mcp-bridge servers")
    code = 0
    for server in options.ids:
        try:
            done = client.ask("POST", f"/api/v1/servers/{quoted(server)}/{options.action}")
        except Refused as refused:
            print(f"mcp-bridge: {server}: {refused}", file=sys.stderr)
            code = 1
            continue
        print(json.dumps(done) if options.json else f"{server}: {_SAID.get(done['state'], done['state'])}")
    return code


def _reload(client: Client, options: argparse.Namespace) -> int:
    if options.ids:
        raise UsageError("servers reload: it reads the whole file; give no ID")
    changes = client.ask("POST", "/api/v1/reload")
    if options.json:
        print(json.dumps(changes, indent=2))
        return 0
    said = [f"{what.replace('_', ' ')}: {', '.join(names)}" for what, names in changes.items() if names]
    print("\n".join(said) or "nothing has changed")
    return 0


def _list(client: Client, options: argparse.Namespace) -> int:
    rows = client.ask("GET", "/api/v1/servers")
    if options.ids:
        if unknown := sorted(set(options.ids) - {row["id"] for row in rows}):
            raise UsageError(f"servers ls: there is no server {', '.join(unknown)}")
        rows = [row for row in rows if row["id"] in options.ids]
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    for row in rows:
        row["error"] = row.get("error") or row.get("last_error")
    show(rows, _COLUMNS)
    return 0
