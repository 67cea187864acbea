"""The audit log of a real bridge: who did what, and nothing of what was in it."""

from __future__ import annotations

import json
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bridge.auth import tokens
from tests.cli.conftest import Serve, initialize
from tests.conftest import PEERS, message, peer, tool
from tests.modern_client import ModernClient

FORGED = 'x\r\n{"event":"tool_call","principal":"token:boss"}\x1b[2J'


async def _post(http: aiohttp.ClientSession, url: str, body: Any, **headers: str) -> tuple[int, str]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with http.post(url, json=body, headers=named) as response:
        return response.status, await response.text()


@pytest.fixture
def secret(tmp_path: Path) -> str:
    made, row = tokens.mint("ci", ["servers:*"], None, datetime.now(UTC))
    tokens.write(tmp_path / "tokens.json", [row])
    return made


async def test_each_event_is_one_line_that_tells_who_and_not_what(
    tmp_path: Path, serve: Serve, http: aiohttp.ClientSession, secret: str
) -> None:
    served = await serve(
        servers={"peer": {**peer(), "args": [*peer()["args"], "--api-key", "hush"]}},
        AUDIT_LOG="true",
        TOKENS_FILE="tokens.json",
    )
    http.headers["Authorization"] = f"Bearer {secret}"
    url = f"{served.url}/mcp/peer"
    session = await initialize(http, url)
    calls = [
        ("echo", {"text": "hush"}, "ok"),
        ("echo", {"isError": True, "content": []}, "tool_error"),
        (FORGED, {}, "error"),
    ]
    for name, arguments, _ in calls:
        assert (await _post(http, url, tool(name, 1, **arguments), **session))[0] == 200
    body = {"method": "tools/call", "params": {"name": "count", "arguments": {}}}
    assert (await _post(http, f"{served.url}/bridge/peer", body))[0] == 200
    async with http.post(url, json=tool("wait", 7, key="k"), headers=session) as response:
        await response.content.readany()
        await _post(http, url, message("notifications/cancelled", requestId=7), **session)
        assert (await _post(http, url, tool("echo", 8), Authorization="Bearer mcpb_hush"))[0] == 401
        assert (await _post(http, url, tool("echo", 8), Host="evil.example"))[0] == 403
        assert (await _post(http, f"{served.url}/api/v1/drain", {}))[0] == 403
        assert (await _post(http, url, tool("echo", 8), Mcp_Session_Id="hush-hush-hush"))[0] == 404
        async with http.delete(f"{served.url}/api/v1/sessions/{'h' * 9}ush") as refused:
            assert refused.status == 404
        async with http.delete(url, headers=session) as ended:
            assert ended.status == 204
    assert await served.stop() == 0

    lines = (tmp_path / "logs/audit.log").read_text().splitlines()
    assert "hush" not in "".join(lines)
    assert "\x1b" not in "".join(lines)
    found = [json.loads(line) for line in lines]

    def of(event: str) -> list[dict[str, Any]]:
        return [each for each in found if each["event"] == event]

    tools = of("tool_call")
    assert [(each["tool"], each["outcome"]) for each in tools] == [
        *((name, outcome) for name, _, outcome in calls),
        ("count", "ok"),
        ("wait", "cancelled"),
    ]
    for each in tools:
        assert (each["principal"], each["server"], each["address"]) == ("token:ci", "peer", "127.0.0.1")
        assert each["duration_ms"] > 0
        assert (each["size"] > 0) == (each["outcome"] != "cancelled")
    assert [(each["status"], each["route"], each["principal"]) for each in of("refused")] == [
        (401, "POST /mcp/peer", "nobody"),
        (403, "POST /mcp/peer", "nobody"),
        (403, "POST /api/v1/drain", "token:ci"),
        (404, "POST /mcp/peer", "token:ci"),
        (404, "DELETE /api/v1/sessions/hhhhhhhh...", "token:ci"),
    ]
    assert "ALLOWED_HOSTS" in of("refused")[1]["why"]
    [opened], [closed] = of("session_open"), of("session_close")
    assert opened["session"] == closed["session"] == session["Mcp-Session-Id"][:8] + "..."
    assert opened["principal"] == closed["principal"] == "token:ci"
    assert closed["why"] == "the client deleted it"
    assert sorted(each["pid"] for each in of("spawn")) == sorted(each["pid"] for each in of("exit"))
    assert of("spawn")[0]["argv"][-2:] == ["--api-key", "***"]
    assert of("spawn")[0]["why"] == "a caller waits"
    assert "tool_call" not in (tmp_path / "logs/bridge.log").read_text()
    assert "tool_call" not in "".join(served.lines)


