"""``servers.json``: which programs may run, as frozen values.

One bad entry never stops the others (users' scar 5): it comes back as a :class:`Problem` and the bridge goes on without
it. Only a file that cannot be read at all is a :class:`ConfigError`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bridge.config.entry import EntryReader, misspelt
from bridge.config.environment import inherited
from bridge.config.errors import ConfigError, NoServersFile
from bridge.config.jsonfile import parse_json
from bridge.config.keys import BadEntry, kind_of
from bridge.config.server import ServerConfig
from bridge.config.spelling import meant
from bridge.config.text import printable

#: What the object of entries may be called; without either it is the document itself.
TABLE_KEYS = ("mcpServers", "servers")


@dataclass(frozen=True, slots=True)
class Problem:
    """One line about an entry: an error leaves the server out, a warning does not."""

    text: str
    server: str
    fatal: bool


@dataclass(frozen=True, slots=True)
class Servers:
    """What a file holds: the usable entries, and what is wrong with the others. ``files`` are all that was read."""

    source: str
    entries: Mapping[str, ServerConfig]
    problems: tuple[Problem, ...] = ()
    files: tuple[Path, ...] = ()

    @property
    def mistaken(self) -> frozenset[str]:
        """The servers whose entry cannot be used."""
        return frozenset(problem.server for problem in self.problems if problem.fatal)


def load_servers(path: Path, environ: Mapping[str, str]) -> Servers:
    """Read a file. Raises :class:`NoServersFile`, or :class:`ConfigError` when it is no JSON object."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise NoServersFile(
            f"{path}: no such file; create it, set SERVERS_FILE, or serve one command: mcp-bridge serve -- COMMAND"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    found = parse_servers(text, str(path), environ, base=path.parent)
    return replace(found, files=(path, *found.files))


def parse_servers(text: str, source: str, environ: Mapping[str, str], base: Path | None = None) -> Servers:
    """Build the entries of a JSON text; ``source`` names it in messages, ``base`` is where ``envFile`` lies."""
    entries: dict[str, ServerConfig] = {}
    problems: list[Problem] = []
    files: list[Path] = []
    twice: list[str] = []
    for server_id, entry in entries_in(text, source, twice).items():
        try:
            reader = EntryReader(server_id, entry, environ, base or Path())
            files += reader.files
            entries[server_id] = reader.read()
        except BadEntry as error:
            unknown = f"; unknown keys: {hint}" if (hint := misspelt(entry)) else ""
            problems.append(_problem(f"{source}: {json.dumps(server_id)}: {error}{unknown}", server_id, fatal=True))
        except RecursionError:
            problems.append(_problem(f"{source}: {json.dumps(server_id)}: is nested too deeply", server_id, fatal=True))
        else:
            problems += [
                _problem(f"{source}: {json.dumps(server_id)}: {text}", server_id, fatal=False)
                for text in reader.warnings
            ]
    if twice:
        problems += [_problem(f"{source}: {why}", name, fatal=False) for name, why in _twice(twice, text)]
    return Servers(source, entries, tuple(problems), tuple(files))


def _problem(text: str, server: str, *, fatal: bool) -> Problem:
    return Problem(printable(text), printable(server), fatal)


def _twice(names: list[str], text: str) -> Iterator[tuple[str, str]]:
    """Yield each name that an object has twice, and what is wrong with that."""
    from bridge.config.layout import repeated  # hardly any file has one

    places: dict[str, list[list[int]]] = {}
    with contextlib.suppress(ConfigError, RecursionError):  # an unusual layout is told without lines
        for name, lines in repeated(text):
            places.setdefault(name, []).append(lines)
    for name in names:
        lines = places[name].pop(0) if places.get(name) else []
        where = f": lines {', '.join(map(str, lines[:-1]))} and {lines[-1]}" if len(set(lines)) > 1 else ""
        yield name, f"{json.dumps(name)} is there twice in one object{where}; only the last one counts"


def entries_in(text: str, source: str, twice: list[str] | None = None) -> dict[str, Any]:
    """Return the entries of a JSON text as they are written, by id. Names that are there twice go into ``twice``.

    Raises :class:`ConfigError`.
    """
    document = parse_json(text, source, twice)
    if not isinstance(document, dict):
        raise ConfigError(f'{source}: must be an object with "mcpServers", not {kind_of(document)}')
    key = next((key for key in TABLE_KEYS if key in document), None)
    if key is None:
        _check_not_misspelt(document, source)
    table = document if key is None else document[key]
    if not isinstance(table, dict):
        raise ConfigError(f'{source}: "{key}" must be an object of id -> entry, not {kind_of(table)}')
    return table


def _check_not_misspelt(document: dict[str, Any], source: str) -> None:
    """A table under a name that is almost one of ours is no server of that name: it would end every other one."""
    for name, value in document.items():
        wanted = meant(name, TABLE_KEYS)
        is_entry = isinstance(value, dict) and not all(isinstance(each, dict) for each in value.values())
        if wanted is not None and not is_entry:
            raise ConfigError(f'{source}: {json.dumps(name)} is no key; did you mean "{wanted}"?')


def single_command(argv: list[str], environ: Mapping[str, str]) -> Servers:
    """``serve -- command args...``: one server with the id ``default``."""
    # No pins: "default" is another program each time.
    entry = ServerConfig("default", tuple(argv), inherited("safe", environ), pin_tools="off")
    return Servers("command line", {"default": entry})
