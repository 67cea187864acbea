"""Files of variables, such as ``.env``. A line that is none refuses the whole file: it may have been the token.

Messages name the line and never repeat it, because what it holds may be a secret.
"""

from __future__ import annotations

import io
from pathlib import Path

from dotenv.parser import Binding, parse_stream

from bridge.config.errors import ConfigError


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
