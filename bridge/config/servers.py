"""``servers.json``: which programs may run, as frozen values.

One bad entry never stops the others (users' scar 5): it comes back as a :class:`Problem` and the bridge goes on without
it. Only a file that cannot be read at all is a :class:`ConfigError`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from dotenv import dotenv_values

from bridge.config import values
from bridge.config.environment import Inherit, inherited
from bridge.config.errors import ConfigError
from bridge.config.interpolation import UnsetVariable, interpolate

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_ADDRESS = re.compile(r"https?://[!-~]+", re.IGNORECASE)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, token
_KEYS = ("mcpServers", "servers")
#: ``type`` in the spellings of client applications, letters only. Which of the two dialects of HTTP a server speaks is
#: found out by asking it.
_LOCAL_TYPES = ("stdio", "local", "command")
_REMOTE_TYPES = ("http", "https", "streamablehttp", "streamable", "httpstream", "sse", "httpsse", "remote", "url")
#: ``timeout`` without a unit: below this it is meant as seconds, above as milliseconds (settings reference).
_TIMEOUT_SECONDS_BELOW = 1000


class Unset:
    """The server says nothing, so the pool's setting holds; None would mean never."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET = Unset()


@dataclass(frozen=True, slots=True)
class SharingConfig:
    """``sharing`` as written: how many may hold a child, for how long, how many wait ready, how many there may be."""

    holders: int | None
    hold: Literal["session", "exchange"]
    warm: int = 0
    limit: int | None = None


#: The words that ``sharing`` may be; None is what the bridge does by itself.
SHARINGS: dict[str, SharingConfig | None] = {
    "session": None,
    "shared": SharingConfig(None, "session", limit=1),
    "pooled": SharingConfig(1, "exchange", warm=2, limit=16),
}


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """One entry: what to start, or where it runs already, and how. Durations are seconds."""

    id: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    cwd: Path | None = None
    description: str = ""
    disabled: bool = False
    session_ttl: float | Unset | None = UNSET
    bridge_ttl: float | Unset | None = UNSET
    request_timeout: float | Unset | None = UNSET
    start_timeout: float | None = None
    max_children: int | None = None
    sharing: SharingConfig | None = None
    child_era: Literal["auto", "handshake", "modern"] = "auto"
    warm: int = 0
    notes: tuple[str, ...] = ()
    url: str | None = field(default=None, repr=False)  # of a remote server, which has no argv; may hold a key
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # for its requests


@dataclass(frozen=True, slots=True)
class Problem:
    """One line about an entry: an error leaves the server out, a warning does not."""

    text: str
    server: str
    fatal: bool


@dataclass(frozen=True, slots=True)
class Servers:
    """What a file holds: the usable entries, and what is wrong with the others."""

    source: str
    entries: Mapping[str, ServerConfig]
    problems: tuple[Problem, ...] = ()


class _Bad(Exception):
    """One entry is unusable."""


