"""``mcp-bridge logs``: through a bridge, and without one."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import aiohttp
import pytest

from tests.cli.conftest import Serve, environment, initialize, run
from tests.conftest import peer, tool

WORDS = "these are my last words"


async def die(http: aiohttp.ClientSession, url: str) -> None:
    headers = await initialize(http, f"{url}/mcp/peer")
    async with http.post(f"{url}/mcp/peer", json=tool("die"), headers=headers) as response:
        assert "exited with code 1" in await response.text()


async def follow(folder: Path, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bridge", "logs", "-f", *arguments),
        cwd=folder,
        env=environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def line_with(process: asyncio.subprocess.Process, words: str) -> str:
    assert process.stdout is not None
    while True:
        line = (await process.stdout.readline()).decode()
        assert line, f"ended without {words!r}"
        if words in line:
            return line


async def test_logs_of_a_server_and_of_the_bridge(tmp_path: Path, serve: Serve, http: aiohttp.ClientSession) -> None:
    served = await serve(servers={"peer": peer()})
    where = ["--port", served.url.rpartition(":")[2]]
    assert await run(tmp_path, "logs", "peer", *where) == (0, "", ""), "it has written nothing yet"
    following = await follow(tmp_path, "peer", *where)
    await die(http, served.url)
    assert (await line_with(following, WORDS)).endswith(f"[INFO] {WORDS}\n")
    code, out, err = await run(tmp_path, "logs", "peer", "--tail", "5", *where)
    assert (code, err, out.count(WORDS)) == (0, "", 1)
    code, out, _ = await run(tmp_path, "logs", *where)
    assert (code, "[ERROR] server peer: child pid=" in out) == (0, True)
    code, _, err = await run(tmp_path, "logs", "nobody", *where)
    assert (code, 'no server "nobody"' in err) == (1, True)
    assert await served.stop() == 0, "a follower does not hold it up"
    assert await following.wait() == 0
    # The same without a bridge.
    code, out, err = await run(tmp_path, "logs", "peer", *where)
    assert (code, out.count(WORDS)) == (0, 1)
    assert "no bridge answers; this is logs/servers/peer.log" in err
    following = await follow(tmp_path, *where)
    await line_with(following, "stopped")
    with (tmp_path / "logs/bridge.log").open("a") as file:
        file.write("more\n")
    await line_with(following, "more")
    following.send_signal(signal.SIGINT)
    assert await following.wait() == 130
    code, _, err = await run(tmp_path, "logs", "other", *where)
    assert (code, "There is no logs/servers/other.log either" in err) == (3, True)


async def test_the_stream_of_a_log_ends_in_order_with_the_bridge(serve: Serve, http: aiohttp.ClientSession) -> None:
    served = await serve(servers={"peer": peer()})
    async with http.get(f"{served.url}/api/v1/logs?follow=true&tail=1") as response:
        assert (await response.content.readline()).startswith(b"data: ")
        served.process.send_signal(signal.SIGTERM)
        await response.content.read()  # a stream that is cut raises ClientPayloadError
    assert await served.process.wait() == 0


async def test_without_a_directory_that_can_be_written_it_says_so(tmp_path: Path, serve: Serve) -> None:
    (tmp_path / "file").write_text("")
    served = await serve(servers={"peer": peer()}, LOG_DIR="file")
    code, _, err = await run(tmp_path, "logs", "peer", "--port", served.url.rpartition(":")[2])
    assert (code, "LOG_DIR cannot be written" in err) == (1, True)


async def test_a_removed_directory_is_there_again_with_the_next_line(
    tmp_path: Path, serve: Serve, http: aiohttp.ClientSession
) -> None:
    served = await serve(servers={"peer": peer()})
    (tmp_path / "logs").rename(tmp_path / "gone")  # in one step: lines of the start may still be written
    where = ["--port", served.url.rpartition(":")[2]]
    code, _, err = await run(tmp_path, "logs", *where)
    assert (code, err) == (0, "")
    following = await follow(tmp_path, *where)
    await die(http, served.url)
    await line_with(following, "[ERROR] server peer: child pid=")
    code, out, _ = await run(tmp_path, "logs", "peer", *where)
    assert (code, out.count(WORDS)) == (0, 1)
    assert await served.stop() == 0
    assert await following.wait() == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["../x"], "no server can be called '../x'"), (["--tail", "-1"], "--tail"), (["--tail", "x"], "no whole number")],
)
async def test_what_makes_no_sense_is_exit_code_2(tmp_path: Path, arguments: list[str], words: str) -> None:
    code, out, err = await run(tmp_path, "logs", *arguments)
    assert (code, out, words in err) == (2, "", True)


async def test_the_rest_api_bounds_what_is_asked(serve: Serve, http: aiohttp.ClientSession) -> None:
    served = await serve(servers={"peer": peer()})
    for query, words in (("tail=10001", "from 0 to 10000"), ("follow=perhaps", "true or false")):
        async with http.get(f"{served.url}/api/v1/logs?{query}") as response:
            assert (response.status, words in (await response.json())["error"]["message"]) == (400, True)
    async with http.get(f"{served.url}/api/v1/logs?tail=1") as response:
        text = await response.text()
        assert len(json.loads(text)["lines"]) == 1
