"""What the two bridges of a restart know of each other: where sockets lie, and the key of what was signed there.

The one that goes and the one that comes are a process each, or the workers of a parent each. An id that was minted by a
worker names it and its epoch, as its socket does; any other id belongs to a bridge that is alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bridge.cluster.board import name_of, socket_of
from bridge.cluster.hop import HopSeals
from bridge.cluster.ids import Birth, SessionIds
from bridge.cluster.members import Member
from bridge.cluster.node import Node, node_of

#: What a bridge without workers is called.
ALONE = name_of(0)


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two."""

    directory: str
    key: str


class Sockets:
    """The processes of one side, as another process finds them."""

    def __init__(self, side: Side) -> None:
        self.directory = Path(side.directory)
        self.seals = HopSeals(side.key.encode())
        self._ids = SessionIds(Birth(ALONE, 0), side.key.encode())

    def minter(self, session_id: str) -> Member | None:
        """Return the process that has made an id, if it is one of these and lives."""
        birth = self._ids.birth_of(session_id)
        if birth is None:
            return self.newest(ALONE)
        return _member(birth, socket_of(self.directory, birth))

    def successor(self, session_id: str) -> Member | None:
        """Return the process that has taken over from the one that has made an id."""
        birth = self._ids.birth_of(session_id)
        return self.newest(ALONE if birth is None else birth.node)

    def newest(self, node: str) -> Member | None:
        """Return the process that has this name."""
        births = [birth for birth in self._births() if birth.node == node]
        newest = max(births, key=lambda birth: birth.epoch, default=None)
        return None if newest is None else _member(newest, socket_of(self.directory, newest))

    def all(self) -> list[Member]:
        """Return all of them."""
        found = (_member(birth, socket_of(self.directory, birth)) for birth in self._births())
        return [member for member in found if member is not None]

    def _births(self) -> list[Birth]:
        try:
            names = [path.name.partition(".") for path in self.directory.iterdir()]
        except OSError:  # it went with its bridge
            return []
        return sorted((Birth(node, int(epoch)) for node, _, epoch in names if epoch.isdecimal()), key=str)


class Lone:
    """The members of a cluster of one: a bridge without workers, as the other side of a restart sees it."""

    def __init__(self, directory: Path, epoch: int) -> None:
        self.birth = Birth(ALONE, epoch)
        self.socket = socket_of(directory, self.birth)

    @property
    def own(self) -> Member:
        """This process."""
        return Member(ALONE, self.birth.epoch, f"unix:{self.socket}")

    def find(self, node: str) -> Member | None:
        """There is nobody else."""
        return self.own if node == ALONE else None

    def others(self) -> list[Member]:
        """There is nobody else."""
        return []

    def least_loaded(self) -> Member:
        """This process."""
        return self.own

    def missing(self) -> list[str]:
        """Nobody."""
        return []

    def publish(self, children: int) -> None:
        """Nobody looks."""


@dataclass(frozen=True, slots=True)
class Between:
    """The place of one process in a restart: as what others reach it, its own side and the other one."""

    node: Node
    own: Side
    other: Side


def lone(side: Side, epoch: int) -> Node:
    """Return a bridge without workers as a node, which has its socket in the directory of its side."""
    members = Lone(Path(side.directory), epoch)
    return node_of(members, side.key.encode(), members.socket)


def sender(node: Node, sockets: Sockets) -> Node:
    """Return a node as it speaks to the processes of the other side, whose seals they read."""
    return Node(node.members, node.ids, sockets.seals)


def _member(birth: Birth, path: Path) -> Member | None:
    return Member(birth.node, birth.epoch, f"unix:{path}") if path.exists() else None
