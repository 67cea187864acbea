"""Remote servers: the bridge in front of a bridge, of the SDK's own HTTP servers, and of servers that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from aiohttp import web

from bridge.cli.check import check
from bridge.config.servers import parse_servers
from bridge.config.settings import read_settings
from bridge.protocol.framing import Oversized
from bridge.protocol.transport import Hearing, Stalled
from bridge.remote import server as remote
from bridge.remote import streamable
from bridge.remote.http import HttpClient
from bridge.remote.server import RemoteServer
from tests.conftest import (
    ACCEPT,
    INITIALIZE,
    PATIENCE,
    Running,
    Session,
    StartBridge,
    events,
    in_time,
    last,
    message,
    tool,
)
from tests.remote.scripted import Front, StartScripted, cut, event, progress, stream

SECRET = "Bearer s3cret-token"

# A bridge in front of a bridge in front of a real child, over both dialects


@dataclass
class Chain:
    """``near`` serves as ``far`` what ``away`` serves as ``peer``."""

    near: Running
    away: Running

    async def session(self, **params: Any) -> Session:
        return await self.near.session("far", **params)


@pytest.fixture(params=["mcp", "sse"])
async def chain(start_bridge: StartBridge, request: pytest.FixtureRequest) -> Chain:
    away = await start_bridge()
    return Chain(await start_bridge({"far": {"url": f"{away.url}/{request.param}/peer"}}), away)


async def test_initialize_and_a_call_go_through(chain: Chain) -> None:
    session = await chain.session()
    assert session.greeting["result"]["saw"] == INITIALIZE
    assert (await session.call("echo", "my id", text="é\u2028"))["result"] == {"text": "é\u2028"}
    assert (await session.call("nope"))["error"]["code"] == -32602
    [child] = await chain.near.get("/children")
    assert (child["server"], child["pid"]) == ("far", None)


async def test_sessions_stay_apart(chain: Chain) -> None:
    one, two = await chain.session(), await chain.session()
    assert (await one.call("count"))["result"] == {"count": 1}
    assert (await one.call("count"))["result"] == {"count": 2}
    assert (await two.call("count"))["result"] == {"count": 1}


async def test_progress_comes_with_the_clients_own_token(chain: Chain) -> None:
    session = await chain.session()
    async with session.post(tool("progress", "id", token="mine", steps=3)) as response:
        got = [event async for event in events(response)]
    assert [event["params"] for event in got[:-1]] == [{"progressToken": "mine", "progress": n} for n in (1, 2, 3)]
    assert got[-1]["id"] == "id"


async def test_a_question_is_asked_and_answered(chain: Chain) -> None:
    session = await chain.session()
    async with session.post(tool("ask", 1)) as response:
        stream = events(response)
        question = await anext(stream)
        assert question["method"] == "elicitation/create"
        async with session.post({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept"}}) as accepted:
            assert accepted.status == 202
        assert (await anext(stream))["result"] == {"answer": {"action": "accept"}}


async def test_a_cancellation_reaches_the_far_child(chain: Chain) -> None:
    session = await chain.session()
    async with session.post(tool("wait", "mine", key="k")) as waiting:
        async with session.post(message("notifications/cancelled", requestId="mine", reason="bored")) as response:
            assert response.status == 202
        # The cancellation is a POST of its own, so a call may pass it; it is awaited at the far side instead.
        async with in_time():
            while not (seen := (await session.call("cancelled"))["result"]["cancelled"]):
                pass
        assert seen[0]["reason"] == "bored"
        await session.call("release", key="k")
        assert (await last(waiting))["result"] == {"released": "k"}


async def test_what_belongs_to_no_request_comes_on_the_get_stream(chain: Chain) -> None:
    session = await chain.session()
    async with session.get() as response:
        stream = events(response)
        assert "result" in await session.call("list_changed")
        assert (await anext(stream))["method"] == "notifications/tools/list_changed"


async def test_a_question_outside_of_any_request_is_asked(chain: Chain) -> None:
    session = await chain.session()
    async with session.get() as response:
        stream = events(response)
        async with session.post(tool("ask_later", 1)) as answered:
            got = [event async for event in events(answered)]
        asked = [event["method"] for event in got if "method" in event] or [(await anext(stream))["method"]]
        assert asked == ["roots/list"]


async def test_the_death_of_the_far_child_ends_the_session_with_the_reason(chain: Chain) -> None:
    session = await chain.session()
    [child] = chain.near.service.core.registry.children()
    answer = await session.call("die", 5, code=3)
    assert answer["id"] == 5
    assert re.search("exited with code 3|ended its event stream", answer["error"]["message"])
    async with session.post(tool("echo")) as response:
        await response.read()
    async with in_time():
        await child.ended.wait()
    async with session.post(tool("echo")) as response:
        assert response.status == 404
        why = (await response.json())["error"]["message"]
    assert re.search("its session has ended|ended its event stream", why)


async def test_delete_leaves_nothing_at_the_far_side(chain: Chain) -> None:
    session = await chain.session()
    pid = (await session.call("pid"))["result"]["pid"]
    [near], [away] = chain.near.service.core.registry.children(), chain.away.service.core.registry.children()
    async with session.delete() as response:
        assert response.status == 204
    async with in_time():
        await near.ended.wait()
        await away.ended.wait()
    assert await chain.away.get("/sessions") == []
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_the_end_of_the_bridge_leaves_nothing_at_the_far_side(chain: Chain) -> None:
    await chain.session()
    [away] = chain.away.service.core.registry.children()
    await chain.near.service.stop()
    async with in_time():
        await away.ended.wait()
    assert await chain.away.get("/sessions") == []


async def test_kill_ends_what_runs_at_once(chain: Chain) -> None:
    session = await chain.session()
    async with session.post(tool("wait", "mine", key="k")) as waiting:
        chain.near.service.kill()
        async with in_time():
            answer = await last(waiting)
    assert answer["id"] == "mine"
    assert "the connection to it was closed" in answer["error"]["message"]


async def test_all_three_faces_serve_it(chain: Chain) -> None:
    near = chain.near
    answer = await near.bridge_call("far", "tools/call", name="echo", arguments={"a": 1})
    assert answer == {"result": {"a": 1}}
    async with near.http.get(f"{near.url}/sse/far") as response:
        lines = response.content
        assert await lines.readline() == b"event: endpoint\n"
        post = near.url + (await lines.readline()).decode().removeprefix("data: ").strip()
        for body in (message("initialize", 1, **INITIALIZE), message("notifications/initialized"), tool("count", 2)):
            async with near.http.post(post, json=body) as accepted:
                assert accepted.status == 202
        while b'"id":2' not in (line := await lines.readline()):
            assert line, "the stream ended"
        assert b'{"count": 1}' in line or b'{"count":1}' in line


async def test_a_shared_remote_server_has_one_session_there(start_bridge: StartBridge) -> None:
    away = await start_bridge()
    near = await start_bridge({"far": {"url": f"{away.url}/mcp/peer", "sharing": "shared"}})
    one, two = await near.session("far"), await near.session("far")
    await asyncio.gather(*(each.call("count") for each in (one, two) for _ in range(20)))
    assert (await two.call("count"))["result"] == {"count": 41}
    assert len(await away.get("/sessions")) == 1


async def test_headers_are_sent_with_every_request(start_bridge: StartBridge) -> None:
    away = await start_bridge(ACCESS_TOKEN="sesame")
    entry = {"url": f"{away.url}/mcp/peer", "headers": {"Authorization": "Bearer sesame"}}
    near = await start_bridge({"far": entry})
    session = await near.session("far")
    async with session.get() as response:
        await session.call("list_changed")
        assert (await anext(events(response)))["method"] == "notifications/tools/list_changed"


async def test_over_the_bound_calls_wait_and_cancellations_and_answers_pass_them(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "IN_FLIGHT", 1)
    monkeypatch.setattr(remote, "CANCEL_PATIENCE", 0)
    session = await chain.session()
    async with session.post(tool("ask", 1)) as asking:
        stream = events(asking)
        question = await anext(stream)
        waiting = [asyncio.create_task(session.call("echo", n, n=n)) for n in range(10, 20)]
        first = await _until_open(chain, 11)
        async with session.post(message("notifications/cancelled", requestId=13)) as accepted:
            assert accepted.status == 202
        assert (await waiting[3])["error"]["message"] == "the request was cancelled"
        assert not any(task.done() for n, task in enumerate(waiting) if n != 3)
        async with session.post({"jsonrpc": "2.0", "id": question["id"], "result": {"n": 1}}) as accepted:
            assert accepted.status == 202
        assert (await anext(stream))["result"] == {"answer": {"n": 1}}
    assert [(await task).get("result") for task in waiting] == [None if n == 13 else {"n": n} for n in range(10, 20)]
    assert first.connection.open_exchanges == 0


async def test_a_cancelled_call_that_nobody_answers_makes_room(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "IN_FLIGHT", 1)
    monkeypatch.setattr(remote, "CANCEL_PATIENCE", 0)
    session = await chain.session()
    async with session.post(tool("wait", 1, key="k")) as waiting:
        async with session.post(message("notifications/cancelled", requestId=1)) as accepted:
            assert accepted.status == 202
        assert (await last(waiting))["error"]["code"] == -32800
    assert len((await session.call("cancelled"))["result"]["cancelled"]) == 1


async def _until_open(chain: Chain, calls: int) -> Any:
    """Wait until so many calls have reached the connection, as /children tells."""
    [child] = chain.near.service.core.registry.children()
    async with in_time():
        while (await chain.near.get("/children"))[0]["open_calls"] < calls:
            pass
    return child


# The SDK's own servers

_SDK_SERVER = """
import socket, sys, uvicorn
from bridge.demo import server
app = server.streamable_http_app(**({"json_response": True} if sys.argv[1] == "json" else {})) \
    if sys.argv[1] != "sse" else server.sse_app()
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listening])
"""


@pytest.fixture(scope="module", params=["mcp", "json", "sse"])
def sdk(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """How ``bridge.demo`` is served by the SDK's own HTTP, and its address."""
    command = [sys.executable, "-c", _SDK_SERVER, request.param]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        yield request.param, f"http://127.0.0.1:{port}/{'sse' if request.param == 'sse' else 'mcp'}"
        process.terminate()


