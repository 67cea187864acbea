"""The load generator counts right answers and stops at the first wrong one, in C and in Python."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from bench import load as loading
from bench import mcp, programs
from bench.load import Load, LoadError, Script

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture(autouse=True, params=["load.c", "loader.py"])
def generator(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "loader.py":
        monkeypatch.setattr(loading, "program", lambda name: programs.PYTHON[name])
    elif programs.compiler() is None:
        pytest.skip("no C compiler")


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[int]:
    app = web.Application()
    app.router.add_route("*", "/mcp", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


async def drive(handler: Handler, scripts: list[Script], least: int = 0) -> Load:
    """One way through each script, or a few more."""
    async with serving(handler) as port:
        return await asyncio.to_thread(loading.load, port, scripts, seconds=0.05, least=least)


def echo(**changes: object) -> Script:
    return [mcp.request("/mcp", {**mcp.ECHO, **changes})]


def result(message: mcp.Message, text: str = "hello") -> mcp.Message:
    return {"jsonrpc": "2.0", "id": message["id"], "result": {"content": [{"type": "text", "text": text}]}}


async def test_each_request_has_an_id_of_its_own() -> None:
    ids: list[int] = []

    async def handler(request: web.Request) -> web.Response:
        message = await request.json()
        ids.append(message["id"])
        return web.json_response(result(message))

    load = await drive(handler, [echo(), echo()])
    assert 2 <= load.calls <= len(ids)
    assert len(set(ids)) == len(ids)
    assert 0 < load.p50 <= load.p99 <= load.worst


@pytest.mark.parametrize("piece", [1, 7, 5000])
async def test_an_answer_in_chunks_is_read_to_its_end(piece: int) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        message = await request.json()
        event = b"event: message\ndata: " + json.dumps({**result(message, "x" * 3000), "id": 0}).encode()
        last = b"\n\ndata: " + json.dumps(result(message)).encode() + b"\n\n"
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        body = event + last
        step = max(piece, len(body) // 500)
        for at in range(0, len(body), step):
            await response.write(body[at : at + step])
        await response.write_eof()
        return response

    assert (await drive(handler, [echo()], least=3000)).calls >= 1


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (200, {"id": 5, "result": {}}, "without its id"),
        (500, {"id": mcp.ID, "result": {}}, "status 500"),
        (202, {"id": mcp.ID, "result": {}}, "status 202"),
        (200, {"id": mcp.ID, "error": {"code": -32603, "message": "no"}}, "an error"),
        (200, {"id": mcp.ID, "result": {"content": [], "isError": True}}, "an error"),
        (200, {"id": mcp.ID, "result": {}}, "an answer of"),
    ],
)
async def test_a_wrong_answer_ends_the_run(status: int, body: mcp.Message, why: str) -> None:
    async def handler(request: web.Request) -> web.Response:
        sent = (await request.json())["id"]
        answer = {**body, "id": sent} if body["id"] == mcp.ID else body
        return web.Response(status=status, text=json.dumps(answer, separators=(",", ":")))

    with pytest.raises(LoadError, match=why):
        await drive(handler, [echo()], least=1000)


async def test_a_server_that_hangs_up_ends_the_run() -> None:
    async def handler(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    with pytest.raises(LoadError, match="closed"):
        await drive(handler, [echo()])


async def test_a_script_goes_on_in_the_session_that_it_opened_and_is_not_left_in_the_middle() -> None:
    seen: dict[str | None, list[str]] = {}

    async def handler(request: web.Request) -> web.Response:
        session = request.headers.get(mcp.SESSION_HEADER) or f"session-{len(seen)}"
        message = {"method": "DELETE"} if request.method == "DELETE" else await request.json()
        seen.setdefault(session, []).append(message["method"])
        if "id" not in message:
            return web.Response(status=202)
        opened = message["method"] == "initialize"
        return web.json_response(result(message), headers={mcp.SESSION_HEADER: session} if opened else {})

    load = await drive(handler, [mcp.visit("/mcp")] * 5)
    assert 1 <= load.calls <= len(seen)
    assert len(seen) >= 5
    for methods in seen.values():
        assert methods == ["initialize", "notifications/initialized", "tools/call", "DELETE"]


async def test_with_an_interval_what_is_due_begins_although_nothing_is_answered() -> None:
    """Otherwise a server that stands still would be asked only once meanwhile, and look fast."""
    waiting = 0
    enough = asyncio.Event()

    async def handler(request: web.Request) -> web.Response:
        nonlocal waiting
        waiting += 1
        if waiting == 3:
            enough.set()
        await enough.wait()
        return web.json_response(result(await request.json()))

    def watch(port: int) -> Load:
        with loading.running(port, [echo()] * 3, seconds=0.01, interval=0.001) as run:
            run.wait_counting()
            return run.result()

    async with serving(handler) as port:
        load = await asyncio.to_thread(watch, port)
    assert load.calls >= 1
    assert waiting >= 3


async def test_it_ends_when_it_is_told_to() -> None:
    async def handler(request: web.Request) -> web.Response:
        called.set()
        return web.json_response(result(await request.json()))

    def watch(port: int) -> Load:
        with loading.running(port, [echo()], seconds=3600) as run:
            run.wait_counting()
            asyncio.run_coroutine_threadsafe(called.wait(), loop).result()
            run.stop()
            return run.result()

    called, loop = asyncio.Event(), asyncio.get_running_loop()
    async with serving(handler) as port:
        assert (await asyncio.to_thread(watch, port)).calls >= 0


def test_a_request_is_marked_where_it_is_filled_in() -> None:
    request = mcp.request("/mcp", mcp.ECHO, mcp.session_headers())
    assert request.count(str(mcp.ID).encode()) == 1
    assert request.count(mcp.SESSION.encode()) == 1
    head, _, body = request.partition(b"\r\n\r\n")
    found = re.search(rb"Content-Length: (\d+)", head)
    assert found is not None
    assert int(found[1]) == len(body)
