"""``/api/v1/events``: what runs, for whoever looks, as far as they may see it, and for nobody else's money."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bridge.auth import tokens
from bridge.web import events
from bridge.web.events import EventsFace
from tests.conftest import Running, StartBridge, in_time, peer

NOW = datetime.now(UTC)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "INTERVAL", 0.01)


async def snapshots(bridge: Running, **headers: str) -> AsyncIterator[dict[str, Any]]:
    async with bridge.http.get(bridge.url + "/api/v1/events", headers=headers) as response:
        assert response.status == 200, await response.text()
        assert response.content_type == "text/event-stream"
        async for line in response.content:
            if line.startswith(b"data: "):
                yield json.loads(line[6:])


def face(bridge: Running) -> EventsFace:
    return bridge.service.faces.events


async def quiet(bridge: Running) -> None:
    """Wait until nobody listens and nothing is made."""
    while face(bridge)._listeners or not face(bridge)._producer.done():  # type: ignore[union-attr]  # noqa: ASYNC110
        await asyncio.sleep(0.005)


async def test_a_snapshot_has_the_rows_of_the_lists(bridge: Running) -> None:
    session = await bridge.session()
    await session.call("echo")
    async with contextlib.aclosing(snapshots(bridge)) as stream:
        async for seen in stream:
            if seen["children"][0]["resident_bytes"]:  # measured by the second one
                break
    for name in ("servers", "children", "sessions"):
        [row] = seen[name]
        [listed] = await bridge.get(f"/{name}")
        assert row.keys() == listed.keys()
    [server], [child] = seen["servers"], seen["children"]
    assert (server["state"], server["calls"], server["answered"]) == ("running", 2, 1)
    assert 0 < server["answer_seconds"] < 5
    assert child["pid"] == seen["sessions"][0]["pid"]
    assert (seen["total_sessions"], seen["admin"], seen["bridge"]["status"]) == (1, True, "ok")


async def test_calls_of_a_child_that_has_ended_still_count(bridge: Running) -> None:
    session = await bridge.session()
    await session.call("echo")
    async with session.delete():
        pass
    await (await bridge.session()).call("echo")
    async with contextlib.aclosing(snapshots(bridge)) as stream:
        async for seen in stream:
            if len(seen["children"]) == 1:
                break
    assert (seen["servers"][0]["calls"], seen["servers"][0]["answered"]) == (4, 2)
    assert seen["children"][0]["calls"] == 2


async def test_everybody_sees_what_the_lists_would_show_them(start_bridge: StartBridge, tmp_path: Path) -> None:
    scopes = {"one": ["servers:peer"], "two": ["servers:second"], "operator": ["admin"]}
    rows = {name: tokens.mint(name, scope, None, NOW) for name, scope in scopes.items()}
    tokens.write(tmp_path / "t.json", [row for _, row in rows.values()])
    bridge = await start_bridge({"peer": peer(), "second": peer()}, TOKENS_FILE=tmp_path / "t.json")
    url, of = bridge.url + "/api/v1/sessions", {name: {"X-API-Key": secret} for name, (secret, _) in rows.items()}
    async with bridge.http.post(url, json={"server": "peer"}, headers=of["one"]) as made:
        session_id = (await made.json())["session_id"]
    async with bridge.http.post(bridge.url + "/bridge/peer", json={"method": "ping"}, headers=of["one"]) as called:
        assert called.status == 200

    async def see(name: str) -> dict[str, Any]:
        async with contextlib.aclosing(snapshots(bridge, **of[name])) as stream:
            return await anext(stream)

    one, two, operator = [await see(name) for name in scopes]
    assert [row["id"] for row in one["servers"]] == ["peer"]
    assert [row["session_id"] for row in one["sessions"]] == [session_id]
    assert [row["id"] for row in two["servers"]] == ["second"]
    assert [row["server"] for row in one["children"]] == ["peer"]
    assert (two["children"], two["sessions"], two["total_sessions"], two["admin"]) == ([], [], 0, False)
    assert [row["id"] for row in operator["servers"]] == ["peer", "second"]
    assert operator["sessions"][0]["session_id"] != session_id


async def test_a_token_that_ends_ends_its_stream(start_bridge: StartBridge, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    rows = [tokens.mint(name, ["admin"], None, NOW) for name in ("gone", "stays")]
    tokens.write(path, [row for _, row in rows])
    bridge = await start_bridge(TOKENS_FILE=path)
    gone, stays = [snapshots(bridge, **{"X-API-Key": secret}) for secret, _ in rows]
    await anext(gone)
    await anext(stays)
    tokens.write(path, [rows[1][1]])
    bridge.service.faces.guards._keyring._looked -= 10  # the second until the next look
    async with in_time():
        async for _ in gone:
            pass
    for _ in range(20):
        await anext(stays)
    await stays.aclose()


async def test_one_producer_serves_all_and_rests_when_nobody_listens(
    bridge: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = 0
    measure = events.UsageMeter.measure

    def counted(meter: events.UsageMeter, pids: list[int]) -> Any:
        nonlocal made
        made += 1
        return measure(meter, pids)

    monkeypatch.setattr(events.UsageMeter, "measure", counted)
    streams = [snapshots(bridge) for _ in range(20)]
    for _ in range(5):
        await asyncio.gather(*(anext(stream) for stream in streams))
    assert len(face(bridge)._listeners) == 20
    assert made < 20
    for stream in streams:
        await stream.aclose()
    await bridge.http.close()  # an unread body keeps its connection
    async with in_time():
        await quiet(bridge)
    bridge.http = aiohttp.ClientSession()
    before = made
    assert (await anext(snapshots(bridge)))["servers"]  # and begins again
    async with in_time():
        while made == before:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_a_listener_that_does_not_read_costs_one_snapshot(bridge: Running) -> None:
    listener = events.Listener(None)  # type: ignore[arg-type]
    for number in range(100):
        listener.put(b"%d" % number)
    assert await listener.get() == b"99"
    listener.put(b"100")
    listener.put(None)
    assert await listener.get() is None


async def test_a_listener_that_never_reads_is_cut(bridge: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PATIENCE", 0.2)
    for _ in range(40):
        await bridge.session()
    server = bridge.service.port._runner.server  # type: ignore[union-attr]
    before = len(server.connections)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(bridge.url.rpartition(":")[2]), limit=1024)
    reader._transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    async with asyncio.timeout(30):
        while not face(bridge)._listeners:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        await quiet(bridge)
        while len(server.connections) > before:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    writer.close()


async def test_only_so_many_may_listen(bridge: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MOST_LISTENERS", 2)
    streams = [snapshots(bridge) for _ in range(2)]
    for stream in streams:
        await anext(stream)
    async with bridge.http.get(bridge.url + "/api/v1/events") as refused:
        assert refused.status == 503
        assert "all 2 event streams are in use" in await refused.text()
        assert int(refused.headers["Retry-After"]) > 0
    for stream in streams:
        await stream.aclose()


async def test_a_snapshot_holds_only_so_many_sessions(bridge: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MOST_SESSIONS", 2)
    sessions = [await bridge.session() for _ in range(4)]
    await sessions[0].call("echo")
    async with contextlib.aclosing(snapshots(bridge)) as stream:
        seen = await anext(stream)
    assert [row["session_id"] for row in seen["sessions"]] == [sessions[0].id, sessions[3].id]
    assert seen["total_sessions"] == 4


async def test_streams_end_with_the_bridge(start_bridge: StartBridge) -> None:
    bridge = await start_bridge(SHUTDOWN_TIMEOUT_MS=1_000_000)
    stream = snapshots(bridge)
    await anext(stream)
    async with in_time():
        stopping = asyncio.create_task(bridge.service.stop())
        async for _ in stream:
            pass
        await stopping
    assert face(bridge)._producer.done()  # type: ignore[union-attr]