@pytest.mark.slow
async def test_the_sdks_own_server_is_served(sdk: tuple[str, str], start_bridge: StartBridge) -> None:
    form, url = sdk
    near = await start_bridge({"far": {"type": "http", "url": url}})
    session = await near.session("far", protocolVersion="2025-11-25")
    assert session.greeting["result"]["serverInfo"]["name"] == "demo"
    async with session.post(message("tools/list", 1)) as response:
        assert {"echo", "slow", "greet"} <= {each["name"] for each in (await last(response))["result"]["tools"]}
    assert (await session.call("echo", 2, text="hello"))["result"]["content"][0]["text"] == "hello"
    if form != "json":  # a JSON answer has no room for anything before it
        async with session.post(tool("slow", 3, token="t", seconds=0.01, steps=2)) as response:
            got = [event async for event in events(response)]
        assert [event["params"]["progress"] for event in got if "method" in event] == [1, 2]
        async with session.post(tool("greet", 4)) as response:
            stream = events(response)
            question = await anext(stream)
            assert question["method"] == "elicitation/create"
            answer = {"action": "accept", "content": {"name": "Ada"}}
            async with session.post({"jsonrpc": "2.0", "id": question["id"], "result": answer}) as accepted:
                assert accepted.status == 202
            assert (await anext(stream))["result"]["content"][0]["text"] == "Hello Ada"
    [child] = near.service.core.registry.children()
    async with session.delete() as response:
        assert response.status == 204
    async with in_time():
        await child.ended.wait()


