"""``mcp-bridge remove``: servers out of the servers file, whose comments and layout stay."""

from __future__ import annotations

import argparse

from bridge.cli.options import add_servers_file
from bridge.cli.servers_file import change
from bridge.config.editing import without_entries


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words after ``remove``."""
    add_servers_file(parser)
    parser.add_argument("ids", nargs="+", metavar="ID", help="a server of the file")


def run(options: argparse.Namespace) -> int:
    """Write the file, or nothing where one of them is not in it; return the exit code."""
    servers = change(options, lambda text, source: without_entries(text, options.ids, source))
    print(f"removed from {servers.source}: {', '.join(options.ids)}")
    print("a running bridge serves it until: mcp-bridge servers reload (with WATCH=true by itself)")
    return 0
