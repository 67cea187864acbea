"""What pages are told, and which: only those that may come in."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import INITIALIZE, StartBridge, events, message, tool

PAGE = "https://app.example"
LOCAL = "http://localhost:5173"


async def ask(bridge: Any, method: str, path: str, **headers: str) -> Any:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return await bridge.http.request(method, bridge.url + path, headers=given)


@pytest.mark.parametrize("origin", [PAGE, LOCAL])
async def test_a_browser_may_ask_for_a_page_that_may_come_in(start_bridge: StartBridge, origin: str) -> None:
    bridge = await start_bridge(ALLOWED_ORIGINS=f"{PAGE},{LOCAL}", ACCESS_TOKEN="sesame")
    answer = await ask(
        bridge,
        "OPTIONS",
        "/mcp/peer",
        Origin=origin,
        Access_Control_Request_Method="POST",
        Access_Control_Request_Headers="content-type, mcp-param-city",
    )
    assert answer.status == 204
    assert answer.headers["Access-Control-Allow-Origin"] == origin
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]
    allowed = answer.headers["Access-Control-Allow-Headers"].lower()
    assert {"authorization", "mcp-session-id", "mcp-param-city"} <= {name.strip() for name in allowed.split(",")}
    assert "Origin" in answer.headers["Vary"]


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost.evil.example", "http://[::1"])
async def test_no_other_page_is_told_anything(start_bridge: StartBridge, origin: str) -> None:
    bridge = await start_bridge(ALLOWED_ORIGINS=PAGE)
    for method, more in (("OPTIONS", {"Access_Control_Request_Method": "POST"}), ("GET", {})):
        answer = await ask(bridge, method, "/servers", Origin=origin, **more)
        assert answer.status == 403
        assert "ALLOWED_ORIGINS" in await answer.text()
        assert not [name for name in answer.headers if name.startswith("Access-Control")]


async def test_a_host_that_is_not_ours_is_told_nothing_either(start_bridge: StartBridge) -> None:
    bridge = await start_bridge(ALLOWED_ORIGINS=LOCAL)
    answer = await ask(
        bridge, "OPTIONS", "/mcp/peer", Origin=LOCAL, Host="evil.example", Access_Control_Request_Method="POST"
    )
    assert answer.status == 403


async def test_a_page_sees_answers_streams_and_refusals(start_bridge: StartBridge) -> None:
    bridge = await start_bridge(ALLOWED_ORIGINS=LOCAL)
    bridge.http.headers["Origin"] = LOCAL
    async with bridge.post("/mcp/peer", message("initialize", 1, **INITIALIZE)) as response:
        assert response.headers["Access-Control-Allow-Origin"] == LOCAL
        assert "Mcp-Session-Id" in response.headers["Access-Control-Expose-Headers"]
    session = await bridge.session()
    async with session.post(tool("count")) as response:  # the short way
        assert response.headers["Access-Control-Allow-Origin"] == LOCAL
        assert response.headers["Mcp-Session-Id"] == session.id
        assert (await response.json())["result"] == {"count": 1}
    async with session.post(tool("progress", 2, token="t", steps=1)) as response:
        assert response.headers["Access-Control-Allow-Origin"] == LOCAL
        assert len([each async for each in events(response)]) == 2
    async with session.get() as response:
        assert response.headers["Access-Control-Allow-Origin"] == LOCAL
    async with bridge.post("/mcp/nobody", message("ping", 1)) as response:
        assert response.status == 404
        assert response.headers["Access-Control-Allow-Origin"] == LOCAL


async def test_who_is_no_page_gets_no_word_of_it(start_bridge: StartBridge) -> None:
    bridge = await start_bridge(ALLOWED_ORIGINS=LOCAL)
    session = await bridge.session()
    async with session.post(tool("count")) as response:
        assert not [name for name in response.headers if name.startswith("Access-Control")]


async def test_a_token_may_come_as_an_api_key(start_bridge: StartBridge) -> None:
    bridge = await start_bridge(ACCESS_TOKEN="sesame")
    for key, status in (("sesame", 200), ("wrong", 401), ("", 401)):
        answer = await ask(bridge, "GET", "/servers", X_API_Key=key)
        assert answer.status == status
    both = await ask(bridge, "GET", "/servers", X_API_Key="wrong", Authorization="Bearer sesame")
    assert both.status == 401
