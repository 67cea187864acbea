"""Streams that another worker answers end with the token that opened them, as those do that are answered at once."""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest

from bridge.auth import keyring, tokens
from bridge.cluster.board import Board, Workers
from bridge.cluster.node import node_of
from bridge.config.servers import parse_servers
from bridge.config.settings import read_settings
from bridge.web import stays
from bridge.web.app import Service
from tests.conftest import INITIALIZE, Running, events, in_time, message, peer, tool

KEY = b"a key that is for tests and for nobody else"


@pytest.fixture
async def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[Running]]:
    """Two workers in this process, which look at tokens all the time."""
    monkeypatch.setattr(stays, "INTERVAL", 0.01)
    monkeypatch.setattr(keyring, "LOOK", 0.0)
    tokens.write(tmp_path / "tokens.json", [])
    settings = read_settings({"PORT": "0", "PINS_FILE": "", "TOKENS_FILE": str(tmp_path / "tokens.json")})
    servers = parse_servers(json.dumps({"peer": peer()}), "servers.json", {})
    board, found = Board.make(2), []
    with tempfile.TemporaryDirectory(prefix="w", dir="/tmp") as folder:
        for index in (1, 2):
            members = Workers(board, Path(folder), index, 1)
            own = replace(settings, session_dir=tmp_path / str(index))
            service = Service(own, servers, lambda _: lambda _: None, node_of(members, KEY, members.socket))
            await service.start()
            members.listens()
            found.append(Running(service, aiohttp.ClientSession()))
        yield found
        for each in found:
            await each.http.close()
            await each.service.stop()


async def test_a_stream_of_another_worker_ends_when_its_token_is_removed(two: list[Running], tmp_path: Path) -> None:
    here, there = two
    (gone, row), (stays_, other) = (tokens.mint(name, ["admin"], None, datetime.now(UTC)) for name in ("gone", "stays"))
    tokens.write(tmp_path / "tokens.json", [row, other])
    async with there.post("/mcp/peer", message("initialize", 1, **INITIALIZE), X_API_Key=gone) as response:
        session_id = response.headers["Mcp-Session-Id"]
        assert session_id.startswith("w2.")
    named = {"X-API-Key": gone, "Mcp-Session-Id": session_id}
    call = tool("wait", "call", token="t", key="k")
    async with in_time(), here.post("/mcp/peer", call, X_API_Key=gone, Mcp_Session_Id=session_id) as calling:
        answers = events(calling)
        assert (await anext(answers))["method"] == "notifications/message"
        listening = {**named, "Accept": "text/event-stream"}
        async with here.http.get(f"{here.url}/mcp/peer", headers=listening) as stream:
            assert stream.status == 200
            assert await stream.content.readany()
            tokens.write(tmp_path / "tokens.json", [other])
            try:
                while await stream.content.readany():
                    pass
            except aiohttp.ClientPayloadError:  # cut, and not ended
                pass
        # A call that runs is no stay: it gets its answer, which is an error here.
        async with here.http.delete(f"{here.url}/api/v1/sessions/{session_id}", headers={"X-API-Key": stays_}) as ended:
            assert ended.status == 204
        *_, answer = [each async for each in answers]
        assert (answer["id"], "error" in answer) == ("call", True)
