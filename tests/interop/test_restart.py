"""The bridge is killed and started again; a client of the official SDK goes on with the session that it has."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Serve, serve  # noqa: F401 - a fixture
from tests.interop.conftest import CLIENTS, NO_PROXY, ROOT
from tests.stores.conftest import redis, shared_redis  # noqa: F401 - fixtures
from tests.stores.redis_server import RedisServer

DEMO = {"demo": {"command": sys.executable, "args": ["-m", "bridge.demo"], "cwd": str(ROOT), "persistent": True}}
CLIENT = [str(ROOT / ".cache" / "sdk1" / "bin" / "python"), str(CLIENTS / "stays.py")]


async def call(client: asyncio.subprocess.Process) -> dict[str, Any]:
    assert client.stdin is not None
    assert client.stdout is not None
    client.stdin.write(b"\n")
    line = await asyncio.wait_for(client.stdout.readline(), 30)
    return dict(json.loads(line))


@pytest.mark.parametrize("kind", ["file", "redis"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_an_sdk_client_goes_on_after_a_restart(
    serve: Serve,  # noqa: F811
    redis: RedisServer,  # noqa: F811
    tmp_path: Path,
    kind: str,
    how: signal.Signals,
) -> None:
    stores = {
        "file": {"SESSION_STORE": "file", "SESSION_DIR": str(tmp_path / "sessions")},
        "redis": {"REDIS_ENABLED": "true", "REDIS_URL": redis.url},
    }
    served = await serve(servers=DEMO, **stores[kind])
    port = served.url.rpartition(":")[2]
    client = await asyncio.create_subprocess_exec(
        *(*CLIENT, f"{served.url}/mcp/demo"),
        env=NO_PROXY,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        before = await call(client)
        served.process.send_signal(how)
        await served.process.wait()
        served = await serve("--port", port, **stores[kind])
        after = await call(client)
        assert before["text"] == "still here"
        assert after == before
        await served.line_with("Session woken")
    finally:
        client.kill()
        await client.wait()
