"""``subscriptions/listen`` of a modern client on a handshake server: list changes and resource updates as it asked for
them, each with the id of its subscription (specification 2026-07-28).

Calls of such a client may hold children of their own, which change by themselves. So a subscription hears the shared
child, which is there as long as the subscription is, and all children that are offered what this client offers.
"""

from __future__ import annotations

from collections.abc import Callable

from bridge.children.crowd import SUBSCRIBE, is_granted, subscription
from bridge.children.seat import Seat
from bridge.children.stream import Kind
from bridge.children.watch import Watch
from bridge.protocol import jsontext
from bridge.protocol.modern import ACKNOWLEDGED, ModernRequest
from bridge.protocol.mux import Undirected
from bridge.protocol.subscriptions import CHANGED, UPDATED, end_of, honored, named
from bridge.sessions.down import Answered

#: Seconds for the child to accept a subscription to a resource.
SUBSCRIBE_PATIENCE = 30.0


class Subscription(Answered):
    """One open subscription, whatever it hears. ``on_end`` is called once."""

    def __init__(self, asked: ModernRequest, on_end: Callable[[], object]) -> None:
        super().__init__(asked.request.id)
        self._on_end = on_end

    def finish(self) -> None:
        """End it in good order: there is nobody to hear any longer."""
        if not self.ended:
            self._end(end_of(self._id))
            self._give_back()

    def close(self) -> None:
        """The client has closed it."""
        if not self.ended:
            self.end()
            self._give_back()

    def _give_back(self) -> None:
        self._on_end()

    def _note(self, line: bytes) -> None:
        if (line, Kind.NOTE) not in self.waiting:  # several may say the same, and once is enough to know
            self.put(line, Kind.NOTE)


class DownListen(Subscription):
    """One open subscription, on a seat of its own at a shared child, and among those who ``watch`` the children that
    calls of its client hold. ``on_end`` is called once.
    """

    def __init__(self, asked: ModernRequest, seat: Seat, watch: Watch, on_end: Callable[[], object]) -> None:
        super().__init__(asked, on_end)
        self._seat = seat
        self._watch = watch
        kinds, self._uris = honored(jsontext.member(asked.request.params, "notifications"), seat.greeting)
        self._honored: dict[str, object] = {**kinds}
        self._wanted = {CHANGED[kind] for kind in kinds}
        seat.listen(self.hear)
        seat.on_closed = self.finish
        watch.join(self)

    async def open(self) -> None:
        """Subscribe on the child, and acknowledge what is honored."""
        for uri in list(self._uris):
            exchange = subscription(SUBSCRIBE, uri)
            await self._seat.send(exchange, SUBSCRIBE_PATIENCE)
            await exchange.receive()
            if is_granted(exchange):
                self._watch.subscribe(self, uri)
            else:
                self._uris.remove(uri)
        if self._uris:
            self._honored["resourceSubscriptions"] = self._uris
        self._send(ACKNOWLEDGED, jsontext.encode({"notifications": self._honored}))
        if self._seat.closed:
            self.finish()

    def _give_back(self) -> None:
        self._seat.on_closed = _nothing
        self._watch.part(self)
        self._seat.release()
        super()._give_back()

    def hear(self, message: Undirected) -> None:
        """Pass on what was asked for."""
        if message.method in self._wanted or (message.method == UPDATED and self._uris):
            params = jsontext.member(message.message, "params", b"{}")
            self._send(message.method, params)

    def _send(self, method: str, params: bytes) -> None:
        self._note(named(method, params, self._id))


def _nothing() -> None:
    """It has ended already."""
