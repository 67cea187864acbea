"""Reading one entry of ``servers.json``, key by key: each mistake names the key, what it is and what it must be."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bridge.config import nested, values
from bridge.config.address import address, headers
from bridge.config.header_env import header_env
from bridge.config.interpolation import BadReference, interpolate
from bridge.config.keys import KNOWN_KEYS, PROGRAM_KEYS, BadEntry, Mistakes, Read, get, kind_of
from bridge.config.program import Environment, arguments, program
from bridge.config.server import SandboxConfig, ServerConfig, SharingConfig
from bridge.config.spelling import meant
from bridge.config.text import odd_character, printable
from bridge.config.values import UNSET, Unset

#: What a server may be called.
ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
#: ``type`` in the spellings of client applications, letters only. Which of the two dialects of HTTP a server speaks is
#: found out by asking it.
_LOCAL_TYPES = ("stdio", "local", "command")
_REMOTE_TYPES = ("http", "https", "streamablehttp", "streamable", "httpstream", "sse", "httpsse", "remote", "url")
#: ``timeout`` without a unit: below this it is meant as seconds, above as milliseconds (settings reference).
_TIMEOUT_SECONDS_BELOW = 1000


class EntryReader:
    """Reads one entry; ``warnings`` are what is wrong with it and does no harm. Raises :class:`BadEntry`."""

    def __init__(self, server_id: str, entry: Any, environ: Mapping[str, str], base: Path) -> None:
        self._id = server_id
        self._environ = environ
        self._base = base
        self.warnings: list[str] = []
        self._mistakes = Mistakes()
        if not ID.fullmatch(server_id) or server_id.strip(".") == "":
            raise BadEntry("the id must be 1 to 64 of A-Z a-z 0-9 . _ -, because it becomes part of a URL")
        if not isinstance(entry, dict):
            raise BadEntry(f"must be an object, not {kind_of(entry)}")
        self._raw: dict[str, Any] = dict(entry)
        for key, value in entry.items():
            if (odd := odd_character({key: value})) is not None:
                self._mistakes.add(key, f"holds {odd}, which no text can have")
                continue
            try:
                self._raw[key] = interpolate(value, environ)
            except BadReference as error:
                if not _is_off(entry):
                    self._mistakes.add(key, str(error))

    def read(self) -> ServerConfig:
        """Return what the entry means. Raises :class:`BadEntry` that tells all its mistakes."""
        found = self._read()
        self._mistakes.check()
        return found

    def _read(self) -> ServerConfig:
        raw, attempt = self._raw, self._mistakes.attempt
        self._check_keys()
        url = attempt(lambda: address(raw, disabled=self._disabled()), "") if "url" in raw else None
        attempt(lambda: self._check_type(remote=url is not None), None)
        return ServerConfig(
            id=self._id,
            argv=self._argv() if url is None else (),
            env=self._env() if url is None else {},
            url=url,
            headers=attempt(lambda: headers(raw.get("headers")), {}) if url is not None else {},
            cwd=self._get("cwd", values.path, None),
            description=printable(str(raw.get("description") or raw.get("title") or "")),
            disabled=self._disabled(),
            session_ttl=self._get("sessionTtlMs", values.milliseconds_or_never, UNSET),
            bridge_ttl=self._get("bridgeTtlMs", values.milliseconds_or_never, UNSET),
            persistent=self._get("persistent", values.flag, False),
            restore=self._get("restore", values.choice("replay", "refuse"), "replay"),
            on_node_loss=self._get("onNodeLoss", values.choice("recreate", "end"), None),
            idle_stop=self._get("idleStopMs", values.milliseconds_or_never, None),
            max_restarts=self._get("maxRestarts", values.optional(values.whole(1, 1_000_000)), None),
            restart_delay=self._get("restartDelay", values.milliseconds, None),
            limits=attempt(lambda: nested.limits(raw.get("limits")), {}),
            rate_limit=self._get("rateLimit", values.optional(values.rate), None),
            max_concurrent=self._get("maxConcurrent", values.optional(values.whole(1, 1_000_000)), None),
            sandbox=self._sandbox() if url is None else None,
            header_env=attempt(self._header_env, {}) if url is None else {},
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
        try:
            return (self._base / values.path(self._raw.get("envFile")),)
        except values.Wanted:
            return ()

    _notes: tuple[str, ...] = ()

    def _get(self, key: str, read: Read, default: Any) -> Any:
        return self._mistakes.attempt(lambda: get(self._raw, key, read, default), default)

    def _argv(self) -> tuple[str, ...]:
        attempt = self._mistakes.attempt
        return attempt(lambda: program(self._raw), ""), *attempt(lambda: arguments(self._raw), tuple[str, ...]())

    def _env(self) -> dict[str, str]:
        environment = Environment(self._raw, self._environ, self._base, self.warnings, self._mistakes)
        return environment.read(disabled=self._disabled())

    def _sharing(self) -> SharingConfig | None:
        return self._mistakes.attempt(lambda: nested.sharing(self._raw.get("sharing", "session")), None)

    def _sandbox(self) -> SandboxConfig | None:
        return self._mistakes.attempt(lambda: nested.sandbox(self._raw.get("sandbox", False)), None)

    def _check_keys(self) -> None:
        unknown = sorted(set(self._raw) - KNOWN_KEYS)
        if unknown:
            self.warnings.append(f"unknown keys are ignored: {', '.join(map(_shown, unknown))}")
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
        return self._mistakes.attempt(self._is_turned_off, False)

    def _is_turned_off(self) -> bool:
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
        taken: float = self._get("timeout", values.milliseconds, 1.0)
        if taken * 1000 < _TIMEOUT_SECONDS_BELOW:
            taken *= 1000
        self._notes = (f'"timeout" is taken as {taken:g} seconds; write "requestTimeout" in milliseconds to be exact',)
        return taken


def misspelt(entry: Any) -> str:
    """Return what the unknown keys of an entry are like, for whoever is told what is missing; nothing where none is."""
    unknown = sorted(set(entry) - KNOWN_KEYS) if isinstance(entry, dict) else []
    return ", ".join(_shown(key) for key in unknown if meant(key, KNOWN_KEYS))


def _shown(key: str) -> str:
    known = meant(key, KNOWN_KEYS)
    return key if known is None else f'{key} (did you mean "{known}"?)'


def _is_off(entry: dict[str, Any]) -> bool:
    """A disabled example may name variables that nobody has set."""
    try:
        return values.flag(entry.get("disabled", False)) or not values.flag(entry.get("enabled", True))
    except values.Wanted:
        return False
