"""What a node knows of all nodes: the :class:`Members` of a cluster, as Redis named them a moment ago."""

from __future__ import annotations

from collections.abc import Mapping

from bridge.cluster.beat import About, Known
from bridge.cluster.ids import Birth
from bridge.cluster.members import Member, emptiest


class Roll:
    """All nodes that live. ``about`` is what this one says of itself."""

    def __init__(self, birth: Birth, about: About) -> None:
        self._birth = birth
        self._about = about
        self._others: dict[str, Known] = {}

    def __len__(self) -> int:
        return 1 + len(self._others)

    @property
    def own(self) -> Member:
        """This node."""
        return Member(self._birth.node, self._birth.epoch, self._about.address, self._about.children)

    def find(self, node: str) -> Member | None:
        """Return a node that lives, None when it does not, or never did."""
        if node == self._birth.node:
            return self.own
        known = self._others.get(node)
        return None if known is None else known.member

    def others(self) -> list[Member]:
        """Return all that live but this one, in order of their names."""
        return [self._others[name].member for name in sorted(self._others)]

    def least_loaded(self) -> Member:
        """Return where a new session should go: to no node that is about to end, if there is another."""
        takers = [known.member for known in self._others.values() if known.takes]
        if self._about.takes or not takers:
            return emptiest(self.own, takers)
        return min(takers, key=lambda member: member.children)

    def missing(self) -> list[str]:
        """Nobody knows which nodes should live."""
        return []

    def publish(self, children: int) -> None:
        """Say how many children this node has, with the next beat."""
        self._about.children = children

    def learn(self, found: Mapping[str, Known], *, is_all: bool) -> None:
        """Take over what Redis has said. ``is_all``: a node that was not named is no more."""
        others = {name: known for name, known in found.items() if name != self._birth.node}
        self._others = others if is_all else {**self._others, **others}
