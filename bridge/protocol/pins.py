"""The definition of a tool as a client's model reads it, in one spelling, and its fingerprint.

A server may describe its tools one way while somebody looks, and in another later (a "rug pull"): what a model reads
there it may obey. So the first definition is remembered, and a later one compared with it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from bridge.protocol import jsontext

#: What counts, in lower case: clients written in Go read ``Description`` as well.
PINNED = frozenset({"name", "title", "description", "inputschema", "outputschema", "annotations"})
#: Characters of a definition that are kept to be shown; of a longer one only the fingerprint is.
LONGEST = 16 * 1024


@dataclass(frozen=True, slots=True)
class Definition:
    """``sha256`` of a definition as canonical JSON, and that ``text``, empty where it is too long; ``at``: ISO 8601."""

    sha256: str
    text: str
    at: str = ""


def define(tool: bytes, at: str) -> Definition:
    """Return what is remembered of a tool, seen at this time."""
    members = {key: value for key, value in jsontext.fields(tool).items() if key.casefold() in PINNED}
    text = jsontext.canonical(jsontext.encode(members))
    return Definition(hashlib.sha256(text.encode()).hexdigest(), text if len(text) <= LONGEST else "", at)
