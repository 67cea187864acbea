"""``mcp-bridge token``: who may come in besides ``ACCESS_TOKEN``. A running bridge reads the file again."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bridge.auth import tokens
from bridge.auth.tokens import BadTokens, Token
from bridge.cli.errors import CommandError, UsageError
from bridge.cli.options import settings_of
from bridge.cli.table import duration, show
from bridge.config.files import locked

#: The file where TOKENS_FILE is unset.
DEFAULT_FILE = Path("tokens.json")
_COLUMNS = {"name": "NAME", "scopes": "SCOPES", "created": "CREATED", "ends": "EXPIRES IN"}
_UNITS = {"m": 60, "h": 3600, "d": 86400}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words after ``token``."""
    _add_files(parser)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = actions.add_parser("add", help="make a token and print it, once; the file holds its hash")
    add.add_argument("name", help="who it is for; sessions belong to the name")
    add.add_argument(
        "--scope",
        action="append",
        metavar="SCOPE",
        help="servers:<glob of server ids>, sessions:persist or admin; may be repeated (default servers:*)",
    )
    add.add_argument("--expires", metavar="TIME", help="when it ends: 90d, 12h, 30m, or never (default never)")
    listing = actions.add_parser("ls", help="list names, scopes and ends")
    listing.add_argument("--json", action="store_true", help="as JSON")
    remove = actions.add_parser("rm", help="remove tokens by name; they are refused within a second")
    remove.add_argument("names", nargs="+", metavar="NAME")
    for action in (add, listing, remove):
        _add_files(action, default=argparse.SUPPRESS)  # which leaves what was said before the action


def _add_files(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """Which files it is about."""
    for flag, about in (
        ("--env-file", "settings file (default .env, if there is one)"),
        ("--file", "the tokens file (TOKENS_FILE, default tokens.json)"),
    ):
        parser.add_argument(flag, type=Path, metavar="FILE", default=default, help=about)


def run(options: argparse.Namespace) -> int:
    """Do what the words say; return the exit code."""
    settings, _ = settings_of(options)
    path: Path = options.file or settings.tokens_file or DEFAULT_FILE
    try:
        if options.action == "ls":
            return _list(_read(path), as_json=options.json)
        with locked(path):
            if options.action == "add":
                return _add(path, options, is_used=path == settings.tokens_file)
            return _remove(path, options.names)
    except BadTokens as error:
        raise CommandError(str(error)) from None


def _add(path: Path, options: argparse.Namespace, *, is_used: bool) -> int:
    known = _read(path)
    if any(token.name == options.name for token in known):
        remove = ["mcp-bridge", "token", "rm", options.name, *([] if is_used else ["--file", str(path)])]
        raise CommandError(f'there is a token "{options.name}" already; remove it first: {shlex.join(remove)}')
    now = datetime.now(UTC)
    secret, token = tokens.mint(options.name, options.scope or ["servers:*"], _end(options.expires, now), now)
    tokens.write(path, [*known, token])
    print(secret)
    hint = "" if is_used else f"; set TOKENS_FILE={path} for the bridge to use it"
    words = f'token "{token.name}" ({" ".join(token.scopes)}) is in {path}; it is not shown again{hint}'
    print(words, file=sys.stderr)
    return 0


def _list(known: list[Token], *, as_json: bool) -> int:
    now = datetime.now(UTC).timestamp()
    rows = [
        {
            "name": token.name,
            "scopes": list(token.scopes) if as_json else " ".join(token.scopes),
            "created": token.created or None,
            "expires": token.expires,
            "expired": token.principal().has_expired(now),
        }
        for token in known
    ]
    if as_json:
        print(json.dumps(rows, indent=2))
        return 0
    for row, token in zip(rows, known, strict=True):
        left = None if token.expires_at is None else token.expires_at - now
        row["ends"] = "expired" if row["expired"] else duration(left)
    show(rows, _COLUMNS)
    return 0


def _remove(path: Path, names: list[str]) -> int:
    known = _read(path)
    missing = [name for name in names if name not in {token.name for token in known}]
    if missing:
        raise CommandError(f'{path} has no token "{missing[0]}"; nothing was removed')
    tokens.write(path, [token for token in known if token.name not in names])
    return 0


def _read(path: Path) -> list[Token]:
    try:
        return tokens.read(path)
    except FileNotFoundError:
        return []


def _end(text: str | None, now: datetime) -> datetime | None:
    if text is None or text in ("never", "none", "null"):
        return None
    if not re.fullmatch(r"[1-9][0-9]{0,5}[mhd]", text):
        raise UsageError(f"--expires is {text!r}, must be a number and m, h or d, such as 90d, or never")
    return now + timedelta(seconds=int(text[:-1]) * _UNITS[text[-1]])
