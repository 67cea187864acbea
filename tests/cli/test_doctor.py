"""``mcp-bridge doctor``: what it finds at servers and settings that are really broken."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import socket
import sys
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from tests.cli.conftest import Serve, environment, run
from tests.conftest import PEERS, peer
from tests.stores.redis_server import RedisServer


def script(text: str, **entry: Any) -> dict[str, Any]:
    """A server that is a few lines of Python."""
    return {"command": sys.executable, "args": ["-I", "-S", "-c", text], **entry}


def modern() -> dict[str, Any]:
    return {"command": sys.executable, "args": ["-I", "-S", str(PEERS / "asking_peer.py"), "modern"]}


def tools(*names: str) -> str:
    """A server of the handshake era with these tools, one a page, that greets on stdout."""
    return f"""
import json, sys
print("Server listening...")
for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message: continue
    if message["method"] == "initialize":
        result = {{"protocolVersion": "2025-06-18", "capabilities": {{"tools": {{}}}}, "serverInfo": {{}}}}
    else:
        at = int(message["params"].get("cursor", 0))
        result = {{"tools": [{{"name": {names!r}[at]}}]}}
        if at + 1 < len({names!r}): result["nextCursor"] = str(at + 1)
    print(json.dumps({{"jsonrpc": "2.0", "id": message["id"], "result": result}}), flush=True)
