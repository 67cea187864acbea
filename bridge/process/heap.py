"""Memory that a large message has used is kept for the next one.

glibc gives the top of the heap back as soon as a few megabytes of it are free, which is after every message of one
megabyte, and takes it anew for the next: a page fault per 4 KiB of each of its copies, nearly half of what such an
answer costs.
"""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
#: Free bytes at the top of the heap that are kept.
KEPT = 32 * 1024 * 1024
#: Blocks from this size in bytes are given back to the system one by one, as soon as they are free.
LARGE = 8 * 1024 * 1024


def keep_heap() -> bool:
    """Have the C library keep freed memory; False where it cannot be told (musl, macOS, Windows)."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, LARGE)) and bool(mallopt(_M_TRIM_THRESHOLD, KEPT))
