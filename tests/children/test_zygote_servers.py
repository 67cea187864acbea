"""``preload`` with servers as people have them: modules, console scripts, tools of uvx, projects of uv."""

from __future__ import annotations

import logging
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import PEERS, Running, StartBridge

BIN = Path(sys.executable).parent


def wheel(folder: Path) -> None:
    """Make a wheel of tests/peers/peer.py with a console script, so that nothing need be downloaded."""
    files = {
        "peer_tool/__init__.py": "",
        "peer_tool/server.py": (PEERS / "peer.py").read_text(),
        "peer_tool-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: peer-tool\nVersion: 1\n",
        "peer_tool-1.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "peer_tool-1.dist-info/entry_points.txt": "[console_scripts]\npeer-tool = peer_tool.server:main\n",
    }
    files["peer_tool-1.dist-info/RECORD"] = "".join(f"{name},,\n" for name in files)
    with zipfile.ZipFile(folder / "peer_tool-1-py3-none-any.whl", "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)


async def forked(bridge: Running, server: str, caplog: pytest.LogCaptureFixture) -> None:
    """Two sessions of a server work, each in a child of its zygote."""
    sessions = [await bridge.session(server) for _ in range(2)]
    for session in sessions:
        assert (await session.ask("ping"))["result"] == {}
    lines = [record for record in caplog.records if "modules in" in record.msg and record.args[0] == server]  # type: ignore[index]
    [zygote] = [record.args[1] for record in lines]  # type: ignore[index]
    pids = [child["pid"] for child in await bridge.get("/children") if child["server"] == server]
    assert len(set(pids)) == 2
    assert {psutil.Process(pid).ppid() for pid in pids} == {zygote}
    for session in sessions:
        async with session.delete() as response:
            assert response.status == 204


async def test_mcp_server_time(start_bridge: StartBridge, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    bridge = await start_bridge(
        {
            "module": {"command": sys.executable, "args": ["-m", "mcp_server_time"], "preload": True},
            "script": {"command": str(BIN / "mcp-server-time"), "preload": True},
            "listed": {"command": sys.executable, "args": ["-m", "mcp_server_time"], "preload": ["mcp.server"]},
        }
    )
    for server in ("module", "script", "listed"):
        await forked(bridge, server, caplog)
    answer = await bridge.bridge_call(
        "module", "tools/call", name="get_current_time", arguments={"timezone": "Europe/Paris"}
    )
    assert "Europe/Paris" in answer["result"]["content"][0]["text"]


@pytest.mark.parametrize(
    "entry",
    [
        {"command": "uvx", "args": ["--no-index", "--find-links", "{folder}", "peer-tool"]},
        {"command": "uv", "args": ["tool", "run", "--find-links={folder}", "--no-index", "peer-tool@1"]},
        {"command": "uv", "args": ["run", "--no-project", "--no-index", "-f{folder}", "--with=peer-tool", "peer-tool"]},
    ],
    ids=["uvx", "uv tool run", "uv run"],
)
async def test_tools_of_uv(
    entry: dict[str, Any], start_bridge: StartBridge, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.INFO)
    wheel(tmp_path)
    env = {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "UV_CACHE_DIR": str(tmp_path / "cache"),
        "UV_PYTHON": sys.executable,
        "UV_OFFLINE": "1",
    }
    args = [word.format(folder=tmp_path) for word in entry["args"]]
    bridge = await start_bridge({"tool": {**entry, "args": args, "env": env, "cwd": str(tmp_path), "preload": True}})
    await forked(bridge, "tool", caplog)
