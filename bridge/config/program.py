"""What an entry says of a program: its command line and its environment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bridge.config import values
from bridge.config.env_file import read_env_file
from bridge.config.environment import OUR_SECRETS, Inherit, inherited, is_our_secret
from bridge.config.errors import ConfigError
from bridge.config.keys import BadEntry, get, kind_of


def argv(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the program and its arguments. Raises :class:`BadEntry`."""
    command = raw.get("command")
    if command is None:
        raise BadEntry('"command" is missing; give the program to start, or the "url" of a remote server')
    if not isinstance(command, str):
        raise BadEntry(f'"command" must be a string, not {kind_of(command)}; put the arguments in "args"')
    if not command.strip():
        raise BadEntry('"command" is empty; give the program to start')
    args = raw.get("args", [])
    if not isinstance(args, list):
        raise BadEntry(f'"args" must be a list of strings, not {kind_of(args)}')
    for arg in args:
        if not isinstance(arg, str):
            raise BadEntry(f'"args" holds {json.dumps(arg)}, must hold strings only; put it in quotes')
    return (str(get(raw, "command", values.path, "")) if command.startswith("~") else command, *args)


class Environment:
    """Reads the environment of a program. ``ours`` is that of the bridge, ``warnings`` takes what does no harm."""

    def __init__(self, raw: Mapping[str, Any], ours: Mapping[str, str], base: Path, warnings: list[str]) -> None:
        self._raw = raw
        self._ours = ours
        self._base = base
        self._warnings = warnings

    def read(self, *, disabled: bool) -> dict[str, str]:
        """Return all of it. Raises :class:`BadEntry`."""
        env = inherited(self._inherit(), self._ours)
        env.update(self._file())
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
                if name in self._ours:
                    env[name] = self._ours[name]
                elif not disabled:
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
