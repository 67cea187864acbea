"""``mcp-bridge pins``: which tools have changed since they were first seen, how, and approving that.

Over the REST API and not on the file: a running bridge has pins that it has not written yet, and would not see what
somebody else writes there.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from typing import Any

from bridge.cli.client import Client, quoted
from bridge.cli.errors import EXIT_ERROR, UsageError
from bridge.cli.options import add_address
from bridge.cli.table import table

_COLUMNS = {"server": "SERVER", "tool": "TOOL", "state": "STATE", "blocked": "BLOCKED", "at": "PINNED", "sha": "SHA256"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words after ``pins``."""
    add_address(parser)
    actions = ("ls", "diff", "approve")
    parser.add_argument("action", nargs="?", choices=actions, default="ls", help="default: ls")
    parser.add_argument("server", nargs="?", metavar="SERVER", help="server id (default: all; approve wants one)")
    parser.add_argument("tool", nargs="?", metavar="TOOL", help="name of a tool (default: all)")
    parser.add_argument("--sha256", metavar="SUM", help="approve only what has this fingerprint now, as diff shows it")
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(options: argparse.Namespace) -> int:
    """Do what the words say; return the exit code. Raises what :meth:`Client.ask` raises."""
    client = Client(options)
    if options.action == "approve":
        return _approve(client, options)
    query = "" if options.server is None else f"?server={quoted(options.server)}"
    rows = [row for row in client.ask("GET", f"/api/v1/pins{query}") if options.tool in (None, row["tool"])]
    if options.action == "diff":
        rows = [row for row in rows if row["state"] != "pinned"]
    if options.json:
        print(json.dumps(rows, indent=2))
    elif options.action == "diff":
        print("\n".join(line for row in rows for line in _diff(row)) or "nothing has changed")
    else:
        print(
            table(
                [{**row, "at": row["pinned_at"], "sha": (row["sha256"] or "")[:12] or None} for row in rows], _COLUMNS
            )
        )
    return 0


def _approve(client: Client, options: argparse.Namespace) -> int:
    if options.server is None:
        raise UsageError("pins approve: which server? mcp-bridge pins lists them")
    body = {"tool": options.tool, "sha256": options.sha256}
    done = client.ask("POST", f"/api/v1/servers/{quoted(options.server)}/pins/approve", body)
    if options.json:
        print(json.dumps(done))
    else:
        for name in done["approved"]:
            print(f"{options.server}: {name!a} is approved as it is now")
    if not done["approved"]:
        print("mcp-bridge: nothing there waits to be approved; mcp-bridge pins diff shows what does", file=sys.stderr)
        return EXIT_ERROR
    return 0


def _diff(row: dict[str, Any]) -> list[str]:
    name = f"{row['server']}/{row['tool']!a}"
    was = f"{name} {row['pinned_at'] or 'was not there'} {row['sha256'] or ''}".rstrip()
    now = f"{name} {row['now_at']} {row['now_sha256']}"
    return [
        *difflib.unified_diff(_lines(row["definition"]), _lines(row["now_definition"]), was, now, lineterm="", n=99)
    ]


def _lines(text: str | None) -> list[str]:
    """A definition, line by line; in ASCII, because letters that nobody sees are a way to talk to a model."""
    if text == "":
        return ["(too long to be kept)"]
    try:
        return [] if text is None else json.dumps(json.loads(text), indent=2).splitlines()
    except ValueError:  # a number that Python cannot hold
        return [ascii(text)]
