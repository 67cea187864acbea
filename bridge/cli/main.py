"""The command line: verbs, flags, exit codes.

Exit codes: 0 ok, 1 error, 2 usage or configuration, 3 no bridge is running, 4 it cannot serve that just now. Each verb
is a module with ``add_arguments(parser)`` and ``run(options)``; only that of the verb that was typed is imported, so
that none waits for what another one needs. No traceback reaches a user.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import io
import os
import sys
from collections.abc import Container, Sequence

from bridge.cli.errors import EXIT_ERROR, EXIT_INTERRUPTED, EXIT_USAGE, CommandError
from bridge.cli.parser import Parser
from bridge.config.errors import ConfigError
from bridge.version import __version__

#: Verb to its module and what it does.
VERBS = {
    "serve": ("bridge.cli.serve", "start the bridge"),
    "check": ("bridge.cli.check", "read the configuration and say what is wrong with it"),
    "ps": ("bridge.cli.ps", "list the servers of a running bridge and their processes"),
    "logs": ("bridge.cli.logs", "show what a server wrote to stderr, or what the bridge logged"),
    "tools": ("bridge.cli.tools", "list the tools of a server"),
    "call": ("bridge.cli.call", "call a tool"),
    "servers": ("bridge.cli.servers", "list, start, stop, restart or reload servers of a running bridge"),
    "sessions": ("bridge.cli.sessions", "list, show or end sessions of a running bridge"),
    "pins": ("bridge.cli.pins", "show tools that have changed since they were first seen, and approve them"),
    "token": ("bridge.cli.token", "add, list or remove tokens of TOKENS_FILE"),
    "doctor": ("bridge.cli.doctor", "try everything: settings, ports, stores, and each server; say how to repair it"),
    "add": ("bridge.cli.add", "add a server to the servers file"),
    "remove": ("bridge.cli.remove", "remove servers from the servers file"),
    "import": ("bridge.cli.importing", "add the servers of MCP clients on this machine to the servers file"),
    "client-config": ("bridge.cli.client_config", "print what to put into an MCP client to reach the servers"),
    "completion": ("bridge.cli.completion", "print what bash, zsh or fish need to complete this command"),
    "restart": ("bridge.cli.restart", "start the bridge anew without a gap: the new one takes over the port"),
    "service": ("bridge.cli.service", "run the bridge as a service of systemd"),
    "version": (None, "print the version"),
}

#: What a line may begin with.
_FIRST = frozenset({"-h", "--help", "--version", *VERBS})
#: Verbs that take a command after ``--``.
_TAKES_COMMAND = frozenset({"serve", "check", "doctor", "client-config", "add"})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    _open_streams()
    failure: BaseException | None = None
    try:
        code = _run(list(sys.argv[1:] if arguments is None else arguments))
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        failure = _first(error)
    try:
        sys.stdout.flush()
    except OSError as error:  # which is why it failed, if it did
        failure = error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left in the buffer has nowhere to go
    return code if failure is None else _told(failure)


def _open_streams() -> None:
    """Have all three streams, so that none is missing and no socket gets its number, and write any text to them."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # its caller has closed it
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115 - it lives as long as the process
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr does: a terminal may know ASCII or Latin-1 only


def _run(typed: list[str]) -> int:
    if typed[:1] == ["help"]:
        typed = [*typed[1:2], "--help"]
    verb = next((word for word in typed if not word.startswith("-")), None)
    given, command = _split(typed) if verb in _TAKES_COMMAND else (typed, [])
    parser = parser_of({verb})
    if not typed:
        parser.print_help(sys.stderr)
        return EXIT_USAGE
    if verb is not None and typed[0] not in _FIRST:
        from bridge.cli.mistakes import about_verb  # here and below: nobody waits for it who makes no mistake

        parser.error(about_verb(verb, typed, tuple(VERBS)))
    options, unknown = parser.parse_known_args(given)
    if unknown:
        from bridge.cli.mistakes import about_argument

        hint = about_argument(unknown[0], options.parser, takes_command=verb in _TAKES_COMMAND and not command)
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    options.command, options.typed = command, typed
    module = VERBS[options.verb][0]
    if module is None:
        print(f"mcp-bridge {__version__}")
        return 0
    return int(importlib.import_module(module).run(options))


def _first(error: BaseException) -> BaseException:
    """What went wrong, where tasks that ran together say it in a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _told(failure: BaseException) -> int:
    """Say why a command has ended, in a line; return its exit code."""
    match failure:
        case SystemExit():  # argparse has said it
            raise failure
        case ConfigError() | CommandError():
            print(f"mcp-bridge: {failure}", file=sys.stderr)
            return getattr(failure, "exit_code", EXIT_USAGE)
        case KeyboardInterrupt() | BrokenPipeError():  # head has seen enough
            return EXIT_INTERRUPTED
        case OSError(errno=errno.ENOSPC | errno.EDQUOT | errno.EFBIG, filename=None):
            print(f"mcp-bridge: the output cannot be written: {failure.strerror}", file=sys.stderr)
            return EXIT_ERROR
        case ModuleNotFoundError(name=str(name)) if not name.startswith("bridge"):
            what = f"{name} is not installed for {sys.executable}; make install, or pip install . in the folder of it"
            print(f"mcp-bridge: {what}", file=sys.stderr)
            return EXIT_ERROR
    # A mistake of ours: one line, with the place for whoever repairs it.
    print(f"mcp-bridge: internal error: {type(failure).__name__}: {failure} ({_place(failure)})", file=sys.stderr)
    return EXIT_ERROR


def _place(error: BaseException) -> str:
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    return "unknown" if at is None else f"{os.path.basename(at.tb_frame.f_code.co_filename)}:{at.tb_lineno}"  # noqa: PTH119


def parser_of(verbs: Container[str | None]) -> argparse.ArgumentParser:
    """Return the parser of the command line, with the arguments of these verbs; the others have their names only."""
    parser = Parser(
        prog="mcp-bridge",
        description="Turns MCP servers that speak stdio into HTTP services.",
        epilog="mcp-bridge VERB --help has the flags of a verb. One command is served without any file by: "
        "mcp-bridge serve -- COMMAND ARG...",
    )
    parser.add_argument("--version", action="version", version=f"mcp-bridge {__version__}")
    parsers = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, (module, text) in VERBS.items():
        one = parsers.add_parser(name, help=text)
        one.set_defaults(parser=one)
        if module is not None and name in verbs:
            importlib.import_module(module).add_arguments(one)
    return parser


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Cut off what follows ``--``: the command of a server."""
    if "--" not in arguments:
        return arguments, []
    at = arguments.index("--")
    return arguments[:at], arguments[at + 1 :]
