"""Sessions that outlive the bridge, end to end: a real bridge, real children, a file, a real Redis."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sqlite3
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from bridge.stores.database import NAME
from tests.cli.conftest import Serve, http, serve  # noqa: F401 - fixtures
from tests.conftest import INITIALIZE, PEERS, Running, Session, StartBridge, in_time, message, peer, sse, tool
from tests.stores.conftest import Start
from tests.stores.redis_server import RedisServer

KEPT = {"peer": peer(persistent=True)}
#: The peer with resources and list changes.
RICH = {"peer": {**peer(persistent=True), "args": [*peer()["args"], "--changes"]}}

PEER = PEERS / "peer.py"


@pytest.fixture(params=["file", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """The settings of a store that a restart does not empty."""
    if request.param == "file":
        return {"SESSION_STORE": "file", "SESSION_DIR": str(tmp_path / "sessions")}
    redis: RedisServer = request.getfixturevalue("redis")
    return {"REDIS_ENABLED": "true", "REDIS_URL": redis.url}


async def again(bridge: Running, start_bridge: StartBridge, servers: dict[str, Any], **settings: str) -> Running:
    """End a bridge, and start one that has the same store."""
    await bridge.service.stop()
    return await start_bridge(servers, **settings)


def at(bridge: Running, session: Session) -> Session:
    """The same session, as a client of another bridge."""
    return Session(bridge.http, f"{bridge.url}/mcp/peer", session.id, session.greeting)


async def row_of(bridge: Running, session: Session) -> dict[str, Any]:
    return dict(await bridge.get(f"/api/v1/sessions/{session.id}"))


async def test_a_session_goes_on_after_a_restart(start_bridge: StartBridge, store: dict[str, str]) -> None:
    bridge = await start_bridge(KEPT, **store)
    session = await bridge.session(capabilities={"roots": {}})
    assert (await row_of(bridge, session))["persistent"] is True
    await session.call("count")
    bridge = await again(bridge, start_bridge, KEPT, **store)
    row = await row_of(bridge, session)
    assert (row["state"], row["restored"], row["persistent"], row["pid"]) == ("dormant", True, True, None)
    assert (row["protocol_version"], row["ttl_ms"], row["expires_at"]) == ("2025-06-18", None, None)
    session = at(bridge, session)
    assert (await session.call("count"))["result"]["count"] == 1  # another process, greeted as the first one was
    assert (await session.call("count", 2))["result"]["count"] == 2
    assert (await row_of(bridge, session))["state"] == "idle"


async def test_the_next_child_hears_what_the_first_one_heard(start_bridge: StartBridge, store: dict[str, str]) -> None:
    bridge = await start_bridge(RICH, **store)
    session = await bridge.session()
    await session.ask("logging/setLevel", level="error")
    for uri in ("file:///a", "file:///b", "file:///refused"):
        await session.ask("resources/subscribe", uri=uri)
    await session.ask("resources/unsubscribe", uri="file:///a")
    bridge = await again(bridge, start_bridge, RICH, **store)
    seen = (await at(bridge, session).call("seen"))["result"]
    assert seen == {"subscriptions": [["subscribe", "file:///b"]], "levels": ["error"]}


async def test_a_hundred_requests_to_a_sleeping_session_wake_it_once(
    start_bridge: StartBridge, store: dict[str, str]
) -> None:
    bridge = await start_bridge(KEPT, **store)
    session = await bridge.session()
    bridge = await again(bridge, start_bridge, KEPT, **store)
    session = at(bridge, session)
    answers = await asyncio.gather(*(session.call("count", number) for number in range(100)))
    assert sorted(answer["result"]["count"] for answer in answers) == list(range(1, 101))
    assert len(await bridge.get("/children")) == 1


async def test_temporary_sessions_are_gone_after_a_restart(start_bridge: StartBridge, store: dict[str, str]) -> None:
    bridge = await start_bridge({"peer": peer()}, **store)
    session = await bridge.session()
    assert (await row_of(bridge, session))["persistent"] is False
    bridge = await again(bridge, start_bridge, {"peer": peer()}, **store)
    async with at(bridge, session).post(tool("count")) as response:
        assert response.status == 404


async def test_one_session_of_a_server_can_be_kept_and_let_go(start_bridge: StartBridge, store: dict[str, str]) -> None:
    servers = {"peer": peer()}
    bridge = await start_bridge(servers, **store)
    kept, dropped = [await bridge.session() for _ in range(2)]
    for session in (kept, dropped):
        async with bridge.http.patch(f"{bridge.url}/api/v1/sessions/{session.id}", json={"persistent": True}) as answer:
            assert (await answer.json())["persistent"] is True
    async with bridge.http.patch(f"{bridge.url}/api/v1/sessions/{dropped.id}", json={"persistent": False}) as answer:
        assert (await answer.json())["persistent"] is False
    bridge = await again(bridge, start_bridge, servers, **store)
    assert "result" in await at(bridge, kept).call("count")
    async with at(bridge, dropped).post(tool("count")) as response:
        assert response.status == 404


async def test_a_damaged_event_in_the_file_keeps_no_bridge_from_starting(
    start_bridge: StartBridge, tmp_path: Path
) -> None:
    store = {"SESSION_STORE": "file", "SESSION_DIR": str(tmp_path)}
    bridge = await start_bridge(KEPT, **store)
    session = await bridge.session()
    async with session.post(tool("progress", 1, token="t", steps=2)) as response:
        assert [answer async for _, answer in sse(response)][-1]["id"] == 1
    await bridge.service.stop()
    with contextlib.closing(sqlite3.connect(tmp_path / NAME)) as database, database:
        assert (
            database.execute(
                "UPDATE events SET data = ? WHERE number > 0", (b'{"jsonrpc":"2.0","meth\x00d":',)
            ).rowcount
            > 1
        )
    bridge = await start_bridge(KEPT, **store)
    assert "result" in await at(bridge, session).call("count")


async def test_times_in_the_file_that_no_calendar_has_can_be_listed(start_bridge: StartBridge, tmp_path: Path) -> None:
    store = {"SESSION_STORE": "file", "SESSION_DIR": str(tmp_path)}
    bridge = await start_bridge(KEPT, **store)
    session = await bridge.session()
    await bridge.service.stop()
    with contextlib.closing(sqlite3.connect(tmp_path / NAME)) as database, database:
        [data] = database.execute("SELECT record FROM sessions").fetchone()
        far = msgspec.json.encode(msgspec.json.decode(data) | {"ttl": 1e306, "created": -1e300})
        database.execute("UPDATE sessions SET record = ?", (far,))
    bridge = await start_bridge(KEPT, **store)
    [row] = await bridge.get("/api/v1/sessions")
    assert (row["ttl_ms"], row["created_at"]) == (3_153_600_000_000, "1970-01-01T00:00:00.000Z")
    async with bridge.http.patch(f"{bridge.url}/api/v1/sessions/{session.id}", json={"metadata": {}}) as answer:
        assert answer.status == 200


async def test_a_deleted_session_stays_deleted(start_bridge: StartBridge, store: dict[str, str]) -> None:
    bridge = await start_bridge(KEPT, **store)
    session = await bridge.session()
    async with session.delete() as response:
        assert response.status == 204
    bridge = await again(bridge, start_bridge, KEPT, **store)
    assert await bridge.get("/api/v1/sessions") == []


@pytest.mark.parametrize("method", ["resources/subscribe", "resources/unsubscribe"])
async def test_a_session_that_is_deleted_while_it_subscribes_stays_deleted(
    start_bridge: StartBridge, store: dict[str, str], method: str
) -> None:
    bridge = await start_bridge(RICH, **store)
    session = await bridge.session()
    asking = asyncio.create_task(session.ask(method, uri="file:///never"))
    async with in_time():
        while not (await bridge.get("/sessions"))[0]["in_use"]:
            pass
    async with session.delete() as response:
        assert response.status == 204
    assert "session ended" in (await asking)["error"]["message"]
    bridge = await again(bridge, start_bridge, RICH, **store)
    assert await bridge.get("/api/v1/sessions") == []


async def test_a_created_session_is_kept_with_its_metadata(start_bridge: StartBridge, store: dict[str, str]) -> None:
    servers = {"peer": peer()}
    bridge = await start_bridge(servers, **store)
    body = {"server": "peer", "persistent": True, "metadata": {"chat": "\u00e9"}, "ttl_hours": 1}
    async with bridge.post("/api/v1/sessions", body) as response:
        made = await response.json()
    assert made["persistent"] is True
    bridge = await again(bridge, start_bridge, servers, **store)
    [row] = await bridge.get("/api/v1/sessions")
    assert (row["session_id"], row["metadata"], row["ttl_ms"]) == (made["session_id"], {"chat": "\u00e9"}, 3_600_000)
    session = Session(bridge.http, f"{bridge.url}/mcp/peer", made["session_id"], {})
    async with session.post(message("initialize", 0, **INITIALIZE)) as response:
        assert response.status == 200
    assert "result" in await session.call("count")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"peer": peer(persistent=True, restore="refuse")}, "restore: refuse"),
        ({"peer": {**peer(persistent=True), "args": [*peer()["args"], "--changes"]}}, "has changed"),
        ({"other": peer(), "peer": peer(persistent=True, disabled=True)}, None),
    ],
)
async def test_a_session_that_cannot_go_on_says_why(
    start_bridge: StartBridge, store: dict[str, str], changed: dict[str, Any], said: str | None
) -> None:
    bridge = await start_bridge(KEPT, **store)
    session = await bridge.session()
    bridge = await again(bridge, start_bridge, changed, **store)
    assert await bridge.get("/api/v1/sessions") == []
    async with at(bridge, session).post(tool("count")) as response:
        assert response.status == 404
        if said is not None:
            assert said in (await response.json())["error"]["message"]


async def test_a_kept_session_survives_its_child(start_bridge: StartBridge, store: dict[str, str]) -> None:
    bridge = await start_bridge(KEPT, **store)
    session = await bridge.session()
    answer = await session.call("die")
    assert "ended before it answered" in answer["error"]["message"]
    assert (await session.call("count", 2))["result"]["count"] == 1
    row = await row_of(bridge, session)
    assert (row["state"], row["restored"]) == ("idle", False)


async def test_a_child_that_cannot_come_back_is_an_error_and_no_end(
    start_bridge: StartBridge, store: dict[str, str], tmp_path: Path
) -> None:
    script = tmp_path / "server.py"
    script.write_text(PEER.read_text())
    entry = {**peer(persistent=True), "args": ["-I", "-S", str(script)]}
    bridge = await start_bridge({"peer": entry}, **store)
    session = await bridge.session()
    good = script.read_text()
    script.write_text("raise SystemExit(9)")
    await session.call("die")
    for number in range(2):
        assert "error" in await session.call("count", number)
    assert (await row_of(bridge, session))["state"] == "dormant"
    script.write_text(good)
    assert "result" in await session.call("count")


async def test_what_a_client_missed_waits_over_a_restart(start_bridge: StartBridge, store: dict[str, str]) -> None:
    bridge = await start_bridge(RICH, **store)
    session = await bridge.session(protocolVersion="2025-11-25")
    async with session.get() as stream:
        found = sse(stream)
        first_id, _ = await anext(found)
        await session.call("list_changed")
        seen_id, note = await anext(found)
        assert note["method"] == "notifications/tools/list_changed"
        await session.call("list_changed")
        await anext(found)
    await bridge.get("/health")
    bridge = await again(bridge, start_bridge, RICH, **store)
    async with at(bridge, session).get(seen_id) as stream:
        found = sse(stream)
        _, missed = await anext(found)
        assert missed["method"] == "notifications/tools/list_changed"
    async with at(bridge, session).get(first_id) as stream:
        found = sse(stream)
        assert [(await anext(found))[1]["method"] for _ in range(2)] == ["notifications/tools/list_changed"] * 2
    async with at(bridge, session).get("9-9") as stream:
        assert stream.status == 400


async def test_a_call_that_a_restart_cut_off_ends_with_an_error_for_who_comes_back(
    serve: Serve,  # noqa: F811
    http: aiohttp.ClientSession,  # noqa: F811
    store: dict[str, str],
) -> None:
    served = await serve(servers=RICH, **store)
    running = Running(None, http)  # type: ignore[arg-type]
    session = await _open(running, served.url, protocolVersion="2025-11-25")
    async with session.post(tool("wait", 7, token="t", key="k")) as stream:
        found = sse(stream)
        await anext(found)  # the primer
        await anext(found)  # the log line of a call that waits
        await session.call("say", 8, key="k", progress=1)
        last_id, note = await anext(found)
        assert note["method"] == "notifications/progress"
        # Both events are in the store: a later session, which waits for the store, was written behind them.
        await _open(running, served.url)
        served.process.send_signal(signal.SIGKILL)
        await served.process.wait()
    served = await serve(**store)
    session.url = f"{served.url}/mcp/peer"
    async with session.get(last_id) as stream:
        [(_, answer)] = [each async for each in sse(stream)]
    assert answer["id"] == 7
    assert "restarted before the answer came" in answer["error"]["message"]
    assert "result" in await session.call("count")


@pytest.mark.parametrize("seconds", [7200, -7200])
async def test_a_clock_that_is_set_costs_no_session_what_its_client_missed(
    serve: Serve,  # noqa: F811
    http: aiohttp.ClientSession,  # noqa: F811
    store: dict[str, str],
    tmp_path: Path,
    seconds: int,
) -> None:
    ahead = tmp_path / "ahead"
    ahead.write_text("0")
    (tmp_path / "sitecustomize.py").write_text(
        "import time\nfrom pathlib import Path\nwall = time.time\n"
        f"time.time = lambda: wall() + float(Path({str(ahead)!r}).read_text())\n"
    )
    store["PYTHONPATH"] = f"{tmp_path}:{PEERS.parent.parent}"
    served = await serve(servers={"peer": {**RICH["peer"], "sessionTtlMs": 3_600_000}}, **store)
    running = Running(None, http)  # type: ignore[arg-type]
    session = await _open(running, served.url, protocolVersion="2025-11-25")
    async with session.get() as stream:
        found = sse(stream)
        first_id, _ = await anext(found)
        await session.call("list_changed")
        await anext(found)
    (tmp_path / "next").write_text(str(seconds))
    (tmp_path / "next").replace(ahead)
    await _open(running, served.url)  # which waits for the store
    served.process.send_signal(signal.SIGKILL)
    await served.process.wait()
    served = await serve(**store)
    session.url = f"{served.url}/mcp/peer"
    async with session.get(first_id) as stream:
        assert (await anext(sse(stream)))[1]["method"] == "notifications/tools/list_changed"


async def _open(running: Running, url: str, **params: Any) -> Session:
    async with running.http.post(
        f"{url}/mcp/peer", json=message("initialize", 0, **{**INITIALIZE, **params})
    ) as answer:
        assert answer.status == 200, await answer.text()
        session = Session(running.http, f"{url}/mcp/peer", answer.headers["Mcp-Session-Id"], {})
    async with session.post(message("notifications/initialized")) as answer:
        assert answer.status == 202
    return session


async def test_a_killed_bridge_loses_no_session_that_a_client_knows(
    serve: Serve,  # noqa: F811
    http: aiohttp.ClientSession,  # noqa: F811
    store: dict[str, str],
) -> None:
    served = await serve(servers=KEPT, **store)
    running = Running(None, http)  # type: ignore[arg-type]
    sessions = await asyncio.gather(*(_open(running, served.url) for _ in range(5)))
    served.process.send_signal(signal.SIGKILL)
    await served.process.wait()
    served = await serve(**store)
    assert "5 kept session(s)" in "".join(served.lines)
    for session in sessions:
        session.url = f"{served.url}/mcp/peer"
        assert "result" in await session.call("count")
    assert await served.stop() == 0


async def test_redis_that_goes_away_under_load_fails_no_call_and_gets_what_it_missed(
    start_bridge: StartBridge, start_redis: Start
) -> None:
    redis = start_redis()
    store = {"REDIS_ENABLED": "true", "REDIS_URL": redis.url}
    bridge = await start_bridge(KEPT, **store)
    before = [await bridge.session() for _ in range(3)]
    calls = 0
    done = asyncio.Event()

    async def load(session: Session) -> None:
        nonlocal calls
        while not done.is_set():
            assert "result" in await session.call("count", calls)
            calls += 1

    async with asyncio.TaskGroup() as group:
        for session in before:
            group.create_task(load(session))
        redis.stop()
        meanwhile = await bridge.session()
        row = await row_of(bridge, meanwhile)
        assert row["persistent"] is False
        async with bridge.http.patch(
            f"{bridge.url}/api/v1/sessions/{meanwhile.id}", json={"metadata": {"n": 1}}
        ) as got:
            assert "redis session store is away" in (await got.json())["warning"]
        health = await bridge.get("/health")
        assert health["status"] == "degraded"
        assert "redis session store is away" in health["reasons"][0]
        redis.start()
        async with asyncio.timeout(30):
            while not (await row_of(bridge, meanwhile))["persistent"]:
                pass
        done.set()
    assert calls > 10
    assert (await bridge.get("/health"))["status"] == "ok"
    key = f"persistent_session:{meanwhile.id}"
    assert json.loads(redis.cli("GET", key))["metadata"] == {"n": 1}
    assert redis.cli("TTL", key) == "-1"
    # It has come back empty, and holds what it held before all the same.
    held = set(redis.cli("KEYS", "persistent_session:*").split())
    assert held == {f"persistent_session:{session.id}" for session in (*before, meanwhile)}


async def test_a_required_store_that_is_away_is_503(start_bridge: StartBridge, start_redis: Start) -> None:
    redis = start_redis()
    bridge = await start_bridge(KEPT, REDIS_ENABLED="true", REDIS_URL=redis.url, PERSISTENCE_REQUIRED="true")
    session = await bridge.session()
    redis.stop()
    async with bridge.post("/mcp/peer", message("initialize", 1, **INITIALIZE)) as response:
        assert response.status == 503
        assert "PERSISTENCE_REQUIRED" in (await response.json())["error"]["message"]
    assert "result" in await session.call("count")  # what is there goes on
    assert [row["session_id"] for row in await bridge.get("/sessions")] == [session.id]


async def test_unknown_sessions_are_told_to_wait_while_the_store_cannot_be_read(
    start_bridge: StartBridge, start_redis: Start
) -> None:
    redis = start_redis()
    store = {"REDIS_ENABLED": "true", "REDIS_URL": redis.url}
    redis.stop()
    bridge = await start_bridge(KEPT, **store)
    session = Session(bridge.http, f"{bridge.url}/mcp/peer", "00000000-0000-0000-0000-000000000000", {})
    async with session.post(tool("count")) as response:
        assert response.status == 503
        assert response.headers["Retry-After"] == "1"
    redis.start()
    async with asyncio.timeout(30):
        while True:
            async with session.post(tool("count")) as response:
                if response.status == 404:
                    break
                assert response.status == 503


async def test_the_expiry_in_redis_slides_with_use(start_bridge: StartBridge, redis: RedisServer) -> None:
    bridge = await start_bridge(
        {"peer": peer(persistent=True, sessionTtlMs=3000)}, REDIS_ENABLED="true", REDIS_URL=redis.url
    )
    session = await bridge.session()
    key = f"persistent_session:{session.id}"
    assert 0 < int(redis.cli("PTTL", key)) <= 3000
    touched = json.loads(redis.cli("GET", key))["touched"]
    async with in_time():
        while json.loads(redis.cli("GET", key))["touched"] == touched:  # at most a third of the TTL
            await session.call("count")
    assert 0 < int(redis.cli("PTTL", key)) <= 3000
    assert redis.cli("KEYS", "persistent_session:*").split() == [key]


async def test_a_session_in_use_for_longer_than_its_ttl_stays_in_redis(
    start_bridge: StartBridge, redis: RedisServer
) -> None:
    bridge = await start_bridge(
        {"peer": peer(persistent=True, sessionTtlMs=1500)}, REDIS_ENABLED="true", REDIS_URL=redis.url
    )
    session = await bridge.session()
    key = f"persistent_session:{session.id}"
    opened = json.loads(redis.cli("GET", key))["touched"]
    async with session.get(), in_time():
        while json.loads(redis.cli("GET", key))["touched"] < opened + 3:
            await bridge.get("/health")  # nobody uses the session but the stream


async def test_a_session_that_asked_for_less_than_any_server_has_is_written_in_time(
    start_bridge: StartBridge, redis: RedisServer
) -> None:
    bridge = await start_bridge({"peer": peer()}, REDIS_ENABLED="true", REDIS_URL=redis.url)
    made: list[Session] = []
    for ttl in (60_000, 1500):
        async with bridge.post("/api/v1/sessions", {"server": "peer", "persistent": True, "ttl_ms": ttl}) as response:
            made.append(Session(bridge.http, f"{bridge.url}/mcp/peer", (await response.json())["session_id"], {}))
    keys = [f"persistent_session:{session.id}" for session in made]
    opened = [json.loads(redis.cli("GET", key))["touched"] for key in keys]
    async with in_time():
        while json.loads(redis.cli("GET", keys[1]))["touched"] < opened[1] + 3:
            for session in made:
                await session.call("count")
    assert json.loads(redis.cli("GET", keys[0]))["touched"] < opened[0] + 2  # as it began; it has time
