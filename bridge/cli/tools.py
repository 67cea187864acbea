"""``mcp-bridge tools``: what a server offers."""

from __future__ import annotations

import argparse
import json

from bridge.cli.client import Client
from bridge.cli.mcp import Session
from bridge.cli.options import add_address
from bridge.cli.table import show

_COLUMNS = {"name": "TOOL", "about": "DESCRIPTION"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words after ``tools``."""
    add_address(parser)
    parser.add_argument("server", metavar="SERVER", help="one of: mcp-bridge servers")
    parser.add_argument("--json", action="store_true", help="as JSON, whole, with the schemas")


def run(options: argparse.Namespace) -> int:
    """Print the tools; return the exit code. Raises what :class:`Session` raises."""
    with Session(Client(options), options.server, lambda _: {"action": "decline"}, lambda _: None) as session:
        tools = session.pages("tools/list", "tools")
    if options.json:
        print(json.dumps(tools, indent=2))
        return 0
    for tool in tools:
        words = str(tool.get("description") or tool.get("title") or "").strip()
        tool["about"] = words.partition("\n")[0].strip() or None
    show(tools, _COLUMNS)
    return 0
