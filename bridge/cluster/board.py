"""The workers of one host: a piece of memory that all of them see, and one unix socket each.

The parent makes the board and hands it to each worker as a descriptor. Every worker has a row, which it alone writes
and all read: its epoch, 0 while it does not listen, and its children. A number of the row is one machine word, so it is
never seen half written.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from pathlib import Path

from bridge.cluster.ids import Birth
from bridge.cluster.members import Member, emptiest

_COLUMNS = 3
_EPOCH, _CHILDREN, _BEATS = range(_COLUMNS)
_WORD = 8


def name_of(index: int) -> str:
    """Return what the worker with this number, from 1, is called."""
    return f"w{index}"


class Board:
    """The memory. ``workers`` is how many rows it has; ``descriptor`` is what another process opens it by."""

    def __init__(self, descriptor: int, workers: int) -> None:
        self.descriptor = descriptor
        self.workers = workers
        self._memory = mmap.mmap(descriptor, workers * _COLUMNS * _WORD)
        self._words = memoryview(self._memory).cast("Q")

    @classmethod
    def make(cls, workers: int) -> Board:
        """Make a new one, with every row empty."""
        with tempfile.TemporaryFile() as file:
            file.truncate(workers * _COLUMNS * _WORD)
            descriptor = os.dup(file.fileno())
        return cls(descriptor, workers)

    def close(self) -> None:
        """Let go of it."""
        self._words.release()
        self._memory.close()
        os.close(self.descriptor)

    def epoch(self, index: int) -> int:
        """The epoch of a worker that listens, 0 for one that does not."""
        return self._words[(index - 1) * _COLUMNS + _EPOCH]

    def set_epoch(self, index: int, epoch: int) -> None:
        """Say that a worker listens, or with 0, that it has ended."""
        self._words[(index - 1) * _COLUMNS + _EPOCH] = epoch

    def children(self, index: int) -> int:
        """How many children a worker has."""
        return self._words[(index - 1) * _COLUMNS + _CHILDREN]

    def set_children(self, index: int, children: int) -> None:
        """Say how many children a worker has; a sign of life as well."""
        row = (index - 1) * _COLUMNS
        self._words[row + _CHILDREN] = children
        self._words[row + _BEATS] = (self._words[row + _BEATS] + 1) % 2**63

    def beats(self, index: int) -> int:
        """How often a worker has said something: a number that stands still is that of a worker that hangs."""
        return self._words[(index - 1) * _COLUMNS + _BEATS]


class Workers:
    """All workers, as the one with number ``index`` sees them. Their sockets lie in ``directory``."""

    def __init__(self, board: Board, directory: Path, index: int, epoch: int) -> None:
        self._board = board
        self._directory = directory
        self._index = index
        self.birth = Birth(name_of(index), epoch)
        self._names = [name_of(each) for each in range(1, board.workers + 1)]
        self._numbers = {name: index for index, name in enumerate(self._names, 1)}
        self._addresses: dict[tuple[int, int], str] = {}

    @property
    def socket(self) -> Path:
        """Where this worker listens for the others."""
        return socket_of(self._directory, self.birth)

    @property
    def own(self) -> Member:
        """This worker."""
        return self._member(self._index, self.birth.epoch)

    def find(self, node: str) -> Member | None:
        """Return a worker that listens."""
        index = self._numbers.get(node)
        epoch = 0 if index is None else self._board.epoch(index)
        return self._member(index, epoch) if index is not None and epoch else None

    def others(self) -> list[Member]:
        """Return all that listen but this one."""
        found = (self.find(node) for node, index in self._numbers.items() if index != self._index)
        return [member for member in found if member is not None]

    def least_loaded(self) -> Member:
        """Return where a new session should go."""
        return emptiest(self.own, self.others())

    def missing(self) -> list[str]:
        """Return the workers that do not listen."""
        return [node for node, index in self._numbers.items() if not self._board.epoch(index)]

    def publish(self, children: int) -> None:
        """Say how many children this worker has."""
        self._board.set_children(self._index, children)

    def listens(self) -> None:
        """Let the others see this worker."""
        self._board.set_epoch(self._index, self.birth.epoch)

    def _member(self, index: int, epoch: int) -> Member:
        address = self._addresses.get((index, epoch))
        if address is None:
            address = self._addresses[index, epoch] = f"unix:{socket_of(self._directory, Birth(name_of(index), epoch))}"
        return Member(self._names[index - 1], epoch, address, self._board.children(index))


def socket_of(directory: Path, birth: Birth) -> Path:
    """Return where a worker listens for the others."""
    # A socket of its own for each epoch: a connection never reaches another life of a worker than was meant.
    return directory / f"{birth.node}.{birth.epoch}"
