"""``mcp-bridge logs``: what a server wrote to stderr, or the bridge logged; it reads the files where no bridge runs."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from urllib.parse import urlencode

from bridge.cli.client import Client, quoted
from bridge.cli.errors import CommandError, NotRunning, UsageError
from bridge.cli.options import add_address, client_settings_of
from bridge.config.entry import ID
from bridge.observe.tail import LOOK, MOST_LINES, Tail


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words after ``logs``."""
    add_address(parser)
    parser.add_argument("server", nargs="?", metavar="SERVER", help="default: the bridge's own log")
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what is written, until Ctrl-C")
    parser.add_argument("--tail", type=_count, default=100, metavar="N", help="so many last lines (default 100)")


def run(options: argparse.Namespace) -> int:
    """Print lines; return the exit code. Raises what :meth:`Client.ask` raises."""
    if options.server is not None and not ID.fullmatch(options.server):
        raise UsageError(f"no server can be called {options.server!r}")
    client = Client(options)
    path = "/api/v1/logs" if options.server is None else f"/api/v1/servers/{quoted(options.server)}/logs"
    asked = urlencode({"tail": options.tail, "follow": str(options.follow).lower()})
    try:
        reply = client.open("GET", f"{path}?{asked}")
    except NotRunning as reason:
        return _read_files(options, reason)
    with reply:
        if options.follow:
            for line in reply.events():
                print(line, flush=True)
        else:
            _print(reply.json()["lines"])
    return 0


def _read_files(options: argparse.Namespace, reason: NotRunning) -> int:
    settings, _ = client_settings_of(options)
    name = "bridge.log" if options.server is None else f"servers/{options.server}.log"
    path: Path = settings.log_dir / name
    if not path.exists():
        raise NotRunning(f"{reason}. There is no {path} either")
    print(f"mcp-bridge: no bridge answers; this is {path}", file=sys.stderr)
    try:
        with Tail(path) as tail:
            _print(tail.last(options.tail))
            while options.follow:
                time.sleep(LOOK)
                _print(tail.more())
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}") from None
    return 0


def _print(lines: list[str]) -> None:
    for line in lines:
        print(line)
    sys.stdout.flush()


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text) <= MOST_LINES:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 to {MOST_LINES}")
    return int(text)
