"""Files of variables, such as ``.env``. A line that is none refuses the whole file: it may have been the token.

Messages name the line and never repeat it, because what it holds may be a secret.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

from dotenv.parser import Binding, parse_stream

from bridge.config.errors import ConfigError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def read_env_file(path: Path) -> dict[str, str]:
    """Return the variables of a file; a name without ``=`` is none. Raises :class:`ConfigError`."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    bindings = list(parse_stream(io.StringIO(text)))
    if wrong := [str(_line(each)) for each in bindings if _is_bad(each)]:
        raise ConfigError(
            f"{path}: line {', '.join(wrong)}: must be NAME=value, where a quote that opens the value also closes it; "
            "nothing of this file is taken"
        )
    return {each.key: each.value for each in bindings if each.key is not None and each.value is not None}


def _is_bad(binding: Binding) -> bool:
    """Whether nothing can be made of a line, or what looks like a name and is more (``PORT:3000``)."""
    is_name = binding.key is None or binding.value is not None or _NAME.fullmatch(binding.key) is not None
    return binding.error or not is_name


def _line(binding: Binding) -> int:
    """Where it stands; the parser counts from the blank lines before it."""
    text = binding.original.string
    return binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")
