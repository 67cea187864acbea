"""Examples in what users read. A block of ``sh`` is run as it stands, page by page, in a clean folder beside a real
bridge with the shipped servers.json; one of ``console`` shows a terminal, and says why nobody can run it here.
"""

from __future__ import annotations

import asyncio
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from bridge.cli.main import VERBS, parser_of
from bridge.config.servers import parse_servers
from bridge.config.settings import setting_names
from tests.cli.conftest import Serve, environment

ROOT = Path(__file__).parents[2]
PAGES = {str(page.relative_to(ROOT)): page.read_text() for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))}
FENCE = re.compile(
    r"(?:<!-- not run: (?P<why>[^>]+) -->\n)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
KINDS = {"sh", "console", "text", "json", "jsonc", "ini", "python", "js", "mermaid", "yaml"}
#: Pages with a test of their own, which does what they show: tests/cli/test_tutorial.py.
TOLD = {"docs/tutorial.md"}
#: How many examples nobody runs, by page. One more is one that may be wrong.
NOT_RUN = {
    "README.md": 1,
    "docs/how-to/nodes.md": 1,
    "docs/how-to/persistent-sessions.md": 1,
    "docs/how-to/pins.md": 1,
    "docs/how-to/restart.md": 1,
    "docs/how-to/service.md": 2,
    "docs/how-to/traces.md": 1,
}
#: Until it has said something, as until Ctrl-C; at a terminal, because programs that write into a pipe say it late.
UNTIL = """
import os, pty, signal, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execvp("bash", ["bash", "-c", sys.argv[1]])
print(os.read(terminal, 65536).decode())
os.killpg(pid, signal.SIGKILL)
os.waitpid(pid, 0)
"""


def blocks(page: str, *kinds: str) -> list[re.Match[str]]:
    return [found for found in FENCE.finditer(PAGES[page]) if found["kind"] in kinds]


def with_blocks(*kinds: str) -> list[str]:
    return [page for page in PAGES if blocks(page, *kinds)]


def script(page: str, url: str, folder: Path) -> str:
    """All examples of a page, one after the other."""
    (folder / "until.py").write_text(UNTIL)
    lines = ["set -euo pipefail"]
    for block in blocks(page, "sh"):
        for line in block["text"].replace("localhost:3000", url.removeprefix("http://")).splitlines():
            command, comment, why = line.rpartition(" # ")
            waits = comment and why.endswith("until Ctrl-C")
            lines.append(f"python3 {folder / 'until.py'} {shlex.quote(command)}" if waits else line)
    return "\n".join(lines)


@pytest.fixture
def shell(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the programs that examples use."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "mcp-bridge").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m bridge "$@"\n')
    (folder / "mcp-bridge").chmod(0o755)
    (folder / ".curlrc").write_text("fail-with-body\nshow-error\nmax-time = 20\n")  # else 500 is as good as 200
    return folder


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.skipif(sys.platform != "linux", reason="examples are those of a Linux shell")
@pytest.mark.parametrize("page", with_blocks("sh"))
async def test_examples_do_what_they_say(page: str, tmp_path: Path, serve: Serve, shell: Path) -> None:
    shutil.copy(ROOT / "servers.json", tmp_path)
    served = await serve()
    settings = {"PORT": served.url.rpartition(":")[2], "CURL_HOME": str(shell), "HOME": str(tmp_path)}
    env = environment(**settings)
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", script(page, served.url, shell)),
        cwd=tmp_path,
        env={**env, "PATH": f"{shell}:{env['PATH']}"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    assert "Traceback" not in out.decode()


@pytest.mark.parametrize("page", PAGES)
def test_a_block_says_what_it_is(page: str) -> None:
    kinds = {found["kind"] for found in FENCE.finditer(PAGES[page])}
    assert kinds <= KINDS


def test_what_is_not_run_is_counted_and_says_why() -> None:
    shown = {page: blocks(page, "console") for page in PAGES.keys() - TOLD}
    assert {page: len(found) for page, found in shown.items() if found} == NOT_RUN
    assert [block["text"] for found in shown.values() for block in found if not block["why"]] == []


@pytest.mark.parametrize("page", with_blocks("console"))
def test_commands_that_are_shown_exist(page: str) -> None:
    for block in blocks(page, "console"):
        for words in re.findall(r"^\$ .*?\bmcp-bridge ([a-z-][^|\n]*)$", block["text"], re.MULTILINE):
            given = shlex.split(words, comments=True)
            parser_of(VERBS).parse_args(given[: given.index("--")] if "--" in given else given)


@pytest.mark.parametrize("page", with_blocks("jsonc", "ini"))
def test_configuration_that_is_shown_can_be_used(page: str) -> None:
    environ = {"HOME": "/home/ann", "MAIL_TOKEN": "x", "TICKETS_TOKEN": "x"}
    for block in blocks(page, "jsonc"):
        text = block["text"] if block["text"].startswith("{") else f'{{"x": {{"command": "x", {block["text"]}}}}}'
        assert parse_servers(text, page, environ).problems == ()
    for block in blocks(page, "ini"):
        names = re.findall(r"^(\w+)=", block["text"], re.MULTILINE)
        assert names
        assert set(names) <= set(setting_names())
