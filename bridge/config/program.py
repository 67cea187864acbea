"""What an entry says of a program: its command line and its environment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from bridge.config import values
from bridge.config.env_file import read_env_file
from bridge.config.environment import OUR_SECRETS, Inherit, inherited, is_our_secret
from bridge.config.errors import ConfigError
from bridge.config.keys import BadEntry, Mistakes, get, kind_of

_SAFE: Inherit = "safe"


def program(raw: Mapping[str, Any]) -> str:
    """Return the program. Raises :class:`BadEntry`."""
    command = raw.get("command")
    if command is None:
        raise BadEntry('"command" is missing; give the program to start, or the "url" of a remote server')
    if not isinstance(command, str):
        raise BadEntry(f'"command" must be a string, not {kind_of(command)}; put the arguments in "args"')
    if not command.strip():
        raise BadEntry('"command" is empty; give the program to start')
    return str(get(raw, "command", values.path, "")) if command.startswith("~") else command


def arguments(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """Return its arguments. Raises :class:`BadEntry`."""
    args = raw.get("args", [])
    if not isinstance(args, list):
        raise BadEntry(f'"args" must be a list of strings, not {kind_of(args)}')
    for arg in args:
        if not isinstance(arg, str):
            raise BadEntry(f'"args" holds {json.dumps(arg)}, must hold strings only; put it in quotes')
    return tuple(args)


class Environment:
    """Reads the environment of a program. ``ours`` is that of the bridge, ``warnings`` takes what does no harm,
    ``mistakes`` what does.
    """

    def __init__(
        self, raw: Mapping[str, Any], ours: Mapping[str, str], base: Path, warnings: list[str], mistakes: Mistakes
    ) -> None:
        self._raw = raw
        self._ours = ours
        self._base = base
        self._warnings = warnings
        self._mistakes = mistakes

    def read(self, *, disabled: bool) -> dict[str, str]:
        """Return all of it."""
        attempt = self._mistakes.attempt
        env = inherited(attempt(self._inherit, _SAFE), self._ours)
        env.update(attempt(self._file, dict[str, str]()))
        for name, given in attempt(self._given, dict[str, Any]()).items():
            value = attempt(partial(self._value, name, given, disabled=disabled), None)
            if value is not None:
                env[name] = value
        return env

    def _given(self) -> dict[str, Any]:
        given = self._raw.get("env") or {}
        if not isinstance(given, dict):
            raise BadEntry(f'"env" must be an object of name -> text, not {kind_of(given)}')
        if (wrong := next((name for name in given if not name or "=" in name), None)) is not None:
            raise BadEntry(f'"env": {json.dumps(wrong)} is no name of a variable')
        return given

    def _value(self, name: str, value: Any, *, disabled: bool) -> str | None:
        """The text of one variable; None where a disabled entry takes from our environment what is not there."""
        if value is None and name in OUR_SECRETS:
            raise BadEntry(
                f'"env": {name} is null, but that is a secret of the bridge; if the server is to know it, write '
                f'"${{{name}}}"'
            )
        if value is None:  # take it from our environment
            if name not in self._ours and not disabled:
                raise BadEntry(f'"env": {name} is null, which takes it from our environment, where it is not set')
            return self._ours.get(name)
        if not isinstance(value, bool | int | float | str):
            raise BadEntry(f'"env": {name} must be a string, not {kind_of(value)}')
        return str(value).lower() if isinstance(value, bool) else str(value)

    def _inherit(self) -> Inherit:
        value = self._raw.get("inheritEnv", _SAFE)
        if value in ("safe", "all"):
            return str(value)
        if isinstance(value, list) and all(isinstance(name, str) for name in value):
            if secrets := sorted(OUR_SECRETS.intersection(value)):
                self._warnings.append(f'"inheritEnv": secrets of the bridge are not inherited: {", ".join(secrets)}')
            return tuple(value)
        raise BadEntry(f'"inheritEnv" is {json.dumps(value)}, must be "safe", "all" or a list of names')

    def _file(self) -> dict[str, str]:
        name = get(self._raw, "envFile", values.path, None)
        if name is None:
            return {}
        path = self._base / name
        if not path.is_file():
            raise BadEntry(f'"envFile": {path} does not exist')
        try:
            given = read_env_file(path)
        except ConfigError as error:
            raise BadEntry(f'"envFile": {error}') from None
        ours = [key for key, value in given.items() if is_our_secret(key, value, self._ours)]
        if ours:  # it is our own .env, most likely
            self._warnings.append(f'"envFile": secrets of the bridge are left out: {", ".join(ours)}')
        return {key: value for key, value in given.items() if key not in ours}
