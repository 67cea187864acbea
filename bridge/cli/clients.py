"""Where MCP clients keep their servers, and what they write there: read as entries of ``servers.json``.

Formats by the clients' own documentation, as of November 2026. Nothing is run and nothing is changed.
"""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridge.config.errors import ConfigError
from bridge.config.interpolation import INPUT, OF_AN_EDITOR, as_text, of_an_editor, variable_for
from bridge.config.jsonfile import parse_json

Entry = dict[str, Any]
Rewrite = Callable[[str, list[str]], str]


@dataclass(slots=True)
class Found:
    """One server of a client's file: our entry, and what could not be taken over as it was."""

    name: str
    entry: Entry
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Kind:
    """One client. ``places`` are its files, that of the project first; ``tables`` are the ways to their servers.

    ``fills_in``: what stands as ``${...}`` is replaced by it; a client that does not hands it to the server as it is.
    ``dollars``: it replaces ``$NAME`` too, wherever that stands.
    """

    places: tuple[str, ...]
    tables: tuple[tuple[str, ...], ...] = (("mcpServers",),)
    fills_in: bool = True
    dollars: bool = False


def _application(path: str) -> str:
    """A file of a desktop application, where the system keeps them."""
    if sys.platform == "darwin":
        return f"~/Library/Application Support/{path}"
    if sys.platform == "win32":
        return f"{os.environ.get('APPDATA', '~/AppData/Roaming')}/{path}"
    return f"{os.environ.get('XDG_CONFIG_HOME') or '~/.config'}/{path}"


KINDS: dict[str, Kind] = {
    "claude-desktop": Kind((_application("Claude/claude_desktop_config.json"),), fills_in=False),
    "claude-code": Kind((".mcp.json", "~/.claude.json")),
    "cursor": Kind((".cursor/mcp.json", "~/.cursor/mcp.json")),
    "vscode": Kind(
        (
            ".vscode/mcp.json",
            _application("Code/User/mcp.json"),
            _application("Code/User/settings.json"),
        ),
        (("servers",), ("mcp", "servers")),
    ),
    "windsurf": Kind(("~/.codeium/windsurf/mcp_config.json",)),
    "cline": Kind(
        (
            _application("Code/User/globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json"),
            "~/.cline/data/settings/cline_mcp_settings.json",
        )
    ),
    "gemini": Kind((".gemini/settings.json", "~/.gemini/settings.json"), dollars=True),
    "codex": Kind(
        (".codex/config.toml", f"{os.environ.get('CODEX_HOME') or '~/.codex'}/config.toml"),
        (("mcp_servers",),),
        fills_in=False,
    ),
}

#: Members that mean the same here.
_SAME = (
    *("command", "args", "env", "cwd", "envFile", "url", "headers", "type", "disabled", "enabled", "description"),
    "disabledTools",
)
#: Members by their names elsewhere.
_OTHER_NAMES = {
    "serverUrl": "url",
    "httpUrl": "url",
    "http_headers": "headers",
    "transport": "type",
    "transportType": "type",
    "excludeTools": "disabledTools",
    "disabled_tools": "disabledTools",
    "includeTools": "allowedTools",
    "enabled_tools": "allowedTools",
}
#: Members for people who sit at that client: nothing is lost without them.
_OF_THE_CLIENT = frozenset(
    (
        *("autoApprove", "alwaysAllow", "trust", "gallery", "dev", "version", "id", "name", "icon", "title"),
        *("startup_timeout_sec", "startup_timeout_ms", "tool_timeout_sec", "bearer_token_env_var", "env_http_headers"),
        *("env_vars", "timeout", "sandboxEnabled", "default_tools_approval_mode", "required"),
    )
)
#: Variables that clients fill in and a bridge can too.
_VARIABLES = {"userHome": "HOME"}
_WHOLE = r"^\$([A-Za-z_][A-Za-z0-9_]*)$"
#: Folders of editors that lie in that of a project, which is the one they have open there.
_OF_A_PROJECT = frozenset((".vscode", ".cursor"))


def places(kind: str) -> list[Path]:
    """Return the files that a client would read, whether they are there or not."""
    return [Path(place).expanduser() for place in KINDS[kind].places]


