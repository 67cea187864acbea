"""Who hears what a child says to nobody in particular: a list that changed concerns everyone, an updated resource those
who subscribed to it, or to what it is a part of (specification 2025-11-25, resources: subscriptions).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from bridge.children.stream import Kind, RequestStream
from bridge.protocol import jsontext, messages
from bridge.protocol.messages import Notification
from bridge.protocol.mux import Undirected
from bridge.protocol.subscriptions import LIST_CHANGED, UPDATED, unnamed


class Member(Protocol):
    """One of those who listen."""

    def hear(self, message: Undirected) -> None:
        """Something that concerns this one."""
        ...


class Audience:
    """Members, and who of them subscribed to what."""

    def __init__(self) -> None:
        self._members: dict[Member, None] = {}  # in the order in which they came
        self._subscribers: dict[str, set[Member]] = {}

    def __len__(self) -> int:
        return len(self._members)

    @property
    def subscriptions(self) -> list[str]:
        """What anybody subscribed to."""
        return list(self._subscribers)

    def join(self, member: Member) -> None:
        """One more who listens."""
        self._members[member] = None

    def part(self, member: Member) -> list[str]:
        """A member has gone; return what only it had subscribed to."""
        if member not in self._members:
            return []
        del self._members[member]
        return [uri for uri in self.subscriptions if self.unsubscribe(member, uri)]

    def subscribe(self, member: Member, uri: str) -> None:
        """A member wants to hear of updates of a resource; nothing where it has gone meanwhile."""
        if member in self._members:
            self._subscribers.setdefault(uri, set()).add(member)

    def unsubscribe(self, member: Member, uri: str) -> bool:
        """A member does not want them any more; whether nobody does now."""
        members = self._subscribers.get(uri, set())
        members.discard(member)
        if not members:
            self._subscribers.pop(uri, None)
        return not members

    def hear(self, message: Undirected) -> bool:
        """Pass a change on to those whom it concerns; False for what is no change."""
        if message.method in LIST_CHANGED:
            concerned = list(self._members)
        elif message.method == UPDATED:
            concerned = self._subscribers_of(uri_of(jsontext.member(message.message, "params")))
        else:
            return False
        for member in concerned:
            member.hear(message)
        return True

    def _subscribers_of(self, uri: str) -> list[Member]:
        subscribed = {
            member for wanted, members in self._subscribers.items() if _covers(wanted, uri) for member in members
        }
        return [member for member in self._members if member in subscribed]


class Announcements(RequestStream):
    """What a modern child says to a subscription of the bridge's own: passed on as what a handshake child would say."""

    def __init__(self, hear: Callable[[Undirected], object]) -> None:
        super().__init__()
        self._hear = hear

    def put(self, message: bytes, kind: Kind = Kind.ANSWER) -> None:
        """Pass one message on; the end of the subscription tells nothing."""
        note = messages.parse(message) if kind is Kind.NOTE else None
        if isinstance(note, Notification):
            self._hear(Undirected(note.method, unnamed(note)))


def uri_of(params: bytes) -> str:
    """The resource that the params of a subscription or an update name."""
    return jsontext.string(jsontext.member(params, "uri")) or ""


def _covers(wanted: str, uri: str) -> bool:
    return uri == wanted or uri.startswith(f"{wanted.rstrip('/')}/")
