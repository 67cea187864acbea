"""What nodes ask each other for themselves: whether an address leads to whom it should, and who reaches Redis."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

import aiohttp
from aiohttp import web

from bridge.auth.principal import NOBODY
from bridge.cluster.hop import Hop
from bridge.cluster.lease import Lease
from bridge.cluster.members import Member
from bridge.cluster.node import Node
from bridge.config.errors import ConfigError
from bridge.protocol import jsontext
from bridge.remote.certificates import trusted
from bridge.web.arrivals import check_sender
from bridge.web.hops import HOP_HEADER
from bridge.web.reply import json_answer

log = logging.getLogger(__name__)

#: Who answers there; and whether it reaches Redis.
WHO, REDIS = "/api/v1/node", "/api/v1/node/redis"
#: Seconds for the answer of another node.
PATIENCE = 0.5
#: Seconds that an address of our own may take to lead here: names may not be known yet where nodes have just started.
FINDS_ITSELF = 10.0


class Peers:
    """Asks, and as a face answers."""

    def __init__(self, node: Node, lease: Lease) -> None:
        self._node = node
        self._lease = lease
        lease.ask_others = self.agree

    def routes(self) -> list[web.RouteDef]:
        """Return what it answers."""
        return [web.get(WHO, self.answer), web.get(REDIS, self.answer)]

    async def answer(self, request: web.Request) -> web.Response:
        """Say who this is, or whether Redis cannot be reached from here, which is a promise as well."""
        check_sender(request)
        if request.path == REDIS:
            return json_answer({"cannot_reach": self._lease.cannot_reach()})
        own = self._node.members.own
        return json_answer({"node": own.node, "epoch": own.epoch})

    async def agree(self, members: Sequence[Member]) -> bool:
        """Whether no node reaches Redis. One that is not there any longer has nothing to say; one that does not answer
        may well reach it.
        """
        return all(await asyncio.gather(*(self._cannot_reach(member) for member in members)))

    async def check_own(self) -> None:
        """Raise :class:`ConfigError` when NODE_URL does not lead here."""
        own = self._node.members.own
        end = time.monotonic() + FINDS_ITSELF
        while True:
            try:
                found = await self._ask(own, WHO)
                if (found.get("node"), found.get("epoch")) == (own.node, own.epoch):
                    return
                why = "something else answers there"
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
                why = str(error) or type(error).__name__
            if time.monotonic() >= end:
                break
            await asyncio.sleep(PATIENCE)
        raise ConfigError(
            f"NODE_URL: {own.address} does not lead to this node, so that no other could reach it: {why}; set it to an "
            "address of this host and PORT that the others reach, and HOST so that the bridge listens there"
        )

    async def _cannot_reach(self, member: Member) -> bool:
        try:
            return (await self._ask(member, REDIS)).get("cannot_reach") is True
        except aiohttp.ClientConnectorError as error:
            return isinstance(error.os_error, ConnectionRefusedError)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            return False

    async def _ask(self, member: Member, path: str) -> dict[str, object]:
        """Raises ValueError for an answer that no node gives."""
        hop = Hop(member.node, self._node.members.own.node, "GET", path, NOBODY.words, "", "", "")
        headers = {HOP_HEADER: self._node.seals.write(hop, time.time())}
        trust = trusted() if member.address.startswith("https:") else True
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE)) as client,
            client.get(member.address + path, headers=headers, allow_redirects=False, ssl=trust) as response,
        ):
            body = await response.read()
            if response.status != 200:
                raise ValueError(f"it answers {response.status}")
            found = jsontext.decode(body)
            if not isinstance(found, dict):
                raise ValueError("it answers something else")
            return found
