"""``mcp-bridge import``: the servers of MCP clients on this machine, into the servers file.

It shows what it would take, without secrets, and writes after a yes. What it cannot take is said, not dropped.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from bridge.cli import clients
from bridge.cli.clients import Found
from bridge.cli.errors import CommandError, UsageError
from bridge.cli.options import add_servers_file, settings_of
from bridge.cli.servers_file import change
from bridge.cli.table import show
from bridge.config.editing import with_entries
from bridge.config.errors import ConfigError
from bridge.config.interpolation import OF_AN_EDITOR
from bridge.config.servers import entries_in, parse_servers
from bridge.observe.secrets import HIDDEN, looks_like_one, masked_arguments

_COLUMNS = {"id": "SERVER", "from": "FROM", "action": "ACTION", "what": "WHAT"}
#: Names of variables and headers whose values are shown: all others may be secrets.
_HARMLESS = re.compile(r"(?i)(^|_)(path|home|lang|debug|level|mode|node_env|region|host|port)$")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words after ``import``."""
    add_servers_file(parser)
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="a client's file (default: look for them)")
    parser.add_argument("--from", dest="client", choices=tuple(clients.KINDS), help="only files of this client")
    parser.add_argument("-y", "--yes", action="store_true", help="write without asking")
    parser.add_argument(
        "--json",
        action="store_true",
        help="what was found, as JSON, without its secrets; nothing is written without --yes",
    )


def run(options: argparse.Namespace) -> int:
    """Show, ask, write; return the exit code. Raises what :func:`change` raises."""
    files = _files(options)
    known = _known(options)
    taken: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    for path, client, there in _read(options, files):
        for found in there:
            rows.append(_row(options, found, path, client, known | taken))
            if rows[-1]["action"] == "add":
                taken[found.name] = found.entry
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        _show(rows)
    if not taken:
        empty = "" if rows else f": no server stands in {', '.join(str(path) for path, _ in files)}"
        print(f"mcp-bridge: there is nothing to add{empty}", file=sys.stderr)
        return 0
    if not options.yes and options.json:
        return 0
    if not options.yes and not _agreed(len(taken)):
        print("mcp-bridge: nothing was written", file=sys.stderr)
        return 0
    servers = change(options, lambda text, source: with_entries(text, taken, source))
    print(f"mcp-bridge: {len(taken)} server(s) are in {servers.source}; say mcp-bridge doctor", file=sys.stderr)
    return 0


def _read(
    options: argparse.Namespace, files: list[tuple[Path, str | None]]
) -> list[tuple[Path, str | None, list[Found]]]:
    """What stands in each file. One that was only come upon and cannot be read is told, and hides no other.

    Raises :class:`ConfigError` where it was asked for, or there is no other.
    """
    is_named = options.file is not None or options.client is not None
    read: list[tuple[Path, str | None, list[Found]]] = []
    broken: list[ConfigError] = []
    for path, client in files:
        try:
            read.append((path, client, clients.read(path, client)))
        except ConfigError as error:
            if is_named:
                raise
            broken.append(error)
    if broken and not read:
        raise broken[0]
    for why in broken:
        print(f"mcp-bridge: {why}; it is left out", file=sys.stderr)
    return read


def _files(options: argparse.Namespace) -> list[tuple[Path, str | None]]:
    """Each file to read, and whose it is."""
    if options.file is not None:
        return [(options.file, options.client or _client_of(options.file))]
    kinds = [options.client] if options.client else list(clients.KINDS)
    looked = [(path, kind) for kind in kinds for path in clients.places(kind)]
    # In the home directory the file of the project is that of the user.
    found: dict[Path, tuple[Path, str | None]] = {
        path.resolve(): (path, kind) for path, kind in looked if path.is_file()
    }
    if not found:
        where = "\n  ".join(str(path) for path, _ in looked)
        raise CommandError(f"no file of an MCP client was found; name one. Looked for:\n  {where}")
    return list(found.values())


def _client_of(path: Path) -> str | None:
    """Whose file it is, by its place; None where it could be anybody's."""
    for kind in clients.KINDS:
        if path.absolute() in (place.absolute() for place in clients.places(kind)):
            return kind
    return None


