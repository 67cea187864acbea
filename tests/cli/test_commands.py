"""The command as a user runs it: a process of its own, real signals, real files."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from tests.conftest import ACCEPT, INITIALIZE, PEERS, message, peer, tool

LISTENS = re.compile(r"listens on (http://\S+)")


def _environment(**settings: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in os.environ if name.startswith(("PATH", "HOME", "COV", "LANG"))}
    return {**kept, "PYTHONPATH": str(PEERS.parent.parent), **settings}


async def run(folder: Path, *arguments: str, **settings: str) -> tuple[int, str, str]:
    """Run a verb to its end; return exit code, stdout, stderr."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bridge", *arguments),
        cwd=folder,
        env=_environment(**settings),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


class Served:
    """A bridge process that listens."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self.url = ""

    async def line_with(self, words: str) -> str:
        """The next log line that contains these words."""
        assert self.process.stderr is not None
        while True:
            line = (await self.process.stderr.readline()).decode()
            assert line, f"the bridge ended without {words!r}:\n{''.join(self.lines)}"
            self.lines.append(line)
            if words in line:
                return line

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        assert self.process.stderr is not None
        self.lines.append((await self.process.stderr.read()).decode())
        return await self.process.wait()


Serve = Callable[..., Awaitable[Served]]


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    served: list[Served] = []

    async def start(*arguments: str, servers: dict[str, Any] | None = None, **settings: str) -> Served:
        if servers is not None:
            (tmp_path / "servers.json").write_text(json.dumps({"mcpServers": servers}))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bridge", "serve", "--port", "0", *arguments),
            cwd=tmp_path,
            env=_environment(**settings),
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        it = Served(process)
        served.append(it)
        found = LISTENS.search(await it.line_with("listens on"))
        assert found is not None
        it.url = found[1]
        return it

    yield start
    for it in served:
        if it.process.returncode is None:
            it.process.kill()
            await it.process.wait()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(headers={"Accept": ACCEPT}) as session:
        yield session


async def initialize(http: aiohttp.ClientSession, url: str) -> dict[str, str]:
    """Open a session; return its header."""
    async with http.post(url, json=message("initialize", 1, **INITIALIZE)) as response:
        assert response.status == 200, await response.text()
        return {"Mcp-Session-Id": response.headers["Mcp-Session-Id"]}


async def test_serve_runs_until_sigterm_and_leaves_nothing(serve: Serve, http: aiohttp.ClientSession) -> None:
    served = await serve(servers={"peer": peer()})
    headers = await initialize(http, f"{served.url}/mcp/peer")
    async with http.post(f"{served.url}/bridge/peer", json={"method": "ping"}) as response:
        assert response.status == 200
    async with http.post(
        f"{served.url}/mcp/peer", json=tool("grandchild", 2, new_session=True), headers=headers
    ) as response:
        assert response.status == 200
    below = psutil.Process(served.process.pid).children(recursive=True)
    assert len(below) == 3
    assert await served.stop() == 0
    assert not [process for process in below if process.is_running() and process.status() != "zombie"]
    assert served.lines[-1].rstrip().endswith("stopped")
    assert "Traceback" not in "".join(served.lines)


async def test_sigint_ends_it_as_well(serve: Serve) -> None:
    served = await serve(servers={"peer": peer()})
    assert await served.stop(signal.SIGINT) == 0


async def test_a_second_signal_kills(serve: Serve, http: aiohttp.ClientSession) -> None:
    served = await serve(servers={"peer": peer()}, SHUTDOWN_TIMEOUT_MS="600000")
    headers = await initialize(http, f"{served.url}/mcp/peer")
    async with http.post(f"{served.url}/mcp/peer", json=tool("wait", key="k"), headers=headers) as response:
        assert response.status == 200
        served.process.send_signal(signal.SIGTERM)
        await served.line_with("waiting for 1 running call")
        [child] = psutil.Process(served.process.pid).children()
        assert await served.stop() == 1
        assert not child.is_running() or child.status() == "zombie"


@pytest.mark.slow
async def test_idle_sessions_and_their_processes_end_within_ttl_and_a_third(
    serve: Serve, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """The whole promise with real time: TTL 3 s, so gone within 3 + 1 + 1 s, and the log lines to grep for."""
    served = await serve("--session-timeout", "3", "--log-level", "debug", servers={"peer": peer()})
    await initialize(http, f"{served.url}/mcp/peer")
    async with http.post(f"{served.url}/bridge/peer", json={"method": "ping"}) as response:
        assert response.status == 200
    begun = time.monotonic()
    below = psutil.Process(served.process.pid).children(recursive=True)
    assert len(below) == 2
    loop = asyncio.get_running_loop()
    _, alive = await loop.run_in_executor(None, psutil.wait_procs, below, 3 + 1 + 1)
    assert not alive
    assert 3 <= time.monotonic() - begun <= 3 + 1 + 1
    assert await served.stop() == 0
    log = (tmp_path / "logs" / "bridge.log").read_text()
    for words in (
        "Bridge session cleanup enabled (interval: 1000ms, TTL: 3000ms)",
        "Streamable session cleanup enabled (interval: 1000ms, TTL: 3000ms)",
        "Session created session_id=",
        "Cleaning up 1 expired streamable session(s)",
        "Cleaning up 1 expired bridge client(s)",
        "Closing bridge client client_1 (idle for ",
        "Session removed session_id=",
    ):
        assert words in log


async def test_stderr_of_children_goes_to_their_own_log(
    serve: Serve, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    served = await serve(servers={"peer": peer()})
    headers = await initialize(http, f"{served.url}/mcp/peer")
    async with http.post(f"{served.url}/mcp/peer", json=tool("die", code=5), headers=headers) as response:
        assert "exited with code 5" in await response.text()
    await served.stop()
    assert "these are my last words" in (tmp_path / "logs" / "servers" / "peer.log").read_text()
    errors = (tmp_path / "logs" / "error.log").read_text()
    assert "[ERROR] server peer: child pid=" in errors
    assert "exited with code 5" in errors


async def test_one_command_is_served_without_a_file(serve: Serve, http: aiohttp.ClientSession) -> None:
    served = await serve("--", *(peer()["command"], *peer()["args"]))
    await initialize(http, f"{served.url}/mcp/default")


async def test_the_demo_works(serve: Serve, http: aiohttp.ClientSession) -> None:
    served = await serve(servers={"demo": {"command": "${BRIDGE_PYTHON}", "args": ["-m", "bridge.demo"]}})
    call = {"method": "tools/call", "params": {"name": "add", "arguments": {"a": 1, "b": 2}}}
    async with http.post(f"{served.url}/bridge/demo", json=call) as response:
        assert (await response.json())["result"]["structuredContent"] == {"result": 3.0}


async def test_a_port_in_use_is_said_in_one_line(serve: Serve, tmp_path: Path) -> None:
    served = await serve(servers={"peer": peer()})
    code, _, err = await run(tmp_path, "serve", "--port", served.url.rpartition(":")[2])
    assert code == 1
    assert "mcp-bridge: PORT: cannot listen on 127.0.0.1:" in err
    assert "Traceback" not in err


async def test_check_tells_what_would_run(tmp_path: Path) -> None:
    servers = {
        "good": peer(preload=True),
        "off": {"command": "x", "disabled": True, "preload": True},
        "lost": {"command": "no-such-thing"},
        "shell": {"command": "sh", "preload": True},
    }
    (tmp_path / "servers.json").write_text(json.dumps(servers))
    code, out, _ = await run(tmp_path, "check")
    assert code == 0
    assert "good: ok" in out
    assert "off: disabled" in out
    assert "lost: warning: command 'no-such-thing' not found" in out
    assert re.findall(r".*preload.*", out) == ["    note: \"preload\" does nothing: 'sh' is no Python script"]


async def test_check_exits_with_2_for_an_entry_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "servers.json").write_text(json.dumps({"good": peer(), "bad": {"args": []}}))
    code, out, _ = await run(tmp_path, "check")
    assert code == 2
    assert 'error: servers.json: "bad": "command" is missing' in out
    assert "good: ok" in out


@pytest.mark.parametrize(
    ("arguments", "settings", "words"),
    [
        (["serve"], {}, "servers.json: no such file"),
        (["serve", "-c", "gone.json"], {}, "gone.json: no such file"),
        (["serve", "--env-file", "gone.env"], {}, "gone.env does not exist"),
        (["serve", "--port", "70000"], {}, "PORT: is '70000', must be a whole number"),
        (["check"], {"STREAM_SESSION_TTL_MS": "0"}, "STREAM_SESSION_TTL_MS: is '0', must be"),
        (["serve", "--session-timeout", "soon"], {}, "must be a number of milliseconds"),
        (["serve", "--host", "0.0.0.0"], {}, "ACCESS_TOKEN is not set"),
        (["serve", "-c", "x", "--", "cat"], {}, "exclude each other"),
    ],
)
async def test_a_wrong_configuration_is_one_line_and_exit_code_2(
    tmp_path: Path, arguments: list[str], settings: dict[str, str], words: str
) -> None:
    code, out, err = await run(tmp_path, *arguments, **settings)
    assert code == 2
    assert words in err
    assert err.startswith("mcp-bridge: ")
    assert len(err.splitlines()) == 1
    assert out == ""


async def test_a_wrong_flag_is_exit_code_2(tmp_path: Path) -> None:
    code, _, err = await run(tmp_path, "serve", "--nonsense")
    assert code == 2
    assert "--nonsense" in err


async def test_version(tmp_path: Path) -> None:
    code, out, _ = await run(tmp_path, "version")
    assert code == 0
    assert re.fullmatch(r"mcp-bridge \d+\.\d+\.\d+\n", out)


async def test_the_env_file_is_read(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=nonsense\n")
    (tmp_path / "servers.json").write_text("{}")
    code, _, err = await run(tmp_path, "check")
    assert code == 2
    assert "PORT: is 'nonsense'" in err
