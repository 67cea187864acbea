"""``mcp-bridge restart``: a new process takes over the port of a running bridge, which ends with its sessions."""

from __future__ import annotations

import argparse
import json

from bridge.cli import heir
from bridge.cli.client import Client
from bridge.cli.errors import UsageError
from bridge.cli.options import add_address

#: Seconds beyond those in which the new bridge has to be ready.
GRACE = 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words after ``restart``."""
    add_address(parser)
    parser.add_argument(
        "--patience",
        metavar="SECONDS",
        default="600",
        help="what sessions of the old one get to end in; kept ones go on at the new one (default 600)",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.epilog = (
        "The new process has the command line of the old one, and reads code, settings and servers anew. If it cannot "
        "start, the old one goes on, and this says why."
    )


def run(options: argparse.Namespace) -> int:
    """Restart; return the exit code. Raises what :meth:`Client.ask` raises."""
    try:
        patience = float(options.patience)
    except ValueError:
        raise UsageError(f"--patience is {options.patience!r}, must be seconds") from None
    client = Client(options)
    found = client.ask("POST", "/api/v1/restart", {"patience_s": patience}, heir.PATIENCE + GRACE)
    client.ask("GET", "/livez")  # which the new one answers
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    old, new = found["old"], found["new"]
    print(f"restarted: {old['pid']} ({old['version']}) -> {new['pid']} ({new['version']})")
    return 0
