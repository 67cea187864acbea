"""Many holders of one child: what it says to nobody in particular, and what they may not change for each other.

``list_changed`` concerns all, ``resources/updated`` those who subscribed; a log line may hold another client's data, so
it goes to our log only. Nobody offered a shared child any capabilities: a question of it is refused.
"""

from __future__ import annotations

import contextlib
import logging

from bridge.children.audience import Announcements, Audience, Member, uri_of
from bridge.children.connection import ChildConnection
from bridge.children.exchange import Exchange
from bridge.children.policy import Need, Sharing
from bridge.children.stream import Kind
from bridge.protocol import jsontext, messages, tasks
from bridge.protocol.capabilities import without
from bridge.protocol.errors import METHOD_NOT_FOUND, BridgeError
from bridge.protocol.messages import Request, Response
from bridge.protocol.mux import PROGRESS, Undirected
from bridge.protocol.subscriptions import listen_to_all
from bridge.protocol.translate import is_heard

log = logging.getLogger(__name__)

LOG_MESSAGE = "notifications/message"
SUBSCRIBE = "resources/subscribe"
UNSUBSCRIBE = "resources/unsubscribe"
SET_LEVEL = "logging/setLevel"

#: What is refused where several clients use a child, and why.
NOT_SHARED = {SET_LEVEL: "none of them hears its log", tasks.LIST: "it would show those of all"}
NOT_POOLED = {
    **NOT_SHARED,
    **dict.fromkeys(tasks.ABOUT, "the next request has another process, which has no such task"),
}

#: Characters of a shared child's message that our log shows.
SHOWN = 1000


def told(greeting: bytes, sharing: Sharing, need: Need) -> bytes:
    """Return of an InitializeResult what holds for one of several clients of a child.

    Whose a task is the child does not know, so that it must not list them (specification 2025-11-25, tasks); where each
    request has a child of its own, that one hardly has the task. Nor does a session hear logs; the modern calls of the
    bridge's own client do, since each says what it wants of them.
    """
    if sharing.hold == "exchange":
        greeting = without(greeting, "tasks")
    elif sharing.mixes:
        greeting = without(greeting, "tasks", "list")
    else:
        return greeting
    return greeting if need is Need.BRIDGE else without(greeting, "logging")


class Crowd:
    """All holders of one child, and who of them subscribed to what. ``mixes``: as :attr:`Sharing.mixes`."""

    def __init__(self, connection: ChildConnection, *, mixes: bool) -> None:
        self._connection = connection
        self._mixes = mixes
        self._audience = Audience()
        self._hears_changes = False
        self._askers: set[str] = set()  # principals who have ever asked this child for its log
        connection.on_undirected = self._hear

    def join(self, member: Member) -> None:
        """One more holder."""
        self._audience.join(member)

    def part(self, member: Member) -> None:
        """A holder has gone: what only it had subscribed to ends on the child."""
        for uri in self._audience.part(member):
            self._end_on_child(uri)

    def hear_changes(self, greeting: bytes) -> None:
        """Ask a modern child for its changes, once for all holders: it says nothing unasked."""
        request = None if self._hears_changes else listen_to_all(greeting)
        if request is not None:
            self._hears_changes = True
            with contextlib.suppress(BridgeError):
                self._connection.exchange(Exchange(request, into=Announcements(self._audience.hear)))

    def settles(self, member: Member, exchange: Exchange) -> bool:
        """Whether a request is answered here, because of the others. Counts subscriptions."""
        method = exchange.request.method
        if exchange.log_level is not None and len(self._askers) < 2:
            self._askers.add(exchange.asker)
        if self._mixes and method in NOT_SHARED:
            refuse(exchange, NOT_SHARED[method])
            return True
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
            if is_granted(exchange):
                self._audience.subscribe(member, uri)
                if uri not in self._audience.subscriptions:  # the member has gone before this answer came
                    self._end_on_child(uri)

        exchange.before_end(ended)

    def _unsubscribe(self, member: Member, uri: str, exchange: Exchange) -> bool:
        if self._audience.unsubscribe(member, uri):
            return False
        accept(exchange)
        return True

    def _end_on_child(self, uri: str) -> None:
        """End what nobody is subscribed to any more; not while somebody else's request for it is under way."""
        requests = [exchange.request for exchange in self._connection.exchanges]
        is_coming = any(each.method == SUBSCRIBE and uri_of(each.params) == uri for each in requests)
        if len(self._audience) and not self._connection.closed and not is_coming:
            with contextlib.suppress(BridgeError):  # one that reads nothing goes on to announce, and nobody hears it
                self._connection.exchange(subscription(UNSUBSCRIBE, uri))

    def _hear(self, message: Undirected) -> None:
        if message.question is not None:
            self._connection.refuse(message.question, f"no client of a shared server answers {message.method}")
        elif self._audience.hear(message) or (message.method == LOG_MESSAGE and self._attribute(message)):
            pass
        else:
            note(self._connection.server, message)

    def _attribute(self, message: Undirected) -> bool:
        """Hand a log line to the one request that asked for any; with more of them nobody knows whose it is.

        Nor where a child has ever worked for two principals that wanted its log: it may come long after the answer, or
        from a call whose client has hung up.
        """
        if len(self._askers) > 1:
            return False
        wanting = [exchange for exchange in self._connection.exchanges if exchange.log_level is not None]
        if len(wanting) != 1:
            return False
        if is_heard(message.message, wanting[0].log_level):
            wanting[0].put(message.message, Kind.NOTE)
        return True


def note(server: str, message: Undirected) -> None:
    """Show our log what no client may hear, because it may be about another client's call."""
    if message.method == PROGRESS:  # of a task, and there may be much of it
        log.debug("server %s: dropped progress of a task", server)
        return
    log.info("server %s: %s", server, message.message[:SHOWN].decode(errors="replace"))


def accept(exchange: Exchange) -> None:
    """Answer a request with an empty result, without asking the child."""
    exchange.finish(messages.response_line(Response(exchange.request.id, result=b"{}")))


def refuse(exchange: Exchange, why: str) -> None:
    """Refuse a request that no client was told of, because others use the child too."""
    text = f"method {exchange.request.method} is not for a server whose processes several clients use: {why}"
    exchange.finish(messages.error_line(exchange.request.id, METHOD_NOT_FOUND, text))


def is_granted(exchange: Exchange) -> bool:
    """Whether a request has ended with a result."""
    return "result" in jsontext.fields(exchange.answer)


def subscription(method: str, uri: str) -> Exchange:
    """A request of the bridge to subscribe to a resource, or to end that."""
    return Exchange(Request(b"0", method, jsontext.encode({"uri": uri})))
