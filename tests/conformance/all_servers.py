"""The endpoint of all servers, as a suite can talk to it that knows each tool by its own name.

What stands between them puts the prefix on names that go in and takes it off those that come out, and touches nothing
else: what the suite finds wrong is the bridge's doing.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web

#: Headers of one hop, and those that change with the body.
_OWN = frozenset({"transfer-encoding", "content-length", "connection", "keep-alive", "date", "server"})


@asynccontextmanager
async def renamed(url: str, prefix: str) -> AsyncIterator[str]:
    """The URL of a port where ``url`` is served with names without ``prefix``."""

    async def pass_on(request: web.Request) -> web.StreamResponse:
        headers = request.headers.copy()
        for name in _OWN & {each.lower() for each in headers}:
            del headers[name]
        if "Mcp-Name" in headers and "://" not in headers["Mcp-Name"]:
            headers["Mcp-Name"] = prefix + headers["Mcp-Name"]
        asked = _changed(await request.read(), lambda name: prefix + name)
        async with http.request(request.method, url, data=asked, headers=headers) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _OWN}
            response = web.StreamResponse(status=answer.status, headers=kept)
            with contextlib.suppress(ConnectionError):  # the suite has heard enough
                await copy(request, answer, response)
            return response

    async def copy(request: web.Request, answer: aiohttp.ClientResponse, response: web.StreamResponse) -> None:
        await response.prepare(request)
        if answer.content_type == "text/event-stream":
            async for line in answer.content:
                head, data = line[:6], line[6:]
                plain = _changed(data.rstrip(b"\n"), strip) + b"\n" if head == b"data: " else data
                await response.write(head + plain)
        else:
            await response.write(_changed(await answer.read(), strip))
        await response.write_eof()

    def strip(name: str) -> str:
        assert name.startswith(prefix), name
        return name.removeprefix(prefix)

    app = web.Application(client_max_size=2**26)
    app.router.add_route("*", "/{path:.*}", pass_on)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    unlimited = aiohttp.ClientTimeout()
    async with aiohttp.ClientSession(timeout=unlimited, read_bufsize=2**26, auto_decompress=False) as http:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/mcp"
        finally:
            await runner.cleanup()


def _changed(body: bytes, change: Any) -> bytes:
    """A message with the names of its tools or prompts changed; itself where there are none."""
    try:
        message = json.loads(body)
    except ValueError:
        return body
    if not isinstance(message, dict):
        return body
    params, result = message.get("params"), message.get("result")
    ref = params.get("ref") if isinstance(params, dict) else None
    named = [*(result.get(kind) or [] for kind in ("tools", "prompts"))] if isinstance(result, dict) else []
    found = [each for items in named for each in items]
    if message.get("method") in ("tools/call", "prompts/get"):
        found.append(params)
    if isinstance(ref, dict) and ref.get("type") == "ref/prompt":
        found.append(ref)
    found = [each for each in found if isinstance(each, dict) and isinstance(each.get("name"), str)]
    for each in found:
        each["name"] = change(each["name"])
    return json.dumps(message).encode() if found else body
