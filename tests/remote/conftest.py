"""Servers elsewhere, and bridges in front of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from tests.conftest import Running, StartBridge
from tests.remote.scripted import Handler, Scripted, StartScripted


@pytest.fixture
async def scripted() -> AsyncIterator[StartScripted]:
    runners: list[web.AppRunner] = []

    async def start(**on: Handler) -> Scripted:
        server = Scripted({name.replace("__", "/"): handler for name, handler in on.items()})
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", server.handle)
        runner = web.AppRunner(app, shutdown_timeout=0, access_log=None)
        await runner.setup()
        runners.append(runner)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/mcp"
        return server

    yield start
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
async def front(start_bridge: StartBridge) -> Callable[..., Awaitable[Running]]:
    async def start(server: Scripted, settings: dict[str, Any] | None = None, **entry: Any) -> Running:
        return await start_bridge({"far": {"url": server.url, **entry}}, **(settings or {}))

    return start
