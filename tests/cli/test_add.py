"""``mcp-bridge add`` and ``mcp-bridge remove``: the file, and what a bridge makes of it."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
from pathlib import Path

import aiohttp
import pytest

from tests.cli.conftest import Serve, initialize, run
from tests.conftest import PEERS


async def test_an_added_server_is_served_and_a_removed_one_is_not(
    tmp_path: Path, serve: Serve, http: aiohttp.ClientSession
) -> None:
    command = ("--", sys.executable, "-I", "-S", str(PEERS / "peer.py"), "--changes")
    code, out, err = await run(tmp_path, "add", "peer", "-e", "A=b=c", "--env", "HOME", "--cwd", ".", *command)
    assert (code, err, "peer is in servers.json: ok" in out) == (0, "", True)
    path = tmp_path / "servers.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text())["mcpServers"]["peer"] == {
        "command": sys.executable,
        "args": list(command[2:]),
        "env": {"A": "b=c", "HOME": None},
        "cwd": str(tmp_path),
    }
    served = await serve()
    where = ("--port", served.url.rpartition(":")[2])
    assert await initialize(http, f"{served.url}/mcp/peer")
    assert (await run(tmp_path, "remove", "peer"))[0] == 0
    assert json.loads(path.read_text()) == {"mcpServers": {}}
    assert await run(tmp_path, "servers", "reload", *where) == (0, "removed: peer\n", "")
    assert await run(tmp_path, "servers", "reload", *where) == (0, "nothing has changed\n", "")
    async with http.post(f"{served.url}/mcp/peer", json={}) as response:
        assert response.status == 404
    path.write_text("{")
    code, _, err = await run(tmp_path, "servers", "reload", *where)
    assert (code, "the old configuration stays: servers.json: is not JSON" in err) == (1, True)


async def test_a_remote_server_is_added_behind_a_link_and_the_mode_stays(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text("\ufeff{ // mine\n}\n")
    (tmp_path / "real.json").chmod(0o640)
    (tmp_path / "servers.json").symlink_to("real.json")
    code, _, _ = await run(
        tmp_path, "add", "far", "--url", "https://x.example/mcp", "--header", "Authorization=Bearer x"
    )
    assert code == 0
    assert (tmp_path / "servers.json").is_symlink()
    assert stat.S_IMODE((tmp_path / "real.json").stat().st_mode) == 0o640
    assert (tmp_path / "real.json").read_text().startswith("\ufeff{ // mine\n")
    assert "Bearer x" in (tmp_path / "real.json").read_text()
    assert sorted(os.listdir(tmp_path)) == ["real.json", "servers.json"], "nothing is left"  # noqa: PTH208


async def test_commands_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    done = await asyncio.gather(*(run(tmp_path, "add", f"s{n}", "--", "cat") for n in range(6)))
    assert [code for code, _, _ in done] == [0] * 6
    assert len(json.loads((tmp_path / "servers.json").read_text())["mcpServers"]) == 6


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["add", "one", "--", "cat"], 'there is a server "one" already'),
        (["add", "a/b", "--", "cat"], "the id must be 1 to 64"),
        (["add", "new"], "give either -- COMMAND ARG..., or --url URL"),
        (["add", "new", "--url", "ftp://x"], "must be an address that begins with http"),
        (["add", "new", "--", "cat", "${NOT_SET}"], "variable NOT_SET is not set"),
        (["add", "new", "-e", "NOT_SET", "--", "cat"], "NOT_SET is null"),
        (["add", "new", "--url", "https://x", "--header", "s3cret"], "--header"),
        (["remove", "one", "two"], 'there is no server "two"'),
    ],
)
async def test_what_check_would_refuse_is_not_written(tmp_path: Path, arguments: list[str], words: str) -> None:
    text = '{"one": {"command": "cat"}} // mine'
    (tmp_path / "servers.json").write_text(text)
    code, out, err = await run(tmp_path, *arguments)
    assert (code, out, words in err) == (2, "", True), err
    assert (tmp_path / "servers.json").read_text() == text


async def test_servers_that_are_in_no_file_are_not_changed(tmp_path: Path) -> None:
    code, _, err = await run(tmp_path, "add", "new", "--", "cat", MCP_SERVERS="{}")
    assert (code, "MCP_SERVERS holds the servers" in err) == (2, True)
    (tmp_path / "folder").mkdir()
    code, _, err = await run(tmp_path, "add", "new", "-c", "folder", "--", "cat")
    assert (code, "folder: cannot be changed: Is a directory" in err) == (1, True)
    assert os.listdir(tmp_path) == ["folder"]  # noqa: PTH208
