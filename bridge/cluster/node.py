"""What one node of several works with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bridge.cluster.hop import HopSeals
from bridge.cluster.ids import Birth, SessionIds
from bridge.cluster.members import Members


@dataclass(frozen=True, slots=True)
class Node:
    """Who else there is, the ids that this node mints, the headers that it believes, and the unix socket on which the
    others reach it; None where they come to its port.
    """

    members: Members
    ids: SessionIds
    seals: HopSeals
    socket: Path | None = None


def node_of(members: Members, key: bytes, socket: Path | None = None) -> Node:
    """Return this node. ``key`` is the same for all nodes, and for nobody else."""
    birth = Birth(members.own.node, members.own.epoch)
    return Node(members, SessionIds(birth, key), HopSeals(key), socket)
