"""All that a bridge does because it is one of several nodes, wired: whose request it is, hops, answers of all nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Mapping
from typing import TYPE_CHECKING

from aiohttp import hdrs
from aiohttp.http import RawRequestMessage

from bridge.auth.principal import Principal
from bridge.cluster.members import Member
from bridge.cluster.node import Node
from bridge.protocol import jsontext
from bridge.protocol.states import StartState
from bridge.sessions.core import Core
from bridge.web.arrivals import ArrivalGuards, Doors
from bridge.web.drain import Drain
from bridge.web.front import Front, ServerHandler
from bridge.web.guards import Guards
from bridge.web.hops import HOP_HEADER, Hops
from bridge.web.limits import Limits
from bridge.web.links import Broken, Unreachable
from bridge.web.merged import Merged
from bridge.web.nodes import Nodes
from bridge.web.server import Handler
from bridge.web.stays import Stays

if TYPE_CHECKING:
    from bridge.sessions.takeover import Takeover  # which needs Redis
    from bridge.web.across import Across


#: Seconds between two times that the others are told how many children there are.
PUBLISHED = 0.25
#: Seconds for another node to say what is stopped.
PATIENCE = 2.0


class Cluster:
    """What stands around the handlers of a bridge that is one of several nodes. Must be made on the event loop."""

    def __init__(
        self,
        node: Node,
        drain: Drain,
        core: Core,
        base: str,
        stays: Stays,
        takeover: Takeover | None = None,
    ) -> None:
        self._drain = drain
        self._node = node
        self._base = base
        self._registry = core.registry
        self._hops = Hops(node, stays)
        self._is_joined = takeover is not None
        self.nodes = Nodes(
            node, self._hops, drain, lambda key: core.stream_pool.find(key) is not None, self._children, base, takeover
        )

    def front(
        self,
        guards: Guards,
        posts: Mapping[str, ServerHandler],
        servers: Container[str],
        routes: Handler,
        limits: Limits,
        across: Across | None,
    ) -> Handler:
        """Return what answers every request: those of clients for all nodes, those of nodes for this one. ``across`` is
        what stands around that while the bridge is restarted.
        """
        arriving, arriving_posts = routes, posts
        if self._is_joined:
            arriving = self.nodes.arriving(routes)
            arriving_posts = {**posts, "mcp": self.nodes.arriving_post(posts["mcp"])}
        if across is not None:
            arriving = across.arriving(arriving)
            arriving_posts = {name: across.arriving_post(post) for name, post in arriving_posts.items()}
        self._guards = guards
        self._gate = gate = ArrivalGuards(self._node, guards)
        arrivals = Front(gate, arriving_posts, servers, arriving, Limits(None, {}), self._base)
        merged = Merged(self._node, self._hops, guards.admit, self._base)
        for_all = {**posts, "mcp": self.nodes.server_handler(posts["mcp"])}
        handler = merged.handler(self.nodes.handler(routes))
        if across is not None:
            for_all = {name: across.server_handler(post) for name, post in for_all.items()}
            handler = across.handler(handler)
        clients = Front(guards, for_all, servers, handler, limits, self._base)
        return Doors(arrivals.answer, clients.answer, self._drain).answer

    def recall(self, message: RawRequestMessage, peer: Callable[[], str], server: str) -> Principal | None:
        """Return who asks about a session that is here, as :meth:`Guards.recall` does, also where another node asks.

        On the way out nobody: each answer asks for the end of its connection.
        """
        if not self._drain.is_ready or not self.nodes.is_sure:
            return None
        if HOP_HEADER not in message.headers:
            return self._guards.recall(message, peer, server)
        if hdrs.ORIGIN in message.headers:  # its page is that of another node
            return None
        return self._gate.recall(message, server)

    async def stopped(self) -> set[str] | None:
        """Return the servers that an operator has stopped, as the other nodes say; None where none says anything."""
        found = await asyncio.gather(*map(self._stopped_at, self._node.members.others()))
        told = [each for each in found if each is not None]
        return set().union(*told) if told else None

    async def _stopped_at(self, member: Member) -> set[str] | None:
        try:
            async with asyncio.timeout(PATIENCE):
                status, body = await self._hops.look(member, "/api/v1/servers")
        except (TimeoutError, Unreachable, Broken):
            return None
        if status != 200:
            return None
        return {row["id"] for row in jsontext.decode(body) if row["state"] == StartState.STOPPED.value}

    def _children(self) -> int:
        return len(self._registry.children())

    async def run(self) -> None:
        """Tell the others how full this node is, for ever."""
        while True:
            self._node.members.publish(self._children())
            self._hops.links.expire()
            self._hops.forget_the_dead()
            await asyncio.sleep(PUBLISHED)

    def close(self) -> None:
        """End every connection to other nodes."""
        self._hops.links.close()
