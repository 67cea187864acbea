"""Freed memory goes back to the system."""

from __future__ import annotations

import ctypes

import pytest

from bridge.process.memory import GROWTH, Heap, Trimmer

MIB = 2**20
needs_glibc = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="only glibc keeps and trims")


@needs_glibc
def test_what_a_small_piece_keeps_in_the_heap_is_given_back() -> None:
    heap = Heap()
    heap.trim()  # what earlier tests have left would be used again
    trimmer = Trimmer(heap)
    before = heap.resident()
    large, small = [], []
    for _ in range(10):  # below 128 KiB, from where on pieces are the system's and not the heap's
        large += [bytearray(100_000) for _ in range(100)]
        small.append(bytearray(90_000))
    assert heap.resident() > before + 80 * MIB
    assert heap.in_use() > 80 * MIB
    trimmer.look()  # in vain, because it is in use
    large.clear()
    assert heap.resident() > before + 60 * MIB, "this is what it is about"
    assert heap.free() > 60 * MIB
    assert trimmer.look()
    assert heap.resident() < before + 20 * MIB
    assert not trimmer.look()
    assert len(small) == 10


class Scripted(Heap):
    """Memory as a test says."""

    def __init__(self) -> None:
        self.sizes, self.trims = (100, 0), 0

    def resident(self) -> int:
        return self.sizes[0]

    def free(self) -> int:
        return self.sizes[1]

    def trim(self) -> None:
        self.trims += 1


@pytest.mark.parametrize(
    ("sizes", "trims"),
    [
        ([(99 + GROWTH, 0), (100, GROWTH - 1)], 0),
        ([(100 + GROWTH, 0)], 1),  # it has grown, whatever has been freed
        ([(100, GROWTH)], 1),  # what was in use the last time has been freed
        ([(100 + GROWTH, 0), (100 + GROWTH, 0), (99 + 2 * GROWTH, 0)], 1),  # not once more for the same
        ([(50, 0), (50 + GROWTH, 0)], 1),  # by what it has been least
    ],
)
def test_it_trims_when_there_is_something_to_give_back(sizes: list[tuple[int, int]], trims: int) -> None:
    heap = Scripted()
    trimmer = Trimmer(heap)
    for heap.sizes in sizes:
        trimmer.look()
    assert heap.trims == trims
