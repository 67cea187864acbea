"""``mcp-bridge add``: one more server in the servers file, whose comments and layout stay."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from bridge.cli.check import state_of
from bridge.cli.errors import UsageError
from bridge.cli.options import add_servers_file
from bridge.cli.servers_file import change
from bridge.config.editing import with_entries


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words after ``add``."""
    parser.usage = "mcp-bridge add ID [options] -- COMMAND [ARG...]\n       mcp-bridge add ID [options] --url URL"
    add_servers_file(parser)
    parser.add_argument("id", metavar="ID", help="1 to 64 of A-Z a-z 0-9 . _ -; its URL is /mcp/ID")
    parser.add_argument("--url", metavar="URL", help="a server that runs elsewhere")
    parser.add_argument(
        "-e",
        "--env",
        action="append",
        default=[],
        metavar="NAME[=VALUE]",
        help="a variable of the program; without a value it is taken from the bridge's environment; may be repeated",
    )
    parser.add_argument(
        "--header", action="append", default=[], metavar="NAME=VALUE", help="with --url; may be repeated"
    )
    parser.add_argument("--cwd", metavar="FOLDER", help="where the program runs")
    parser.add_argument("--description", metavar="TEXT", help="for people")


def run(options: argparse.Namespace) -> int:
    """Write the file; return the exit code. Raises what :func:`change` raises."""
    entry = _entry(options)
    servers = change(options, lambda text, source: with_entries(text, {options.id: entry}, source), {options.id})
    print(f"{options.id} is in {servers.source}: {state_of(servers.entries[options.id])}")
    print("a running bridge serves it after: mcp-bridge servers reload (with WATCH=true by itself)")
    return 0


def _entry(options: argparse.Namespace) -> dict[str, Any]:
    if bool(options.command) == (options.url is not None):
        raise UsageError("add: give either -- COMMAND ARG..., or --url URL")
    entry: dict[str, Any] = {}
    if options.description is not None:
        entry["description"] = options.description
    if options.url is not None:
        if options.env or options.cwd is not None:
            raise UsageError("add: --env and --cwd are for a COMMAND")
        entry["url"] = options.url
        if options.header:
            entry["headers"] = dict(_pair(text, "--header") for text in options.header)
        return entry
    if options.header:
        raise UsageError("add: --header is for --url")
    entry["command"], entry["args"] = options.command[0], options.command[1:]
    if options.env:
        entry["env"] = {
            name: value if equals else None for name, equals, value in (text.partition("=") for text in options.env)
        }
    if options.cwd is not None:
        entry["cwd"] = str(Path(options.cwd).expanduser().absolute())
    return entry


def _pair(text: str, flag: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(f"add: {flag} is {text.partition('=')[0]!r}, must be NAME=VALUE")
    return name, value
