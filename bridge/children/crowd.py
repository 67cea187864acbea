"""Many holders of one child: what it says to nobody in particular, and what they may not change for each other.

``list_changed`` concerns all, ``resources/updated`` those who subscribed; a log line may hold another client's data, so
it goes to our log only. Nobody offered a shared child any capabilities: a question of it is refused.
"""

from __future__ import annotations

import logging
from typing import Protocol

from bridge.children.connection import ChildConnection, Exchange
from bridge.children.stream import Kind
from bridge.protocol import messages
from bridge.protocol.messages import Request, Response
from bridge.protocol.mux import Undirected
from bridge.protocol.translate import is_heard

log = logging.getLogger(__name__)

UPDATED = "notifications/resources/updated"
LIST_CHANGED = frozenset(f"notifications/{kind}/list_changed" for kind in ("tools", "prompts", "resources"))
LOG_MESSAGE = "notifications/message"
SUBSCRIBE = "resources/subscribe"
UNSUBSCRIBE = "resources/unsubscribe"
SET_LEVEL = "logging/setLevel"

#: Characters of a shared child's message that our log shows.
SHOWN = 1000


class Member(Protocol):
    """One of the holders."""

    def hear(self, message: Undirected) -> None:
        """Something that concerns this holder."""
        ...


class Crowd:
    """All holders of one child, and who of them subscribed to what."""

    def __init__(self, connection: ChildConnection) -> None:
        self._connection = connection
        self._members: list[Member] = []
        self._subscribers: dict[str, set[Member]] = {}
        connection.on_undirected = self._hear

    def join(self, member: Member) -> None:
        """One more holder."""
        self._members.append(member)

    def part(self, member: Member) -> None:
        """A holder has gone: what only it had subscribed to ends on the child."""
        if member not in self._members:
            return
        self._members.remove(member)
        for uri, members in list(self._subscribers.items()):
            members.discard(member)
            if not members:
                del self._subscribers[uri]
                self._end_on_child(uri)

    def settles(self, member: Member, exchange: Exchange) -> bool:
        """Whether a request is answered here, because of the others. Counts subscriptions."""
        method = exchange.request.method
        if method == SET_LEVEL:  # its logs go to nobody
            accept(exchange)
            return True
        if method not in (SUBSCRIBE, UNSUBSCRIBE):
            return False
        uri = uri_of(exchange.request.params)
        if method == SUBSCRIBE:
            self._subscribe(member, uri, exchange)
            return False
        return self._unsubscribe(member, uri, exchange)

    def _subscribe(self, member: Member, uri: str, exchange: Exchange) -> None:
        def ended(exchange: Exchange) -> None:
            if "result" in messages.fields(exchange.answer):
                self._subscribers.setdefault(uri, set()).add(member)

        exchange.before_end(ended)

    def _unsubscribe(self, member: Member, uri: str, exchange: Exchange) -> bool:
        members = self._subscribers.get(uri, set())
        members.discard(member)
        if members:
            accept(exchange)
            return True
        self._subscribers.pop(uri, None)
        return False

    def _end_on_child(self, uri: str) -> None:
        if self._members and not self._connection.closed:
            params = messages.encode({"uri": uri})
            self._connection.exchange(Exchange(Request(b"0", UNSUBSCRIBE, params)))

    def _hear(self, message: Undirected) -> None:
        if message.question is not None:
            self._connection.refuse(message.question, f"no client of a shared server answers {message.method}")
        elif message.method in LIST_CHANGED:
            for member in list(self._members):
                member.hear(message)
        elif message.method == UPDATED:
            uri = uri_of(messages.member(message.message, "params"))
            for member in list(self._subscribers.get(uri, ())):
                member.hear(message)
        elif message.method == LOG_MESSAGE and self._attribute(message):
            pass
        else:
            log.info("server %s: %s", self._connection.server, message.message[:SHOWN].decode(errors="replace"))

    def _attribute(self, message: Undirected) -> bool:
        """Hand a log line to the one request that asked for any; with more of them nobody knows whose it is."""
        wanting = [exchange for exchange in self._connection.exchanges if exchange.log_level is not None]
        if len(wanting) != 1:
            return False
        if is_heard(message.message, wanting[0].log_level):
            wanting[0].put(message.message, Kind.NOTE)
        return True


def accept(exchange: Exchange) -> None:
    """Answer a request with an empty result, without asking the child."""
    exchange.finish(messages.response_line(Response(exchange.request.id, result=b"{}")))


def uri_of(params: bytes) -> str:
    """The resource that the params of a subscription or an update name."""
    return messages.string(messages.member(params, "uri")) or ""
