"""What may be a secret in a command line or an entry, so that neither a log nor a terminal shows it.

It is better to hide too much: who wrote the command knows what it says.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

#: What stands where something is left out.
HIDDEN = "***"

_NAME = r"key|token|secret|passw|auth|credential|bearer|private"
_NAMED = re.compile(rf"(?i){_NAME}")
#: Keys as services write them.
_KEY = re.compile(r"(?i)(sk|pk|ghp|gho|github_pat|xox[abps]|glpat|figd|bearer)[-_ ]")
#: A word that no person would type, unless it is a path.
_RANDOM = re.compile(r"(?=[^0-9]*[0-9])[A-Za-z0-9+/_=-]{32,}")
_PATH = re.compile(r"(\.{0,2}|~)/.*/")
_URL = re.compile(r"\w[\w+.-]*://")
#: Flags that bring a header, whose value is a secret more often than not.
_HEADER_FLAGS = frozenset({"--header", "--headers", "-H"})

#: What goes from an argument, behind what stays of it: users and queries of URLs, headers, what follows a name.
_USER = re.compile(r"(://)[^/@\s]+(?=@)")
_QUERY = re.compile(r"(://[^?\s]*\?)\S+")
_HEADER = re.compile(r"(?s)^(--headers?=|-H(?=.)).+")
_VALUE = re.compile(rf"(?is)((?:{_NAME})[^=:\s]*[=:\s]).+")
_WORD = re.compile(r"\S+")


def looks_like_one(text: str) -> bool:
    """Whether a text may be a secret, whatever its name."""
    return _KEY.match(text) is not None or (_RANDOM.fullmatch(text) is not None and _PATH.match(text) is None)


def masked(argv: Sequence[str]) -> list[str]:
    """Return a command line whose first word is the program, without what may be a secret in the others."""
    return [*argv[:1], *masked_arguments(argv[1:])]


def masked_arguments(arguments: Sequence[str]) -> list[str]:
    """Return arguments without values that are named or look like secrets, and URLs without users and queries."""
    shown: list[str] = []
    hides = False
    for argument in arguments:
        is_flag = argument.startswith("-")
        shown.append(HIDDEN if hides and not is_flag else _shown(argument))
        hides = is_flag and "=" not in argument and (_NAMED.search(argument) is not None or argument in _HEADER_FLAGS)
    return shown


def _shown(argument: str) -> str:
    hiding = (_USER, _QUERY) if _URL.match(argument) else (_USER, _QUERY, _HEADER, _VALUE)
    for each in hiding:
        argument = each.sub(rf"\1{HIDDEN}", argument)
    return _WORD.sub(lambda word: HIDDEN if looks_like_one(word[0]) else word[0], argument)
