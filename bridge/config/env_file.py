"""Files of variables, such as ``.env``. A line that is none refuses the whole file: it may have been the token.

Messages name the line and never repeat it, because what it holds may be a secret.
"""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

from dotenv.parser import Binding, parse_stream

from bridge.config.errors import ConfigError


def find_env_file(named: Path | None) -> Path | None:
    """Return the file that was named, else ``.env`` of the working directory, None where there is none. Raises
    :class:`ConfigError` where it leads to no file: without a word the token would be missing.
    """
    path = named or Path(".env")
    if named is None and _is_absent(path):
        return None
    where = "" if named is None else "--env-file: "
    try:
        found = path.stat()
    except FileNotFoundError:
        why = "is a link that leads nowhere" if path.is_symlink() else "does not exist"
        raise ConfigError(f"{where}{path} {why}") from None
    except OSError as error:
        raise ConfigError(f"{where}{path} cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(found.st_mode):
        kind = "a directory" if stat.S_ISDIR(found.st_mode) else "no regular file"
        raise ConfigError(f"{where}{path} is {kind}; it must be a file of settings")
    return path


def _is_absent(path: Path) -> bool:
    """Whether there is no such file: nothing, what a container puts over one to hide it, or a virtual environment."""
    if not os.path.lexists(path) or os.path.realpath(path) == os.devnull:
        return True
    return os.path.exists(path / "pyvenv.cfg")  # noqa: PTH110 - Path.exists raises where the folder cannot be read


def read_env_file(path: Path) -> dict[str, str]:
    """Return the variables of a file. Raises :class:`ConfigError`."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    if (at := text.find("\0")) >= 0:
        line = text.count("\n", 0, at) + 1
        raise ConfigError(f"{path}: line {line}: holds a NUL character; the file must be text in UTF-8")
    bindings = list(parse_stream(io.StringIO(text)))
    if wrong := [str(_line(each)) for each in bindings if _is_bad(each)]:
        raise ConfigError(
            f"{path}: line {', '.join(wrong)}: must be NAME=value, where a quote that opens the value also closes it; "
            "nothing of this file is taken"
        )
    return {each.key: each.value for each in bindings if each.key is not None and each.value is not None}


def _is_bad(binding: Binding) -> bool:
    """Whether nothing can be made of a line, or it has no ``=``, as a token without its name."""
    return binding.error or (binding.key is not None and binding.value is None)


def _line(binding: Binding) -> int:
    """Where it stands; the parser counts from the blank lines before it."""
    text = binding.original.string
    return binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")
