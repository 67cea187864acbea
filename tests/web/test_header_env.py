"""``headerEnv``: a client's header is a variable of its own child, from ``initialize`` to the end, and of no other."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from bridge.config.servers import parse_servers
from tests.conftest import INITIALIZE, Running, Session, StartBridge, last, message, peer, tool
from tests.modern_client import ModernClient
from tests.web.test_tools import server

SECRET = "hush-hush-1"
KEYS = {"headerEnv": {"X-User-Token": "API_TOKEN", "x-region": "REGION"}}


async def environment(session: Session) -> dict[str, str]:
    return dict((await session.call("environment"))["result"])


async def opened(bridge: Running, name: str, **headers: str) -> Session:
    async with bridge.post(f"/mcp/{name}", message("initialize", 0, **INITIALIZE), **headers) as response:
        assert response.status == 200, await response.text()
        return Session(bridge.http, f"{bridge.url}/mcp/{name}", response.headers["Mcp-Session-Id"], {})


@pytest.mark.parametrize(
    "keys", [{}, {"warm": 1}, {"preload": ["json"]}, {"sharing": {"holders": 1}}, {"limits": {"openFiles": 99}}]
)
async def test_each_session_has_what_its_client_said(
    start_bridge: StartBridge, keys: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    bridge = await start_bridge({"own": peer(**KEYS, **keys, env={"API_TOKEN": "default"})})
    one = await opened(bridge, "own", X_User_Token=SECRET, X_Region="eu")
    two = await opened(bridge, "own", X_User_Token="hush-hush-2")
    none = await opened(bridge, "own")
    found = [(env["API_TOKEN"], env.get("REGION")) for env in [await environment(each) for each in (one, two, none)]]
    assert found == [(SECRET, "eu"), ("hush-hush-2", None), ("default", None)]
    async with one.post(tool("environment"), X_User_Token="another") as response:  # taken once
        assert (await last(response))["result"]["API_TOKEN"] == SECRET
    assert "hush" not in caplog.text
    for path in ("/servers", "/sessions", "/children", "/health"):
        assert "hush" not in json.dumps(await bridge.get(path))


async def test_every_beginning_of_a_session_takes_them(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"own": peer(**KEYS)})
    async with bridge.post("/mcp/own", tool("environment"), X_User_Token="implicit") as response:
        assert (await last(response))["result"]["API_TOKEN"] == "implicit"
    for at_creation, at_first, wanted in ((SECRET, None, SECRET), (SECRET, "late", SECRET), (None, "late", "late")):
        for first in ("initialize", "call"):
            given = {"X_User_Token": at_creation} if at_creation else {}
            async with bridge.post("/api/v1/sessions", {"server": "own"}, **given) as response:
                row = await response.json()
            session = Session(bridge.http, f"{bridge.url}/mcp/own", row["session_id"], {})
            given = {"X_User_Token": at_first} if at_first else {}
            body = message("initialize", 0, **INITIALIZE) if first == "initialize" else tool("count")
            async with session.post(body, **given) as response:
                assert response.status == 200
            assert (await environment(session))["API_TOKEN"] == wanted
    async with bridge.http.get(f"{bridge.url}/sse/own", headers={"X-User-Token": "sse"}) as stream:
        lines = stream.content
        path = ""
        while not path:
            line = (await lines.readline()).decode()
            path = line.partition("data: ")[2].strip()
        for body in (message("initialize", 0, **INITIALIZE), tool("environment", 1)):
            async with bridge.post(path, body) as response:
                assert response.status == 202
        async for line in lines:
            if b'"id":1,' in line:
                assert json.loads(line[6:])["result"]["API_TOKEN"] == "sse"
                break


async def test_a_modern_only_server_gives_each_session_a_child_of_its_own(
    start_bridge: StartBridge, tmp_path: Path
) -> None:
    (tmp_path / "pages").write_text("[]")
    bridge = await start_bridge({"new": server(tmp_path / "pages", "--modern", **KEYS)})
    found = []
    for token in (SECRET, SECRET, None):
        session = await opened(bridge, "new", **({"X_User_Token": token} if token else {}))
        said = (await session.call("x"))["result"]["structuredContent"]
        found.append((said["environment"].get("API_TOKEN"), said["calls"], said["pid"]))
    assert [token for token, _, _ in found] == [SECRET, SECRET, None]
    assert [calls for _, calls, _ in found] == [["x"]] * 3
    assert len({pid for _, _, pid in found}) == 3


async def test_a_session_that_loses_its_child_keeps_them(start_bridge: StartBridge, tmp_path: Path) -> None:
    settings = {"SESSION_STORE": "file", "SESSION_DIR": str(tmp_path / "kept")}
    bridge = await start_bridge({"own": peer(**KEYS, persistent=True)}, **settings)
    session = await opened(bridge, "own", X_User_Token=SECRET)
    await session.call("die")
    assert (await environment(session))["API_TOKEN"] == SECRET


async def test_after_a_restart_the_session_is_gone_and_nothing_was_written(
    start_bridge: StartBridge, tmp_path: Path
) -> None:
    settings = {"SESSION_STORE": "file", "SESSION_DIR": str(tmp_path / "kept")}
    servers = {"own": peer(**KEYS, persistent=True), "plain": peer(persistent=True)}
    first = await start_bridge(servers, **settings)
    session, other = await opened(first, "own", X_User_Token=SECRET), await opened(first, "plain", X_User_Token=SECRET)
    await session.call("count")
    await first.service.stop()
    assert all(SECRET.encode() not in file.read_bytes() for file in (tmp_path / "kept").iterdir())
    second = await start_bridge(servers, **settings)
    async with second.post("/mcp/own", tool("count"), Mcp_Session_Id=session.id) as response:
        assert response.status == 404
        assert "headerEnv" in (await response.json())["error"]["message"]
    async with second.post("/mcp/plain", tool("count"), Mcp_Session_Id=other.id) as response:
        assert response.status == 200


async def test_another_headerenv_ends_sessions_at_a_reload(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"own": peer(**KEYS)})
    session = await opened(bridge, "own", X_User_Token=SECRET)
    entries = {"own": peer(headerEnv={"X-User-Token": "OTHER"})}
    bridge.service.reload(parse_servers(json.dumps(entries), "servers.json", {}))
    async with session.post(tool("environment")) as response:
        assert response.status == 404


@pytest.mark.parametrize("face", ["bridge", "any", "modern", "modern listen"])
async def test_calls_that_share_a_child_are_refused_with_the_header_only(start_bridge: StartBridge, face: str) -> None:
    bridge = await start_bridge({"own": peer(**KEYS), "plain": peer()})

    async def ask(name: str, **headers: str) -> tuple[int, str]:
        modern = ModernClient(bridge, name)
        call = {"method": "tools/list"}
        request = {
            "bridge": lambda: bridge.post(f"/bridge/{name}", call, **headers),
            "any": lambda: bridge.post("/bridge", {**call, "server": name}, **headers),
            "modern": lambda: modern.send(modern.body("tools/list"), **headers),
            "modern listen": lambda: modern.send(modern.body("subscriptions/listen", notifications={}), **headers),
        }[face]()
        async with request as response:
            text = "" if response.content_type == "text/event-stream" else await response.text()
            return response.status, text

    status, text = await ask("own", X_User_Token=SECRET)
    assert status == 400
    assert "header X-User-Token is for a process of your own" in text
    assert (await ask("own"))[0] == 200
    assert (await ask("plain", X_User_Token=SECRET))[0] == 200


@pytest.mark.parametrize("value", ["", "a\tb", "x\u200by", "x" * 8100 + "é" * 60])
async def test_a_value_that_is_no_line_is_refused(start_bridge: StartBridge, value: str) -> None:
    bridge = await start_bridge({"own": peer(**KEYS)})
    body = message("initialize", 0, **INITIALIZE)
    async with bridge.post("/mcp/own", body, X_User_Token=value) as response:
        assert response.status in (400, 431)
        text = await response.text()
        assert value == "" or value not in text
    assert bridge.service.core.registry.children() == []


async def test_a_header_that_is_there_twice_is_refused(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"own": peer(**KEYS)})
    headers = [("Accept", "application/json, text/event-stream"), ("X-User-Token", "a"), ("X-User-Token", "b")]
    async with bridge.http.post(
        f"{bridge.url}/mcp/own", json=message("initialize", 0, **INITIALIZE), headers=headers
    ) as response:
        assert response.status == 400
        assert "must be there once" in (await response.json())["error"]["message"]
