"""``/metrics`` as Prometheus reads it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from bridge.auth import tokens
from tests.conftest import Running, StartBridge, peer
from tests.web.test_doors import NOW

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def scrape(bridge: Running, token: str | None = None) -> Samples:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with bridge.http.get(bridge.url + "/metrics", headers=headers) as response:
        assert response.status == 200
        assert response.content_type == "text/plain"
        families = text_string_to_metric_families(await response.text())
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        }


def row(name: str, **labels: Any) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset((label, str(value)) for label, value in labels.items())


async def test_what_lives_and_what_has_happened(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"peer": peer(), "other": peer(), "off": peer(disabled=True)})
    first, _ = await bridge.session(), await bridge.session()
    await bridge.bridge_call("other", "ping")
    found = await scrape(bridge)
    assert found[row("mcp_bridge_sessions", pool="streamable", server="peer", state="idle")] == 2
    assert found[row("mcp_bridge_sessions", pool="bridge", server="other", state="idle")] == 1
    assert found[row("mcp_bridge_children", server="peer", state="ready")] == 2
    assert found[row("mcp_bridge_child_resident_bytes", server="peer")] > 1_000_000
    assert found[row("mcp_bridge_restarts_total", server="peer")] == 0
    assert found[row("mcp_bridge_reaped_total", pool="streamable", reason="ttl")] == 0
    assert found[row("process_resident_memory_bytes")] > 1_000_000
    assert not [name for name, labels in found if ("server", "off") in labels]
    async with first.delete():
        pass
    found = await scrape(bridge)
    assert found[row("mcp_bridge_sessions", pool="streamable", server="peer", state="idle")] == 1


async def test_rows_of_servers_are_for_who_may_use_them(start_bridge: StartBridge, tmp_path: Path) -> None:
    made = {name: tokens.mint(name, scopes, None, NOW) for name, scopes in (("all", ["servers:*"]), ("none", []))}
    tokens.write(tmp_path / "t.json", [token for _, token in made.values()])
    bridge = await start_bridge(TOKENS_FILE=tmp_path / "t.json")
    assert row("mcp_bridge_restarts_total", server="peer") in await scrape(bridge, made["all"][0])
    seen = await scrape(bridge, made["none"][0])
    assert row("process_resident_memory_bytes") in seen
    assert not [labels for _, labels in seen if any(label == "server" for label, _ in labels)]


async def test_how_long_requests_take_by_method_and_outcome(start_bridge: StartBridge) -> None:
    bridge = await start_bridge()
    session = await bridge.session()
    for name in ("echo", "echo", "no such tool"):
        await session.call(name)
    await session.ask("tools/list")
    await session.ask("made/up")
    await bridge.bridge_call("peer", "ping")  # its process is there
    call = asyncio.create_task(bridge.bridge_call("peer", "tools/call", name="never"))
    while sum(child["open_calls"] for child in await bridge.get("/children")) < 1:
        pass
    call.cancel()  # its client hangs up
    while sum(child["open_calls"] for child in await bridge.get("/children")):
        pass
    async with session.post({"jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": {"name": "die"}}) as response:
        await response.read()
    found = await scrape(bridge)

    def count(method: str, error: str = "") -> float:
        labels = {"server": "peer", "mcp_method_name": method, "error_type": error}
        within = found[row("mcp_server_operation_duration_seconds_bucket", le="+Inf", **labels)]
        assert found[row("mcp_server_operation_duration_seconds_count", **labels)] == within
        assert found[row("mcp_server_operation_duration_seconds_sum", **labels)] > 0
        return within

    assert count("tools/call") == 2
    assert count("tools/call", "-32602") == 1
    assert count("tools/call", "child_failed") == 1
    assert count("tools/call", "cancelled") == 1
    assert count("tools/list") == 1
    assert count("_OTHER", "-32601") == 1
    assert not [labels for _, labels in found if ("mcp_method_name", "initialize") in labels]