def load_servers(path: Path, environ: Mapping[str, str]) -> Servers:
    """Read a file. Raises :class:`ConfigError` when there is none, or when it is no JSON object."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such file; create it, set SERVERS_FILE, or serve one command: mcp-bridge serve -- COMMAND"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    return parse_servers(text, str(path), environ, base=path.parent)


def parse_servers(text: str, source: str, environ: Mapping[str, str], base: Path | None = None) -> Servers:
    """Build the entries of a JSON text; ``source`` names it in messages, ``base`` is where ``envFile`` lies."""
    document = _parse_json(text, source)
    if not isinstance(document, dict):
        raise ConfigError(f'{source}: must be an object with "mcpServers", not {_kind(document)}')
    key = next((key for key in _KEYS if key in document), None)
    table = document if key is None else document[key]
    if not isinstance(table, dict):
        raise ConfigError(f'{source}: "{key}" must be an object of id -> entry, not {_kind(table)}')
    entries: dict[str, ServerConfig] = {}
    problems: list[Problem] = []
    for server_id, entry in table.items():
        try:
            reader = _Entry(server_id, entry, environ, base or Path())
            entries[server_id] = reader.read()
        except _Bad as error:
            problems.append(Problem(f"{source}: {json.dumps(server_id)}: {error}", server_id, fatal=True))
        else:
            problems += [
                Problem(f"{source}: {json.dumps(server_id)}: {text}", server_id, fatal=False)
                for text in reader.warnings
            ]
    return Servers(source, entries, tuple(problems))


def single_command(argv: list[str], environ: Mapping[str, str]) -> Servers:
    """``serve -- command args...``: one server with the id ``default``."""
    entry = ServerConfig("default", tuple(argv), inherited("safe", environ))
    return Servers("command line", {"default": entry})


def _parse_json(text: str, source: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise ConfigError(f"{source}: is nested too deeply") from None
    except ValueError:
        pass
    # Comments and trailing commas are what people write. json5 is slow to import and to run, so it comes second.
    import json5

    try:
        return json5.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{source}: is not JSON: {str(error).replace('<string>:', 'line ')}") from None


class _Entry:
    """Reads one entry, key by key."""

    def __init__(self, server_id: str, entry: Any, environ: Mapping[str, str], base: Path) -> None:
        self._id = server_id
        self._environ = environ
        self._base = base
        self.warnings: list[str] = []
        if not _ID.fullmatch(server_id) or server_id.strip(".") == "":
            raise _Bad("the id must be 1 to 64 of A-Z a-z 0-9 . _ -, because it becomes part of a URL")
        if not isinstance(entry, dict):
            raise _Bad(f"must be an object, not {_kind(entry)}")
        try:
            self._raw: dict[str, Any] = interpolate(entry, environ)
        except UnsetVariable as error:
            if not _is_off(entry):
                raise _Bad(f"{_where(entry, environ)}{error}") from None
            self._raw = entry

    def read(self) -> ServerConfig:
        raw = self._raw
        self._check_keys()
        url = self._url() if "url" in raw else None
        self._check_type(remote=url is not None)
        return ServerConfig(
            id=self._id,
            argv=self._argv() if url is None else (),
            env=self._env() if url is None else {},
            url=url,
            headers=self._headers() if url is not None else {},
            cwd=self._get("cwd", values.path, None),
            description=str(raw.get("description") or raw.get("title") or ""),
            disabled=self._disabled(),
            session_ttl=self._get("sessionTtlMs", values.milliseconds_or_never, UNSET),
            bridge_ttl=self._get("bridgeTtlMs", values.milliseconds_or_never, UNSET),
            request_timeout=self._request_timeout(),
            start_timeout=self._get("startTimeout", values.milliseconds, None),
            max_children=self._get("maxChildren", values.whole(1, 1_000_000), None),
            sharing=self._sharing(),
            warm=self._get("warm", values.whole(0, 1000), 0),
            child_era=self._get("childEra", values.choice("auto", "handshake", "modern"), "auto"),
            notes=tuple(self._notes),
        )

    _notes: tuple[str, ...] = ()

    def _get(self, key: str, read: Callable[[Any], Any], default: Any) -> Any:
        if key not in self._raw:
            return default
        try:
            return read(self._raw[key])
        except values.Wanted as wanted:
            raise _Bad(f'"{key}" is {json.dumps(self._raw[key])}, must be {wanted}') from None

    def _check_keys(self) -> None:
        unknown = sorted(set(self._raw) - KNOWN_KEYS - LATER_KEYS)
        if unknown:
            self.warnings.append(f"unknown keys are ignored: {', '.join(unknown)}")
        later = sorted(set(self._raw) & LATER_KEYS)
        if later:
            self.warnings.append(f"not supported yet and ignored: {', '.join(later)}")

        unused = sorted(self._raw.keys() & (PROGRAM_KEYS if "url" in self._raw else {"headers"}))
        if unused:
            where = "where there is" if "url" in self._raw else "without"
            self.warnings.append(f'not used {where} "url": {", ".join(unused)}')

    def _check_type(self, *, remote: bool) -> None:
        for key in ("type", "transport", "transportType"):
            if key not in self._raw:
                continue
            kind = self._raw[key]
            spelling = re.sub(r"[^a-z]", "", str(kind).lower())
            if remote and spelling not in _REMOTE_TYPES:
                raise _Bad(f'"{key}" is {json.dumps(kind)}, must be "http" or "sse" where there is "url"')
            if not remote and spelling not in _LOCAL_TYPES:
                raise _Bad(f'"{key}" is {json.dumps(kind)}, must be "stdio"')

    def _url(self) -> str:
        """The address of a remote server. It may hold a key, so no message repeats it."""
        url = self._raw["url"]
        if "command" in self._raw:
            raise _Bad('"command" and "url" are both given; keep one of them')
        if not isinstance(url, str):
            raise _Bad(f'"url" must be a string, not {_kind(url)}')
        if self._disabled():  # an example, whose variables nobody need have set
            return url
        if not _is_address(url):
            raise _Bad('"url" must be an address that begins with http:// or https://')
        if "@" in urlsplit(url).netloc:
            raise _Bad('"url" holds a user name or a password; put them into "headers" as "Authorization"')
        return url

    def _headers(self) -> dict[str, str]:
        """What requests to a remote server carry. Messages name headers, and never repeat their values."""
        given = self._raw.get("headers") or {}
        if not isinstance(given, dict):
            raise _Bad(f'"headers" must be an object of name -> text, not {_kind(given)}')
        headers: dict[str, str] = {}
        for name, value in given.items():
            if not _HEADER_NAME.fullmatch(name):
                raise _Bad(f'"headers": {json.dumps(name)} is no name of a header')
            if not isinstance(value, bool | int | float | str):
                raise _Bad(f'"headers": {name} must be a string, not {_kind(value)}')
            text = str(value).lower() if isinstance(value, bool) else str(value).strip()
            if not text.isprintable():
                raise _Bad(f'"headers": {name} must be one line of text')
            headers[name] = text
        return headers

    def _argv(self) -> tuple[str, ...]:
        command = self._raw.get("command")
        if command is None:
            raise _Bad('"command" is missing; give the program to start, or the "url" of a remote server')
        if not isinstance(command, str):
            raise _Bad(f'"command" must be a string, not {_kind(command)}; put the arguments in "args"')
        if not command.strip():
            raise _Bad('"command" is empty; give the program to start')
        args = self._raw.get("args", [])
        if not isinstance(args, list):
            raise _Bad(f'"args" must be a list of strings, not {_kind(args)}')
        for arg in args:
            if not isinstance(arg, str):
                raise _Bad(f'"args" holds {json.dumps(arg)}, must hold strings only; put it in quotes')
        return (str(self._get("command", values.path, "")) if command.startswith("~") else command, *args)

    def _env(self) -> dict[str, str]:
        env = inherited(self._inherit(), self._environ)
        env.update(self._env_file())
        given = self._raw.get("env") or {}
        if not isinstance(given, dict):
            raise _Bad(f'"env" must be an object of name -> text, not {_kind(given)}')
        for name, value in given.items():
            if value is None:  # take it from our environment
                if name in self._environ:
                    env[name] = self._environ[name]
                elif not self._disabled():
                    raise _Bad(f'"env": {name} is null, which takes it from our environment, where it is not set')
            elif isinstance(value, bool | int | float | str):
                env[name] = str(value).lower() if isinstance(value, bool) else str(value)
            else:
                raise _Bad(f'"env": {name} must be a string, not {_kind(value)}')
        return env

    def _inherit(self) -> Inherit:
        value = self._raw.get("inheritEnv", "safe")
        if value in ("safe", "all"):
            return str(value)
        if isinstance(value, list) and all(isinstance(name, str) for name in value):
            return tuple(value)
        raise _Bad(f'"inheritEnv" is {json.dumps(value)}, must be "safe", "all" or a list of names')

    def _env_file(self) -> dict[str, str]:
        name = self._get("envFile", values.path, None)
        if name is None:
            return {}
        path = self._base / name
        if not path.is_file():
            raise _Bad(f'"envFile": {path} does not exist')
        try:
            found = dotenv_values(path, interpolate=False)
        except (OSError, UnicodeDecodeError) as error:
            raise _Bad(f'"envFile": {path} cannot be read: {error}') from None
        return {key: value for key, value in found.items() if value is not None}

    def _sharing(self) -> SharingConfig | None:
        value = self._raw.get("sharing", "session")
        if isinstance(value, str) and value in SHARINGS:
            return SHARINGS[value]
        if not isinstance(value, dict):
            words = ", ".join(f'"{word}"' for word in SHARINGS)
            raise _Bad(f'"sharing" is {json.dumps(value)}, must be {words} or an object of holders, hold, warm, limit')
        unknown = sorted(set(value) - {"holders", "hold", "warm", "limit"})
        if unknown:
            raise _Bad(f'"sharing" has unknown keys {", ".join(unknown)}; it may have holders, hold, warm, limit')

        def read(key: str, reader: Callable[[Any], Any], default: Any) -> Any:
            try:
                return reader(value[key]) if value.get(key) is not None else default
            except values.Wanted as wanted:
                raise _Bad(f'"sharing": "{key}" is {json.dumps(value[key])}, must be {wanted}') from None

        hold = read("hold", values.choice("session", "exchange"), "session")
        holders = read("holders", values.whole(1, 1_000_000), None)
        if hold == "exchange" and holders != 1:
            raise _Bad('"sharing": "hold" is "exchange", which wants "holders": 1')
        return SharingConfig(
            holders, hold, read("warm", values.whole(0, 1000), 0), read("limit", values.whole(1, 1_000_000), None)
        )

    def _disabled(self) -> bool:
        disabled = self._get("disabled", values.flag, None)
        enabled = self._get("enabled", values.flag, None)
        if disabled is not None and enabled is not None and disabled == enabled:
            raise _Bad(f'"disabled" and "enabled" are both {str(enabled).lower()}; keep one of them')
        if disabled is not None:
            return bool(disabled)
        return enabled is False

    def _request_timeout(self) -> float | Unset | None:
        if "requestTimeout" in self._raw or "timeout" not in self._raw:
            return self._get("requestTimeout", values.milliseconds_or_never, UNSET)  # type: ignore[no-any-return]
        taken: float = self._get("timeout", values.milliseconds, None)
        if taken * 1000 < _TIMEOUT_SECONDS_BELOW:
            taken *= 1000
        self._notes = (f'"timeout" is taken as {taken:g} seconds; write "requestTimeout" in milliseconds to be exact',)
        return taken


#: Keys this version reads.
KNOWN_KEYS = frozenset(
    (
        *("command", "args", "env", "cwd", "envFile", "inheritEnv", "type", "transport", "transportType"),
        *("url", "headers"),
        *("disabled", "enabled", "description", "title", "tags", "icon"),
        *(
            "sessionTtlMs",
            "bridgeTtlMs",
            "requestTimeout",
            "startTimeout",
            "timeout",
            "maxChildren",
            "sharing",
            "childEra",
            "warm",
        ),
    )
)
#: Keys that say how to start a program.
PROGRAM_KEYS = frozenset(("args", "env", "cwd", "envFile", "inheritEnv"))
#: Keys of the contract that a later version will read: said, not silently dropped.
LATER_KEYS = frozenset(
    (
        *("persistent", "restore", "preload", "maxSessions", "idleStopMs"),
        *("maxRestarts", "restartDelay", "limits", "allowedTools", "disabledTools"),
    )
)


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return _ADDRESS.fullmatch(url) is not None and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port, or an IPv6 address, that is none
        return False


def _is_off(entry: dict[str, Any]) -> bool:
    """A disabled example may name variables that nobody has set."""
    try:
        return values.flag(entry.get("disabled", False)) or not values.flag(entry.get("enabled", True))
    except values.Wanted:
        return False


def _where(entry: dict[str, Any], environ: Mapping[str, str]) -> str:
    """The first key whose value cannot be interpolated."""
    for key, value in entry.items():
        try:
            interpolate(value, environ)
        except UnsetVariable:
            return f'"{key}": '
    return ""


def _kind(value: Any) -> str:
    """What JSON calls this value."""
    names = {dict: "object", list: "list", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")
