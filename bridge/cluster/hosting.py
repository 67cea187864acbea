"""What the parent of workers hands to each of them: one line of JSON on its standard input, which stays open.

The end of that input is the end of the parent, however it came about.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.cluster.board import Board, Workers
from bridge.cluster.node import Node, node_of

#: Set in the environment of a worker.
VARIABLE = "MCP_BRIDGE_WORKER"


@dataclass(frozen=True, slots=True)
class Place:
    """The place of one worker among ``workers``: its number from 1, its epoch, the key of all, and descriptors of the
    sockets that listen and of the board.
    """

    index: int
    workers: int
    epoch: int
    key: str
    listening: tuple[int, ...]
    board: int
    directory: str

    def members(self) -> Workers:
        """Return all workers as this one sees them."""
        return Workers(Board(self.board, self.workers), Path(self.directory), self.index, self.epoch)

    def node(self, members: Workers) -> Node:
        """Return this worker as a node."""
        return node_of(members, self.key.encode(), members.socket)


def place_from(members: dict[str, Any]) -> Place:
    """Return the place that these members of a JSON object say."""
    return Place(**{**members, "listening": tuple(members["listening"])})


def new_key() -> str:
    """Return a key that nobody knows."""
    return secrets.token_hex(32)
