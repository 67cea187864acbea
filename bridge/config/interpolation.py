"""``${VAR}``, ``${env:VAR}``, ``${VAR:-default}`` and ``${VAR:?message}`` in the strings of ``servers.json``.

An unset variable is an error and never the empty string: a server that gets an empty token fails later, elsewhere and
with other words (users' scar 25). Every other use of ``$`` is left as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_REFERENCE = re.compile(r"\$\{(?:env:)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::(?P<kind>[-?])(?P<rest>[^}]*))?\}")


class UnsetVariable(Exception):
    """A referenced variable is not set; the text names it and repeats the author's own message, if there is one."""


def interpolate(value: Any, variables: Mapping[str, str]) -> Any:
    """Return ``value`` with every reference replaced, in strings at any depth. Raises :class:`UnsetVariable`."""
    if isinstance(value, str):
        return _REFERENCE.sub(lambda match: _resolve(match, variables), value)
    if isinstance(value, list):
        return [interpolate(item, variables) for item in value]
    if isinstance(value, dict):
        return {key: interpolate(item, variables) for key, item in value.items()}
    return value


def _resolve(match: re.Match[str], variables: Mapping[str, str]) -> str:
    name, kind, rest = match["name"], match["kind"], match["rest"]
    found = variables.get(name)
    if found is not None and (found or kind is None):
        return found
    if kind == "-":
        return str(rest)
    if kind == "?":
        raise UnsetVariable(f"variable {name} is not set: {rest or 'it is required'}")
    raise UnsetVariable(f"variable {name} is not set; set it, or write ${{{name}:-default}}")
