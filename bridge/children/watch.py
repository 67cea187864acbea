"""Those who listen to all children of one policy that lends them for single exchanges.

Nobody holds such a child for long enough to hear what it announces, and nobody knows which of them the next call will
change. So each is subscribed to whatever anybody here wants, and what one announces reaches all whom it concerns.
"""

from __future__ import annotations

import contextlib

from bridge.children.audience import Audience, Member
from bridge.children.connection import ChildConnection
from bridge.children.crowd import SUBSCRIBE, UNSUBSCRIBE, subscription
from bridge.protocol.errors import BridgeError
from bridge.protocol.mux import Undirected


class Watch:
    """Members, the children that they listen to, and what those are subscribed to."""

    def __init__(self) -> None:
        self._audience = Audience()
        self._children: dict[ChildConnection, set[str]] = {}

    def attend(self, child: ChildConnection) -> None:
        """One more child, which has been greeted."""
        if child.closed:
            return
        self._children[child] = set()
        child.on_announcement = self._audience.hear
        child.on_closed[lambda: self._children.pop(child, None)] = None
        for uri in self._audience.subscriptions:
            self._want(child, uri)

    def hear(self, message: Undirected) -> None:
        """Tell all of them of a change that no child has announced."""
        self._audience.hear(message)

    def join(self, member: Member) -> None:
        """One more who listens."""
        self._audience.join(member)

    def part(self, member: Member) -> None:
        """A member has gone: what only it had subscribed to ends on all children."""
        for uri in self._audience.part(member):
            self._end(uri)

    def subscribe(self, member: Member, uri: str, by: ChildConnection | None = None) -> None:
        """Subscribe a member to a resource, on all children; ``by`` is the one that has been asked already."""
        if by in self._children:
            self._children[by].add(uri)
        self._audience.subscribe(member, uri)
        if uri not in self._audience.subscriptions:  # the member has gone while that one was asked
            self._end(uri)
            return
        for child in list(self._children):
            self._want(child, uri)

    def unsubscribe(self, member: Member, uri: str) -> None:
        """End the subscription of a member, and that of the children when it was the last one."""
        if self._audience.unsubscribe(member, uri):
            self._end(uri)

    def _want(self, child: ChildConnection, uri: str) -> None:
        if uri not in self._children[child]:
            self._children[child].add(uri)
            _tell(child, SUBSCRIBE, uri)

    def _end(self, uri: str) -> None:
        for child, uris in list(self._children.items()):
            if uri in uris:
                uris.remove(uri)
                _tell(child, UNSUBSCRIBE, uri)


def _tell(child: ChildConnection, method: str, uri: str) -> None:
    """Ask a child, and do without where it does not want: its users have been told by the one that was asked first."""
    with contextlib.suppress(BridgeError):
        child.exchange(subscription(method, uri))