def read(path: Path, kind: str | None = None) -> list[Found]:
    """Return what a file of a client holds. Raises :class:`ConfigError` when it is none."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if path.suffix == ".toml":
        try:
            document: Any = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{path}: is no TOML: {error}") from None
    else:
        document = parse_json(text, str(path)) if text.strip() else {}
    found: list[Found] = []
    rewrite = _rewriting(kind, path)
    for table in _tables(document, kind, path):
        found += [_found(str(name), entry, rewrite) for name, entry in table.items()]
    return found


def _rewriting(kind: str | None, path: Path) -> Rewrite:
    """How the texts of a file have to be written here."""
    if kind is not None and not KINDS[kind].fills_in:
        return _kept
    variables = {f"${{{theirs}}}": f"${{{ours}}}" for theirs, ours in _VARIABLES.items()}
    folder = path.absolute().parent
    if folder.name in _OF_A_PROJECT and folder.parent != Path.home():
        variables["${workspaceFolder}"] = as_text(str(folder.parent))
    # A whole text that is $NAME is a variable to more clients than say so.
    dollars = r"\$([A-Za-z_][A-Za-z0-9_]*)" if kind is not None and KINDS[kind].dollars else _WHOLE
    return lambda text, notes: re.sub(dollars, r"${\1}", _filled_in(text, notes, variables))


def _tables(document: Any, kind: str | None, path: Path) -> Iterator[Mapping[str, Any]]:
    """Each object of servers in a file; of Claude Code's there is one for everything and one per project."""
    ways = KINDS[kind].tables if kind else (("mcpServers",), ("servers",), ("mcp", "servers"), ("mcp_servers",))
    for way in ways:
        if isinstance(table := _member(document, way), dict):
            yield table
    projects = _member(document, ("projects",))
    if isinstance(projects, dict) and kind in (None, "claude-code"):
        here = projects.get(str(Path.cwd()))
        if isinstance(table := _member(here, ("mcpServers",)), dict):
            yield table


def _member(document: Any, way: tuple[str, ...]) -> Any:
    for name in way:
        document = document.get(name) if isinstance(document, dict) else None
    return document


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _found(name: str, given: Any, rewrite: Rewrite) -> Found:
    found = Found(_fitting(name), {})
    if found.name != name:
        found.notes.append(f"was called {name!r}; ids are part of a URL")
    if not isinstance(given, dict):
        found.notes.append("is no object, and is left out")
        return found
    for key, value in sorted(given.items(), key=lambda member: member[0] == "httpUrl"):  # which wins over "url"
        ours = key if key in _SAME else _OTHER_NAMES.get(key)
        if ours is not None:
            found.entry[ours] = _rewritten(value, rewrite, found.notes)
        elif key not in _OF_THE_CLIENT:
            found.notes.append(f'"{key}" is not taken over')
    _tidy(found, given)
    return found


def _tidy(found: Found, given: Entry) -> None:
    """What one client says in a way that is its own."""
    entry = found.entry
    headers = dict(_object(entry.get("headers")))
    if isinstance(variable := given.get("bearer_token_env_var"), str):
        headers["Authorization"] = f"Bearer ${{{variable}}}"
    for name, variable in _object(given.get("env_http_headers")).items():
        headers[name] = f"${{{variable}}}"
    if headers:
        entry["headers"] = headers
    variables = given.get("env_vars")
    if isinstance(variables, list) and isinstance(entry.setdefault("env", {}), dict):
        entry["env"] |= {variable: None for variable in variables if isinstance(variable, str)}
    if entry.get("disabledTools") == []:
        del entry["disabledTools"]
    if "url" in entry and entry.get("command") is None:
        entry.pop("type", None)  # which dialect it speaks is found out by asking


def _fitting(name: str) -> str:
    """A name as an id."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:64] or "server"


def _rewritten(value: Any, rewrite: Rewrite, notes: list[str]) -> Any:
    """A value with each text in it as it has to be written here."""
    if isinstance(value, list):
        return [_rewritten(item, rewrite, notes) for item in value]
    if isinstance(value, dict):
        return {key: _rewritten(item, rewrite, notes) for key, item in value.items()}
    if isinstance(value, str):
        return rewrite(value, notes)
    return value if value is None or isinstance(value, int | float) else str(value)  # TOML has dates


def _filled_in(text: str, notes: list[str], variables: Mapping[str, str]) -> str:
    """A text with the variables of that client as ours."""
    for theirs, ours in variables.items():
        text = text.replace(theirs, ours)
    for match in OF_AN_EDITOR.finditer(text):
        _note(of_an_editor(match[0]), notes)
    return INPUT.sub(lambda match: _asked(match["id"], notes), text)


def _kept(text: str, notes: list[str]) -> str:
    """A text that means itself at that client. It may be a secret, so the note does not repeat it."""
    if "${" in text:
        _note("${ is text at that client, and stays so as $${; where a variable is meant, take one $ away", notes)
    return as_text(text)


def _asked(name: str, notes: list[str]) -> str:
    """VS Code asks its user; a bridge has nobody to ask."""
    reference = f"${{{variable_for(name)}}}"
    _note(f"VS Code asks for {name}, which is {reference} here", notes)
    return reference


def _note(note: str, notes: list[str]) -> None:
    if note not in notes:
        notes.append(note)
