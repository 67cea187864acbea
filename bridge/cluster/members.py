"""Which nodes there are. What is known is looked at, never waited for: a request asks no Redis and no disk."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import Protocol

#: New sessions stay where they came in while that node has at most so many children more than the emptiest, and so
#: great a part: a hop for every call of a session costs more than a little imbalance.
SLACK = 2
SLACK_PART = 0.1


@dataclass(frozen=True, slots=True)
class Member:
    """A node that lives. ``address`` is ``unix:/path/of/socket`` or an URL without a path, ``children`` its load."""

    node: str
    epoch: int
    address: str
    children: int = 0


class Members(Protocol):
    """All nodes, as they were a moment ago. Whoever makes it also keeps it fresh."""

    @property
    def own(self) -> Member:
        """This node."""
        ...

    def find(self, node: str) -> Member | None:
        """Return a node that lives, None when it does not, or never did."""
        ...

    def others(self) -> list[Member]:
        """Return all that live but this one, in order of their names."""
        ...

    def least_loaded(self) -> Member:
        """Return where a new session should go: mostly this node, see :func:`emptiest`."""
        ...

    def missing(self) -> list[str]:
        """Return the names of nodes that should live, as far as anybody knows."""
        ...

    def publish(self, children: int) -> None:
        """Say how many children this node has now."""
        ...


def emptiest(own: Member, others: Iterable[Member]) -> Member:
    """Return the node with the fewest children, or ``own`` where that has hardly more."""
    least = min(others, key=lambda member: member.children, default=own)
    allowed = least.children + max(SLACK, int(least.children * SLACK_PART))
    return own if own.children <= allowed else least


def absent(members: Members, found: Container[str]) -> list[str]:
    """Return the nodes that live, or should, and are not among those that were ``found``."""
    living = [members.own.node, *(member.node for member in members.others()), *members.missing()]
    return sorted({node for node in living if node not in found})
