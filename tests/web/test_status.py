"""What an operator sees: ``/health``, ``/servers``, ``/sessions``, ``/children``."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from bridge.auth import tokens
from tests.conftest import Running, StartBridge, peer
from tests.web.test_doors import NOW

SERVERS = {
    "peer": peer(description="a peer"),
    "off": {"command": "nothing", "disabled": True},
    "wrong": {"command": ["a", "list"]},
}


async def test_health_counts_what_lives(bridge: Running) -> None:
    await bridge.session()
    health = await bridge.get("/health")
    assert health["status"] == "ok"
    assert (health["servers"], health["children"]) == (1, 1)
    assert health["sessions"] == {"bridge": 0, "streamable": 1}


async def test_health_is_degraded_by_an_entry_that_cannot_be_used(start_bridge: StartBridge) -> None:
    bridge = await start_bridge(SERVERS)
    health = await bridge.get("/health")
    assert health["status"] == "degraded"
    assert '"wrong"' in health["reasons"][0]


async def test_one_entry_with_half_a_character_leaves_all_lists_as_they_are(start_bridge: StartBridge) -> None:
    servers = {"peer": peer(), "half": peer(description="\ud800"), "named\ud800": peer(), "key": peer(**{"\ud800": 1})}
    bridge = await start_bridge(servers)
    rows = {row["id"]: row["state"] for row in await bridge.get("/servers")}
    assert rows == {"peer": "idle", "half": "invalid", r"named\ud800": "invalid", "key": "invalid"}
    assert len((await bridge.get("/health"))["reasons"]) == 3
    assert "paths" in await bridge.get("/openapi.json")


async def test_health_tells_a_stranger_the_status_and_nothing_else(start_bridge: StartBridge) -> None:
    bridge = await start_bridge(SERVERS, ACCESS_TOKEN="sesame")
    assert await bridge.get("/health") == {"status": "degraded"}
    bridge.http.headers["Authorization"] = "Bearer sesame"
    assert "reasons" in await bridge.get("/health")


async def test_probes_need_no_token_and_say_when_to_send_nothing_more(start_bridge: StartBridge) -> None:
    bridge = await start_bridge(ACCESS_TOKEN="sesame")
    for path in ("/livez", "/readyz"):
        assert await bridge.get(path) == {"status": "ok"}
    bridge.service.drain()
    assert await bridge.get("/livez") == {"status": "ok"}
    async with bridge.http.get(bridge.url + "/readyz") as response:
        assert (response.status, await response.json()) == (503, {"status": "draining"})


async def test_servers_are_listed_with_their_state(start_bridge: StartBridge) -> None:
    bridge = await start_bridge(SERVERS)
    rows = {row["id"]: row for row in await bridge.get("/servers")}
    assert {name: row["state"] for name, row in rows.items()} == {"peer": "idle", "off": "disabled", "wrong": "invalid"}
    assert rows["peer"]["description"] == "a peer"
    assert rows["peer"]["mcp_url"] == "/mcp/peer"
    await bridge.session()
    [peer_row] = [row for row in await bridge.get("/api/v1/servers") if row["id"] == "peer"]
    assert (peer_row["state"], peer_row["children"], peer_row["sessions"]) == ("running", 1, 1)


async def test_sessions_are_listed_for_their_owner(start_bridge: StartBridge) -> None:
    bridge = await start_bridge(STREAM_SESSION_TTL_MS="never")
    session = await bridge.session()
    [row] = await bridge.get("/sessions")
    assert row["session_id"] == session.id
    assert (row["pool"], row["server"], row["state"], row["ttl_ms"]) == ("streamable", "peer", "idle", None)
    assert row["protocol_version"] == "2025-06-18"
    async with session.get():
        [row] = await bridge.get("/sessions")
        assert (row["state"], row["in_use"]) == ("active", 1)


async def test_children_are_listed_with_processor_and_memory(bridge: Running) -> None:
    session = await bridge.session()
    pid = (await session.call("pid"))["result"]["pid"]
    [row] = await bridge.get("/children")
    assert (row["server"], row["pid"], row["state"], row["holders"]) == ("peer", pid, "ready", 1)
    assert row["calls"] == 2
    assert row["resident_bytes"] > 1_000_000
    assert row["cpu_percent"] >= 0


@pytest.mark.parametrize("seconds", [7200, -7200])
async def test_a_clock_that_is_set_makes_no_child_older_or_younger(
    bridge: Running, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    await bridge.session()
    wall = time.time
    monkeypatch.setattr(time, "time", lambda: wall() + seconds)
    [row] = await bridge.get("/children")
    assert 0 <= row["uptime_s"] < 3600


@pytest.mark.parametrize("path", ["/servers", "/sessions", "/children", "/mcp/peer"])
async def test_all_but_health_want_the_token(start_bridge: StartBridge, path: str) -> None:
    bridge = await start_bridge(ACCESS_TOKEN="sesame")
    async with bridge.http.get(bridge.url + path) as response:
        assert response.status == 401


async def test_a_server_whose_program_is_not_there_is_known_to_fail_before_anyone_asks(
    start_bridge: StartBridge,
) -> None:
    bridge = await start_bridge({"gone": {"command": "no-such-thing"}, "peer": peer()})
    told = {row["id"]: row["last_error"] for row in await bridge.get("/servers")}
    assert told == {"gone": "command 'no-such-thing' not found on the PATH of its environment", "peer": None}


async def test_what_a_child_wrote_while_it_served_somebody_is_for_operators(
    start_bridge: StartBridge, tmp_path: Path
) -> None:
    scopes = {"user": ["servers:*"], "neighbour": ["servers:*"], "operator": ["servers:*", "admin"]}
    made = {name: tokens.mint(name, scope, None, NOW) for name, scope in scopes.items()}
    tokens.write(tmp_path / "tokens.json", [row for _, row in made.values()])
    entries = {"peer": peer(restartDelay=1000), "broken": {"command": "sh", "args": ["-c", "echo no key >&2; exit 4"]}}
    bridge = await start_bridge(entries, TOKENS_FILE=tmp_path / "tokens.json")
    bridge.http.headers["Authorization"] = f"Bearer {made['user'][0]}"
    said = ""
    for _ in range(5):
        session = await bridge.session()
        assert "these are my last words" in (await session.call("die"))["error"]["message"]
        said += json.dumps(await bridge.bridge_call("broken", "ping"))
    assert "no key" in said
    told = {}
    for name, (token, _) in made.items():
        bridge.http.headers["Authorization"] = f"Bearer {token}"
        told[name] = json.dumps([await bridge.get("/servers"), await bridge.get("/health")])
        told[name] += json.dumps(await bridge.bridge_call("peer", "ping"))
    assert "last words" in told["operator"]
    for name in ("user", "neighbour"):
        assert "it exited with code 1" in told[name]
        assert "these are my last words" not in told[name]
        assert "no key" in told[name], "nobody was served yet"
