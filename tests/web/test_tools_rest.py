"""Tools by plain HTTP, and the OpenAPI document that describes them."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from bridge.auth import tokens
from bridge.web import tools as face
from tests.conftest import PEERS, Running, StartBridge, in_time
from tests.web.test_mirrored import SERVERS

WHO = {
    "type": "object",
    "properties": {
        "a": {"type": "array", "items": {"$ref": "#/$defs/item"}},
        "x/~y": {"type": "integer"},
    },
    "$defs": {"item": {"type": "object", "properties": {"b": {"type": "integer"}}, "required": ["b"]}},
    "required": ["a"],
}
ODD = ["a/b", "a b", "ü{x}", "%2F", "a?b#c", "a_b"]


def toolbox() -> dict[str, Any]:
    """The peer with tools for people."""
    return {"command": sys.executable, "args": ["-I", "-S", str(PEERS / "toolbox.py")]}


def listed(file: Path, *flags: str, **keys: Any) -> dict[str, Any]:
    """The peer whose tools stand in a file."""
    return {"command": sys.executable, "args": ["-I", "-S", str(PEERS / "tools_peer.py"), str(file), *flags], **keys}


def page(*tools: tuple[str, Any]) -> str:
    return json.dumps([{"name": name, "inputSchema": schema} for name, schema in tools]) + "\n"


async def call(bridge: Running, server: str, tool: str, body: Any = b"{}", **headers: str) -> tuple[int, Any]:
    async with bridge.post(f"/api/v1/servers/{server}/tools/{tool}", body, **headers) as response:
        assert response.content_type == "application/json"
        return response.status, await response.json()


async def count(bridge: Running, server: str) -> int:
    """How many requests have reached the processes of a server."""
    [row] = [row for row in await bridge.get("/servers") if row["id"] == server]
    return int(row["calls"])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "pages"
    path.write_text(page(("first", WHO), ("hidden", {})) + page(*((name, {}) for name in ODD)))
    return path


@pytest.mark.parametrize("flags", [(), ("--modern",)])
async def test_all_pages_are_one_list_of_what_is_for_clients(
    start_bridge: StartBridge, file: Path, flags: tuple[str, ...]
) -> None:
    bridge = await start_bridge({"s": listed(file, *flags, disabledTools=["hidden"])})
    found = (await bridge.get("/api/v1/servers/s/tools"))["tools"]
    assert [tool["name"] for tool in found] == ["first", *ODD]
    assert found[0]["inputSchema"] == WHO
    assert (await call(bridge, "s", "hidden"))[0] == 404
    for name in ODD:
        status, said = await call(bridge, "s", quote(name, safe=""))
        assert (status, said["calls"][-1]) == (200, name)


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({"a": [{"b": 1}]}, 200, None),
        ({"a": [{"b": 1}, {"b": "no"}]}, 422, "/a/1/b"),
        ({"a": [], "x/~y": None}, 422, "/x~1~0y"),
        ({}, 422, ""),
        (b"", 422, ""),
        (b"[]", 422, ""),
        (b"null", 422, ""),
        (b'{"a"', 400, "parse error: input data was truncated"),
        (b'{"a":,}', 400, "parse error: JSON is malformed: invalid character (byte 5)"),
        (b'{"a":"\xff"}', 400, "parse error: not UTF-8 at byte 6"),
        (b"[" * 20000, 400, "parse error: nested too deeply"),
    ],
)
async def test_wrong_arguments_are_told_with_their_place(
    start_bridge: StartBridge, file: Path, body: Any, status: int, told: str | None
) -> None:
    bridge = await start_bridge({"s": listed(file)})
    found, answer = await call(bridge, "s", "first", body)
    assert found == status, answer
    if status == 422:
        assert answer["error"]["code"] == -32602
        assert answer["error"]["data"] == {"path": told}
        assert answer["id"] is None
    elif status == 400:
        assert answer["error"]["message"] == told


@pytest.mark.parametrize(
    ("tool", "status", "answer"),
    [
        ("fail", 424, {"content": [{"type": "text", "text": "no such luck"}]}),
        ("picture", 200, None),
        ("absent", 404, None),
        ("die", 502, None),
    ],
)
async def test_what_a_tool_answers_decides_the_status(
    start_bridge: StartBridge, tool: str, status: int, answer: Any
) -> None:
    bridge = await start_bridge({"s": toolbox()})
    found, body = await call(bridge, "s", tool)
    assert found == status, body
    if status == 200:
        assert [item["type"] for item in body["content"]] == ["image"]
    elif answer is not None:
        assert body["error"]["message"] == "no such luck"
        assert body["error"]["data"] == answer


@pytest.mark.parametrize(
    ("result", "answer"),
    [
        ({"content": [], "structuredContent": {"n": 1.50}}, {"n": 1.5}),
        ({"content": [{"type": "text", "text": '{"n": [1]}'}]}, {"n": [1]}),
        ({"content": [{"type": "text", "text": "null"}]}, None),
        ({"content": [{"type": "text", "text": "plain"}]}, {"content": [{"type": "text", "text": "plain"}]}),
        ({"content": []}, {"content": []}),
    ],
)
async def test_what_comes_back_is_the_value(bridge: Running, result: Any, answer: Any) -> None:
    assert json.loads(face._value(json.dumps(result).encode())) == answer


async def test_a_list_is_read_once_until_it_changes(start_bridge: StartBridge, file: Path) -> None:
    """And again before a tool is called unknown, so that a server need not say what changes."""
    bridge = await start_bridge({"s": listed(file)})
    for _ in range(3):
        assert (await call(bridge, "s", "hidden"))[0] == 200
    assert await count(bridge, "s") == 1 + 2 + 3  # the greeting, two pages, the calls
    await asyncio.to_thread(file.write_text, page(("new", {})))
    assert (await call(bridge, "s", "new"))[0] == 200
    assert (await call(bridge, "s", "hidden"))[0] == 404


@pytest.mark.parametrize("server", SERVERS)
async def test_a_list_that_has_changed_is_read_again(start_bridge: StartBridge, server: str) -> None:
    bridge = await start_bridge(SERVERS)
    for _ in range(2):
        assert await call(bridge, server, "open") == (200, {"lists": 1})
    await bridge.bridge_call(server, "tools/call", name="change", arguments={"header": "Region"})
    assert await call(bridge, server, "open") == (200, {"lists": 2})


async def test_a_caller_who_hangs_up_cancels_the_call(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"s": toolbox()})
    calling = asyncio.create_task(call(bridge, "s", "wait"))
    while not any(row["open_calls"] for row in await bridge.get("/children")) or await count(bridge, "s") < 3:
        pass
    calling.cancel()
    while any(row["open_calls"] for row in await bridge.get("/children")):
        pass


async def test_a_tool_can_be_called_as_soon_as_it_is_approved(start_bridge: StartBridge, file: Path) -> None:
    bridge = await start_bridge({"s": listed(file, pinTools="block")})
    assert (await call(bridge, "s", "first", {"a": []}))[0] == 200
    await asyncio.to_thread(file.write_text, page(("first", WHO), ("new", {})))
    assert [tool["name"] for tool in (await bridge.get("/api/v1/servers/s/tools"))["tools"]] == ["first"]
    assert (await call(bridge, "s", "new"))[0] == 404
    async with bridge.post("/api/v1/servers/s/pins/approve", {"tool": "new"}) as response:
        assert response.status == 200
    assert (await call(bridge, "s", "new"))[0] == 200


async def test_limits_of_a_server_hold_here_too(start_bridge: StartBridge, file: Path) -> None:
    bridge = await start_bridge({"s": listed(file, rateLimit="1/hour")})
    assert (await call(bridge, "s", "hidden"))[0] == 200
    status, answer = await call(bridge, "s", "hidden")
    assert status == 429
    assert "rateLimit" in answer["error"]["message"]


async def test_the_document_describes_what_can_be_called(start_bridge: StartBridge, file: Path) -> None:
    dead = {"command": sys.executable, "args": ["-c", "raise SystemExit(7)"]}
    bridge = await start_bridge({"s": listed(file), "t.x": toolbox(), "dead": dead}, BASE_PATH="/below")
    document = await bridge.get("/openapi.json")
    OpenAPIV31SpecValidator(document).validate()
    assert "7" in document["x-unavailable"].pop("dead")
    assert document["x-unavailable"] == {}
    assert "security" not in document
    assert document["servers"] == [{"url": bridge.url}]
    operations = [item["post"] for item in document["paths"].values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names) == 2 + len(ODD) + 7
    assert {"s_first", "s_a_b", "s_a_b_2", "t_x_show"} <= set(names)
    assert document["paths"]["/api/v1/servers/s/tools/first"]["post"]["requestBody"]["required"]
    for path, status in zip(document["paths"], [422, 200, *[200] * len(ODD)], strict=False):
        async with bridge.post(path, b"{}") as response:
            assert response.status == status, path
    chosen = await bridge.get("/openapi.json?server=t.x")
    assert {operation["post"]["tags"][0] for operation in chosen["paths"].values()} == {"t.x"}
    async with bridge.http.get(bridge.url + "/openapi.json?server=nope") as response:
        assert response.status == 404


async def test_a_server_that_does_not_answer_costs_its_time_only(
    start_bridge: StartBridge, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(face, "PATIENCE", 1.0)
    silent = {"command": "sleep", "args": ["1000"]}
    bridge = await start_bridge({"s": listed(file), "silent": silent, "mute": silent})
    async with in_time():
        document = await bridge.get("/openapi.json")
    assert set(document["x-unavailable"]) == {"silent", "mute"}
    assert len(document["paths"]) == 2 + len(ODD)


async def test_each_caller_sees_what_is_its_own(start_bridge: StartBridge, file: Path, tmp_path: Path) -> None:
    secret, row = tokens.mint("a", ["servers:s"], None, datetime.now(UTC))
    tokens.write(tmp_path / "tokens.json", [row])
    bridge = await start_bridge({"s": listed(file), "t": toolbox()}, TOKENS_FILE=tmp_path / "tokens.json")
    headers = {"X-API-Key": secret}
    async with bridge.http.get(bridge.url + "/openapi.json", headers=headers) as response:
        document = await response.json()
    OpenAPIV31SpecValidator(document).validate()
    assert {tag["name"] for tag in document["tags"]} == {"s"}
    assert [*document["components"]["securitySchemes"]] == ["bearer", "key"]
    async with bridge.http.get(bridge.url + "/openapi.json?server=t", headers=headers) as response:
        assert response.status == 403
