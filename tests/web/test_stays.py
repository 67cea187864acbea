"""Streams end with the token that opened them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bridge.auth import keyring, tokens
from bridge.web import stays
from tests.conftest import INITIALIZE, Running, StartBridge, in_time, message
from tests.modern_client import ModernClient

Way = Callable[[Running, dict[str, str]], Any]


@asynccontextmanager
async def _get(bridge: Running, key: dict[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
    headers = {"X_API_Key": key["X-API-Key"]}
    async with bridge.post("/mcp/peer", message("initialize", 1, **INITIALIZE), **headers) as response:
        session = response.headers["Mcp-Session-Id"]
    known = {**key, "Accept": "text/event-stream", "Mcp-Session-Id": session}
    async with bridge.http.get(f"{bridge.url}/mcp/peer", headers=known) as response:
        yield response


def _path(path: str) -> Way:
    return lambda bridge, key: bridge.http.get(f"{bridge.url}{path}", headers=key)


def _listen(bridge: Running, key: dict[str, str]) -> Any:
    client = ModernClient(bridge, "peer")
    wanted = {"toolsListChanged": True}
    return client.send(client.body("subscriptions/listen", notifications=wanted), X_API_Key=key["X-API-Key"])


@pytest.mark.parametrize(
    "way", [_get, _path("/sse/peer"), _path("/api/v1/logs?follow=true&tail=1"), _path("/api/v1/events"), _listen]
)
async def test_a_stream_ends_when_its_token_is_removed(
    start_bridge: StartBridge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Way
) -> None:
    monkeypatch.setattr(stays, "INTERVAL", 0.01)
    monkeypatch.setattr(keyring, "LOOK", 0.0)
    file, logs = tmp_path / "t.json", tmp_path / "logs"
    (logs / "servers").mkdir(parents=True)
    (logs / "bridge.log").write_text("one\n")
    token, row = tokens.mint("a", ["admin"], None, datetime.now(UTC))
    tokens.write(file, [row])
    bridge = await start_bridge(TOKENS_FILE=file, LOG_DIR=logs)
    async with in_time(), way(bridge, {"X-API-Key": token}) as response:
        assert response.status == 200
        assert await response.content.readany()
        tokens.write(file, [])
        try:
            while await response.content.readany():
                pass
        except aiohttp.ClientPayloadError:  # cut, and not ended
            pass
