"""Values of an entry that are objects themselves: ``sharing``, ``limits``, ``sandbox``."""

from __future__ import annotations

import json
from typing import Any

from bridge.config import values
from bridge.config.keys import BadEntry, Read, check_known, get, kind_of
from bridge.config.server import SHARINGS, SandboxConfig, SharingConfig

_SHARING: dict[str, Read] = {
    "holders": values.optional(values.whole(1, 1_000_000)),
    "hold": values.choice("session", "exchange"),
    "warm": values.whole(0, 1000),
    "limit": values.optional(values.whole(1, 1_000_000)),
}
_SANDBOX: dict[str, Read] = {"read": values.paths, "write": values.paths, "network": values.flag}
#: ``limits``: the key, what we call it, and the least that a program can live with.
LIMITS = {
    "memoryBytes": ("memory_bytes", 1024 * 1024),
    "cpuSeconds": ("cpu_seconds", 1),
    "openFiles": ("open_files", 8),
    "processes": ("processes", 1),
}


def sharing(value: Any) -> SharingConfig | None:
    """Read ``sharing``: a word, or an object. Raises :class:`BadEntry`."""
    if isinstance(value, str) and value in SHARINGS:
        return SHARINGS[value]
    if not isinstance(value, dict):
        words = ", ".join(f'"{word}"' for word in SHARINGS)
        raise BadEntry(f'"sharing" is {json.dumps(value)}, must be {words} or an object of {", ".join(_SHARING)}')
    check_known("sharing", value, _SHARING)
    given = {key: each for key, each in value.items() if each is not None}
    defaults = {"holders": None, "hold": "session", "warm": 0, "limit": None}
    found = {key: get(given, key, read, defaults[key], "sharing") for key, read in _SHARING.items()}
    if found["hold"] == "exchange" and found["holders"] != 1:
        raise BadEntry('"sharing": "hold" is "exchange", which wants "holders": 1')
    return SharingConfig(**found)


def limits(given: Any) -> dict[str, int]:
    """Read ``limits``. Raises :class:`BadEntry`."""
    given = given or {}
    if not isinstance(given, dict):
        raise BadEntry(f'"limits" must be an object, not {kind_of(given)}')
    check_known("limits", given, LIMITS)
    return {
        name: get(given, key, values.whole(least, 2**50), None, "limits")
        for key, (name, least) in LIMITS.items()
        if given.get(key) is not None
    }


def sandbox(given: Any) -> SandboxConfig | None:
    """Read ``sandbox``: a switch, or an object. Raises :class:`BadEntry`."""
    if isinstance(given, bool):
        return SandboxConfig() if given else None
    if not isinstance(given, dict):
        raise BadEntry(f'"sandbox" is {json.dumps(given)}, must be true, false or an object of read, write and network')
    check_known("sandbox", given, _SANDBOX)
    return SandboxConfig(**{key: get(given, key, _SANDBOX[key], None, "sandbox") for key in given})
