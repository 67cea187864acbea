"""``subscriptions/listen`` at all servers at once (specification 2026-07-28).

It holds a subscription at each server, and opens it anew when that has ended: the server may have crashed, or have
another configuration. Lists are announced as changed by servers, and when a server has come or gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Set

from bridge.children.stream import Kind, StreamEnded
from bridge.protocol import jsontext, merged, messages
from bridge.protocol.errors import BridgeError
from bridge.protocol.jsontext import Raw
from bridge.protocol.messages import Notification, Request
from bridge.protocol.modern import ACKNOWLEDGED, LISTEN, ModernRequest
from bridge.protocol.subscriptions import CHANGED, KINDS, UPDATED, named
from bridge.sessions.gathering import LATE_PATIENCE
from bridge.sessions.listen import Subscription
from bridge.sessions.modern import ModernAnswer

log = logging.getLogger(__name__)

#: Seconds before a subscription that has ended is opened anew, at first and at most.
PAUSE = 1.0
LONGEST_PAUSE = 60.0


class AggregateListen(Subscription):
    """``uris`` are by server: what it calls the resources that were asked for, and what the client does. ``servers``
    gives those that the client sees now, ``opened`` opens a subscription at one. ``on_end`` is called once.
    """

    def __init__(
        self,
        asked: ModernRequest,
        uris: Mapping[str, Mapping[str, str]],
        servers: Callable[[], list[str]],
        opened: Callable[[str, Request], Awaitable[ModernAnswer]],
        public_of: Callable[[str, str], str],
        on_end: Callable[[], object],
    ) -> None:
        super().__init__(asked, on_end)
        self._meta = Raw(asked.request.meta)
        wanted = jsontext.fields(jsontext.member(asked.request.params, "notifications"))
        self._kinds = {key: True for key in KINDS if wanted.get(key) == Raw(b"true")}
        self._uris = uris
        self._honored: dict[str, None] = {}
        self._servers = servers
        self._opened = opened
        self._public_of = public_of
        self._following: dict[str, asyncio.Task[None]] = {}
        self._settled: dict[str, asyncio.Event] = {}
        self._early: list[bytes] | None = []  # what came before the acknowledgment

    async def open(self, patience: float, late: Set[str]) -> None:
        """Subscribe at every server, and acknowledge what is honored within ``patience`` seconds; those that are
        ``late`` have kept somebody waiting already.
        """
        self._follow_all()
        await asyncio.gather(
            self._all_settled(self._settled.keys() & late, min(patience, LATE_PATIENCE)),
            self._all_settled(self._settled.keys() - late, patience),
        )
        honored: dict[str, object] = {**self._kinds}
        if self._honored:
            honored["resourceSubscriptions"] = list(self._honored)
        self.put(named(ACKNOWLEDGED, jsontext.encode({"notifications": honored}), self._id), Kind.NOTE)
        early, self._early = self._early or [], None
        for line in early:
            self._send(line)

    def change(self, concerned: frozenset[str]) -> None:
        """Servers have come, gone or changed."""
        self._follow_all()
        if not concerned.isdisjoint(self._following):
            self.announce()

    def announce(self) -> None:
        """Every list may be another one now."""
        for key in self._kinds:
            self._send(named(CHANGED[key], b"", self._id))

    async def _all_settled(self, servers: Set[str], seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                for event in [self._settled[server] for server in servers]:
                    await event.wait()

    def _give_back(self) -> None:
        for task in self._following.values():
            task.cancel()
        super()._give_back()

    def _follow_all(self) -> None:
        for server in self._servers():
            task = self._following.get(server)
            if (task is None or task.done()) and (self._kinds or server in self._uris):
                self._settled[server] = asyncio.Event()
                self._following[server] = asyncio.create_task(self._follow(server))

    async def _follow(self, server: str) -> None:
        """Pass on what a server announces, as long as it is there."""
        pause, settled = PAUSE, self._settled[server]
        while server in self._servers():
            wait = 0.0
            try:
                if await self._pass_on(server):
                    pause = PAUSE
            except BridgeError as error:
                log.warning("server %s is not subscribed to by one who listens to all: %s", server, error)
                wait = error.retry_in or 0.0
            except Exception:
                log.exception("server %s: what it announces cannot be passed on", server)
            settled.set()
            await asyncio.sleep(max(wait, pause))
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _pass_on(self, server: str) -> bool:
        """One subscription, until it ends; whether it was acknowledged."""
        uris = self._uris.get(server, {})
        wanted: dict[str, object] = {**self._kinds}
        if uris:
            wanted["resourceSubscriptions"] = list(uris)
        params = jsontext.encode({"notifications": wanted, "_meta": self._meta})
        answer = await self._opened(server, Request(self._id, LISTEN, params))
        acknowledged = False
        try:
            while True:
                message = messages.parse(await answer.stream.receive())
                if not isinstance(message, Notification):
                    continue
                if message.method == ACKNOWLEDGED:
                    acknowledged = True
                    self._acknowledged(server, message)
                else:
                    self._send(self._respelled(server, message))
        except StreamEnded:
            return acknowledged
        finally:
            if not answer.stream.ended:
                answer.cancel()

    def _acknowledged(self, server: str, message: Notification) -> None:
        granted = jsontext.fields(jsontext.member(message.params, "notifications"))
        for raw in jsontext.items(bytes(granted.get("resourceSubscriptions", b""))):
            uri = jsontext.string(bytes(raw))
            if uri in self._uris.get(server, {}):
                self._honored[self._uris[server][str(uri)]] = None
        if self._settled[server].is_set() or self._early is None:  # nobody has listened for a while
            self.announce()
        self._settled[server].set()

    def _respelled(self, server: str, message: Notification) -> bytes:
        line = messages.notification_line(message.method, message.params)
        if message.method != UPDATED:
            return line
        uris = self._uris.get(server, {})
        return merged.updated(line, lambda uri: uris.get(uri) or self._public_of(server, uri))

    def _send(self, line: bytes) -> None:
        if self._early is not None:
            self._early.append(line)
        else:
            self._note(line)
