"""What a process of the bridge is given by the one that starts it: one line of JSON on its standard input, which stays
open. The parent of workers gives each its place, a bridge that is restarted gives the new one what it inherits.

The end of the input of a worker is the end of its parent, however it came about.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.cluster.board import Board, Workers
from bridge.cluster.node import Node, node_of
from bridge.cluster.side import Between, Side

#: Set in the environment of a worker, and of a bridge that takes over from another one.
VARIABLE, HEIR = "MCP_BRIDGE_WORKER", "MCP_BRIDGE_HEIR"


@dataclass(frozen=True, slots=True)
class Place:
    """The place of one worker among ``workers``: its number from 1, its epoch, the key of all, descriptors of the
    sockets that listen and of the board, and the servers that an operator has ``stopped``.
    """

    index: int
    workers: int
    epoch: int
    key: str
    listening: tuple[int, ...]
    board: int
    directory: str
    stopped: tuple[str, ...]
    other: Side | None = None  # of the bridge before this one, while that lives
    waits: bool = False  # for a word before it listens

    @property
    def side(self) -> Side:
        """The side of all workers in a restart."""
        return Side(self.directory, self.key)

    def between(self, node: Node) -> Between | None:
        """Return its place in a restart, where the bridge before this one still lives."""
        return None if self.other is None else Between(node, self.side, self.other)

    def members(self) -> Workers:
        """Return all workers as this one sees them."""
        return Workers(Board(self.board, self.workers), Path(self.directory), self.index, self.epoch)

    def node(self, members: Workers) -> Node:
        """Return this worker as a node."""
        return node_of(members, self.key.encode(), members.socket)


def place_from(members: dict[str, Any]) -> Place:
    """Return the place that these members of a JSON object say."""
    other = members["other"]
    return Place(
        **{
            **members,
            "listening": tuple(members["listening"]),
            "stopped": tuple(members["stopped"]),
            "other": None if other is None else Side(**other),
        }
    )


@dataclass(frozen=True, slots=True)
class Inheritance:
    """What a bridge gets from the one that it takes over from: the address that was asked for, the sockets that listen
    there, the side of the other in the restart, descriptors: for what it logs when it is ready, and for the number
    of the next one (-1: nobody waits for it); and the servers that an operator has ``stopped``.
    """

    host: str
    port: int
    listening: tuple[int, ...]
    other: Side
    stderr: int
    waiter: int
    stopped: tuple[str, ...]


def inheritance_from(members: dict[str, Any]) -> Inheritance:
    """Return the inheritance that these members of a JSON object say."""
    listening, stopped, other = tuple(members["listening"]), tuple(members["stopped"]), Side(**members["other"])
    return Inheritance(**{**members, "listening": listening, "stopped": stopped, "other": other})


def new_key() -> str:
    """Return a key that nobody knows."""
    return secrets.token_hex(32)
