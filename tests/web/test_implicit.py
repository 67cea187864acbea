"""Old scripts that never initialize (``IMPLICIT_INITIALIZE``)."""

from __future__ import annotations

from tests.conftest import Running, Session, StartBridge, message, tool


async def test_a_request_without_a_session_opens_one(bridge: Running) -> None:
    async with bridge.post("/mcp/peer", tool("count", 1)) as response:
        assert response.status == 200
        assert (await response.json())["result"] == {"count": 1}
        session = Session(bridge.http, bridge.url + "/mcp/peer", response.headers["Mcp-Session-Id"], {})
    assert (await session.call("count"))["result"] == {"count": 2}
    [row] = await bridge.get("/sessions")
    assert (row["pool"], row["state"], row["protocol_version"]) == ("streamable", "idle", "2025-11-25")


async def test_the_handshake_such_a_script_does_by_halves_is_accepted(bridge: Running) -> None:
    async with bridge.post("/mcp/peer", message("notifications/initialized")) as response:
        assert response.status == 202


async def test_it_can_be_switched_off(start_bridge: StartBridge) -> None:
    bridge = await start_bridge(IMPLICIT_INITIALIZE="false")
    for body in (tool("count", 1), message("notifications/initialized")):
        async with bridge.post("/mcp/peer", body) as response:
            assert response.status == 400
            assert (await response.json())["error"]["code"] == -32000
