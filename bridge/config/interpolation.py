"""``${VAR}``, ``${env:VAR}``, ``${VAR:-default}`` and ``${VAR:?message}`` in the strings of ``servers.json``.

An unset variable is an error and never the empty string: a server that gets an empty token fails later, elsewhere and
with other words (users' scar 25). So is every other ``${``: what only an editor can fill in, and slips of the pen.
``$${`` is a ``${`` that is meant as text; any other ``$`` is left as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_REFERENCE = re.compile(
    r"\$(?P<text>\$\{)"
    r"|\$\{(?:env:)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::(?P<kind>[-?])(?P<rest>(?:(?!\$\{)[^}])*))?\}"
    r"|(?P<other>\$\{\w{0,40})"
)
#: What VS Code asks its user for.
INPUT = re.compile(r"(?<!\$)\$\{input:(?P<id>[^}]+)\}")
#: What an editor fills in, because it knows what is open in it.
OF_AN_EDITOR = re.compile(
    r"(?<!\$)\$\{(?:(?:workspaceFolder|file|relativeFile)(?:[A-Z]\w*)?(?::[^}\"]*)?|(?:config|command):[^}\"]*"
    r"|userHome|cwd|pathSeparator|execPath|lineNumber|columnNumber|selectedText|/)\}"
)


class BadReference(Exception):
    """References cannot be followed. The text shows names only: what is around them may be a secret."""


def interpolate(value: Any, variables: Mapping[str, str]) -> Any:
    """Return ``value`` with every reference replaced, in strings at any depth.

    Raises :class:`BadReference` that names all that is wrong.
    """
    wrong: list[str] = []
    found = _interpolated(value, variables, wrong)
    if wrong:
        raise BadReference("; ".join(dict.fromkeys(wrong)))
    return found


def as_text(text: str) -> str:
    """Return what has to be written so that it is read as this text."""
    return text.replace("${", "$${")


def variable_for(asked: str) -> str:
    """Return the variable that can stand for what VS Code asks its user for under this id."""
    name = re.sub(r"[^A-Za-z0-9]+", "_", asked).strip("_").upper()
    return name if name[:1].isalpha() else f"_{name}"


def of_an_editor(reference: str) -> str:
    """Say that only an editor can follow a reference."""
    return f"{reference} is known to an editor only; write what it stands for instead"


def _interpolated(value: Any, variables: Mapping[str, str], wrong: list[str]) -> Any:
    if isinstance(value, str):
        return _REFERENCE.sub(lambda match: _resolve(match, variables, wrong), value)
    if isinstance(value, list):
        return [_interpolated(item, variables, wrong) for item in value]
    if isinstance(value, dict):
        return {key: _interpolated(item, variables, wrong) for key, item in value.items()}
    return value


def _resolve(match: re.Match[str], variables: Mapping[str, str], wrong: list[str]) -> str:
    name, kind, rest = match["name"], match["kind"], match["rest"]
    if match["text"] is not None:
        return match["text"]
    found = variables.get(name) if name is not None else None
    if found is not None and (found or kind is None):
        return found
    if kind == "-":
        return str(rest)
    wrong.append(f"variable {name} is not set: {rest or 'it is required'}" if kind == "?" else _why_not(match))
    return match[0]


def _why_not(match: re.Match[str]) -> str:
    """Say why a reference leads nowhere, and what to write instead."""
    if editors := OF_AN_EDITOR.match(match.string, match.start()):
        return of_an_editor(editors[0])
    if (name := match["name"]) is not None:
        return f"variable {name} is not set; set it, or write ${{{name}:-default}}"
    if asked := INPUT.match(match.string, match.start()):
        variable = variable_for(asked["id"])
        return f'only VS Code can ask for "{asked["id"]}"; write ${{{variable}}} and set {variable} in .env'
    return (
        f"{match['other']}... is none of ${{NAME}}, ${{NAME:-default}} and ${{NAME:?message}}; where a text is meant, "
        "write $${"
    )
