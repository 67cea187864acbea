"""Whether a file has changed: nothing announces that on every file system, so who wants to know looks again."""

from __future__ import annotations

import os
from pathlib import Path

#: What changes with a file; None while there is none.
Mark = tuple[int, int, int] | None


def mark(path: Path) -> Mark:
    """Return what is different when a file was written, replaced or deleted."""
    try:
        found = os.stat(path)  # noqa: PTH116 - Path.stat is twice as slow, and this is on the way of requests
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
