"""One node of a cluster (``CLUSTER=redis``), from its first beat to its last. Imported only where there is one."""

from __future__ import annotations

import asyncio

from bridge.cluster.lease import lease_of
from bridge.cluster.node import node_of
from bridge.config.settings import Settings
from bridge.sessions.directory import SessionDirectory
from bridge.sessions.takeover import Takeover, shared_store_of
from bridge.web.peers import Peers


class Joined:
    """What a bridge has besides as a node: a lease, a share of the sessions in Redis, and others to ask."""

    def __init__(self, settings: Settings) -> None:
        assert settings.cluster_key is not None
        self._lease = lease_of(settings)
        self.node = node_of(self._lease.members, settings.cluster_key.encode())
        self.store = shared_store_of(settings, self._lease)
        self.peers = Peers(self.node, self._lease)
        self._takeover: Takeover | None = None
        self._renewing: asyncio.Task[None] | None = None

    @property
    def problem(self) -> str | None:
        """What degrades this node."""
        return None if self._lease.problem is None else f"the lease of this node: {self._lease.problem}"

    def connect(self, sessions: SessionDirectory) -> Takeover:
        """Return what finds sessions that are not here, and gives up those that are."""
        self._takeover = Takeover(self._lease, self.store, sessions)
        return self._takeover

    async def start(self) -> None:
        """Join the others, as soon as this bridge listens. Raises :class:`ConfigError` where that cannot work."""
        await self.peers.check_own()
        await self._lease.begin()
        self._renewing = asyncio.create_task(self._lease.run(), name="lease")

    async def withdraw(self) -> None:
        """Tell the others that no new session begins here."""
        await self._lease.drain()

    async def hand_over(self, seconds: float) -> None:
        """Give kept sessions to the others, as far as their calls end in time."""
        if self._takeover is not None and self._renewing is not None:
            await self._takeover.hand_over(seconds)

    async def leave(self) -> None:
        """End it: whatever is left of this node is for the others from now on."""
        if self._takeover is not None:
            await self._takeover.close()
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])
        await self._lease.leave()
