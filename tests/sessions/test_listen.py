"""One subscription and its reader, who may be slow."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from bridge.children.exchange import Exchange
from bridge.children.watch import Watch
from bridge.protocol.messages import Request
from bridge.protocol.modern import SUBSCRIPTION_ID, ModernRequest
from bridge.protocol.mux import Undirected
from bridge.sessions.listen import DownListen


class Seat:
    """A seat at a child that grants every subscription, and says what the test wants."""

    greeting = b'{"capabilities":{"tools":{"listChanged":true},"resources":{"subscribe":true}}}'
    closed = False
    on_closed: Callable[[], None]
    released = False

    def listen(self, listener: Callable[[Undirected], None]) -> None:
        self.say = listener

    async def send(self, exchange: Exchange, silence: float | None) -> None:
        exchange.finish(b'{"jsonrpc":"2.0","id":0,"result":{}}')

    def release(self) -> None:
        self.released = True


def change(method: str, **params: Any) -> Undirected:
    return Undirected(method, json.dumps({"method": method, "params": params}).encode())


def updated(uri: str) -> Undirected:
    return change("notifications/resources/updated", uri=uri)


async def opened(seat: Seat, **wanted: Any) -> DownListen:
    request = Request(b'"mine"', "subscriptions/listen", json.dumps({"notifications": wanted}).encode())
    listen = DownListen(ModernRequest(request, b"{}", b"", None, None), seat, Watch(), lambda: None)  # type: ignore[arg-type]
    await listen.open()
    await listen.receive()
    return listen


async def test_what_is_not_read_yet_is_not_said_twice() -> None:
    seat = Seat()
    listen = await opened(seat, toolsListChanged=True, resourceSubscriptions=["a://1", "a://2"])
    changed = change("notifications/tools/list_changed")
    for message in (changed, updated("a://1"), changed, updated("a://2"), updated("a://1"), changed):
        seat.say(message)
    waiting = [json.loads(line)["params"] for line, _ in listen.waiting]
    mine = {"_meta": {SUBSCRIPTION_ID: "mine"}}
    assert waiting == [mine, {"uri": "a://1", **mine}, {"uri": "a://2", **mine}]
    await listen.receive()
    seat.say(changed)
    assert len(listen.waiting) == 3, "what has been read is said again"


async def test_only_what_was_asked_for_is_passed_on() -> None:
    seat = Seat()
    listen = await opened(seat, toolsListChanged=True)
    for message in (change("notifications/prompts/list_changed"), updated("a://1"), change("notifications/message")):
        seat.say(message)
    assert listen.waiting == []


async def test_nothing_is_said_after_its_end() -> None:
    seat = Seat()
    listen = await opened(seat, toolsListChanged=True)
    listen.close()
    seat.say(change("notifications/tools/list_changed"))
    assert listen.waiting == []
    assert seat.released
