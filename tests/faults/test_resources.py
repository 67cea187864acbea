"""What the machine runs out of: descriptors, disk. Refused, not crashed; and over when there is room again."""

from __future__ import annotations

import asyncio
import json
import resource
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from tests.cli.conftest import Serve, http, serve  # noqa: F401 - fixtures
from tests.conftest import INITIALIZE, message, peer, tool


async def post(http: aiohttp.ClientSession, url: str, body: Any, **headers: str) -> tuple[int, Any, Any]:  # noqa: F811
    async with http.post(url, json=body, headers=headers) as response:
        return response.status, json.loads(await response.text()), response.headers


async def test_without_descriptors_new_sessions_are_refused_and_old_ones_go_on(
    serve: Serve,  # noqa: F811
    http: aiohttp.ClientSession,  # noqa: F811
) -> None:
    served = await serve(servers={"peer": peer()}, DISABLE_STREAM_CLEANUP="true")
    bridge = psutil.Process(served.process.pid)
    url = f"{served.url}/mcp/peer"
    _, _, headers = await post(http, url, message("initialize", 1, **INITIALIZE))
    first = {"Mcp-Session-Id": headers["Mcp-Session-Id"]}
    room = bridge.num_fds() + 12
    bridge.rlimit(resource.RLIMIT_NOFILE, (room, room))
    opened = []
    for number in range(20):
        status, answer, headers = await post(http, url, message("initialize", number, **INITIALIZE))
        if "error" in answer:
            break
        opened.append({"Mcp-Session-Id": headers["Mcp-Session-Id"]})
    assert status in (200, 503)
    assert "exhausted" in answer["error"]["message"] or "failed" in answer["error"]["message"]
    assert 0 < len(opened) < 20
    _, counted, _ = await post(http, url, tool("count"), **first)
    assert "result" in counted
    for session in opened:
        async with http.delete(url, headers=session) as response:
            assert response.status == 204
    async with asyncio.timeout(30):
        while "error" in answer or status != 200:  # until the children have gone, and the pause after failures is over
            status, answer, _ = await post(http, url, message("initialize", 1, **INITIALIZE))
    assert "Traceback" not in "".join(served.lines)
    assert await served.stop() == 0
    assert "Traceback" not in "".join(served.lines)


async def test_a_log_folder_that_cannot_be_written_is_a_warning(
    serve: Serve,  # noqa: F811
    http: aiohttp.ClientSession,  # noqa: F811
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("not a folder")
    served = await serve(servers={"peer": peer()}, LOG_DIR=str(tmp_path / "file" / "logs"))
    assert "WARNING" in "".join(served.lines)
    status, answer, _ = await post(http, f"{served.url}/bridge/peer", {"method": "ping"})
    assert (status, answer) == (200, {"result": {}})
    assert await served.stop() == 0
