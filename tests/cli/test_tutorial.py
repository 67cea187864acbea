"""docs/tutorial.md, done again: its files, its commands, its words."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from bridge.cli.main import VERBS
from tests.cli.conftest import Serve, Terminal, run

PAGE = (Path(__file__).parents[2] / "docs/tutorial.md").read_text()
ANN = "/home/ann"


def block(kind: str) -> str:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)[0]


def shown(words: str, folder: Path) -> str:
    """A line of the page, with the folder of this test."""
    [line] = {line for line in PAGE.splitlines() if words in line}
    return line.replace(ANN, str(folder))


@pytest.mark.skipif(sys.platform != "linux", reason="Claude Desktop keeps its file elsewhere")
async def test_the_tutorial_works_as_it_stands(tmp_path: Path, serve: Serve) -> None:
    home = {"HOME": str(tmp_path)}
    (tmp_path / "notes.py").write_text(block("python"))
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/today.txt").write_text("buy milk\n")
    file = block("json").replace(ANN, str(tmp_path)).replace('"python"', json.dumps(sys.executable))
    file = file.replace('"uvx", "args": ["mcp-server-time"]', f'"{sys.executable}", "args": ["-m", "mcp_server_time"]')
    (tmp_path / ".config/Claude").mkdir(parents=True)
    (tmp_path / ".config/Claude/claude_desktop_config.json").write_text(file)

    terminal = await Terminal().run(tmp_path, "import", **home)
    await terminal.until("Add 2 server(s)? [y/N] ")
    terminal.type("y\n")
    assert (await terminal.end())[0] == 0
    served = await serve()
    where = ("--port", served.url.rpartition(":")[2])

    _, out, _ = await run(tmp_path, "client-config", "claude-code", *where)
    assert out.replace(where[1], "3000").splitlines() == re.findall(r"^claude mcp add.*", PAGE, re.MULTILINE)
    _, out, _ = await run(tmp_path, "tools", "time", *where)
    assert shown("get_current_time  Get", tmp_path) in out
    code, out, _ = await run(tmp_path, "call", "time", "get_current_time", "timezone=Europe/Paris", *where)
    assert (code, json.loads(out)["timezone"]) == (0, "Europe/Paris")

    code, _, err = await run(tmp_path, "call", "notes", "read", "name=today.txt", *where)
    assert (code, err.strip()) == (1, shown("(error -32603)", tmp_path))
    _, out, _ = await run(tmp_path, "ps", *where)
    assert shown("notes   idle", tmp_path) in out
    _, out, _ = await run(tmp_path, "logs", "notes", "--tail", "1", *where)
    assert out.rpartition("] ")[2] in PAGE.replace(ANN, str(tmp_path))
    code, out, _ = await run(tmp_path, "doctor", "notes", *where)
    assert (code, shown("error    notes", tmp_path) in out, shown("fix: it looks", tmp_path) in out) == (1, True, True)

    servers = tmp_path / "servers.json"
    servers.write_text(servers.read_text().replace("notez", "notes"))
    assert (await run(tmp_path, "servers", "reload", *where))[1] == "restarted: notes\n"
    assert (await run(tmp_path, "call", "notes", "read", "name=today.txt", *where))[:2] == (0, "buy milk\n\n")
    _, out, _ = await run(tmp_path, "doctor", "notes", *where)
    assert shown("ok       notes: starts", tmp_path) in out


def test_the_tutorial_names_no_verb_that_does_not_exist() -> None:
    named = set(re.findall(r"mcp-bridge ([a-z-]+)", PAGE))
    assert {"import", "ps", "doctor", "logs"} <= named <= set(VERBS)
