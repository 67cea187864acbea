"""Requests that another node has let in and sends here: believed by their sealed header, and by nothing else."""

from __future__ import annotations

import time
from dataclasses import dataclass

from aiohttp import hdrs, web
from aiohttp.http import RawRequestMessage

from bridge.auth.principal import NOBODY, Principal, principal_from
from bridge.cluster.node import Node
from bridge.observe import audit
from bridge.protocol.errors import Fault, Rejection
from bridge.web.drain import Drain
from bridge.web.guards import Guards
from bridge.web.hops import HOP_HEADER
from bridge.web.principal import Challenge, check_server, principal_of, set_principal
from bridge.web.proxy import Forwarded, set_forwarded
from bridge.web.server import Handler

#: Seconds for which a header that was good is not read again, less than it is good for; and how many of them.
REMEMBERED, MOST_KNOWN = 10.0, 1000


@dataclass(frozen=True, slots=True)
class _Arrival:
    """What a header says that has been read."""

    method: str
    target: str
    read_at: float
    principal: Principal
    forwarded: Forwarded

    def is_good_for(self, method: str, target: str, now: float) -> bool:
        """Whether it need not be read again for a request."""
        return 0 <= now - self.read_at < REMEMBERED and self.target == target and self.method == method


class ArrivalGuards:
    """The checks before a request of another node. ``guards`` are those of requests of clients."""

    def __init__(self, node: Node, guards: Guards) -> None:
        self._node = node
        self._guards = guards
        self._is_audited = audit.is_on()
        self._known: dict[str, _Arrival] = {}

    def check_page(self, request: web.BaseRequest) -> None:
        """Host and Origin were checked by the other node."""

    def check_target(self, request: web.BaseRequest) -> None:
        """The target is in the seal."""

    def lets_in(self, request: web.BaseRequest, origin: str) -> bool:
        """Pages see the answers of the node that they have asked."""
        return False

    def check(self, request: web.BaseRequest, server: str | None = None) -> None:
        """Raise :class:`Rejection` unless a node of this cluster sends this, to this one, just now."""
        arrival = self._known.get(request.headers[HOP_HEADER])
        now = time.time()
        if arrival is None or not arrival.is_good_for(request.method, request.raw_path, now):
            arrival = self._read(request, now)
        principal = arrival.principal
        set_principal(request, principal)
        set_forwarded(request, arrival.forwarded)
        if self._is_audited:
            audit.introduce(principal.owner, principal.name)
        if server is not None:
            check_server(request, server)

    def recall(self, message: RawRequestMessage, server: str) -> Principal | None:
        """Return who asks, where that was read before; None where :meth:`check` has to read it, or would refuse."""
        arrival = self._known.get(message.headers[HOP_HEADER])
        if arrival is None or not arrival.is_good_for(message.method, message.path, time.time()):
            return None
        return arrival.principal if arrival.principal.may_use(server) else None

    def _read(self, request: web.BaseRequest, now: float) -> _Arrival:
        header, method, target = request.headers[HOP_HEADER], request.method, request.raw_path
        hop = self._node.seals.read(header, to=self._node.members.own.node, method=method, target=target, now=now)
        if hop is None:
            raise Rejection(Fault.FORBIDDEN, f"{HOP_HEADER} is for nodes of one cluster, and this one is not good here")
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        forwarded = Forwarded(hop.address, hop.scheme, hop.host)
        arrival = _Arrival(method, target, now, principal_from(list(hop.caller)), forwarded)
        self._known[header] = arrival
        return arrival

    async def meet(self, request: web.BaseRequest, server: str | None, token: bytes) -> None:
        """No token comes here that nobody knows."""
        raise AssertionError("an arrival brings no token")

    def challenge(self, challenge: Challenge, request: web.BaseRequest) -> Challenge:
        """Complete a refusal, as for a client that came here itself."""
        return self._guards.challenge(challenge, request)


class Doors:
    """Tells requests of other nodes from those of clients. ``arrivals`` and ``clients`` answer them.

    While this node is on its way out, each answer asks for the end of its connection, so that the next request goes
    elsewhere and does not cross with the end of this one.
    """

    def __init__(self, arrivals: Handler, clients: Handler, drain: Drain) -> None:
        self._drain = drain
        self._arrivals = arrivals
        self._clients = clients

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request."""
        response = await (self._arrivals if HOP_HEADER in request.headers else self._clients)(request)
        if not self._drain.is_ready and not response.prepared:
            response.headers[hdrs.CONNECTION] = "close"
        return response


def has_arrived(request: web.BaseRequest) -> bool:
    """Whether another node sends this, which is then answered here and nowhere else."""
    return HOP_HEADER in request.headers


def check_sender(request: web.BaseRequest) -> None:
    """Raise :class:`Rejection` unless a node sends this for itself: what it sends on for a client has its seal too."""
    if not has_arrived(request) or principal_of(request) is not NOBODY:
        raise Rejection(Fault.UNKNOWN_PATH, f"{request.path} is for nodes only")