"""


#: An entry, the level and words of what is found, and the words of the repair.
SERVERS: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "good": (peer(), "ok", "starts and answers; handshake era, 0 tool(s)", ""),
    "new": (modern(), "ok", "starts and answers; modern era, 1 tool(s)", ""),
    "lost": ({"command": "npx-is-not-here"}, "error", "'npx-is-not-here' not found on the PATH", "install it"),
    "beside": ({"command": "peer.py", "cwd": str(PEERS)}, "error", "'peer.py' not found on the PATH", "whole path"),
    "node": ({"command": "npx", "env": {"PATH": "/nowhere"}}, "error", "'npx' not found", "install Node.js"),
    "dies": (
        script("import sys; sys.exit('no API key')"),
        "error",
        "exited with code 1",
        'set what it asks for in "env"',
    ),
    "module": (script("import nothing_like_that"), "error", "No module named", "install what it imports"),
    "key": (script("import os; os.environ['KEY_OF_MINE']"), "error", "KeyError: 'KEY_OF_MINE'", "set what it asks for"),
    "named": (script("raise SystemExit('MY_KEY is required')"), "error", "MY_KEY is required", "set what it asks for"),
    "gone": (
        script("raise SystemExit(\"Cannot find module '/x.js'\")"),
        "error",
        "Cannot find module",
        "it looks for what is not",
    ),
    "mute": (script("import sys; sys.stdin.read()"), "error", "did not answer", "startTimeout"),
    "loud": (script(tools("a")), "warning", "writes to stdout what is no JSON-RPC: 'Server listening", "log to stderr"),
    "shy": (
        script("import sys; print('hello world', flush=True); sys.stdin.read()"),
        "error",
        "it did not answer within 8 s; it writes to stdout what is no JSON-RPC: 'hello world'",
        "an MCP server writes nothing but messages to stdout",
    ),
    "line": ({"command": "npx -y pkg"}, "error", "'npx -y pkg' not found on the PATH", 'put the rest into "args"'),
    "path": ({"command": "/nowhere/npx"}, "error", "command '/nowhere/npx' not found", 'correct "command"'),
    "names": (script(tools("a b")), "warning", "'a b' has a name that models refuse", "names are 1 to 64"),
    "long": (script(tools("x" * 65)), "warning", "has a name that models refuse", ""),
    "twice": (script(tools("a", "a")), "warning", "tool 'a' is there twice", ""),
    "many": (script(tools("a", "b", "c")), "ok", "starts and answers; handshake era, 3 tool(s)", ""),
    "sorry": (
        script(tools("a").replace('"result": result', '"error" if "at" in vars() else "result": result')),
        "error",
        "it answered tools/list with an error: an error",
        "",
    ),
    "blank": (peer(env={"API_KEY": "<your key>"}), "warning", "API_KEY looks like a placeholder", "set API_KEY"),
    "cwd": (peer(cwd="/nowhere"), "error", '"cwd" /nowhere is no directory', "make it"),
    "unset": (peer(env={"X": None}), "error", "X is null, which takes it from our environment", "servers.json"),
    "far": ({"url": "http://127.0.0.1:9/mcp"}, "error", "127.0.0.1:9", "look whether it runs there"),
}


async def test_each_broken_server_is_found_and_has_a_repair(tmp_path: Path) -> None:
    entries = {name: row[0] for name, row in SERVERS.items()} | {"off": {"command": "x", "disabled": True}}
    (tmp_path / "servers.json").write_text(json.dumps(entries))
    where = ("--port", str(_free_port()))
    code, out, err = await run(tmp_path, "doctor", "--json", "--timeout", "8", *where)
    assert (code, err) == (1, "")
    found = json.loads(out)
    for name, (_, level, what, fix) in SERVERS.items():
        mine = [row for row in found if row["about"] == name and row["level"] == level and what in row["what"]]
        assert mine, (name, [row for row in found if row["about"] == name])
        assert any(fix in row["fix"] for row in mine), (name, mine)
    assert {row["about"] for row in found} == {*SERVERS, "bridge"}
    assert [row["level"] for row in found if row["about"] == "shy"] == ["ok", "error"], "one finding, and not two"
    assert not [row for row in found if row["about"] == "shy" and "stderr: " in row["what"]], "nor said twice"
    assert not [row for row in found if row["about"] == "module" and "stderr: " in row["what"]], "nor its stack"
    assert not [row for row in found if row["about"] == "path" and "PATH" in row["what"]]
    assert [row for row in found if row["level"] != "ok" and row["about"] in ("good", "new", "bridge")] == []
    left = [p for p in psutil.process_iter(["cmdline"]) if str(PEERS / "peer.py") in (p.info["cmdline"] or [])]
    assert [process for process in left if process.cwd() == str(tmp_path)] == []


async def test_a_healthy_configuration_is_said_in_lines_and_exit_code_0(tmp_path: Path) -> None:
    (tmp_path / "servers.json").write_text(json.dumps({"good": peer(), "bad": {"command": "no-such-thing"}}))
    where = ("--port", str(_free_port()))
    code, out, err = await run(tmp_path, "doctor", "good", *where)
    assert (code, err) == (0, "")
    assert "ok       good: starts and answers; handshake era, 0 tool(s)\n" in out
    assert out.endswith("0 error(s), 0 warning(s)\n")
    code, out, _ = await run(tmp_path, "doctor", *where)
    assert (code, "error    bad: command 'no-such-thing' not found" in out, "         fix: install it" in out) == (
        1,
        True,
        True,
    )
    code, out, _ = await run(tmp_path, "doctor", "--no-start", *where)
    assert (code, "bad" in out) == (0, False)
    code, _, err = await run(tmp_path, "doctor", "nobody", *where)
    assert (code, 'no server "nobody"' in err) == (2, True)


async def test_a_server_that_is_named_and_disabled_is_told(tmp_path: Path) -> None:
    (tmp_path / "servers.json").write_text(json.dumps({"good": peer(), "off": peer(disabled=True)}))
    code, out, err = await run(tmp_path, "doctor", "off", "--port", str(_free_port()))
    assert (code, err) == (0, "")
    assert "servers.json has 1 server(s), 1 disabled\n" in out
    said = 'warning  off: it is disabled, and was not tried\n         fix: set "disabled": false in servers.json\n'
    assert out.endswith(f"{said}0 error(s), 1 warning(s)\n")
    assert "servers.json: 1 server(s), 1 disabled\n" in (await run(tmp_path, "check"))[1]


async def test_an_entry_with_a_mistake_is_no_server(tmp_path: Path) -> None:
    (tmp_path / "servers.json").write_text(json.dumps({"good": peer(), "off": peer(disabled=True), "bad": {"a": 1}}))
    code, out, _ = await run(tmp_path, "check")
    assert (code, "servers.json: 1 server(s), 1 disabled, 1 invalid\n" in out) == (2, True)


async def test_without_a_file_of_servers_all_else_is_tried(tmp_path: Path) -> None:
    where = ["--port", str(_free_port())]
    code, out, err = await run(tmp_path, "doctor", *where)
    missing = "error    bridge: servers.json: no such file\n         fix: make it: mcp-bridge add; to try one command: "
    assert (code, err, out.startswith(f"{missing}mcp-bridge doctor -- COMMAND\n")) == (1, "", True)
    assert "LOG_DIR logs can be written" in out
    assert out.endswith("1 error(s), 0 warning(s)\n")
    code, out, err = await run(tmp_path, "doctor", "peer", *where)
    assert (code, out, "servers.json: no such file" in err) == (2, "", True)


async def test_one_command_can_be_tried(tmp_path: Path) -> None:
    entry = peer()
    command = [entry["command"], *entry["args"]]
    code, out, err = await run(tmp_path, "doctor", "--port", str(_free_port()), "--", *command)
    assert (code, err) == (0, "")
    assert "ok       default: starts and answers; handshake era, 0 tool(s)\n" in out


async def test_what_fails_in_the_bridge_that_runs_is_told_beside_what_works_here(
    tmp_path: Path, serve: Serve, http: aiohttp.ClientSession
) -> None:
    entry = peer()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/mine").write_text(f"#!/bin/sh\nexec {shlex.join([entry['command'], *entry['args']])}\n")
    (tmp_path / "bin/mine").chmod(0o755)
    served = await serve(servers={"mine": {"command": "mine"}, "good": peer()})
    async with http.post(f"{served.url}/bridge/mine", json={"method": "ping"}) as response:
        assert response.status == 502
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    code, out, _ = await run(tmp_path, "doctor", "--json", "--port", served.url.rpartition(":")[2], PATH=path)
    assert code == 0
    _, starts, fails = [row for row in json.loads(out) if row["about"] == "mine"]
    assert (starts["level"], fails["level"]) == ("ok", "warning")
    assert fails["what"].startswith("in the bridge that runs: server \"mine\" could not be started: command 'mine' not")
    assert [row["level"] for row in json.loads(out) if row["about"] == "good"] == ["ok", "ok"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _bridge_findings(folder: Path, *arguments: str, **settings: str) -> list[dict[str, str]]:
    _, out, _ = await run(folder, "doctor", "--no-start", "--json", *arguments, **settings)
    return [row for row in json.loads(out) if row["about"] == "bridge" and row["level"] != "ok"]


async def test_ports_stores_folders_and_limits(tmp_path: Path, serve: Serve) -> None:
    (tmp_path / "servers.json").write_text(json.dumps({"peer": peer()}))
    (tmp_path / "file").write_text("")
    (tmp_path / "tokens.json").write_text('{"tokens": []}')
    (tmp_path / "tokens.json").chmod(0o644)
    free = str(_free_port())
    assert await _bridge_findings(tmp_path, "--port", free) == []
    broken: dict[str, tuple[dict[str, str], str]] = {
        "LOG_DIR file/x: ": ({"LOG_DIR": "file/x"}, "choose another LOG_DIR"),
        "SESSION_DIR file: ": ({"SESSION_STORE": "file", "SESSION_DIR": "file"}, "choose another SESSION_DIR"),
        "TOKENS_FILE tokens.json can be read by others": ({"TOKENS_FILE": "tokens.json"}, "chmod 600"),
        "TOKENS_FILE: file is no JSON": ({"TOKENS_FILE": "file"}, "make new tokens: mcp-bridge token add"),
        "PINS_FILE: file is no JSON": ({"PINS_FILE": "file"}, "remove it to trust every tool as it is now"),
        "TOKENS_FILE gone.json: No such file": ({"TOKENS_FILE": "gone.json"}, "mcp-bridge token add"),
        "Redis at redis://localhost:9/0: ": (
            {"SESSION_STORE": "redis", "REDIS_URL": "redis://:s3cret@localhost:9/0"},
            "correct REDIS_URL",
        ),
        "children (MAX_CHILDREN) need about": ({"MAX_CHILDREN": "1000000"}, "ulimit -n"),
    }
    for words, (settings, fix) in broken.items():
        found = await _bridge_findings(tmp_path, "--port", free, **settings)
        mine = [row for row in found if words in row["what"]]
        assert len(mine) == 1, (words, found)
        assert fix in mine[0]["fix"]
        assert "s3cret" not in str(found)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        accepting = asyncio.create_task(_hang_up(other))
        [found] = await _bridge_findings(tmp_path, "--port", str(port))
        accepting.cancel()
        await asyncio.wait([accepting])  # it lets go of the socket before that is closed
        assert f"another program listens on 127.0.0.1:{port}" in found["what"]
    served = await serve()
    assert await _bridge_findings(tmp_path, "--port", served.url.rpartition(":")[2]) == []


async def test_redis_that_answers_and_keeps_no_session(tmp_path: Path) -> None:
    (tmp_path / "servers.json").write_text(json.dumps({"peer": peer()}))
    kinds = (), ("--maxmemory", "1"), ("--replicaof", "127.0.0.1", "1")
    redis, full, replica = servers = [RedisServer(tmp_path, *options) for options in kinds]
    for server in servers:
        server.start()
    sessions, events, cluster = "~persistent_session:*", "~mcp_bridge_events:*", "~mcp_bridge_cluster:*"
    needed = ("+@read", "+@write", "+@connection", "+eval")
    users = {
        "able": (*needed, sessions, events),
        "node": (*needed, sessions, events, cluster),
        "scriptless": ("+@all", "-eval", "~*"),
        "keyless": ("+@all", sessions),
        "writeless": ("+@all", "-set", "~*"),
    }
    for name, rules in users.items():
        redis.cli("ACL", "SETUSER", name, "on", ">s3cret", *rules)
    nodes = {"CLUSTER": "redis", "CLUSTER_KEY": "0123456789abcdef", "NODE_URL": "http://10.0.0.7:3000", "NODE_ID": "a"}
    free = str(_free_port())

    async def found(where: str, **settings: str) -> str:
        settings |= {"REDIS_ENABLED": "true", "REDIS_URL": f"redis://{where}"}
        rows = await _bridge_findings(tmp_path, "--port", free, **settings)
        assert "s3cret" not in str(rows)
        [text] = [f"{row['what']} => {row['fix']}" for row in rows if row["what"].startswith("Redis at")] or [""]
        return text

    try:
        assert await found(f"able:s3cret@{redis.where}") == ""
        assert await found(f"node:s3cret@{redis.where}", **nodes) == ""
        needs = "ACL SETUSER NAME +@read +@write +@connection +eval ~persistent_session:* ~mcp_bridge_events:pers"
        for user, settings in (("scriptless", {}), ("keyless", {}), ("writeless", {}), ("able", nodes)):
            assert needs in await found(f"{user}:s3cret@{redis.where}", **settings), user
        assert "give it more memory" in await found(full.where)
        assert "must name the primary" in await found(replica.where)
        assert redis.cli("KEYS", "*") == ""
    finally:
        for server in servers:
            server.stop()


async def _hang_up(listening: socket.socket) -> None:
    """Some program that is no bridge."""
    listening.setblocking(False)
    while True:
        connection, _ = await asyncio.get_running_loop().sock_accept(listening)
        connection.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
async def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "servers.json").write_text(json.dumps({"peer": peer()}))
    (tmp_path / "logs").mkdir(mode=0o500)
    [found] = await _bridge_findings(tmp_path, "--port", str(_free_port()))
    assert "cannot be written" in found["what"]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is that of Linux")
async def test_a_folder_is_tried_and_not_only_asked_about(tmp_path: Path) -> None:
    (tmp_path / "servers.json").write_text(json.dumps({"peer": peer()}))
    [found] = await _bridge_findings(tmp_path, "--port", str(_free_port()), LOG_DIR="/proc/nope")
    assert found["what"].startswith("LOG_DIR /proc/nope cannot be written: ")
    assert await _bridge_findings(tmp_path, "--port", str(_free_port()), LOG_DIR="not/yet") == []
    assert _names(tmp_path) == ["servers.json"]
    doctor = shlex.join([sys.executable, "-m", "bridge", "doctor", "--no-start", "--port", str(_free_port())])
    process = await asyncio.create_subprocess_shell(
        f"ulimit -f 0; exec {doctor}",  # as a disk that is full: no file may have a byte
        cwd=tmp_path,
        env=environment(),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert process.returncode == 1
    assert "error    bridge: LOG_DIR logs cannot be written: File too large" in out.decode()


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]
