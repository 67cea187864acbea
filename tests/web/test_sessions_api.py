"""``/api/v1/sessions``: sessions that are created, looked at, changed and ended by plain HTTP."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import pytest

from tests.conftest import INITIALIZE, Running, Session, StartBridge, in_time, last, message, peer, tool

API = "/api/v1/sessions"


async def create(bridge: Running, **body: Any) -> dict[str, Any]:
    async with bridge.post(API, {"server": "peer", **body}) as response:
        assert response.status == 201, await response.text()
        return dict(await response.json())


async def change(bridge: Running, session_id: str, **body: Any) -> tuple[int, Any]:
    async with bridge.http.patch(f"{bridge.url}{API}/{session_id}", json=body) as response:
        return response.status, await response.json()


async def status_of(bridge: Running, method: str, path: str) -> int:
    async with bridge.http.request(method, bridge.url + path) as response:
        return response.status


def as_session(bridge: Running, made: dict[str, Any]) -> Session:
    return Session(bridge.http, made["mcp_url"], made["session_id"], {})


def seconds(row: dict[str, Any]) -> float:
    """The time to live that the two dates of a row mean."""
    end, begin = (datetime.fromisoformat(row[name]) for name in ("expires_at", "last_used_at"))
    return (end - begin).total_seconds()


async def test_a_created_session_is_ready_to_be_initialized(bridge: Running) -> None:
    made = await create(bridge, metadata={"chat": 7})
    assert made["mcp_url"] == f"{bridge.url}/mcp/peer"
    assert made["headers"] == {"Mcp-Session-Id": made["session_id"]}
    assert (made["persistent"], made["state"], made["metadata"]) == (False, "dormant", {"chat": 7})
    assert seconds(made) == pytest.approx(300, abs=0.01)
    assert await bridge.get("/children") == []
    session = as_session(bridge, made)
    async with session.post(message("initialize", 0, **INITIALIZE)) as response:
        assert response.headers["Mcp-Session-Id"] == session.id
        assert "result" in await last(response)
    assert "result" in await session.call("count")
    [row] = await bridge.get(API)
    assert (row["session_id"], row["state"], row["protocol_version"]) == (session.id, "idle", "2025-06-18")


async def test_a_created_session_can_be_called_at_once(bridge: Running) -> None:
    session = as_session(bridge, await create(bridge))
    assert [(await session.call("count", id_))["result"]["count"] for id_ in (1, 2)] == [1, 2]


async def test_a_created_session_wants_initialize_where_nothing_is_implied(start_bridge: StartBridge) -> None:
    bridge = await start_bridge(IMPLICIT_INITIALIZE="false")
    session = as_session(bridge, await create(bridge))
    async with session.post(tool("count")) as response:
        assert response.status == 400
        assert "send initialize first" in (await response.json())["error"]["message"]
    async with session.post(message("initialize", 0, **INITIALIZE)) as response:
        assert response.status == 200
    assert "result" in await session.call("count")


async def test_a_created_session_survives_a_start_that_fails(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"peer": {"command": "/nowhere/at/all"}})
    session = as_session(bridge, await create(bridge))
    for _ in range(2):
        async with session.post(message("initialize", 0, **INITIALIZE)) as response:
            assert "could not be started" in (await response.json())["error"]["message"]
    [row] = await bridge.get(API)
    assert (row["session_id"], row["state"]) == (session.id, "dormant")


@pytest.mark.parametrize("first", ["initialize", "tools/call"])
@pytest.mark.parametrize("second", ["initialize", "tools/call"])
async def test_requests_that_open_a_created_session_at_once_are_served_or_refused(
    bridge: Running, monkeypatch: pytest.MonkeyPatch, first: str, second: str
) -> None:
    registry = bridge.service.core.registry
    asked, start, seat = asyncio.Event(), asyncio.Event(), registry.seat

    async def late(*args: Any, **named: Any) -> Any:
        asked.set()
        await start.wait()
        return await seat(*args, **named)

    monkeypatch.setattr(registry, "seat", late)
    session = as_session(bridge, await create(bridge))

    async def send(method: str) -> tuple[int, dict[str, Any]]:
        body = message("initialize", 1, **INITIALIZE) if method == "initialize" else tool("count", 1)
        async with session.post(body) as response:
            return response.status, await last(response)

    async with in_time():
        one = asyncio.create_task(send(first))
        await asked.wait()
        other = asyncio.create_task(send(second))
        if first != second or first == "initialize":
            status, answer = await other  # while the child of the first one starts
            assert status == 400
            assert ("another request opens" if second == "initialize" else "not answered yet") in str(answer["error"])
        start.set()
        for task in {one, *([other] if first == second == "tools/call" else [])}:
            status, answer = await task
            assert (status, "result" in answer) == (200, True)
        assert "result" in await session.call("count")


async def test_a_client_hears_of_an_initialize_that_ends_in_a_fault_of_the_bridge(
    bridge: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(entry: Any) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(bridge.service.core.sessions.kept, "settle", fail)
    async with in_time(), bridge.post("/mcp/peer", message("initialize", 0, **INITIALIZE)) as response:
        assert "internal error" in (await last(response))["error"]["message"]
    assert await bridge.get(API) == []


async def test_an_initialized_session_is_not_initialized_twice(bridge: Running) -> None:
    session = await bridge.session()
    async with session.post(message("initialize", 0, **INITIALIZE)) as response:
        assert response.status == 400


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ({"ttl_ms": 1500}, 1.5),
        ({"ttl_hours": 2}, 7200),
        ({"ttl_hours": 0.5}, 1800),
        ({"ttl_hours": 876_000}, 3_153_600_000),
        ({"ttl_ms": None}, None),
        ({"ttl_hours": "never"}, None),
        ({}, 300),
    ],
)
async def test_a_session_has_the_time_to_live_that_was_asked_for(
    bridge: Running, asked: dict[str, Any], meant: float | None
) -> None:
    made = await create(bridge, **asked)
    assert made["ttl_ms"] == (None if meant is None else meant * 1000)
    if meant is None:
        assert made["expires_at"] is None
    else:
        assert seconds(made) == pytest.approx(meant, abs=0.01)


async def test_the_time_to_live_of_the_server_comes_after_that_of_the_request(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"peer": peer(sessionTtlMs=60_000), "other": peer()}, SESSION_TTL_HOURS=3)
    assert (await create(bridge))["ttl_ms"] == 60_000
    assert (await create(bridge, ttl_ms=5_000))["ttl_ms"] == 5_000
    assert (await create(bridge, server="other"))["ttl_ms"] == 3 * 3_600_000


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, '"server" is missing'),
        ({"server": "nobody"}, 'no server "nobody"'),
        ({"server": "nobody", "persistent": True}, 'no server "nobody"'),
        ({"server": "nobody", "persistent": False}, 'no server "nobody"'),
        ({"server": "peer", "ttl_ms": 0}, '"ttl_ms" is 0, must be a number of milliseconds above 0'),
        ({"server": "peer", "ttl_ms": True}, '"ttl_ms" is true'),
        ({"server": "peer", "ttl_hours": -1}, '"ttl_hours" is -1, must be a number of hours above 0'),
        ({"server": "peer", "ttl_hours": 1e9}, "at most 876000 hours (100 years)"),
        ({"server": "peer", "ttl_hours": 1e306}, "at most 876000 hours (100 years)"),
        ({"server": "peer", "ttl_ms": 1, "ttl_hours": 1}, "keep one of them"),
        ({"server": "peer", "persistent": "yes"}, '"persistent" is "yes", must be true or false'),
        ({"server": "peer", "metadata": []}, '"metadata" is [], must be an object'),
        ({"server": "peer", "metadata": {"x": "x" * 20_000}}, '"metadata" has 20008 bytes, may have 16384'),
        ({"server": "peer", "command": "sh"}, "unknown member 'command'"),
        ([], "must be a JSON object"),
    ],
)
async def test_a_mistake_is_told_and_makes_no_session(bridge: Running, body: Any, said: str) -> None:
    async with bridge.post(API, body) as response:
        assert response.status in (400, 404, 413), await response.text()
        assert said in (await response.json())["error"]["message"]
    assert await bridge.get(API) == []


async def test_a_session_is_shown_changed_touched_and_ended(bridge: Running) -> None:
    session = await bridge.session()
    path = f"{API}/{session.id}"
    shown = await bridge.get(path)
    assert (shown["session_id"], shown["server"], shown["ttl_ms"]) == (session.id, "peer", 300_000)
    status, changed = await change(bridge, session.id, ttl_hours=1, metadata={"a": [1]})
    assert (status, changed["ttl_ms"], changed["metadata"]) == (200, 3_600_000, {"a": [1]})
    status, refused = await change(bridge, session.id, ttl_ms="soon")
    assert status == 400
    assert '"ttl_ms" is "soon"' in refused["error"]["message"]
    assert (await bridge.get(path))["ttl_ms"] == 3_600_000
    async with bridge.http.post(f"{bridge.url}{path}/touch") as response:
        touched = await response.json()
    assert touched["last_used_at"] > shown["last_used_at"]
    assert await status_of(bridge, "DELETE", path) == 204
    assert await status_of(bridge, "DELETE", path) == 404
    assert await status_of(bridge, "GET", path) == 404
    async with session.post(tool("count")) as response:
        assert response.status == 404


async def test_an_operator_may_name_a_session_as_the_list_shows_it(bridge: Running) -> None:
    session = await bridge.session()
    assert (await bridge.get(f"{API}/{session.id[:8]}..."))["session_id"] == session.id


async def test_lists_are_filtered(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"a": peer(), "b": peer()})
    await bridge.session("a")
    await create(bridge, server="b")
    await bridge.bridge_call("a", "tools/call", name="count", arguments={})
    assert [row["server"] for row in await bridge.get(f"{API}?pool=streamable")] == ["a", "b"]
    assert [row["pool"] for row in await bridge.get(f"{API}?server=a")] == ["bridge", "streamable"]
    assert [row["server"] for row in await bridge.get(f"{API}?state=dormant")] == ["b"]
    for query in ("pool=x", "state=x", "colour=red"):
        assert await status_of(bridge, "GET", f"{API}?{query}") == 400


async def test_the_numbers_add_up(bridge: Running) -> None:
    session = await bridge.session()
    await create(bridge)
    await bridge.bridge_call("peer", "tools/call", name="count", arguments={})
    async with session.get():
        stats = await bridge.get(f"{API}/stats")
    assert stats["temporary_sessions"] == {"total": 2, "active": 1, "expired": 0}
    assert (stats["persistent_sessions"], stats["total_sessions"]) == (0, 2)
    assert stats["default_ttl_hours"] == pytest.approx(1 / 12, abs=1e-6)
    assert stats["persistent_store_enabled"] is False
    assert stats["pools"]["streamable"]["states"] == {"active": 1, "dormant": 1}
    assert stats["pools"]["bridge"] == {"total": 1, "reaped": {}, "states": {"idle": 1}, "servers": {"peer": 1}}


async def test_a_persistent_session_without_a_store_is_a_temporary_one_that_says_so(bridge: Running) -> None:
    made = await create(bridge, persistent=True)
    assert made["persistent"] is False
    assert "SESSION_STORE" in made["warning"]
    assert made["ttl_ms"] == 300_000  # nothing keeps it, so nothing should make it immortal


async def test_a_store_that_is_required_and_not_there_is_503(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"peer": peer(persistent=True)}, PERSISTENCE_REQUIRED="true")
    async with bridge.post(API, {"server": "peer"}) as response:
        assert response.status == 503
        assert "PERSISTENCE_REQUIRED" in (await response.json())["error"]["message"]
        assert "Retry-After" in response.headers
    made = await create(bridge, persistent=False, metadata={"a": 1})
    assert made["persistent"] is False
    status, _ = await change(bridge, made["session_id"], persistent=True, metadata={"b": 2}, ttl_hours=1)
    assert status == 503
    left = await bridge.get(f"{API}/{made['session_id']}")
    assert (left["metadata"], left["ttl_ms"], left["persistent"]) == ({"a": 1}, made["ttl_ms"], False)


async def test_a_short_time_to_live_is_kept_though_the_pool_looks_seldom(bridge: Running) -> None:
    made = await create(bridge, ttl_ms=300)
    session = as_session(bridge, made)
    async with in_time():
        while (await bridge.get("/health"))["sessions"]["streamable"]:  # each a round trip; the reaper runs meanwhile
            pass
    async with session.post(tool("count")) as response:
        assert response.status == 404
        assert "idle for" in (await response.json())["error"]["message"]


async def test_the_beginning_of_an_id_is_enough_for_who_administers(start_bridge: StartBridge) -> None:
    bridge = await start_bridge()
    ids = iter(["b14b8ba3-one", "b14b8ba3-two", "c14b8ba3-three"])
    bridge.service.core.sessions._mint = lambda: next(ids)
    for _ in range(3):
        await create(bridge)
    for begins in ("c14b8ba3", "c14b8ba3...", "c14b8ba3-th", "c14b8ba3-three"):
        assert (await bridge.get(f"{API}/{begins}"))["session_id"] == "c14b8ba3-three"
    assert await status_of(bridge, "GET", f"{API}/c14b8ba") == 404
    for begins in ("b14b8ba3", "b14b8ba3..."):
        assert await status_of(bridge, "DELETE", f"{API}/{begins}") == 409
    assert await status_of(bridge, "DELETE", f"{API}/b14b8ba3-o") == 204
    assert await status_of(bridge, "DELETE", f"{API}/b14b8ba3") == 204


async def test_the_bridges_own_clients_are_told_from_what_is_not_there(bridge: Running) -> None:
    await bridge.bridge_call("peer", "ping")
    [label] = [row["session_id"] for row in await bridge.get("/sessions") if row["pool"] == "bridge"]
    for name, why in ((label, "a client of the bridge's own"), ("client_none", "there is no such session")):
        async with bridge.http.get(f"{bridge.url}{API}/{name}") as response:
            assert (response.status, why in await response.text()) == (404, True)


async def test_a_session_that_nobody_ends_has_no_end(start_bridge: StartBridge) -> None:
    bridge = await start_bridge(DISABLE_STREAM_CLEANUP="true", STREAM_SESSION_TTL_MS=1)
    await bridge.session()
    [row] = [row for row in await bridge.get("/sessions") if row["pool"] == "streamable"]
    assert (row["ttl_ms"], row["expires_at"], row["expires_in_s"]) == (1, None, None)
