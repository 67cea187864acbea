"""``mcp-bridge ps``: every server with the processes that run for it, as pm2 and docker list them."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from typing import Any

from bridge.cli.client import Client
from bridge.cli.errors import UsageError
from bridge.cli.options import add_address
from bridge.cli.table import amount, duration, rich_table, show

#: Seconds between two looks of ``--watch``.
LOOK = 2.0
_COLUMNS = {
    "id": "SERVER",
    "state": "STATE",
    "pid": "PID",
    "uptime": "UPTIME",
    "restarts": "RESTARTS",
    "cpu": "CPU",
    "memory": "MEMORY",
    "sessions": "SESSIONS",
    "calls": "CALLS",
    "error": "LAST ERROR",
}
#: Stands before the processes of a server.
_BRANCH = "  └"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``ps``."""
    add_address(parser)
    parser.add_argument("servers", nargs="*", metavar="SERVER", help="only these (default: all)")
    parser.add_argument("--json", action="store_true", help="as JSON, each server with its processes")
    parser.add_argument("-w", "--watch", action="store_true", help=f"again every {LOOK:g} s, until Ctrl-C")


def run(options: argparse.Namespace) -> int:
    """Print the table; return the exit code. Raises what :meth:`Client.ask` raises."""
    client = Client(options)
    if options.watch and options.json:
        raise UsageError("--watch and --json exclude each other")
    if options.watch and sys.stdout.isatty():
        _watch(client, options.servers)
    rows = _rows(client, options.servers)
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    show(_lines(rows), _COLUMNS)
    while options.watch:
        time.sleep(LOOK)
        print(flush=True)
        show(_lines(_rows(client, options.servers)), _COLUMNS)
    return 0


def _watch(client: Client, wanted: list[str]) -> None:
    """Draw it again and again, until Ctrl-C."""
    from rich.live import Live

    with Live(screen=True, auto_refresh=False) as live:
        while True:
            live.update(rich_table(_lines(_rows(client, wanted)), _COLUMNS), refresh=True)
            time.sleep(LOOK)


def _rows(client: Client, wanted: list[str]) -> list[dict[str, Any]]:
    servers = client.ask("GET", "/api/v1/servers")
    if missing := sorted(set(wanted) - {row["id"] for row in servers}):
        raise UsageError(f'no server "{missing[0]}"; there are: {", ".join(row["id"] for row in servers)}')
    processes: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for child in client.ask("GET", "/api/v1/children"):
        processes[child["server"]].append(child)
    rows = [row for row in servers if not wanted or row["id"] in wanted]
    return [{**row, "processes": processes[row["id"]]} for row in rows]


def _lines(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each server as the sum of its processes, and below it those."""
    lines: list[dict[str, Any]] = []
    for row in rows:
        below = row["processes"]
        lines.append(
            {
                **row,
                **_usage(below),
                "sessions": row.get("sessions"),
                "error": row.get("error") or row.get("last_error"),
            }
        )
        lines += [
            {
                "id": _BRANCH,
                "state": child["state"],
                "pid": child["pid"],
                "sessions": child["holders"],
                **_usage([child]),
            }
            for child in below
        ]
    return lines


def _usage(processes: list[dict[str, Any]]) -> dict[str, Any]:
    if not processes:
        return {}
    cpu = [child["cpu_percent"] for child in processes if child["cpu_percent"] is not None]
    memory = [child["resident_bytes"] for child in processes if child["resident_bytes"] is not None]
    return {
        "uptime": duration(max(child["uptime_s"] for child in processes)),
        "cpu": f"{sum(cpu):.1f}%" if cpu else None,
        "memory": amount(sum(memory)) if memory else None,
        "calls": sum(child["calls"] for child in processes),
    }