def _known(options: argparse.Namespace) -> dict[str, Any]:
    """What the servers file holds now."""
    settings, _ = settings_of(options)
    if not settings.servers_file.exists():
        return {}
    try:
        text = settings.servers_file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigError(f"{settings.servers_file}: cannot be read: {why}") from None
    return entries_in(text, str(settings.servers_file))


def _row(
    options: argparse.Namespace, found: Found, path: Path, client: str | None, known: dict[str, Any]
) -> dict[str, Any]:
    """What becomes of one server: it is added, or not, and why."""
    problem = _problem(options, found)
    notes = list(found.notes)
    action = "add"
    if found.entry == known.get(found.name):
        action = "skip"
        notes.append("is there already")
    elif found.name in known:
        action = "skip"
        notes.append("another server has that id; rename one of them")
    elif problem is not None:
        action = "skip"
        notes.append(problem)
    return {
        "id": found.name,
        "from": client or path.name,
        "file": str(path),
        "action": action,
        "what": _what(found.entry),
        "secrets": _secrets(found.entry),
        "notes": notes,
    }


def _problem(options: argparse.Namespace, found: Found) -> str | None:
    """Why the bridge could not use an entry. That a variable is not set yet is no reason: it is said all the same."""
    settings, environ = settings_of(options)
    if not found.entry:
        return "nothing in it is known here"
    text = json.dumps(found.entry)
    if any(settings.serves(url) for url in re.findall(r"https?://[^\s\"'\\]+", text)):
        return "is this bridge"
    entry = dict(found.entry)
    if OF_AN_EDITOR.search(str(entry.get("envFile"))):
        del entry["envFile"]  # which has its note, as each such reference
    text = OF_AN_EDITOR.sub("x", json.dumps({found.name: entry}))
    variables = set(re.findall(r"(?<!\$)\$\{(?:env:)?([A-Za-z_]\w*)\}", text))
    names = variables | {name for name, value in _pairs(found.entry.get("env")).items() if value is None}
    unset = sorted(name for name in names if name not in environ)
    if unset:
        found.notes.append(f"set {', '.join(unset)} in .env")
    servers = parse_servers(text, "it", environ | dict.fromkeys(unset, "x"))
    fatal = [problem.text for problem in servers.problems if problem.fatal]
    return fatal[0].partition(": ")[2].partition(": ")[2] if fatal else None


def _what(entry: dict[str, Any]) -> str:
    """What would run, and with which variables; values that may be secrets are left out."""
    if "url" in entry:
        # As text: with a variable for its port it is no URL yet.
        words = [re.sub(r"//[^/]*@", "//", re.split(r"[?#]", str(entry["url"]))[0])]
    else:
        args = entry.get("args")
        words = [
            str(entry.get("command", "")),
            *(masked_arguments([str(arg) for arg in args]) if isinstance(args, list) else []),
        ]
    values = {**_pairs(entry.get("env")), **_pairs(entry.get("headers"))}
    words += [f"{name}={_value(name, value)}" for name, value in values.items()]
    return " ".join(words)


def _value(name: str, value: Any) -> str:
    text = str(value)
    if value is None:
        return "(from the environment)"
    if re.fullmatch(r"(Bearer )?\$\{[^}]*\}", text) or (_HARMLESS.search(name) and not looks_like_one(text)):
        return text
    return HIDDEN


def _pairs(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _secrets(entry: dict[str, Any]) -> list[str]:
    """Names whose values would stand in the servers file."""
    values = {**_pairs(entry.get("env")), **_pairs(entry.get("headers"))}
    return [name for name, value in values.items() if _value(name, value) == HIDDEN]


def _show(rows: list[dict[str, Any]]) -> None:
    if rows:
        show(rows, _COLUMNS)
    for row in rows:
        for note in row["notes"]:
            print(f"  {row['id']}: {note}")
    if any(row["secrets"] for row in rows if row["action"] == "add"):
        print("  Values shown as *** are written as they are; better: put them into .env, and ${NAME} into the file.")


def _agreed(count: int) -> bool:
    if not sys.stdin.isatty():
        raise UsageError(f"nobody is here to say yes to {count} server(s); look at them, and say --yes")
    print(f"Add {count} server(s)? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
