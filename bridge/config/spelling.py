"""What somebody meant who wrote a name that is none: wrong case, another separator, a letter or two."""

from __future__ import annotations

import re
from collections.abc import Iterable

_CLOSE = 0.85


def meant(word: str, known: Iterable[str]) -> str | None:
    """Return the one of the known names that this word is like, None where it is like none of them."""
    import difflib  # seldom needed, and every verb waits for its imports

    names = {_folded(name): name for name in known}
    folded = _folded(word)
    if found := difflib.get_close_matches(folded, names, 1, _CLOSE):
        return names[found[0]]
    return next((names[name] for name in names if sorted(name) == sorted(folded)), None)  # PROT


def _folded(word: str) -> str:
    return re.sub(r"[^a-z0-9]", "", word.lower())
