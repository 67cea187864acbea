"""Remote servers of the modern era, and finding out which era one is of."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from bridge.protocol.modern import LOG_LEVEL, SUBSCRIPTION_ID
from bridge.remote import server as remote
from bridge.remote import streamable
from tests.conftest import PEERS, Running, StartBridge, events, in_time, last, message, peer, tool
from tests.modern_client import ModernClient
from tests.remote.scripted import Front, Scripted, StartScripted, cut, event, progress, stream

PROGRAMS = {
    "old": peer(args=[*peer()["args"], "--changes"]),
    "new": {"command": peer()["command"], "args": ["-I", "-S", str(PEERS / "modern_peer.py")]},
}


# A bridge in front of a bridge, which speaks both eras, in front of a real child of one


class Chain:
    """``near`` serves as ``old`` and ``new`` what ``away`` serves by those names."""

    def __init__(self, near: Running, away: Running) -> None:
        self.near = near
        self.away = away

    async def sessions(self) -> int:
        """How many sessions the far bridge has: handshake clients have one, modern ones none."""
        return sum(row["pool"] == "streamable" for row in await self.away.get("/sessions"))


@pytest.fixture
async def chain(start_bridge: StartBridge, request: pytest.FixtureRequest) -> Chain:
    away = await start_bridge(PROGRAMS)
    entry = getattr(request, "param", {})
    servers = {server: {"url": f"{away.url}/mcp/{server}", **entry} for server in PROGRAMS}
    return Chain(await start_bridge(servers), away)


spoken_modern = pytest.mark.parametrize("chain", [{"childEra": "modern"}], indirect=True)


@pytest.mark.parametrize("server", PROGRAMS)
async def test_a_server_of_both_eras_is_spoken_to_in_that_of_the_client(chain: Chain, server: str) -> None:
    client = ModernClient(chain.near, server)
    assert "result" in await client.call("echo", text="hello")
    assert await chain.sessions() == 0
    session = await chain.near.session(server)
    assert "result" in await session.call("echo", text="hello")
    assert await chain.sessions() == 1
    assert "result" in await client.call("echo", text="hello")
    assert await chain.sessions() == 1


@spoken_modern
async def test_a_handshake_client_is_served_by_a_modern_server(chain: Chain) -> None:
    session = await chain.near.session("new")
    assert session.greeting["result"]["serverInfo"]["name"] == "modern peer"
    assert (await session.call("number", 5))["result"]["structuredContent"] == {"result": 5}
    async with session.post(tool("progress", "id", token="mine", steps=3)) as response:
        got = [event async for event in events(response)]
    assert [event["params"] for event in got[:-1]] == [{"progressToken": "mine", "progress": n} for n in (1, 2, 3)]
    async with session.post(tool("ask", 9)) as response:
        answers = events(response)
        for _ in range(3):
            question = await anext(answers)
            async with session.post({"jsonrpc": "2.0", "id": question["id"], "result": {"to": question["method"]}}):
                pass
        assert (await anext(answers))["result"]["structuredContent"]["answers"] == {"c": {"to": "elicitation/create"}}
    assert await chain.sessions() == 0


@pytest.mark.parametrize("server", PROGRAMS)
async def test_a_question_takes_its_rounds(chain: Chain, server: str) -> None:
    client = ModernClient(chain.near, server, {"elicitation": {}, "sampling": {}})
    asked = (await client.call("ask"))["result"]
    rounds = 1
    while asked["resultType"] == "input_required":
        answers = {key: {"action": "accept", "content": {}} for key in asked["inputRequests"]}
        retry = {"inputResponses": answers, "requestState": asked["requestState"]}
        asked = (await client.ask("tools/call", rounds, name="ask", arguments={}, **retry))["result"]
        rounds += 1
    assert rounds == {"old": 2, "new": 3}[server]


async def test_progress_and_logs_come_with_the_call(chain: Chain) -> None:
    client = ModernClient(chain.near, "new")
    body = client.body("tools/call", "mine", {"progressToken": "p"}, name="progress", arguments={"steps": 3})
    async with client.send(body) as response:
        got = [event async for event in events(response)]
    assert [event["params"] for event in got[:-1]] == [{"progressToken": "p", "progress": n} for n in (1, 2, 3)]
    assert got[-1]["id"] == "mine"
    body = client.body("tools/call", 1, {LOG_LEVEL: "info"}, name="log", arguments={"text": "hear me"})
    async with client.send(body) as response:
        assert [event["params"]["data"] async for event in events(response) if "method" in event] == ["hear me"]


async def test_hanging_up_cancels_at_the_far_side(chain: Chain) -> None:
    client = ModernClient(chain.near, "new")
    body = client.body("tools/call", 1, {"progressToken": "p"}, name="wait", arguments={"key": "k"})
    async with client.send(body) as response:
        await anext(events(response))
    async with in_time():
        while not (await client.call("cancelled"))["result"]["structuredContent"]["cancelled"]:
            pass
    while sum(row["open_calls"] for row in await chain.near.get("/children")):
        pass


@spoken_modern
async def test_a_cancellation_of_a_handshake_client_hangs_up(chain: Chain) -> None:
    session = await chain.near.session("new")
    async with session.post(tool("wait", "mine", token="p", key="k")) as waiting:
        got = events(waiting)
        await anext(got)
        async with session.post(message("notifications/cancelled", requestId="mine")) as accepted:
            assert accepted.status == 202
        assert (await anext(got))["error"] == {"code": -32800, "message": "the request was cancelled"}
    async with in_time():
        while not (await session.call("cancelled"))["result"]["structuredContent"]["cancelled"]:
            pass


@pytest.mark.parametrize("server", PROGRAMS)
async def test_a_subscription_goes_through(chain: Chain, server: str) -> None:
    client = ModernClient(chain.near, server)
    wanted = {"toolsListChanged": True, "resourceSubscriptions": ["a://b"]}
    async with client.send(client.body("subscriptions/listen", "mine", notifications=wanted)) as response:
        heard = events(response)
        assert (await anext(heard))["params"]["notifications"] == wanted
        await client.call("changed" if server == "new" else "list_changed")
        await client.call("updated", uri="a://b")
        for method in ("notifications/tools/list_changed", "notifications/resources/updated"):
            told = await anext(heard)
            assert (told["method"], told["params"]["_meta"][SUBSCRIPTION_ID]) == (method, "mine")


@spoken_modern
async def test_a_handshake_client_hears_of_changes(chain: Chain) -> None:
    session = await chain.near.session("new")
    assert (await session.ask("resources/subscribe", uri="a://b"))["result"] == {}
    async with session.get() as get:
        heard = events(get)
        await session.call("changed")
        await session.call("updated", uri="a://b")
        assert (await anext(heard))["method"] == "notifications/tools/list_changed"
        assert (await anext(heard))["params"] == {"uri": "a://b"}


async def test_subscriptions_take_no_turn_from_calls(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "IN_FLIGHT", 1)
    client = ModernClient(chain.near, "new")
    body = client.body("subscriptions/listen", 1, notifications={"toolsListChanged": True})
    async with client.send(body) as one, client.send(body) as two:
        for response in (one, two):
            await anext(events(response))
        assert "result" in await client.call("echo")


@spoken_modern
async def test_arguments_are_repeated_in_headers_by_clients_that_know_none(chain: Chain) -> None:
    session = await chain.near.session("new")
    for _ in range(2):  # the first one is refused, which nobody hears of
        called = await session.call("echo", region="Grüße")
        assert called["result"]["structuredContent"] == {"region": "Grüße"}
    async with session.post(message("tools/list", 1)) as response:
        assert "result" in await last(response)
    assert (await session.call("echo"))["result"]["structuredContent"] == {}


@pytest.mark.parametrize("headers", [{"Mcp_Param_Region": "eu"}, {"Mcp_Param_Region": "us"}, {}])
async def test_arguments_are_repeated_in_headers_for_modern_clients(chain: Chain, headers: dict[str, str]) -> None:
    client = ModernClient(chain.near, "new")
    body = client.body("tools/call", 1, name="echo", arguments={"region": "eu"})
    async with client.send(body, **headers) as response:
        assert response.status == (200 if "eu" in headers.values() else 400)


async def test_an_error_of_the_server_passes_whole(chain: Chain) -> None:
    client = ModernClient(chain.near, "new")
    async with client.send(client.body("tools/call", "mine", name="needs_sampling", arguments={})) as response:
        assert response.status == 400
        error = await response.json()
    assert error["id"] == "mine"
    data = {"requiredCapabilities": {"sampling": {}}}
    assert error["error"] == {"code": -32021, "message": "needs sampling", "data": data}


async def test_the_end_of_the_bridge_leaves_nothing_at_the_far_side(chain: Chain) -> None:
    client = ModernClient(chain.near, "new")
    body = client.body("subscriptions/listen", 1, notifications={"toolsListChanged": True})
    async with client.send(body) as response:
        await anext(events(response))
        await chain.near.service.stop()
    far = ModernClient(chain.away, "new")
    async with in_time():
        while len((await far.call("listens"))["result"]["structuredContent"]["wanted"]) > 1:  # the far bridge's own
            pass


# Which era it is


MODERN_RESULT = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}


def answer(body: dict[str, Any], **result: Any) -> web.Response:
    return web.json_response({"jsonrpc": "2.0", "id": body["id"], "result": {**MODERN_RESULT, **result}})


def refuse(body: dict[str, Any], code: int = -32022, status: int = 400, **more: Any) -> web.Response:
    error = {"code": code, "message": "no"}
    return web.json_response({"jsonrpc": "2.0", "id": body.get("id"), "error": error, **more}, status=status)


async def discover(_request: web.Request, body: dict[str, Any]) -> web.Response:
    declared = {"tools": {"listChanged": True}, "resources": {"subscribe": True}}
    return answer(body, supportedVersions=["2026-07-28"], capabilities=declared)


async def refuse_initialize(_request: web.Request, body: dict[str, Any]) -> web.Response:
    return refuse(body)


class Modern:
    """A scripted server, and the era it is of at the moment."""

    def __init__(self, server: Scripted, era: str) -> None:
        self.server = server
        self.era = era
        server.on |= {"server/discover": self.discover, "initialize": self.initialize}

    async def discover(self, request: web.Request, body: dict[str, Any]) -> web.Response:
        if self.era == "handshake":
            return refuse(body, -32000, id="server-error")
        return await discover(request, body)

    async def initialize(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse | None:
        return refuse(body) if self.era == "modern" else None


async def modern(scripted: StartScripted, front: Front, era: str = "modern", **on: Any) -> tuple[Modern, Running]:
    server = Modern(await scripted(**on), era)
    return server, await front(server.server)


async def method_of(near: Running, client: str) -> str:
    """Call with a client of an era; return what the scripted server says."""
    if client == "modern":
        answer = await ModernClient(near, "far").call("x")
    else:
        answer = await (await near.session("far")).call("x")
    return str(answer["result"]["method"])


@pytest.mark.parametrize("client", ["modern", "handshake"])
@pytest.mark.parametrize(
    ("status", "code", "id_"),
    [(400, -32022, 1), (400, -32602, 1), (400, -32020, 1), (404, -32601, None), (405, 0, 1), (200, -32022, 1)],
)
async def test_a_server_that_is_modern_alone_serves_clients_of_both_eras(
    scripted: StartScripted, front: Front, client: str, status: int, code: int, id_: int | None
) -> None:
    async def no_handshake(_request: web.Request, body: dict[str, Any]) -> web.Response:
        if not code:
            return web.Response(status=status)
        return refuse(body, code, status, **({} if id_ else {"id": None}))

    far = await scripted(initialize=no_handshake, server__discover=discover)
    near = await front(far)
    assert await method_of(near, client) == "tools/call"
    for request in far.requests:
        if request.method == "POST" and "Mcp-Method" in request.headers:
            assert request.headers["MCP-Protocol-Version"] == "2026-07-28"
    assert "GET" not in far.seen
    assert "DELETE" not in far.seen


async def test_what_was_found_out_is_not_asked_again(scripted: StartScripted, front: Front) -> None:
    far, near = await modern(scripted, front)
    for client in ("handshake", "modern", "handshake", "modern"):
        await method_of(near, client)
    assert far.server.seen.count("initialize") == 1


@pytest.mark.parametrize(
    ("status", "body"),
    [(400, "Bad Request"), (404, ""), (405, ""), (406, "no"), (200, "<html>"), (200, "[]"), (501, "")],
)
async def test_a_server_that_does_not_understand_the_question_is_of_the_handshake(
    scripted: StartScripted, front: Front, status: int, body: str
) -> None:
    async def no_idea(_request: web.Request, _body: dict[str, Any]) -> web.Response:
        kind = "application/json" if body == "[]" else "text/plain"
        return web.Response(status=status, text=body, content_type=kind)

    far = await scripted(server__discover=no_idea)
    assert await method_of(await front(far), "modern") == "tools/call"
    assert "initialize" in far.seen


@pytest.mark.parametrize("status", [401, 403, 408, 429, 500, 502, 503, None])
async def test_a_server_that_is_not_there_is_of_no_era(
    scripted: StartScripted, front: Front, status: int | None
) -> None:
    ill = True

    async def perhaps(request: web.Request, body: dict[str, Any]) -> web.Response:
        if ill and status is None:
            cut(request)
        return web.Response(status=status or 500) if ill else await discover(request, body)

    far = await scripted(server__discover=perhaps, initialize=refuse_initialize)
    near = await front(far)
    async with ModernClient(near, "far").send(ModernClient(near, "far").body("tools/list")) as response:
        assert response.status == 200
        error = (await response.json())["error"]["message"]
    assert 'server "far" could not be started: it ' in error
    assert "closed the connection" in error if status is None else f"HTTP {status}" in error
    assert "initialize" not in far.seen
    ill = False
    assert await method_of(near, "modern") == "tools/call"
    assert "initialize" not in far.seen


@pytest.mark.parametrize("client", ["modern", "handshake"])
@pytest.mark.parametrize("changes", [("modern", "handshake"), ("handshake", "modern"), ("both", "modern")])
async def test_a_server_may_change_its_era(
    scripted: StartScripted, front: Front, client: str, changes: tuple[str, str]
) -> None:
    async def call(request: web.Request, body: dict[str, Any]) -> web.Response | None:
        modern = "Mcp-Method" in request.headers
        if far.era == "handshake" and modern:
            return refuse(body, -32000, id="server-error")
        if far.era == "modern" and not modern:
            return web.Response(status=404)
        return None

    far, near = await modern(scripted, front, changes[0], tools__call=call, tools__list=call)
    assert await method_of(near, client) == "tools/call"
    far.era = changes[1]
    async with in_time():
        while True:  # what is on its way when it changes is lost
            with contextlib.suppress(KeyError):
                assert await method_of(near, client) == "tools/call"
                break


# What goes wrong on the way


@asynccontextmanager
async def listening(near: Running) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    client = ModernClient(near, "far")
    wanted = {"toolsListChanged": True, "resourceSubscriptions": ["a://b"]}
    async with client.send(client.body("subscriptions/listen", "mine", notifications=wanted)) as response:
        yield events(response)


def acknowledged(body: dict[str, Any]) -> bytes:
    named = {"notifications": body["params"]["notifications"], "_meta": {SUBSCRIPTION_ID: body["id"]}}
    return event({"method": "notifications/subscriptions/acknowledged", "params": named})


@pytest.mark.parametrize("ends", ["broken", "ended", "503", "result"])
async def test_a_subscription_whose_stream_ends_is_opened_anew_and_all_may_have_changed(
    scripted: StartScripted, front: Front, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    monkeypatch.setattr(streamable, "FIRST_WAIT", 0)
    opened = 0
    over = asyncio.Event()

    async def listen(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        nonlocal opened
        opened += 1
        if opened == 2 and ends == "503":
            return web.Response(status=503)
        response = await stream(request, acknowledged(body))
        if opened > 1:
            await over.wait()
        elif ends == "broken":
            cut(request)
        elif ends == "result":
            await response.write(event({"id": body["id"], "result": {"resultType": "complete"}}))
        return response

    _, near = await modern(scripted, front, subscriptions__listen=listen)
    async with listening(near) as heard:
        told = [await anext(heard) for _ in range(3)]
        assert [note["method"].removeprefix("notifications/") for note in told] == [
            "subscriptions/acknowledged",
            "tools/list_changed",
            "resources/updated",
        ]
        assert {note["params"]["_meta"][SUBSCRIPTION_ID] for note in told} == {"mine"}
        assert told[2]["params"]["uri"] == "a://b"
        over.set()


@pytest.mark.parametrize(
    ("status", "said"), [(403, "answered HTTP 403"), (500, "answered HTTP 500"), (200, "ended its event stream")]
)
async def test_a_subscription_that_never_comes_about_ends_with_the_reason(
    scripted: StartScripted, front: Front, status: int, said: str
) -> None:
    async def listen(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
        return await stream(request) if status == 200 else web.Response(status=status)

    far, near = await modern(scripted, front, subscriptions__listen=listen)
    async with listening(near) as heard:
        refused = await anext(heard)
    assert refused["id"] == "mine"
    assert said in refused["error"]["message"]
    assert far.server.seen.count("subscriptions/listen") == 1


async def test_a_call_whose_stream_breaks_is_lost_and_nothing_else(scripted: StartScripted, front: Front) -> None:
    async def call(request: web.Request, body: dict[str, Any]) -> web.StreamResponse | None:
        if body["params"]["name"] == "x":
            return None
        response = await stream(request, event(progress(body, 1)))
        cut(request)
        return response

    _, near = await modern(scripted, front, tools__call=call)
    client = ModernClient(near, "far")
    body = client.body("tools/call", "mine", {"progressToken": "p"}, name="breaks", arguments={})
    async with client.send(body) as response:
        lost = await last(response)
    assert lost["id"] == "mine"
    assert 'server "far" ended its event stream before it answered' in lost["error"]["message"]
    assert await method_of(near, "modern") == "tools/call"


async def test_headers_that_are_never_right_end_the_call_with_the_servers_own_words(
    scripted: StartScripted, front: Front
) -> None:
    async def call(_request: web.Request, body: dict[str, Any]) -> web.Response:
        return refuse(body, -32020)

    async def list_(_request: web.Request, body: dict[str, Any]) -> web.Response:
        return answer(body, tools=[], nextCursor="again")

    far, near = await modern(scripted, front, tools__call=call, tools__list=list_)
    answered = await ModernClient(near, "far").call("x")
    assert answered["error"] == {"code": -32020, "message": "no"}
    assert far.server.seen.count("tools/call") == 2
    assert far.server.seen.count("tools/list") == 4  # to check the call, and because it was refused: two pages each


async def test_a_method_that_no_header_can_name_is_refused_here(scripted: StartScripted, front: Front) -> None:
    far, near = await modern(scripted, front)
    session = await near.session("far")
    refused = await session.ask("evil\r\nX-Evil: 1")
    assert refused["error"]["code"] == -32601
    assert all("X-Evil" not in request.headers for request in far.server.requests)
    assert await method_of(near, "handshake") == "tools/call"


async def test_a_message_over_the_limit_is_the_end_of_its_request_only(scripted: StartScripted, front: Front) -> None:
    async def call(_request: web.Request, body: dict[str, Any]) -> web.Response | None:
        return answer(body, text="x" * 2_000_000) if body["params"]["name"] == "big" else None

    server = Modern(await scripted(tools__call=call), "modern")
    near = await front(server.server, {"MAX_MESSAGE_BYTES": 1_000_000})
    assert "over MAX_MESSAGE_BYTES" in (await ModernClient(near, "far").call("big"))["error"]["message"]
    assert await method_of(near, "modern") == "tools/call"


async def test_our_own_headers_come_with_every_request(scripted: StartScripted, front: Front) -> None:
    server = Modern(await scripted(), "modern")
    near = await front(server.server, headers={"Authorization": "Bearer sesame"})
    await method_of(near, "modern")
    await method_of(near, "handshake")
    for request in server.server.requests:
        assert request.headers["Authorization"] == "Bearer sesame"
        assert json.loads(request.headers.get("X-None", "null")) is None
