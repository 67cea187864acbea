"""The command line: verbs, flags, exit codes.

Exit codes: 0 ok, 1 error, 2 usage or configuration, 3 no bridge is running. Each verb is a module with
``add_arguments(parser)`` and ``run(options)``; only that of the verb that was typed is imported, so that none waits for
what another one needs.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Container, Sequence

from bridge.cli.errors import EXIT_USAGE, CommandError
from bridge.config.errors import ConfigError
from bridge.version import __version__

#: Verb to its module and what it does.
VERBS = {
    "serve": ("bridge.cli.serve", "start the bridge"),
    "check": ("bridge.cli.check", "read the configuration and say what is wrong with it"),
    "servers": ("bridge.cli.servers", "list, start, stop or restart servers of a running bridge"),
    "sessions": ("bridge.cli.sessions", "list, show or end sessions of a running bridge"),
    "pins": ("bridge.cli.pins", "show tools that have changed since they were first seen, and approve them"),
    "token": ("bridge.cli.token", "add, list or remove tokens of TOKENS_FILE"),
    "version": (None, "print the version"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    given, command = _split(list(sys.argv[1:] if arguments is None else arguments))
    typed = next((word for word in given if not word.startswith("-")), None)
    options = parser_of({typed}).parse_args(given)
    options.command = command
    module = VERBS[options.verb][0]
    if module is None:
        print(f"mcp-bridge {__version__}")
        return 0
    try:
        return int(importlib.import_module(module).run(options))
    except (ConfigError, CommandError) as error:
        print(f"mcp-bridge: {error}", file=sys.stderr)
        return getattr(error, "exit_code", EXIT_USAGE)


def parser_of(verbs: Container[str | None]) -> argparse.ArgumentParser:
    """Return the parser of the command line, with the arguments of these verbs; the others have their names only."""
    parser = argparse.ArgumentParser(
        prog="mcp-bridge", description="Turns MCP servers that speak stdio into HTTP services."
    )
    parsers = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, (module, text) in VERBS.items():
        one = parsers.add_parser(name, help=text)
        if module is not None and name in verbs:
            importlib.import_module(module).add_arguments(one)
    return parser


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Cut off what follows ``--``: the command to serve."""
    if "--" not in arguments:
        return arguments, []
    at = arguments.index("--")
    return arguments[:at], arguments[at + 1 :]
