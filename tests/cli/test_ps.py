"""``mcp-bridge ps``: what runs, in numbers."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import sys
from pathlib import Path

import aiohttp

from tests.cli.conftest import Serve, below_of, environment, initialize, run
from tests.conftest import peer, tool

SERVERS = {"peer": peer(), "lost": {"command": "no-such-thing"}, "wrong": {"command": []}}


async def test_servers_are_listed_with_their_processes(
    tmp_path: Path, serve: Serve, http: aiohttp.ClientSession
) -> None:
    served = await serve(servers=SERVERS)
    where = ["--port", served.url.rpartition(":")[2]]
    url = f"{served.url}/mcp/peer"
    headers = [await initialize(http, url) for _ in range(2)]
    for session in (*headers, headers[0]):  # the system counts whole hundredths of a second
        async with http.post(url, json=tool("work", seconds=0.1), headers=session) as response:
            assert response.status == 200
    async with http.post(f"{served.url}/bridge/lost", json={"method": "ping"}) as response:
        assert response.status == 502
    code, out, err = await run(tmp_path, "ps", *where)
    assert (code, err) == (0, "")
    head, *rows = [line.split() for line in out.splitlines()]
    titles = "SERVER STATE PID UPTIME RESTARTS CPU MEMORY SESSIONS CALLS LAST ERROR"
    assert " ".join(head) == titles
    assert [row[:2] for row in rows] == [
        ["peer", "running"],
        ["└", "ready"],
        ["└", "ready"],
        ["lost", "idle"],
        ["wrong", "invalid"],
    ]
    assert rows[0][7:9] == ["2", "5"], "two sessions, and their calls with the handshakes"
    assert {int(row[2]) for row in rows[1:3]} == {process.pid for process in below_of(served)}
    assert all(float(row[5].removesuffix("%")) > 0 for row in rows[:3]), "the first look tells something too"
    assert "no-such-thing" in out
    _, out, _ = await run(tmp_path, "ps", "peer", "--json", *where)
    [row] = json.loads(out)
    assert [process["calls"] for process in row["processes"]] == [3, 2]
    assert all(process["resident_bytes"] > 1e6 for process in row["processes"])
    code, _, err = await run(tmp_path, "ps", "nobody", *where)
    assert (code, 'no server "nobody"; there are: peer, lost, wrong' in err) == (2, True)


async def test_watch_shows_it_again_until_ctrl_c_which_is_quiet(tmp_path: Path, serve: Serve) -> None:
    served = await serve(servers={"peer": peer()})
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bridge", "ps", "--watch", "--port", served.url.rpartition(":")[2]),
        cwd=tmp_path,
        env=environment(PYTHONUNBUFFERED="1"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    seen = 0
    while seen < 2:
        line = await process.stdout.readline()
        assert line
        seen += line.startswith(b"SERVER")
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert (process.returncode, err) == (130, b"")


async def test_a_terminal_gets_colors_and_its_width_unless_they_are_not_wanted(tmp_path: Path, serve: Serve) -> None:
    served = await serve(servers=SERVERS)
    where = ["--port", served.url.rpartition(":")[2]]
    for settings, colored in (({}, True), ({"NO_COLOR": "1"}, False)):
        ours, theirs = pty.openpty()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bridge", "ps", *where),
            cwd=tmp_path,
            env=environment(TERM="xterm", COLUMNS="80", **settings),
            stdout=theirs,
        )
        os.close(theirs)
        assert await process.wait() == 0
        out = os.read(ours, 100_000).decode()
        os.close(ours)
        assert ("\x1b[33midle" in out) is colored
        assert ("…" in out, '"command" must be' in out) == (True, False), "the last column is cut to the width"


async def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path, serve: Serve) -> None:
    served = await serve(servers={"peer": peer()})
    reader, writer = os.pipe()
    os.close(reader)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bridge", "ps", "--port", served.url.rpartition(":")[2]),
        cwd=tmp_path,
        env=environment(),
        stdout=writer,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(writer)
    _, err = await process.communicate()
    assert err == b""
