"""JSON as people write it: with comments and trailing commas, and without what would mean something else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from bridge.config.errors import ConfigError

_LEXEME = re.compile(
    r"""//[^\n\r\u2028\u2029]*|/\*.*?\*/|[^"'/]+|/"""
    r"""|(?P<string>"(?:[^"\\\n\r]|\\(?:\r\n|.))*"|'(?:[^'\\\n\r]|\\(?:\r\n|.))*')""",
    re.DOTALL,
)
#: Those of JSON, and what JSON5 needs for its own strings: a single quote, the end of a line.
_ESCAPE = re.compile(r"""\\(?:(?P<good>["'\\/bfnrtu\n\r\u2028\u2029])|.)""", re.DOTALL)


def parse_json(text: str, source: str, twice: list[str] | None = None) -> Any:
    """Read JSON, with comments and trailing commas. Names that an object has twice go into ``twice``; the last counts.

    Raises :class:`ConfigError` with the line.
    """
    found: list[str] = [] if twice is None else twice

    def members(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
        pairs = list(pairs)
        whole = dict(pairs)
        if len(whole) < len(pairs):
            names = [name for name, _ in pairs]
            found.extend(name for name in whole if names.count(name) > 1)
        return whole

    try:
        return json.loads(text, object_pairs_hook=members)
    except RecursionError:
        raise ConfigError(f"{source}: is nested too deeply") from None
    except ValueError:
        pass
    if not text.strip():
        raise ConfigError(f'{source}: is empty; without servers it is {{"mcpServers": {{}}}}')
    _check_escapes(text, source)
    # Comments and trailing commas are what people write. json5 is slow to import and to run, so it comes second.
    import json5

    found.clear()
    try:
        return json5.loads(text, object_pairs_hook=members)
    except RecursionError:
        raise ConfigError(f"{source}: is nested too deeply") from None
    except ValueError as error:
        raise ConfigError(f"{source}: is not JSON: {str(error).replace('<string>:', 'line ')}") from None


def _check_escapes(text: str, source: str) -> None:
    r"""Refuse a backslash that JSON has no meaning for. Raises :class:`ConfigError` with its place.

    JSON5 drops it, or makes a vertical tab of the one in ``C:\venv``: the pattern ``\d+`` would become another one
    without a word. A warning is not enough, because the server would run with what nobody has written, and no other
    reader of such files takes it.
    """
    at = 0
    while (lexeme := _LEXEME.match(text, at)) is not None:  # up to what is no JSON, which the reader tells
        for escape in _ESCAPE.finditer(lexeme["string"] or ""):
            if escape["good"] is None:
                place = lexeme.start() + escape.start()
                line, column = text.count("\n", 0, place) + 1, place - text.rfind("\n", 0, place)
                raise ConfigError(
                    f"{source}: line {line}, column {column}: a single backslash has no meaning here; "
                    "for a backslash write two"
                )
        at = lexeme.end()
