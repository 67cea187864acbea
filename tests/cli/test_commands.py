"""The command as a user runs it: a process of its own, real signals, real files."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import time
from pathlib import Path

import aiohttp
import psutil
import pytest

from tests.cli.conftest import Serve, below_of, initialize, run
from tests.conftest import INITIALIZE, PATIENCE, message, peer, tool


async def test_serve_runs_until_sigterm_and_leaves_nothing(serve: Serve, http: aiohttp.ClientSession) -> None:
    served = await serve(servers={"peer": peer()})
    headers = await initialize(http, f"{served.url}/mcp/peer")
    async with http.post(f"{served.url}/bridge/peer", json={"method": "ping"}) as response:
        assert response.status == 200
    async with http.post(
        f"{served.url}/mcp/peer", json=tool("grandchild", 2, new_session=True), headers=headers
    ) as response:
        assert response.status == 200
    below = below_of(served)
    assert len(below) == 3
    assert await served.stop() == 0
    assert not [process for process in below if process.is_running() and process.status() != "zombie"]
    assert served.lines[-1].rstrip().endswith("stopped")
    assert "Traceback" not in "".join(served.lines)
    assert "kept session" not in "".join(served.lines), "nothing keeps them"


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
        [child] = below_of(served)
        assert await served.stop() == 1
        assert not child.is_running() or child.status() == "zombie"
        assert "ended by itself" not in "".join(served.lines)


@pytest.mark.slow
async def test_idle_sessions_and_their_processes_end_after_their_ttl(
    serve: Serve, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """The whole promise with real time, as far as a busy machine lets it be kept, and the log lines to grep for."""
    served = await serve("--session-timeout", "3", "--log-level", "debug", servers={"peer": peer()})
    begun = time.monotonic()
    await initialize(http, f"{served.url}/mcp/peer")
    below = {*below_of(served)}
    async with http.post(f"{served.url}/bridge/peer", json={"method": "ping"}) as response:
        assert response.status == 200
    below |= {*below_of(served)}
    assert len(below) == 2
    _, alive = await asyncio.to_thread(psutil.wait_procs, below, PATIENCE)
    assert not alive
    assert time.monotonic() - begun >= 3
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
    assert code == 1  # of the lost one
    assert "good: ok" in out
    assert "off: disabled" in out
    assert "lost: warning: command 'no-such-thing' not found" in out
    assert re.findall(r".*preload.*", out) == ["    note: \"preload\" does nothing: 'sh' is no Python script"]


@pytest.mark.parametrize(
    ("settings", "lines"),
    [
        ({}, ["persistent sessions are kept in memory, like all others: they end when they idle, and with the bridge"]),
        ({"SESSION_STORE": "file"}, ["persistent sessions are kept in the directory .sessions"]),
        (
            {"SESSION_STORE": "file", "REDIS_ENABLED": "true", "REDIS_URL": "rediss://u:s3cret@r.example/1"},
            [
                "persistent sessions are kept in rediss://r.example:6379/1 under persistent_session:",
                "note: SESSION_STORE is file, but REDIS_ENABLED=true wins: sessions are kept in Redis",
            ],
        ),
    ],
)
async def test_check_says_where_sessions_are_kept(tmp_path: Path, settings: dict[str, str], lines: list[str]) -> None:
    (tmp_path / "servers.json").write_text(json.dumps({"good": peer()}))
    code, out, _ = await run(tmp_path, "check", **settings)
    assert code == 0
    assert out.splitlines()[1 : 1 + len(lines)] == lines
    assert "s3cret" not in out


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
        (["serve", "--session-timeout", "soon"], {}, "must be a number of seconds"),
        (["serve", "--host", "0.0.0.0"], {}, "no token is needed"),
        (["check"], {"BASE_PATH": "/mcp"}, "BASE_PATH: /mcp begins with /mcp, a path of the bridge itself"),
        (["doctor", "--no-start"], {"BASE_PATH": "/api/x"}, "BASE_PATH: /api/x begins with /api, a path of the bridge"),
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


async def test_sessions_of_a_running_bridge_are_listed_shown_and_ended(
    tmp_path: Path, serve: Serve, http: aiohttp.ClientSession
) -> None:
    served = await serve(servers={"peer": peer()}, ACCESS_TOKEN="sesame")
    http.headers["Authorization"] = "Bearer sesame"
    where = ["--port", served.url.rpartition(":")[2]]
    header = await initialize(http, f"{served.url}/mcp/peer")
    session_id = header["Mcp-Session-Id"]
    code, out, _ = await run(tmp_path, "sessions", *where, ACCESS_TOKEN="sesame")
    assert code == 0
    head, row = out.splitlines()
    assert head.split()[:3] == ["SESSION", "POOL", "SERVER"]
    assert row.split()[:5] == [session_id, "streamable", "peer", "idle", "0"]
    for wanted in (session_id, session_id[:8], f"{session_id[:8]}..."):
        code, out, _ = await run(tmp_path, "sessions", "ls", wanted, "--json", *where, ACCESS_TOKEN="sesame")
        assert (code, [row["session_id"] for row in json.loads(out)]) == (0, [session_id])
    code, out, err = await run(tmp_path, "sessions", "ls", session_id, "deadbeef", *where, ACCESS_TOKEN="sesame")
    assert (code, out, err) == (2, "", "mcp-bridge: sessions ls: there is no session deadbeef\n")
    code, out, err = await run(tmp_path, "sessions", "ls", "--server", "nobody", *where, ACCESS_TOKEN="sesame")
    assert (code, out, err) == (2, "", 'mcp-bridge: no server "nobody"; there are: peer\n')
    code, out, _ = await run(tmp_path, "sessions", "show", session_id, *where, ACCESS_TOKEN="sesame")
    assert (code, json.loads(out)["session_id"]) == (0, session_id)
    for expected in (0, 1):
        code, _, err = await run(tmp_path, "sessions", "rm", session_id, *where, ACCESS_TOKEN="sesame")
        assert code == expected
    assert "no such session" in err
    code, out, _ = await run(tmp_path, "sessions", "ls", "--server", "peer", "--json", *where, ACCESS_TOKEN="sesame")
    assert (code, json.loads(out)) == (0, [])
    code, _, err = await run(tmp_path, "sessions", *where, ACCESS_TOKEN="wrong")
    assert (code, "token" in err) == (1, True)
    code, _, err = await run(tmp_path, "sessions", "rm", *where)
    assert (code, "give an ID" in err) == (2, True)


async def test_servers_of_a_running_bridge_are_listed_stopped_and_started(tmp_path: Path, serve: Serve) -> None:
    served = await serve(servers={"peer": peer(), "wrong": {"command": []}})
    where = ["--port", served.url.rpartition(":")[2]]
    code, out, _ = await run(tmp_path, "servers", *where)
    assert code == 0
    assert [line.split()[:2] for line in out.splitlines()] == [
        ["SERVER", "STATE"],
        ["peer", "idle"],
        ["wrong", "invalid"],
    ]
    code, out, _ = await run(tmp_path, "servers", "ls", "wrong", *where)
    assert (code, [line.split()[0] for line in out.splitlines()]) == (0, ["SERVER", "wrong"])
    code, _, err = await run(tmp_path, "servers", "ls", "peer", "none", *where)
    assert (code, "there is no server none" in err) == (2, True)
    for action, state in (("stop", "stopped"), ("start", "idle"), ("restart", "idle")):
        code, _, _ = await run(tmp_path, "servers", action, "peer", *where)
        assert code == 0
        _, out, _ = await run(tmp_path, "servers", "--json", *where)
        assert json.loads(out)[0]["state"] == state
    code, _, err = await run(tmp_path, "servers", "stop", "nobody", *where)
    assert (code, 'no server "nobody"' in err) == (1, True)


async def test_without_a_bridge_the_exit_code_is_3(tmp_path: Path) -> None:
    code, _, err = await run(tmp_path, "sessions", "--port", "1")
    assert code == 3
    assert "no bridge answers at http://127.0.0.1:1" in err


@pytest.mark.parametrize("by", ["signal", "request"])
async def test_draining_takes_no_new_sessions_and_ends_after_the_last(
    serve: Serve, http: aiohttp.ClientSession, tmp_path: Path, by: str
) -> None:
    served = await serve(
        servers={"peer": peer(), "kept": peer(persistent=True)}, SESSION_STORE="file", SESSION_DIR=str(tmp_path / "s")
    )
    url = f"{served.url}/mcp/peer"
    header = await initialize(http, url)
    await initialize(http, f"{served.url}/mcp/kept")
    if by == "signal":
        served.process.send_signal(signal.SIGUSR1)
        await served.line_with("draining")
    else:
        async with http.post(f"{served.url}/api/v1/drain") as response:
            assert (response.status, await response.json()) == (202, {"status": "draining"})
    async with http.post(url, json=message("initialize", 1, **INITIALIZE)) as response:
        assert response.status == 503
        assert "Retry-After" in response.headers
    async with http.post(url, json=tool("count"), headers=header) as response:
        assert response.status == 200
    async with http.get(f"{served.url}/health") as response:
        assert "draining: no new sessions" in (await response.json())["reasons"]
    async with http.delete(url, headers=header) as response:
        assert response.status == 204
    await served.line_with("stopped")
    assert await served.process.wait() == 0
    again = await serve(SESSION_STORE="file", SESSION_DIR=str(tmp_path / "s"))
    assert "1 kept session(s)" in "".join(again.lines)
