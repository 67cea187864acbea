"""``mcp-bridge restart``: a new process takes over the port of a running bridge, which ends with its sessions."""

from __future__ import annotations

import argparse
import contextlib
import json
from http import HTTPStatus

from bridge.cli import heir
from bridge.cli.client import Client
from bridge.cli.errors import CommandError, NotRunning, Refused, UsageError
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
    try:
        found = client.ask("POST", "/api/v1/restart", {"patience_s": patience}, heir.PATIENCE + GRACE)
    except (NotRunning, Refused) as error:
        raise _with_the_way(error, client) from None
    with contextlib.suppress(CommandError):  # of the token or the scheme of before
        client.ask("GET", "/livez")  # which the new one answers
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    old, new = found["old"], found["new"]
    print(f"restarted: {old['pid']} ({old['version']}) -> {new['pid']} ({new['version']})")
    return 0


def _with_the_way(error: NotRunning | Refused, client: Client) -> CommandError:
    """The same with a way to restart, where the bridge that runs may have been started with other settings."""
    from bridge.cli.listener import bridge_at  # nobody waits for it whose bridge answers

    pid = bridge_at(client.host, client.port)
    if isinstance(error, NotRunning):
        if pid is None:
            return error
        since = "if SSL_CERTFILE has been set or unset since it started"
        return NotRunning(f"{error}; process {pid} listens there: {since}, kill -USR2 {pid} restarts it")
    if error.status != HTTPStatus.UNAUTHORIZED:
        return error
    signal = f"kill -USR2 {'PID' if pid is None else pid}"
    way = f"restart it by the one of before: MCP_BRIDGE_TOKEN=... mcp-bridge restart, or on its machine: {signal}"
    return Refused(error.status, f"{error}; if ACCESS_TOKEN has changed since the bridge started, {way}")
