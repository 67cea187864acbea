"""A bridge process reads its files again: by itself, on SIGHUP, and when it is asked."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from bridge.cli import options
from bridge.cli.reload import LOOK, SETTLED, Reloading
from bridge.config.errors import ConfigError
from bridge.config.servers import Servers, load_servers
from bridge.config.settings import Settings
from bridge.sessions.reload import Changes
from tests.cli.conftest import Serve, run
from tests.conftest import peer
from tests.faketime import FakeTime


def write(folder: Path, **servers: Any) -> None:
    (folder / "servers.json").write_text(json.dumps({"mcpServers": servers}))


async def environment(url: str, server: str = "peer") -> dict[str, str]:
    body = {"method": "tools/call", "params": {"name": "environment", "arguments": {}}}
    async with aiohttp.ClientSession() as http, http.post(f"{url}/bridge/{server}", json=body) as response:
        return dict((await response.json())["result"])


async def test_an_edited_file_is_taken_in(tmp_path: Path, serve: Serve) -> None:
    bridge = await serve("--watch", servers={"peer": peer()})
    write(tmp_path, peer=peer(env={"MARK": "${MARK:-none}"}), second=peer())
    await bridge.line_with("configuration read again: added second; restarted peer")
    assert (await environment(bridge.url))["MARK"] == "none"
    (tmp_path / ".env").write_text("MARK=from the file\nLOG_LEVEL=DEBUG\nMAX_SESSIONS=7\n")
    await bridge.line_with("read again: restarted peer; settings LOG_LEVEL; needs restart MAX_SESSIONS")
    assert (await environment(bridge.url))["MARK"] == "from the file"


async def test_a_setting_that_needs_a_restart_is_told_for_as_long_as_it_does(tmp_path: Path, serve: Serve) -> None:
    bridge = await serve(servers={"peer": peer()})
    where = ("--port", bridge.url.rpartition(":")[2])

    async def reload() -> tuple[int, str, str]:
        return await run(tmp_path, "servers", "reload", *where)

    (tmp_path / ".env").write_text("LOG_LEVEL=WARNING\nMAX_SESSIONS=7\n")
    assert await reload() == (0, "settings: LOG_LEVEL\nneeds restart: MAX_SESSIONS\n", "")
    assert await reload() == (0, "needs restart: MAX_SESSIONS\n", "")
    await bridge.line_with("[WARNING] configuration read again: settings LOG_LEVEL; needs restart MAX_SESSIONS")
    (tmp_path / ".env").write_text("LOG_LEVEL=WARNING\n")
    assert await reload() == (0, "nothing has changed\n", "")


async def test_an_environment_file_of_a_server_counts_too(tmp_path: Path, serve: Serve) -> None:
    (tmp_path / "peer.env").write_text("MARK=old\n")
    bridge = await serve("--watch", servers={"peer": peer(envFile="peer.env")})
    assert (await environment(bridge.url))["MARK"] == "old"
    (tmp_path / "peer.env").write_text("MARK=newer\n")
    await bridge.line_with("restarted peer")
    assert (await environment(bridge.url))["MARK"] == "newer"


async def test_a_broken_file_changes_nothing(tmp_path: Path, serve: Serve) -> None:
    bridge = await serve("--watch", servers={"peer": peer(env={"MARK": "old"})})
    (tmp_path / "servers.json").write_text('{"mcpServers": {\n  "peer": [}\n}')
    line = await bridge.line_with("configuration not taken, the old one stays")
    assert "servers.json" in line
    assert "2" in line.partition("servers.json")[2]  # where it is broken
    async with aiohttp.ClientSession() as http, http.get(f"{bridge.url}/health") as response:
        health = await response.json()
    assert health["status"] == "degraded"
    assert health["reasons"][0].startswith("configuration on disk is refused: ")
    assert health["reasons"][0].endswith("; the old one is served")
    assert (await environment(bridge.url))["MARK"] == "old"
    (tmp_path / "servers.json").write_text(json.dumps({"mcpservers": {"peer": peer()}}))
    assert 'did you mean "mcpServers"?' in await bridge.line_with("configuration not taken, the old one stays")
    assert (await environment(bridge.url))["MARK"] == "old"
    write(tmp_path, peer={"command": 7}, second=peer())
    assert "the server stays as it was" in await bridge.line_with('"peer": "command"')
    assert (await environment(bridge.url))["MARK"] == "old"
    assert await environment(bridge.url, "second")
    write(tmp_path, peer=peer(env={"MARK": "new"}), second=peer())
    await bridge.line_with("restarted peer")
    assert (await environment(bridge.url))["MARK"] == "new"
    async with aiohttp.ClientSession() as http, http.get(f"{bridge.url}/health") as response:
        assert (await response.json())["status"] == "ok"


async def test_a_settings_file_with_a_line_that_is_none_changes_nothing(tmp_path: Path, serve: Serve) -> None:
    bridge = await serve("--watch", servers={"peer": peer(env={"MARK": "${MARK:-none}"})})
    (tmp_path / ".env").write_text('MARK=new\nACCESS_TOKEN="sesame\n')
    line = await bridge.line_with("configuration not taken, the old one stays")
    assert "[ERROR]" in line
    assert ".env: line 2: must be NAME=value" in line
    assert (await environment(bridge.url))["MARK"] == "none"
    assert "sesame" not in "".join(bridge.lines)


class Watched:
    """The watching of a bridge whose service notes what it is told to serve."""

    def __init__(self, folder: Path, time: FakeTime) -> None:
        self.served: list[list[str]] = []
        self._file = folder / "servers.json"
        write(folder, first={"command": "true"})
        servers = load_servers(self._file, {})
        service: Any = SimpleNamespace(reload=self._serve)
        logs: Any = None
        self.reloading = Reloading(service, logs, Settings(), servers, self._read, folder / ".env", time.sleep)

    def _read(self) -> tuple[Settings, Servers]:
        return Settings(), load_servers(self._file, {})

    def _serve(self, servers: Servers) -> Changes:
        self.served.append(list(servers.entries))
        return Changes()


async def test_a_file_that_is_being_written_is_read_when_it_is_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    time = FakeTime()
    watched = Watched(tmp_path, time)
    watching = asyncio.create_task(watched.reloading.watch())
    text = json.dumps({"mcpServers": {"second": {"command": "true"}}})
    parts = [text[:end] for end in (0, 5, 20, 40)]
    (tmp_path / "servers.json").write_text(parts[0])
    await time.advance(LOOK)
    for part in parts:
        (tmp_path / "servers.json").write_text(part)
        await time.advance(SETTLED)
    (tmp_path / "servers.json").write_text(text)
    await time.advance(SETTLED)
    assert watched.served == []
    await time.advance(SETTLED)
    assert watched.served == [["second"]]
    assert "not taken" not in caplog.text
    (tmp_path / "servers.json").write_text("")  # and it stays so
    await time.advance(LOOK)
    assert watched.reloading.problem is None
    await time.advance(10 * LOOK)
    assert caplog.text.count("configuration not taken, the old one stays") == 1
    assert "servers.json: is empty" in caplog.text
    watching.cancel()


def test_a_file_that_goes_while_it_is_read_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An editor takes it away to put another one in its place, and a name in .env has it read twice."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path, first={"command": "true"})
    (tmp_path / ".env").write_text("PROT=4000\n")

    def load(path: Path, environ: Mapping[str, str]) -> Servers:
        found = load_servers(path, environ)
        path.unlink()
        return found

    monkeypatch.setattr(options, "load_servers", load)
    with pytest.raises(ConfigError, match=r"^servers\.json: cannot be read: No such file"):
        options.configuration_of(argparse.Namespace(env_file=None, command=[], config=None))


@pytest.mark.parametrize("way", ["SIGHUP", "POST"])
async def test_without_watching_it_reads_when_it_is_told(tmp_path: Path, serve: Serve, way: str) -> None:
    bridge = await serve(servers={"peer": peer()})
    write(tmp_path, second=peer())
    if way == "SIGHUP":
        bridge.process.send_signal(signal.SIGHUP)
    else:
        async with aiohttp.ClientSession() as http, http.post(bridge.url + "/api/v1/reload") as response:
            assert response.status == 200
            found = {what: names for what, names in (await response.json()).items() if names}
            assert found == {"added": ["second"], "removed": ["peer"]}
    await bridge.line_with("configuration read again: added second; removed peer")
    assert await environment(bridge.url, "second")


async def test_who_asks_is_told_what_is_wrong(tmp_path: Path, serve: Serve) -> None:
    bridge = await serve(servers={"peer": peer()})
    (tmp_path / "servers.json").unlink()
    async with aiohttp.ClientSession() as http, http.post(bridge.url + "/api/v1/reload") as response:
        assert response.status == 400
        assert "servers.json: no such file" in await response.text()
    assert await environment(bridge.url)
