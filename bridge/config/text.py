"""What JSON can hold in a string, and no program, file or answer can: NUL, and halves of characters.

An answer that holds one cannot be written, so one entry with it would cost the list of all servers.
"""

from __future__ import annotations

import json
import re
from typing import Any

_ODD = re.compile("[\0\ud800-\udfff]")


def odd_character(value: Any) -> str | None:
    """Return the first one in the strings and names of a value, as JSON writes it; None where there is none."""
    if isinstance(value, str):
        found = _ODD.search(value)
        return None if found is None else json.dumps(found[0])[1:-1]
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list):
        return next((odd for odd in map(odd_character, value) if odd is not None), None)
    return None


def printable(text: str) -> str:
    """Return a text that can be written: variables and file names may hold bytes that are no UTF-8."""
    return text.encode(errors="backslashreplace").decode()
