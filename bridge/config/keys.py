"""The keys of an entry, and how one is read: each mistake names the key, what it is and what it must be."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from bridge.config.values import Wanted

#: Keys that say how to start a program.
PROGRAM_KEYS = frozenset(
    ("args", "env", "cwd", "envFile", "inheritEnv", "preload", "limits", "sandbox", "noNewPrivs", "headerEnv")
)
#: Keys that this version reads.
KNOWN_KEYS = PROGRAM_KEYS | frozenset(
    (
        *("command", "type", "transport", "transportType", "url", "headers"),
        *("disabled", "enabled", "description", "title", "tags", "icon"),
        *("sessionTtlMs", "bridgeTtlMs", "persistent", "restore", "onNodeLoss", "idleStopMs", "maxSessions"),
        *("rateLimit", "maxConcurrent", "maxChildren", "maxRestarts", "restartDelay"),
        *("requestTimeout", "startTimeout", "timeout"),
        *("sharing", "childEra", "warm", "allowedTools", "disabledTools", "pinTools"),
    )
)

Read = Callable[[Any], Any]
_T = TypeVar("_T")


class BadEntry(Exception):
    """One entry is unusable."""


class Mistakes:
    """What is wrong with one entry: reading goes on behind it, so that whoever wrote the entry is told all at once."""

    def __init__(self) -> None:
        self._texts: dict[str, None] = {}
        self._told: tuple[str, ...] = ()

    def add(self, key: str, text: str) -> None:
        """Tell what is wrong with a key; nothing else that is found there counts any more."""
        self._texts[f'"{key}": {text}'] = None
        self._told += (f'"{key}"',)

    def attempt(self, read: Callable[[], _T], instead: _T) -> _T:
        """Return what a part of the entry is read as, ``instead`` where it is unusable."""
        try:
            return read()
        except BadEntry as error:
            if not str(error).startswith(self._told):
                self._texts[str(error)] = None
            return instead

    def check(self) -> None:
        """Raise :class:`BadEntry` with all of them, where there are any."""
        if self._texts:
            raise BadEntry("; ".join(self._texts))


def get(raw: Mapping[str, Any], key: str, read: Read, default: Any, within: str = "") -> Any:
    """Return the value of a key, ``default`` where it is not there; ``within`` names the object that it is in.

    Raises :class:`BadEntry`.
    """
    if key not in raw:
        return default
    try:
        return read(raw[key])
    except Wanted as wanted:
        where = f'"{within}": ' if within else ""
        raise BadEntry(f'{where}"{key}" is {json.dumps(raw[key])}, must be {wanted}') from None


def check_known(key: str, given: Mapping[str, Any], known: Mapping[str, object]) -> None:
    """Raise :class:`BadEntry` where the object under ``key`` has keys that mean nothing."""
    unknown = sorted(given.keys() - known.keys())
    if unknown:
        raise BadEntry(f'"{key}" has unknown keys {", ".join(unknown)}; it may have {", ".join(known)}')


def kind_of(value: Any) -> str:
    """What JSON calls this value."""
    names = {dict: "object", list: "list", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")