async def test_what_is_wrong_with_arguments_and_what_a_tool_says_is_in_no_line(
    tmp_path: Path, serve: Serve, http: aiohttp.ClientSession
) -> None:
    toolbox = {"command": sys.executable, "args": ["-I", "-S", str(PEERS / "toolbox.py")]}
    served = await serve(servers={"peer": toolbox}, AUDIT_LOG="true")
    url = f"{served.url}/api/v1/servers/peer/tools"
    status, text = await _post(http, f"{url}/show", {"name": "hush", "where": "hush"})
    assert (status, "hush" in text) == (422, True)
    status, text = await _post(http, f"{url}/fail", {})
    assert (status, "no such luck" in text) == (424, True)
    assert await served.stop() == 0
    log = (tmp_path / "logs/audit.log").read_text()
    found = [json.loads(line) for line in log.splitlines()]
    assert [(each["status"], each["why"]) for each in found if each["event"] == "refused"] == [
        (422, "wrong arguments"),
        (424, "tool failed"),
    ]
    assert [(each["tool"], each["outcome"]) for each in found if each["event"] == "tool_call"] == [
        ("fail", "tool_error")
    ]
    assert "hush" not in log
    assert "luck" not in log


async def test_without_the_setting_there_is_no_file(tmp_path: Path, serve: Serve, http: aiohttp.ClientSession) -> None:
    served = await serve(servers={"peer": peer()})
    await initialize(http, f"{served.url}/mcp/peer")
    assert await served.stop() == 0
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == [
        ".lock",
        "bridge.log",
        "error.log",
        "servers",
    ]


@pytest.mark.parametrize("face", ["sse", "modern", "modern events", "batch"])
async def test_calls_of_every_face_are_written(
    tmp_path: Path, serve: Serve, http: aiohttp.ClientSession, face: str
) -> None:
    served = await serve(servers={"peer": peer(maxConcurrent=1)}, AUDIT_LOG="true")
    url = f"{served.url}/mcp/peer"
    if face == "sse":
        async with http.get(f"{served.url}/sse/peer") as stream:
            await stream.content.readline()
            where = (await stream.content.readline()).decode().removeprefix("data: ").strip()
            for _ in range(2):
                assert (await _post(http, served.url + where, tool("echo", 1)))[0] == 202
                async for line in stream.content:
                    if line.startswith(b"data: "):
                        break
    elif face == "batch":
        async with http.post(url, json=message("initialize", 1, **_OLD)) as response:
            session = {"Mcp-Session-Id": response.headers["Mcp-Session-Id"]}
        _, text = await _post(http, url, [tool("echo", 1), tool("echo", 2)], **session)
        answers = {answer["id"]: answer for answer in json.loads(text)}
        assert "maxConcurrent" in answers[2]["error"]["message"]
        await _post(http, url, [tool("echo", 3)], **session)
    else:
        name = "log" if face == "modern events" else "echo"
        client = ModernClient(None, "peer")  # type: ignore[arg-type]
        meta = {"io.modelcontextprotocol/logLevel": "debug"}
        for number in range(2):
            body = client.body("tools/call", number, meta, name=name, arguments={"text": "hello"})
            headers = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": name}
            assert (await _post(http, url, body, **headers))[0] == 200
    assert await served.stop() == 0
    lines = [json.loads(line) for line in (tmp_path / "logs/audit.log").read_text().splitlines()]
    called = [each for each in lines if each["event"] == "tool_call"]
    assert [each["outcome"] for each in called] == ["ok", "ok"]
    assert all(each["size"] > 0 for each in called)
    assert {each["principal"] for each in called} == {"anonymous"}


_OLD = {"protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": {"name": "old", "version": "1"}}


async def test_what_operators_do_is_written_with_who_did_it(
    tmp_path: Path, serve: Serve, http: aiohttp.ClientSession
) -> None:
    served = await serve(servers={"peer": peer()}, AUDIT_LOG="true", ACCESS_TOKEN="sesame")
    http.headers["Authorization"] = "Bearer sesame"
    await initialize(http, f"{served.url}/mcp/peer")
    paths = ["servers/peer/stop", "servers/peer/start", "servers/peer/restart", "reload", "drain"]
    for path in paths:
        async with http.post(f"{served.url}/api/v1/{path}") as response:
            assert response.status < 300
    await served.process.wait()
    lines = [json.loads(line) for line in (tmp_path / "logs/audit.log").read_text().splitlines()]
    done = [(line["action"], line.get("server"), line["principal"]) for line in lines if line["event"] == "operate"]
    who = done[0][2]
    assert done == [
        *((action, "peer", who) for action in ("stop", "start", "restart")),
        ("reload", None, who),
        ("drain", None, who),
    ]
    log = (tmp_path / "logs/bridge.log").read_text()
    assert f"server peer: stop, asked by {who}" in log
    assert f"bridge: reload, asked by {who}" in log
    assert re.search(r"Session removed session_id=\S+ total_sessions=0 server=peer: \w+", log)
