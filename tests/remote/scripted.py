"""A remote server that does on demand what no real one does."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.conftest import Running

Handler = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse | None]]


@dataclass
class Scripted:
    """An MCP server of few words. ``on`` handles methods of JSON-RPC, ``GET`` or ``DELETE``; None is for no change."""

    on: dict[str, Handler] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    requests: list[web.Request] = field(default_factory=list)
    url: str = ""
    session_id: str = "the-session"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json() if request.method == "POST" and request.can_read_body else {}
        name = body.get("method", "answer") if request.method == "POST" else request.method
        self.requests.append(request)
        handler = self.on.get(name)
        response = await handler(request, body) if handler is not None else None
        self.seen.append(name)
        if response is not None:
            return response
        if request.method == "GET":
            return web.Response(status=405)
        if name == "initialize":
            result = {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": "s", "version": "1"}}
            headers = {"Mcp-Session-Id": self.session_id} if self.session_id else {}
            return web.json_response({"jsonrpc": "2.0", "id": body["id"], "result": result}, headers=headers)
        if "id" in body and "method" in body:
            return web.json_response({"jsonrpc": "2.0", "id": body["id"], "result": {"method": name}})
        return web.Response(status=202 if request.method == "POST" else 200)


async def stream(request: web.Request, *chunks: bytes) -> web.StreamResponse:
    """Send an event stream so far."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for chunk in chunks:
        await response.write(chunk)
    return response


def event(body: dict[str, Any], id_: str = "") -> bytes:
    name = f"id: {id_}\n" if id_ else ""
    return f"{name}data: {json.dumps({'jsonrpc': '2.0', **body})}\n\n".encode()


def progress(body: dict[str, Any], step: int) -> dict[str, Any]:
    token = body["params"]["_meta"]["progressToken"]
    return {"method": "notifications/progress", "params": {"progressToken": token, "progress": step}}


def cut(request: web.Request) -> None:
    """Break the connection."""
    assert request.transport is not None
    request.transport.abort()


StartScripted = Callable[..., Awaitable[Scripted]]
Front = Callable[..., Awaitable[Running]]