# The command line


def test_check_shows_a_remote_server_and_no_key(capsys: pytest.CaptureFixture[str]) -> None:
    entry = {"url": "https://a.example/mcp?key=an-api-key", "headers": {"Authorization": SECRET, "X-Mine": "mine"}}
    assert check(read_settings({}), parse_servers(json.dumps({"far": entry}), "servers.json", {})) == 0
    shown = capsys.readouterr().out
    assert "  far: ok, remote, https://a.example/mcp?..., with headers Authorization, X-Mine\n" in shown
    for secret in ("s3cret", "an-api-key", "mine "):
        assert secret not in shown


# Servers that do on demand what no real one does


@pytest.mark.parametrize("broken", [True, False], ids=["broken", "ended"])
async def test_a_stream_that_ends_before_its_answer_goes_on_by_its_last_id(
    scripted: StartScripted, front: Front, broken: bool
) -> None:
    asked: dict[str, Any] = {}
    came: list[str | None] = []

    async def call(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        asked.update(body)
        response = await stream(request, b"retry: 1\nid: 0\ndata: \n\n", event(progress(body, 1), "1"))
        if broken:
            await response.write(b"id: 2\ndata: {half")
            cut(request)
        return response

    async def get(request: web.Request, _: dict[str, Any]) -> web.StreamResponse | None:
        came.append(request.headers.get("Last-Event-ID"))
        if came[-1] is None:
            return None
        if came[-1] == "1":
            return await stream(request, event(progress(asked, 2), "7"))
        return await stream(request, event({"id": asked["id"], "result": {"so": "late"}}))

    far = await scripted(tools__call=call, GET=get)
    session = await (await front(far)).session("far")
    async with session.post(tool("x", "mine", token="t")) as response:
        got = [each async for each in events(response)]
    assert [each["params"]["progress"] for each in got[:-1]] == [1, 2]
    assert got[-1]["result"] == {"so": "late"}
    assert [each for each in came if each] == ["1", "7"]


async def test_a_stream_that_breaks_without_ids_is_the_end_of_its_request_only(
    scripted: StartScripted, front: Front
) -> None:
    async def call(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = await stream(request, event(progress(body, 1)))
        cut(request)
        return response

    far = await scripted(tools__call=call)
    session = await (await front(far)).session("far")
    answer = await session.call("x", 5, token="t")
    assert answer["id"] == 5
    assert 'server "far" ended its event stream before it answered' in answer["error"]["message"]
    async with session.post(message("tools/list", 6)) as response:
        assert (await last(response))["result"] == {"method": "tools/list"}


async def test_a_stream_that_cannot_be_resumed_ends_its_request(scripted: StartScripted, front: Front) -> None:
    async def call(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return await stream(request, b"retry: 1\nid: 0\ndata: \n\n")

    async def get(request: web.Request, _: dict[str, Any]) -> web.StreamResponse | None:
        return web.Response(status=400, text="no such event") if "Last-Event-ID" in request.headers else None

    far = await scripted(tools__call=call, GET=get)
    session = await (await front(far)).session("far")
    assert "go on with it answered HTTP 400 Bad Request: no such event" in (await session.call("x"))["error"]["message"]


async def test_a_stream_that_never_goes_on_is_not_asked_for_ever(scripted: StartScripted, front: Front) -> None:
    async def call(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return await stream(request, b"retry: 1\nid: 0\ndata: \n\n")

    async def get(request: web.Request, _: dict[str, Any]) -> web.StreamResponse | None:
        return await stream(request) if "Last-Event-ID" in request.headers else None

    far = await scripted(tools__call=call, GET=get)
    session = await (await front(far)).session("far")
    assert "without any progress" in (await session.call("x"))["error"]["message"]
    assert sum("Last-Event-ID" in request.headers for request in far.requests) == streamable.RESUMES


async def test_a_get_stream_that_breaks_is_opened_again_with_the_last_id(scripted: StartScripted, front: Front) -> None:
    came: list[str | None] = []
    again = asyncio.Event()

    async def get(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
        came.append(request.headers.get("Last-Event-ID"))
        if len(came) == 1:
            response = await stream(request, b"retry: 1\n", event({"method": "notifications/one"}, "a"))
            cut(request)
            return response
        if len(came) == 2:
            return web.Response(status=503)
        response = await stream(request, event({"method": "notifications/two"}, "b"))
        await again.wait()
        return response

    far = await scripted(GET=get)
    session = await (await front(far)).session("far")
    async with session.get() as response:
        got = events(response)
        assert (await anext(got))["method"] == "notifications/one"
        assert (await anext(got))["method"] == "notifications/two"
    assert came == [None, "a", "a"]
    again.set()


@pytest.mark.parametrize("status", [404, 405, 406])
async def test_a_server_without_a_get_stream_is_asked_once(
    scripted: StartScripted, front: Front, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(streamable, "FIRST_WAIT", 0)
    asked = asyncio.Event()

    async def get(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
        asked.set()
        return web.Response(status=status)

    far = await scripted(GET=get)
    session = await (await front(far)).session("far")
    await asked.wait()
    for _ in range(3):
        assert "result" in await session.call("x")
    assert far.seen.count("GET") == 1


async def test_404_in_mid_session_ends_the_session_with_the_reason(scripted: StartScripted, front: Front) -> None:
    async def call(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return web.Response(status=404)

    far = await scripted(tools__call=call)
    near = await front(far)
    session = await near.session("far")
    [child] = near.service.core.registry.children()
    assert "its session has ended (it answered HTTP 404)" in (await session.call("x"))["error"]["message"]
    await child.ended.wait()
    async with session.post(tool("x")) as response:
        assert response.status == 404
        assert "its session has ended" in (await response.json())["error"]["message"]
    assert "DELETE" not in far.seen, "there is nothing left to delete"


async def test_so_does_400_in_the_words_of_the_typescript_sdk(scripted: StartScripted, front: Front) -> None:
    async def restarted(request: web.Request, body: dict[str, Any]) -> web.StreamResponse | None:
        known = request.headers["Mcp-Session-Id"] == far.session_id
        error = {"code": -32000, "message": "Bad Request: No valid session ID provided"}
        return None if known else web.json_response({"jsonrpc": "2.0", "id": body["id"], "error": error}, status=400)

    far = await scripted(tools__call=restarted, resources__read=restarted)
    near = await front(far)
    assert await near.bridge_call("far", "tools/call", name="x")
    session = await near.session("far")
    far.session_id = "the next"
    assert "No valid session ID" in (await session.call("x"))["error"]["message"]
    async with session.post(tool("x")) as response:
        assert response.status == 404
    assert "error" in await near.bridge_call("far", "tools/call", name="x")
    assert "result" in await near.bridge_call("far", "tools/call", name="x")  # over another session


def nested(body: dict[str, Any], code: int) -> bytes:
    """An error that is nested more deeply than can be looked into."""
    return json.dumps(refusal(body, code)).encode().replace(b'"x"', b"[" * 3000 + b"]" * 3000)


def refusal(body: dict[str, Any], code: int) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": body["id"], "error": {"code": code, "message": "deep", "data": "x"}}


@pytest.mark.parametrize("era", ["handshake", "modern"])
@pytest.mark.parametrize("odd", ["deep 400", "deep 200", "user in a redirect", "id that cannot be sent", "bug of ours"])
async def test_an_odd_answer_ends_its_own_request_and_no_other(
    scripted: StartScripted, front: Front, monkeypatch: pytest.MonkeyPatch, era: str, odd: str
) -> None:
    asked, over = asyncio.Event(), asyncio.Event()

    async def discover(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        result = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "resultType": "complete"}
        return web.json_response({"jsonrpc": "2.0", "id": body["id"], "result": result})

    async def call(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if body["params"]["name"] == "slow":
            asked.set()
            await over.wait()
            result = {"content": [], "resultType": "complete"}
            return web.json_response({"jsonrpc": "2.0", "id": body["id"], "result": result})
        match odd:
            case "deep 400":
                return web.Response(body=nested(body, -32602), status=400, content_type="application/json")
            case "deep 200":
                return web.Response(body=nested(body, -32020), content_type="application/json")
            case "user in a redirect":
                return web.Response(status=307, headers={"Location": f"http://me:you@{request.host}/mcp"})
            case "id that cannot be sent":
                return await stream(request, b"id: a\x01b\ndata:\n\n")
            case _:
                monkeypatch.setattr(HttpClient, "body", lambda *_: 1 / 0)
                return web.json_response({"jsonrpc": "2.0", "id": body["id"], "result": {}})

    far = await scripted(tools__call=call, server__discover=discover)
    near = await front(far, childEra=era, sharing="shared", headers={"Authorization": SECRET})
    one, two = await near.session("far"), await near.session("far")
    slow = asyncio.create_task(one.call("slow"))
    await asked.wait()
    assert "error" in await two.call("odd")
    monkeypatch.undo()
    over.set()
    assert "result" in await slow


async def test_an_http_error_ends_its_request_only_and_is_named(scripted: StartScripted, front: Front) -> None:
    async def call(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if body["params"]["name"] == "json":
            error = {"jsonrpc": "2.0", "id": None, "error": {"code": -32099, "message": "go away"}}
            return web.json_response(error, status=429)
        if body["params"]["name"] == "html":
            return web.Response(status=502, text="<html>", content_type="text/html")
        return web.Response(status=503, text="busy\n" + "x" * 10_000)

    far = await scripted(tools__call=call)
    session = await (await front(far)).session("far")
    busy = (await session.call("text"))["error"]["message"]
    assert busy.startswith('server "far" answered HTTP 503 Service Unavailable: busy xxx')
    assert len(busy) < 300
    limited = (await session.call("json"))["error"]
    assert limited == {"code": -32099, "message": 'server "far" answered HTTP 429 Too Many Requests: go away'}
    assert (await session.call("html"))["error"]["message"] == 'server "far" answered HTTP 502 Bad Gateway'
    async with session.post(message("tools/list", 6)) as response:
        assert (await last(response))["result"] == {"method": "tools/list"}


@pytest.mark.parametrize(
    ("body", "content_type", "said"),
    [
        (b"", "application/json", "something that is no answer"),
        (b"[]", "application/json", "something that is no answer"),
        (b'{"jsonrpc":"2.0","id":"other","result":{}}', "application/json", "something that is no answer"),
        (b'{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"what?"}}', "application/json", "what?"),
        (b"hello", "text/plain", "HTTP 200 with text/plain where a JSON-RPC message belongs"),
        (b"data: {}\n\n", "text/event-stream", "ended its event stream before it answered"),
    ],
)
async def test_every_request_ends_whatever_comes_back(
    scripted: StartScripted, front: Front, body: bytes, content_type: str, said: str
) -> None:
    async def call(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
        return web.Response(body=body, content_type=content_type)

    session = await (await front(await scripted(tools__call=call))).session("far")
    answer = await session.call("x", "mine")
    assert answer["id"] == "mine"
    assert said in answer["error"]["message"]


async def test_a_stream_that_stays_open_behind_its_answer_holds_up_nothing(
    scripted: StartScripted, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = asyncio.Event()

    async def call(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = await stream(request, event({"id": body["id"], "result": {}}))
        await never.wait()
        return response

    monkeypatch.setattr(remote, "IN_FLIGHT", 1)
    session = await (await front(await scripted(tools__call=call))).session("far")
    async with in_time():
        for _ in range(3):
            assert (await session.call("x"))["result"] == {}
    never.set()


async def test_a_connection_that_was_read_to_its_end_is_used_again(scripted: StartScripted, front: Front) -> None:
    ports: list[int] = []

    async def call(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        assert request.transport is not None
        ports.append(request.transport.get_extra_info("peername")[1])
        response = await stream(request, event({"id": body["id"], "result": {}}))
        for _ in range(50):  # the end is no part of the packet that brings the answer
            await asyncio.sleep(0)
        return response

    session = await (await front(await scripted(tools__call=call))).session("far")
    for _ in range(30):
        await session.call("x")
    assert len(ports) == 30
    assert len(set(ports)) < 15  # the next call may come before the end, so it is a few and not one


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refusal_says_to_set_headers_and_repeats_no_token(
    scripted: StartScripted, front: Front, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    async def refuse(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
        token = request.headers.get("Authorization", "nothing").removeprefix("Bearer ")
        return web.Response(status=status, text=f"bad token {token} {request.query_string}")

    caplog.set_level(logging.DEBUG)
    far = await scripted(initialize=refuse)
    near = await front(far, url=far.url + "?key=an-api-key", headers={"Authorization": SECRET})
    async with near.post("/mcp/far", message("initialize", 1, **INITIALIZE)) as response:
        said = (await response.json())["error"]["message"]
        assert "Mcp-Session-Id" not in response.headers
    assert f"it answered HTTP {status}" in said
    assert "bad token *** key=***" in said
    assert 'set "headers"' in said
    said += json.dumps(await near.bridge_call("far", "ping"))
    for secret in ("s3cret", "an-api-key"):
        assert secret not in said
        assert secret not in caplog.text


@pytest.mark.parametrize("key", ["an-api-key", "s3cr%2Fet%2Btoken%3D%3D", "s3cr/et+token==", "s3cr%20et"])
async def test_a_key_in_the_url_is_repeated_in_no_spelling(scripted: StartScripted, front: Front, key: str) -> None:
    async def refuse(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
        word = request.query["key"]
        spellings = [request.raw_path, request.path_qs, word, quote(word), quote(word, safe=""), quote_plus(word)]
        return web.Response(status=403, text=" | ".join(spellings))

    far = await scripted(initialize=refuse)
    near = await front(far, url=f"{far.url}?key={key}")
    said = json.dumps(await near.bridge_call("far", "ping"))
    assert "***" in said
    for part in ("an-api", "s3cr", "token"):
        assert part not in said


async def test_a_redirect_within_the_origin_is_followed(scripted: StartScripted, front: Front) -> None:
    async def elsewhere(request: web.Request, _: dict[str, Any]) -> web.StreamResponse | None:
        return None if request.path == "/mcp" else web.Response(status=307, headers={"Location": "/mcp"})

    far = await scripted(**dict.fromkeys(("initialize", "notifications__initialized", "tools__call"), elsewhere))
    near = await front(far, url=far.url + "/slash/")
    assert (await (await near.session("far")).call("x"))["result"] == {"method": "tools/call"}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_to_another_origin_is_never_followed(
    scripted: StartScripted, front: Front, status: int
) -> None:
    thief = await scripted()

    async def elsewhere(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
        return web.Response(status=status, headers={"Location": f"{thief.url}?x=y"})

    far = await scripted(tools__call=elsewhere)
    session = await (await front(far, headers={"Authorization": SECRET})).session("far")
    said = (await session.call("x"))["error"]["message"]
    assert f"redirects to another origin, {thief.url.removesuffix('/mcp')}; " in said
    assert thief.requests == []


async def test_a_redirect_that_would_lose_the_message_is_not_followed(scripted: StartScripted, front: Front) -> None:
    async def elsewhere(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": "/mcp"})

    session = await (await front(await scripted(tools__call=elsewhere))).session("far")
    assert "HTTP 302, which would lose the message" in (await session.call("x"))["error"]["message"]


async def test_an_endpoint_of_another_origin_is_refused(scripted: StartScripted, front: Front) -> None:
    thief = await scripted()

    async def older(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
        return web.Response(status=405)

    async def get(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
        return await stream(request, f"event: endpoint\ndata: {thief.url}\n\n".encode())

    near = await front(await scripted(initialize=older, GET=get), headers={"Authorization": SECRET})
    async with near.post("/mcp/far", message("initialize", 1, **INITIALIZE)) as response:
        said = (await response.json())["error"]["message"]
    assert "sends its messages to another origin" in said
    assert thief.requests == []


async def test_a_server_of_neither_dialect_is_told_what_it_answered_to_both(
    scripted: StartScripted, front: Front
) -> None:
    async def missing(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
        return web.Response(status=404)

    near = await front(await scripted(initialize=missing, GET=missing))
    async with near.post("/mcp/far", message("initialize", 1, **INITIALIZE)) as response:
        said = (await response.json())["error"]["message"]
    assert "it answered HTTP 404 Not Found; asked for HTTP+SSE, it answered HTTP 404 Not Found" in said


BIG = 50 * 1024 * 1024


@pytest.mark.parametrize("form", ["json", "events", "id last"])
async def test_a_message_over_the_limit_is_the_end_of_its_request_only(
    scripted: StartScripted, front: Front, form: str
) -> None:
    async def call(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        text = b"x" * (BIG if body["params"]["name"] == "big" else 10)
        if form == "id last":
            answer = b'{"result":{"text":"%b"},"jsonrpc":"2.0","id":%d}' % (text, body["id"])
        else:
            answer = b'{"jsonrpc":"2.0","id":%d,"result":{"text":"%b"}}' % (body["id"], text)
        if form == "json":
            return web.Response(body=answer, content_type="application/json")
        with contextlib.suppress(ConnectionError):
            return await stream(request, b"data: " + answer + b"\n\n")
        return web.Response()

    far = await scripted(tools__call=call)
    session = await (await front(far, {"MAX_MESSAGE_BYTES": 1_000_000})).session("far")
    answer = await session.call("big", "mine")
    assert answer["id"] == "mine"
    assert re.search(r"a message of 524\d{5} bytes, which is over MAX_MESSAGE_BYTES", answer["error"]["message"])
    assert (await session.call("small"))["result"] == {"text": "x" * 10}


@pytest.mark.parametrize("form", ["mcp", "sse"])
async def test_fifty_megabytes_pass_under_the_limit(start_bridge: StartBridge, form: str) -> None:
    away = await start_bridge()
    near = await start_bridge({"far": {"url": f"{away.url}/{form}/peer"}})
    session = await near.session("far")
    assert len((await session.call("big", size=BIG))["result"]["text"]) == BIG


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


async def test_a_server_that_is_not_there_is_told_in_plain_words(start_bridge: StartBridge) -> None:
    port = unused_port()
    near = await start_bridge({"far": {"url": f"http://127.0.0.1:{port}/mcp/a-key-in-the-path"}})
    words = f"cannot be reached at http://127.0.0.1:{port}: connection refused"
    async with near.post("/mcp/far", message("initialize", 1, **INITIALIZE)) as response:
        assert response.status == 200
        assert words in (await response.json())["error"]["message"]
        assert "Mcp-Session-Id" not in response.headers
    said = (await near.bridge_call("far", "ping"))["error"]["message"]
    assert said == f'server "far" could not be started: it {words}'


async def test_a_server_that_goes_away_costs_only_the_calls_meanwhile(scripted: StartScripted, front: Front) -> None:
    async def call(request: web.Request, body: dict[str, Any]) -> web.StreamResponse | None:
        if body["params"]["name"] == "cut":
            cut(request)
        return None

    session = await (await front(await scripted(tools__call=call))).session("far")
    assert "closed the connection before it answered" in (await session.call("cut"))["error"]["message"]
    assert "result" in await session.call("x")


# The transport by itself


@dataclass
class Ear:
    """Hears a server, and lets wait for what it says."""

    lines: asyncio.Queue[bytes | Oversized] = field(default_factory=asyncio.Queue)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def server(self, url: str, **headers: str) -> RemoteServer:
        hearing = Hearing(self.lines.put_nowait, lambda _: None, self.ended.set)
        return RemoteServer("far", url, headers, limit=1_000_000, hearing=hearing)

    async def heard(self) -> dict[str, Any]:
        async with in_time():
            line = await self.lines.get()
        assert isinstance(line, bytes)
        return dict(json.loads(line))


def line(method: str, id_: int | None = None, **params: Any) -> bytes:
    return json.dumps(message(method, id_, **params)).encode()


async def test_the_handshake_keeps_its_order_and_what_follows_runs_side_by_side(scripted: StartScripted) -> None:
    meeting = asyncio.Barrier(3)

    async def slowly(_request: web.Request, _body: dict[str, Any]) -> None:
        for _ in range(200):  # room for what comes too early
            await asyncio.sleep(0)

    async def meet(_request: web.Request, _body: dict[str, Any]) -> None:
        async with in_time():
            await meeting.wait()

    far = await scripted(initialize=slowly, notifications__initialized=slowly, tools__call=meet)
    ear = Ear()
    server = ear.server(far.url)
    await server.start()
    for each in (
        line("initialize", 1, **INITIALIZE),
        line("notifications/initialized"),
        *(line("tools/call", id_, name="x") for id_ in (2, 3, 4)),
    ):
        server.write(each)
    assert (await ear.heard())["id"] == 1
    assert {(await ear.heard())["id"] for _ in range(3)} == {2, 3, 4}
    assert far.seen[:2] == ["initialize", "notifications/initialized"]
    await server.stop(2)
    assert ear.ended.is_set()


async def test_a_pretty_answer_is_one_line(scripted: StartScripted) -> None:
    async def call(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        answer = {"jsonrpc": "2.0", "id": body["id"], "result": {"a": ["b c"]}}
        return web.Response(text=json.dumps(answer, indent=2).replace("\n", "\r\n"), content_type="application/json")

    ear = Ear()
    server = ear.server((await scripted(tools__call=call)).url)
    await server.start()
    server.write(line("initialize", 1, **INITIALIZE))
    server.write(line("tools/call", 2, name="x"))
    await ear.heard()
    async with in_time():
        pretty = await ear.lines.get()
    assert isinstance(pretty, bytes)
    assert not {b"\r", b"\n"} & {pretty[at : at + 1] for at in range(len(pretty))}
    assert json.loads(pretty)["result"] == {"a": ["b c"]}
    await server.stop(2)


async def test_an_answer_does_not_wait_for_that_of_initialize(scripted: StartScripted) -> None:
    answered = asyncio.Event()

    async def ask_first(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = await stream(request, event({"id": "q", "method": "ping"}))
        await answered.wait()
        await response.write(event({"id": body["id"], "result": {"protocolVersion": "2025-06-18"}}))
        return response

    async def take(_request: web.Request, _body: dict[str, Any]) -> None:
        answered.set()

    ear = Ear()
    server = ear.server((await scripted(initialize=ask_first, answer=take)).url)
    await server.start()
    server.write(line("initialize", 1, **INITIALIZE))
    assert (await ear.heard())["method"] == "ping"
    server.write(b'{"jsonrpc":"2.0","id":"q","result":{}}')
    assert (await ear.heard())["id"] == 1
    await server.stop(2)


async def test_a_cancellation_does_not_pass_its_request(
    scripted: StartScripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelled = asyncio.Event()

    async def call(_request: web.Request, _body: dict[str, Any]) -> None:
        async with in_time():
            await cancelled.wait()

    async def cancel(_request: web.Request, _body: dict[str, Any]) -> None:
        assert any(request.headers.get("X-Slow") for request in far.requests), "the request came first"
        cancelled.set()

    plain = HttpClient.open

    @contextlib.asynccontextmanager
    async def slow(self: HttpClient, method: str, headers: Any, **more: Any) -> AsyncIterator[Any]:
        if b"tools/call" in (more.get("data") or b""):  # a connection that takes its time
            headers = {**headers, "X-Slow": "yes"}
            for _ in range(200):
                await asyncio.sleep(0)
        async with plain(self, method, headers, **more) as response:
            yield response

    monkeypatch.setattr(HttpClient, "open", slow)
    far = await scripted(tools__call=call, notifications__cancelled=cancel)
    ear = Ear()
    server = ear.server(far.url)
    await server.start()
    server.write(line("initialize", 1, **INITIALIZE))
    server.write(line("tools/call", 2, name="x"))
    server.write(line("notifications/cancelled", requestId=2))
    assert [(await ear.heard())["id"], (await ear.heard())["id"]] == [1, 2]
    assert cancelled.is_set()
    await server.stop(2)


async def test_notifications_keep_their_order(scripted: StartScripted) -> None:
    async def slowly(_request: web.Request, _body: dict[str, Any]) -> None:
        for _ in range(100):
            await asyncio.sleep(0)

    async def end(_request: web.Request, _body: dict[str, Any]) -> None:
        ended.set()

    ended = asyncio.Event()
    far = await scripted(notifications__0=slowly, notifications__4=end)
    ear = Ear()
    server = ear.server(far.url)
    await server.start()
    server.write(line("initialize", 1, **INITIALIZE))
    for n in range(5):
        server.write(line(f"notifications/{n}"))
    await ear.heard()
    async with in_time():
        await ended.wait()
    await server.stop(2)
    assert [name for name in far.seen if name.startswith("notifications/")] == [f"notifications/{n}" for n in range(5)]


async def test_session_and_version_are_sent_after_the_handshake_and_delete_comes_last(scripted: StartScripted) -> None:
    far = await scripted()
    ear = Ear()
    server = ear.server(far.url, X_Mine="1")
    await server.start()
    server.write(line("initialize", 1, **INITIALIZE))
    server.write(line("notifications/initialized"))
    server.write(line("ping", 2))
    await ear.heard()
    await ear.heard()
    await server.stop(2)
    assert far.seen[-1] == "DELETE"
    first, *others = far.requests
    assert "Mcp-Session-Id" not in first.headers
    assert "MCP-Protocol-Version" not in first.headers
    for request in others:
        assert request.headers["Mcp-Session-Id"] == "the-session"
        assert request.headers["MCP-Protocol-Version"] == "2025-06-18"
    for request in far.requests:
        assert request.headers["X_Mine"] == "1"
        if request.method == "POST":
            assert request.headers["Accept"] == ACCEPT
            assert request.content_type == "application/json"


async def test_what_a_server_does_not_take_is_bounded(scripted: StartScripted, monkeypatch: pytest.MonkeyPatch) -> None:
    never = asyncio.Event()

    async def silent(_request: web.Request, _body: dict[str, Any]) -> None:
        await never.wait()

    monkeypatch.setattr(remote, "BACKLOG", 10_000)
    ear = Ear()
    server = ear.server((await scripted(initialize=silent)).url)
    await server.start()
    first, one = line("initialize", 1, **INITIALIZE), line("tools/call", 2, name="x" * 100)
    server.write(first)
    for _ in range((10_000 - len(first)) // len(one)):
        server.write(one)
    server.write(one)
    with pytest.raises(Stalled):
        server.write(one)
    server.kill()
    assert ear.ended.is_set()
    await server.stop(2)
    never.set()


async def test_what_was_sent_does_not_count(scripted: StartScripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "BACKLOG", 10_000)
    ear = Ear()
    server = ear.server((await scripted()).url)
    await server.start()
    server.write(line("initialize", 1, **INITIALIZE))
    await ear.heard()
    for id_ in range(2, 100):
        server.write(line("tools/call", id_, name="x" * 1000))
        server.write(line("notifications/x", text="x" * 1000))
        await ear.heard()
    await server.stop(2)


async def test_a_server_that_does_not_let_go_is_left_in_time(scripted: StartScripted) -> None:
    never = asyncio.Event()

    async def silent(_request: web.Request, _body: dict[str, Any]) -> None:
        await never.wait()

    ear = Ear()
    server = ear.server((await scripted(DELETE=silent)).url)
    await server.start()
    server.write(line("initialize", 1, **INITIALIZE))
    await ear.heard()
    async with in_time():
        await server.stop(0.05)
    assert ear.ended.is_set()
    never.set()


async def test_a_session_that_is_opened_as_the_connection_is_stopped_is_ended_at_the_server(
    scripted: StartScripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "LAST_WELCOME", PATIENCE)
    asked, answer = asyncio.Event(), asyncio.Event()

    async def late(_request: web.Request, _body: dict[str, Any]) -> None:
        asked.set()
        await answer.wait()

    far = await scripted(initialize=late)
    server = Ear().server(far.url)
    await server.start()
    server.write(line("initialize", 1, **INITIALIZE))
    await asked.wait()
    stopping = asyncio.create_task(server.stop(PATIENCE))
    for _ in range(5):
        await asyncio.sleep(0)
    answer.set()
    await stopping
    assert far.seen == ["initialize", "DELETE"]


async def test_a_server_that_was_never_spoken_to_is_stopped(scripted: StartScripted) -> None:
    far = await scripted()
    ear = Ear()
    server = ear.server(far.url)
    server.write(b"{}")
    await server.stop(1)
    await server.start()
    await server.stop(1)
    assert far.seen == []
    assert server.pid is None
    assert server.last_words == ""
