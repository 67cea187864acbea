"""What becomes of freed memory: kept for the next large message, given back when none comes.

By itself glibc gives the top of the heap back after every message of a megabyte, and takes it anew for the next: a page
fault per 4 KiB of each of its copies, nearly half of what such an answer costs. And it never gives back what lies below
one small piece that lives on, which after some large messages is a hundred megabytes (seen: 188 MiB resident, of which
14 MiB were in use and 134 MiB free). So it is told to keep some, and ``malloc_trim`` gives back all from time to time,
in 23 ms then. Where there is no glibc (musl, macOS), nothing is done.
"""

from __future__ import annotations

import asyncio
import functools
from pathlib import Path
from resource import getpagesize
from typing import Any

from bridge.process.pressure import MIB

#: Seconds between two looks.
INTERVAL = 10.0
#: Bytes that have to come together before it is worth while.
GROWTH = 24 * MIB
_STATM = Path("/proc/self/statm")

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
#: Free bytes at the top of the heap that are kept.
KEPT = 32 * MIB
#: Blocks from this size in bytes are given back to the system one by one, as soon as they are free.
LARGE = 8 * MIB

#: ``struct mallinfo2`` (malloc.h): sizes in bytes.
_MALLINFO = (
    *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
    *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
)


def keep_heap() -> bool:
    """Have the C library keep freed memory; False where it cannot be told."""
    mallopt = getattr(_libc(), "mallopt", None)
    return mallopt is not None and bool(mallopt(_M_MMAP_THRESHOLD, LARGE)) and bool(mallopt(_M_TRIM_THRESHOLD, KEPT))


class Heap:
    """The allocator of this process."""

    def resident(self) -> int:
        """Bytes of this process in memory; 0 where the system does not say."""
        try:
            return int(_STATM.read_text().split()[1]) * getpagesize()
        except OSError:
            return 0

    def free(self) -> int:
        """Bytes that were freed and are kept, in memory or not; 0 where that is not known."""
        return _info().get("fordblks", 0)

    def in_use(self) -> int:
        """Bytes that are in use, small objects of Python left out; 0 where that is not known."""
        info = _info()
        return info.get("uordblks", 0) + info.get("hblkhd", 0)

    def trim(self) -> None:
        """Give back what is free. While that takes, other threads run and allocate nothing."""
        trim = getattr(_libc(), "malloc_trim", None)
        if trim is not None:
            trim(0)


@functools.cache
def _libc() -> Any:
    import ctypes  # not at the start, which would have to wait for it

    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallinfo2"):  # since glibc 2.33
        fields = [(name, ctypes.c_size_t) for name in _MALLINFO]
        libc.mallinfo2.restype = type("Mallinfo", (ctypes.Structure,), {"_fields_": fields})
    return libc


def _info() -> dict[str, int]:
    mallinfo = getattr(_libc(), "mallinfo2", None)
    if mallinfo is None:
        return {}
    info = mallinfo()
    return {name: int(getattr(info, name)) for name in _MALLINFO}


class Trimmer:
    """Trims when the process has grown since the last time, or when much was freed that was in use then."""

    def __init__(self, heap: Heap) -> None:
        self._heap = heap
        self._resident = heap.resident()
        self._free = 0

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(INTERVAL)
            await asyncio.to_thread(self.look)

    def look(self) -> bool:
        """Trim if it is worth while; return whether it was."""
        resident, free = self._heap.resident(), self._heap.free()
        if resident < self._resident + GROWTH and free < self._free + GROWTH:
            self._resident, self._free = min(self._resident, resident), min(self._free, free)
            return False
        self._heap.trim()
        self._resident, self._free = self._heap.resident(), self._heap.free()
        return True
