"""Reading one entry of ``servers.json``, key by key: each mistake names the key, what it is and what it must be."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dotenv import dotenv_values

from bridge.config import values
from bridge.config.environment import OUR_SECRETS, Inherit, inherited, is_our_secret
from bridge.config.header_env import header_env
from bridge.config.interpolation import UnsetVariable, interpolate
from bridge.config.server import SHARINGS, SandboxConfig, ServerConfig, SharingConfig
from bridge.config.values import UNSET, Unset

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_ADDRESS = re.compile(r"https?://[!-~]+", re.IGNORECASE)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, token
#: ``type`` in the spellings of client applications, letters only. Which of the two dialects of HTTP a server speaks is
#: found out by asking it.
_LOCAL_TYPES = ("stdio", "local", "command")
_REMOTE_TYPES = ("http", "https", "streamablehttp", "streamable", "httpstream", "sse", "httpsse", "remote", "url")
#: ``timeout`` without a unit: below this it is meant as seconds, above as milliseconds (settings reference).
_TIMEOUT_SECONDS_BELOW = 1000


class BadEntry(Exception):
    """One entry is unusable."""


class EntryReader:
    """Reads one entry; ``warnings`` are what is wrong with it and does no harm. Raises :class:`BadEntry`."""

    def __init__(self, server_id: str, entry: Any, environ: Mapping[str, str], base: Path) -> None:
        self._id = server_id
        self._environ = environ
        self._base = base
        self.warnings: list[str] = []
        if not _ID.fullmatch(server_id) or server_id.strip(".") == "":
            raise BadEntry("the id must be 1 to 64 of A-Z a-z 0-9 . _ -, because it becomes part of a URL")
        if not isinstance(entry, dict):
            raise BadEntry(f"must be an object, not {kind_of(entry)}")
        try:
            self._raw: dict[str, Any] = interpolate(entry, environ)
        except UnsetVariable as error:
            if not _is_off(entry):
                raise BadEntry(f"{_where(entry, environ)}{error}") from None
            self._raw = entry

    def read(self) -> ServerConfig:
        """Return what the entry means. Raises :class:`BadEntry`."""
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
            persistent=self._get("persistent", values.flag, False),
            restore=self._get("restore", values.choice("replay", "refuse"), "replay"),
            on_node_loss=self._get("onNodeLoss", values.choice("recreate", "end"), None),
            idle_stop=self._get("idleStopMs", values.milliseconds_or_never, None),
            max_restarts=self._get("maxRestarts", values.optional(values.whole(1, 1_000_000)), None),
            restart_delay=self._get("restartDelay", values.milliseconds, None),
            limits=self._limits(),
            rate_limit=self._get("rateLimit", values.optional(values.rate), None),
            max_concurrent=self._get("maxConcurrent", values.optional(values.whole(1, 1_000_000)), None),
            sandbox=self._sandbox() if url is None else None,
            header_env=self._header_env() if url is None else {},
            no_new_privs=self._get("noNewPrivs", values.flag, False),
            max_sessions=self._get("maxSessions", values.whole(1, 10_000_000), None),
            request_timeout=self._request_timeout(),
            start_timeout=self._get("startTimeout", values.milliseconds, None),
            max_children=self._get("maxChildren", values.whole(1, 1_000_000), None),
            sharing=self._sharing(),
            warm=self._get("warm", values.whole(0, 1000), 0),
            preload=self._preload() if url is None else None,
            child_era=self._get("childEra", values.choice("auto", "handshake", "modern"), "auto"),
            allowed_tools=self._get("allowedTools", values.globs, None),
            disabled_tools=self._get("disabledTools", values.globs, ()),
            pin_tools=self._get("pinTools", values.choice("report", "block", "off"), "report"),
            notes=tuple(self._notes),
        )

    @property
    def files(self) -> tuple[Path, ...]:
        """What is read besides the entry, whether it is there or not."""
        name = self._raw.get("envFile")
        return (self._base / name,) if isinstance(name, str) and name else ()

    _notes: tuple[str, ...] = ()

    def _get(self, key: str, read: Callable[[Any], Any], default: Any) -> Any:
        if key not in self._raw:
            return default
        try:
            return read(self._raw[key])
        except values.Wanted as wanted:
            raise BadEntry(f'"{key}" is {json.dumps(self._raw[key])}, must be {wanted}') from None

    def _check_keys(self) -> None:
        unknown = sorted(set(self._raw) - KNOWN_KEYS)
        if unknown:
            self.warnings.append(f"unknown keys are ignored: {', '.join(unknown)}")
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
                raise BadEntry(f'"{key}" is {json.dumps(kind)}, must be "http" or "sse" where there is "url"')
            if not remote and spelling not in _LOCAL_TYPES:
                raise BadEntry(f'"{key}" is {json.dumps(kind)}, must be "stdio"')

    def _url(self) -> str:
        """The address of a remote server. It may hold a key, so no message repeats it."""
        url = self._raw["url"]
        if "command" in self._raw:
            raise BadEntry('"command" and "url" are both given; keep one of them')
        if not isinstance(url, str):
            raise BadEntry(f'"url" must be a string, not {kind_of(url)}')
        if self._disabled():  # an example, whose variables nobody need have set
            return url
        if not _is_address(url):
            raise BadEntry('"url" must be an address that begins with http:// or https://')
        if "@" in urlsplit(url).netloc:
            raise BadEntry('"url" holds a user name or a password; put them into "headers" as "Authorization"')
        return url

    def _headers(self) -> dict[str, str]:
        """What requests to a remote server carry. Messages name headers, and never repeat their values."""
        given = self._raw.get("headers") or {}
        if not isinstance(given, dict):
            raise BadEntry(f'"headers" must be an object of name -> text, not {kind_of(given)}')
        headers: dict[str, str] = {}
        for name, value in given.items():
            if not _HEADER_NAME.fullmatch(name):
                raise BadEntry(f'"headers": {json.dumps(name)} is no name of a header')
            if not isinstance(value, bool | int | float | str):
                raise BadEntry(f'"headers": {name} must be a string, not {kind_of(value)}')
            text = str(value).lower() if isinstance(value, bool) else str(value).strip()
            if not text.isprintable():
                raise BadEntry(f'"headers": {name} must be one line of text')
            headers[name] = text
        return headers

    def _argv(self) -> tuple[str, ...]:
        command = self._raw.get("command")
        if command is None:
            raise BadEntry('"command" is missing; give the program to start, or the "url" of a remote server')
        if not isinstance(command, str):
            raise BadEntry(f'"command" must be a string, not {kind_of(command)}; put the arguments in "args"')
        if not command.strip():
            raise BadEntry('"command" is empty; give the program to start')
        args = self._raw.get("args", [])
        if not isinstance(args, list):
            raise BadEntry(f'"args" must be a list of strings, not {kind_of(args)}')
        for arg in args:
            if not isinstance(arg, str):
                raise BadEntry(f'"args" holds {json.dumps(arg)}, must hold strings only; put it in quotes')
        return (str(self._get("command", values.path, "")) if command.startswith("~") else command, *args)

    def _env(self) -> dict[str, str]:
        env = inherited(self._inherit(), self._environ)
        env.update(self._env_file())
        given = self._raw.get("env") or {}
        if not isinstance(given, dict):
            raise BadEntry(f'"env" must be an object of name -> text, not {kind_of(given)}')
        for name, value in given.items():
            if value is None and name in OUR_SECRETS:
                raise BadEntry(
                    f'"env": {name} is null, but that is a secret of the bridge; if the server is to know it, write '
                    f'"${{{name}}}"'
                )
            if value is None:  # take it from our environment
                if name in self._environ:
                    env[name] = self._environ[name]
                elif not self._disabled():
                    raise BadEntry(f'"env": {name} is null, which takes it from our environment, where it is not set')
            elif isinstance(value, bool | int | float | str):
                env[name] = str(value).lower() if isinstance(value, bool) else str(value)
            else:
                raise BadEntry(f'"env": {name} must be a string, not {kind_of(value)}')
        return env

    def _inherit(self) -> Inherit:
        value = self._raw.get("inheritEnv", "safe")
        if value in ("safe", "all"):
            return str(value)
        if isinstance(value, list) and all(isinstance(name, str) for name in value):
            if secrets := sorted(OUR_SECRETS.intersection(value)):
                self.warnings.append(f'"inheritEnv": secrets of the bridge are not inherited: {", ".join(secrets)}')
            return tuple(value)
        raise BadEntry(f'"inheritEnv" is {json.dumps(value)}, must be "safe", "all" or a list of names')

    def _env_file(self) -> dict[str, str]:
        name = self._get("envFile", values.path, None)
        if name is None:
            return {}
        path = self._base / name
        if not path.is_file():
            raise BadEntry(f'"envFile": {path} does not exist')
        try:
            found = dotenv_values(path, interpolate=False)
        except (OSError, UnicodeDecodeError) as error:
            raise BadEntry(f'"envFile": {path} cannot be read: {error}') from None
        given = {key: value for key, value in found.items() if value is not None}
        ours = [key for key, value in given.items() if is_our_secret(key, value, self._environ)]
        if ours:  # it is our own .env, most likely
            self.warnings.append(f'"envFile": secrets of the bridge are left out: {", ".join(ours)}')
        return {key: value for key, value in given.items() if key not in ours}

    def _sharing(self) -> SharingConfig | None:
        value = self._raw.get("sharing", "session")
        if isinstance(value, str) and value in SHARINGS:
            return SHARINGS[value]
        if not isinstance(value, dict):
            words = ", ".join(f'"{word}"' for word in SHARINGS)
            raise BadEntry(
                f'"sharing" is {json.dumps(value)}, must be {words} or an object of holders, hold, warm, limit'
            )
        unknown = sorted(set(value) - {"holders", "hold", "warm", "limit"})
        if unknown:
            raise BadEntry(f'"sharing" has unknown keys {", ".join(unknown)}; it may have holders, hold, warm, limit')

        def read(key: str, reader: Callable[[Any], Any], default: Any) -> Any:
            try:
                return reader(value[key]) if value.get(key) is not None else default
            except values.Wanted as wanted:
                raise BadEntry(f'"sharing": "{key}" is {json.dumps(value[key])}, must be {wanted}') from None

        hold = read("hold", values.choice("session", "exchange"), "session")
        holders = read("holders", values.whole(1, 1_000_000), None)
        if hold == "exchange" and holders != 1:
            raise BadEntry('"sharing": "hold" is "exchange", which wants "holders": 1')
        return SharingConfig(
            holders, hold, read("warm", values.whole(0, 1000), 0), read("limit", values.whole(1, 1_000_000), None)
        )

    def _limits(self) -> dict[str, int]:
        given = self._raw.get("limits") or {}
        if not isinstance(given, dict):
            raise BadEntry(f'"limits" must be an object, not {kind_of(given)}')
        unknown = sorted(given.keys() - LIMITS.keys())
        if unknown:
            raise BadEntry(f'"limits" has unknown keys {", ".join(unknown)}; it may have {", ".join(LIMITS)}')
        found: dict[str, int] = {}
        for key, (name, least) in LIMITS.items():
            if given.get(key) is None:
                continue
            try:
                found[name] = values.whole(least, 2**50)(given[key])
            except values.Wanted as wanted:
                raise BadEntry(f'"limits": "{key}" is {json.dumps(given[key])}, must be {wanted}') from None
        return found

    def _sandbox(self) -> SandboxConfig | None:
        given = self._raw.get("sandbox", False)
        if isinstance(given, bool):
            return SandboxConfig() if given else None
        if not isinstance(given, dict):
            raise BadEntry(
                f'"sandbox" is {json.dumps(given)}, must be true, false or an object of read, write and network'
            )
        unknown = sorted(given.keys() - {"read", "write", "network"})
        if unknown:
            raise BadEntry(f'"sandbox" has unknown keys {", ".join(unknown)}; it may have read, write, network')
        found: dict[str, Any] = {}
        for key, read in (("read", values.paths), ("write", values.paths), ("network", values.flag)):
            if key in given:
                try:
                    found[key] = read(given[key])
                except values.Wanted as wanted:
                    raise BadEntry(f'"sandbox": "{key}" is {json.dumps(given[key])}, must be {wanted}') from None
        return SandboxConfig(**found)

    def _header_env(self) -> dict[str, str]:
        try:
            found = header_env(self._raw.get("headerEnv", {}))
        except ValueError as error:
            raise BadEntry(f'"headerEnv": {error}') from None
        sharing = self._sharing()
        if found and sharing is not None and (sharing.holders != 1 or sharing.hold != "session"):
            raise BadEntry(
                '"headerEnv" wants a process for each session, but "sharing" gives one to many clients, who would get '
                'the variables of each other; leave "sharing" out'
            )
        return found

    def _preload(self) -> tuple[str, ...] | None:
        found: tuple[str, ...] | None = self._get("preload", values.modules, None)
        if found is not None and self._sandbox() is not None:
            self.warnings.append('"preload" is not used with "sandbox": its processes would share one')
            return None
        return found

    def _disabled(self) -> bool:
        disabled = self._get("disabled", values.flag, None)
        enabled = self._get("enabled", values.flag, None)
        if disabled is not None and enabled is not None and disabled == enabled:
            raise BadEntry(f'"disabled" and "enabled" are both {str(enabled).lower()}; keep one of them')
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


#: ``limits``: the key, what we call it, and the least that a program can live with.
LIMITS = {
    "memoryBytes": ("memory_bytes", 1024 * 1024),
    "cpuSeconds": ("cpu_seconds", 1),
    "openFiles": ("open_files", 8),
    "processes": ("processes", 1),
}
#: Keys this version reads.
KNOWN_KEYS = frozenset(
    (
        *("command", "args", "env", "cwd", "envFile", "inheritEnv", "type", "transport", "transportType"),
        *("url", "headers"),
        *("disabled", "enabled", "description", "title", "tags", "icon"),
        *(
            "sessionTtlMs",
            "bridgeTtlMs",
            "persistent",
            "restore",
            "onNodeLoss",
            "idleStopMs",
            "maxSessions",
            "rateLimit",
            "maxConcurrent",
            "maxRestarts",
            "restartDelay",
            "limits",
            "requestTimeout",
            "startTimeout",
            "timeout",
            "maxChildren",
            "sharing",
            "childEra",
            "warm",
            "preload",
            "allowedTools",
            "disabledTools",
            "pinTools",
            "sandbox",
            "noNewPrivs",
            "headerEnv",
        ),
    )
)
#: Keys that say how to start a program.
PROGRAM_KEYS = frozenset(
    ("args", "env", "cwd", "envFile", "inheritEnv", "preload", "limits", "sandbox", "noNewPrivs", "headerEnv")
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


def kind_of(value: Any) -> str:
    """What JSON calls this value."""
    names = {dict: "object", list: "list", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")
