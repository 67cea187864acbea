"""Traces: a span for each request, in the trace of its client, and the server hears of it."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bridge.protocol.errors import Fault
from tests.collector import Collector, Seen, collectors
from tests.conftest import PEERS, Running, Session, StartBridge, last, message, peer, tool
from tests.modern_client import ModernClient

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
OTHER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    async with collectors() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
        yield collector


def mirror(*flags: str) -> dict[str, Any]:
    return {"command": sys.executable, "args": ["-I", "-S", str(PEERS / "mirror.py"), *flags]}


@pytest.fixture
async def traced(start_bridge: StartBridge, collector: Collector) -> Running:
    modern = {"command": sys.executable, "args": ["-I", "-S", str(PEERS / "modern_peer.py")]}
    servers = {"peer": peer(restartDelay=1), "mirror": mirror(), "modern": modern, "few": peer(maxConcurrent=1)}
    return await start_bridge(servers, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)


def named(spans: list[Seen], name: str) -> Seen:
    [found] = [span for span in spans if span.name == name]
    return found


async def test_a_call_is_a_span_by_the_conventions(traced: Running, collector: Collector) -> None:
    session = await traced.session()
    async with session.post(tool("echo", "seven", password="hunter2"), MCP_Protocol_Version="2025-06-18") as response:
        await last(response)
    spans = await collector.until(2)
    opened, called = named(spans, "initialize"), named(spans, "tools/call echo")
    assert called.attributes == {
        "mcp.method.name": "tools/call",
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "echo",
        "jsonrpc.request.id": "seven",
        "mcp.session.id": f"{session.id[:8]}...",
        "mcp.protocol.version": "2025-06-18",
        "mcp_bridge.server": "peer",
        "network.transport": "tcp",
        "network.protocol.name": "http",
        "network.protocol.version": "1.1",
        "client.address": "127.0.0.1",
    }
    assert (called.kind, called.status, called.parent) == (2, 0, "")
    assert opened.attributes["mcp.session.id"] == f"{session.id[:8]}..."
    assert opened.attributes["mcp.protocol.version"] == "2025-06-18"
    assert called.resource["service.name"] == "mcp-bridge"
    assert collector.paths[0] == "/v1/traces"
    assert "_meta" not in session.greeting["result"]["saw"]  # it is kept, and said again to the next process
    assert b"hunter2" not in collector.raw
    assert session.id.encode() not in collector.raw


@pytest.mark.parametrize(
    ("header", "meta", "trace", "links"),
    [
        (PARENT, None, TRACE, []),
        (None, PARENT, TRACE, []),
        (OTHER, PARENT, TRACE, ["0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"]),
        (PARENT, "no traceparent", TRACE, []),
        ("no traceparent", None, None, []),
    ],
)
async def test_the_parent_is_the_one_in_meta_else_that_of_the_headers(
    traced: Running, collector: Collector, header: str | None, meta: str | None, trace: str | None, links: list[str]
) -> None:
    session = await traced.session()
    headers = {"traceparent": header, "tracestate": "a=b"} if header else {}
    call = message(
        "tools/call", 2, name="progress", arguments={"steps": 0}, _meta={"traceparent": meta} if meta else {}
    )
    async with session.post(call, **headers) as response:
        seen = (await last(response))["result"]["seen"]
    span = named(await collector.until(2), "tools/call progress")
    assert seen["traceparent"][:-3] == span.traceparent[:-3]  # the server's own spans go below that of the bridge
    assert (span.trace == trace, span.parent) == (bool(trace), "00f067aa0ba902b7" if trace else "")
    assert span.links == links
    assert seen.get("tracestate") == ("a=b" if header == PARENT else None)


async def test_every_face_makes_a_span_and_passes_it_on(traced: Running, collector: Collector) -> None:
    meta = {"traceparent": PARENT, "x": 1}
    params = {"name": "progress", "arguments": {"steps": 0}, "_meta": meta}
    bridged = await traced.bridge_call("peer", "tools/call", **params)
    down = await ModernClient(traced, "peer").call("progress", 2, meta, steps=0)
    forward = await ModernClient(traced, "modern").call("meta", 3, meta)
    session = await traced.session("modern")  # a client of the handshake era at a server of the modern one
    async with session.post(message("tools/call", 4, name="meta", _meta=meta)) as response:
        up = await last(response)
    calls = [span for span in await collector.until(5) if span.name.startswith("tools/call")]
    seen = [answer["result"]["seen"] for answer in (bridged, down)]
    seen += [answer["result"]["structuredContent"] for answer in (forward, up)]
    assert [each["traceparent"] for each in seen] == [span.traceparent for span in calls]
    assert [span.parent for span in calls] == ["00f067aa0ba902b7"] * 4
    assert [each["x"] for each in seen] == [1] * 4
    versions = [span.attributes.get("mcp.protocol.version") for span in calls]
    assert versions == [None, "2026-07-28", "2026-07-28", session.greeting["result"]["protocolVersion"]]


async def test_a_call_at_all_servers_is_the_span_of_its_server(traced: Running, collector: Collector) -> None:
    meta = {"traceparent": PARENT}
    modern = await ModernClient(traced, "").call("modern__meta", 1, meta)
    session = await traced.session_at("/mcp")
    call = message("tools/call", 2, name="peer__progress", arguments={"steps": 0}, _meta=meta)
    async with session.post(call) as response:
        handshake = await last(response)
    calls = [span for span in await collector.until(3) if span.name.startswith("tools/call")]
    seen = [modern["result"]["structuredContent"], handshake["result"]["seen"]]
    assert [span.name for span in calls] == ["tools/call meta", "tools/call progress"]
    assert [span.attributes["mcp_bridge.server"] for span in calls] == ["modern", "peer"]
    assert [each["traceparent"] for each in seen] == [span.traceparent for span in calls]


async def test_sse_is_traced_too(traced: Running, collector: Collector) -> None:
    async with traced.http.get(f"{traced.url}/sse/peer") as stream:
        lines = stream.content
        await lines.readline()
        where = (await lines.readline()).decode().removeprefix("data: ").strip()
        greeting = message("initialize", 0, protocolVersion="2024-11-05", capabilities={}, clientInfo={})
        for body in (greeting, message("notifications/initialized"), tool("echo", 1)):
            async with traced.post(where, body, traceparent=PARENT) as response:
                assert response.status == 202
            if body is greeting:
                while not (await lines.readline()).startswith(b"data: {"):
                    pass
        spans = await collector.until(2)
    assert [span.name for span in spans] == ["initialize", "tools/call echo"]
    assert {span.attributes["mcp.protocol.version"] for span in spans} == {"2024-11-05"}
    assert {span.trace for span in spans} == {TRACE}


async def test_the_other_bytes_of_params_stay_as_they_are(traced: Running, collector: Collector) -> None:
    session = await traced.session("mirror")
    await collector.until(1)
    before, after = b'{"name":"x","arguments":{"n":1.0, "e":1E400}', b' ,"\\u0061":"\\u00e9"}'
    own = b',"_meta":{"traceparent":"%b"}' % PARENT.encode()
    for count, meta in enumerate((b"", b', "_meta":{ }', b',"_meta":{"a" : 1.50}', own), 2):
        params = before + meta + after
        body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":%b}' % params
        headers = {"Mcp-Session-Id": session.id, "Content-Type": "application/json", "traceparent": PARENT}
        async with traced.http.post(session.url, data=body, headers=headers) as response:
            seen = await response.read()
        span = (await collector.until(count))[-1]
        told = b'"traceparent":"%b"' % span.traceparent.encode()
        wanted = {
            b"": b'{"_meta":{%b},%b' % (told, params[1:]),
            b', "_meta":{ }': params.replace(b"{ }", b"{%b}" % told),
            b',"_meta":{"a" : 1.50}': params.replace(b'{"a"', b'{%b,"a"' % told),
        }.get(meta, params.replace(PARENT.encode(), span.traceparent.encode()))
        assert seen == b'{"jsonrpc":"2.0","id":1,"result":%b}' % wanted


async def _fails(bridge: Running, session: Session, how: str) -> None:
    match how:
        case "unknown session":
            async with bridge.post("/mcp/peer", tool("echo"), Mcp_Session_Id="x") as response:
                assert response.status == 404
        case "one too many":
            few = await bridge.session("few")
            async with few.post(tool("wait", 1, key="a")) as first, few.post(tool("echo")) as response:
                assert response.status == 429
                first.close()
            async with few.delete():
                pass
        case "hang up":
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await bridge.bridge_call("peer", "tools/call", name="never")
        case _:
            await session.call(how)


@pytest.mark.parametrize(
    ("how", "kind", "code", "fault"),
    [
        ("no such tool", "-32602", "-32602", None),
        ("die", str(Fault.CHILD_FAILED.code), str(Fault.CHILD_FAILED.code), Fault.CHILD_FAILED),
        ("unknown session", "-32001", "-32001", Fault.UNKNOWN_SESSION),
        ("one too many", str(Fault.TOO_MANY.code), str(Fault.TOO_MANY.code), Fault.TOO_MANY),
        ("hang up", "cancelled", None, None),
    ],
)
async def test_a_failed_request_is_a_failed_span(
    traced: Running, collector: Collector, how: str, kind: str, code: str | None, fault: Fault | None
) -> None:
    await _fails(traced, await traced.session(), how)
    async with asyncio.timeout(10):
        while not (failed := [span for span in collector.spans if span.status == 2]):
            await collector.until(len(collector.spans) + 1)
    assert failed[0].attributes["error.type"] == kind
    assert failed[0].attributes.get("rpc.response.status_code") == code
    assert failed[0].said == ("" if fault is None else fault.name.lower())
    assert b"last words" not in collector.raw


async def test_a_failed_tool_is_a_tool_error(start_bridge: StartBridge, collector: Collector) -> None:
    bridge = await start_bridge({"mirror": mirror()}, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    said = b'{"jsonrpc":"2.0","id":ID,"result":{"content":[],"isError":true}}'.hex()
    body = b'{"method":"tools/call","params":{"name":"x","arguments":{"say":"%b"}}}' % said.encode()
    async with bridge.post("/bridge/mirror", body) as response:
        assert response.status == 200
    [span] = await collector.until()
    assert (span.status, span.attributes["error.type"]) == (2, "tool_error")
    assert "rpc.response.status_code" not in span.attributes


async def test_a_resource_is_no_part_of_a_name_and_shows_no_secret(traced: Running, collector: Collector) -> None:
    await traced.bridge_call("peer", "resources/subscribe", uri="postgres://ann:hunter2@db/notes?key=hunter2#hunter2")
    [span] = await collector.until()
    assert (span.name, span.attributes["mcp.resource.uri"]) == ("resources/subscribe", "postgres://db/notes")


async def test_without_tracing_nothing_is_added(start_bridge: StartBridge) -> None:
    bridge = await start_bridge()
    session = await bridge.session()
    async with session.post(tool("progress", 1, steps=0), traceparent=PARENT) as response:
        assert (await last(response))["result"]["seen"] == {}


@pytest.mark.slow
async def test_a_collector_that_fails_is_one_line_in_the_log(
    traced: Running, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    collector.status = 400  # one that is not tried again
    for asked in range(1, 4):
        await traced.bridge_call("peer", "ping")
        await collector.asked(asked)
    collector.status = 200
    await traced.bridge_call("peer", "ping")
    await collector.until()
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len([line for line in said if "traces cannot be sent" in line and "400" in line]) == 1
    assert [line for line in said if "opentelemetry" in line.lower()] == []
    assert json.dumps(said).count("traces") <= 2
