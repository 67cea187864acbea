"""The children of one server that are kept ready before anyone asks (``warm``), and what they hear ahead."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from bridge.children.ahead import Expected
from bridge.children.child import Child
from bridge.children.policy import Sharing
from bridge.protocol.errors import ChildUnavailable

log = logging.getLogger(__name__)

#: Seconds until one that has been taken is replaced: a new session's first answer comes first.
REFILL = 0.1


class Spares:
    """Sees to it that among ``children`` as many are free as the policy wants.

    ``start`` starts one more, where that is wanted at all. It raises :class:`ChildUnavailable` when there is no room.
    """

    def __init__(self, children: Sequence[Child], start: Callable[[Sharing], object]) -> None:
        self._children = children
        self._start = start
        self._refilling: set[Sharing] = set()
        self.expected = Expected()

    def keep(self, sharing: Sharing) -> None:
        """Start what is missing, as far as there is room. One that has heard what nobody says any more makes way."""
        free = [child for child in self._children if child.sharing == sharing and child.is_free]
        for child in free:
            if not child.suits(self.expected.words):
                child.stop()
        waiting = [child.sharing.words for child in free if child.lives]
        try:
            for words in self.expected.missing(waiting, sharing.warm):
                self._start(replace(sharing, words=words))
        except ChildUnavailable as full:
            log.debug("%s", full)

    def taken(self, sharing: Sharing) -> None:
        """A client has been given one: replace it, when its holder has had the processor for a moment."""
        if not sharing.warm:
            return
        self.expected.hear(sharing.words)
        if sharing not in self._refilling:
            self._refilling.add(sharing)
            asyncio.get_running_loop().call_later(REFILL, self._refill, sharing)

    def ended(self, child: Child) -> None:
        """One has ended, perhaps of what it has heard."""
        if child.refutes and child.sharing.words == self.expected.words:
            self.expected.forget()

    def _refill(self, sharing: Sharing) -> None:
        self._refilling.remove(sharing)
        self.keep(sharing)
