"""The programs of docs/how-to/clients.md do what they say, as they stand, with a token."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Serve, serve  # noqa: F401 - a fixture
from tests.interop.conftest import CLIENTS, NO_PROXY, NODE, ROOT

PAGE = (ROOT / "docs/how-to/clients.md").read_text()
TOKEN = "sesame-open-please-0123"


@pytest.mark.parametrize(
    ("kind", "program", "said"),
    [("python", [sys.executable, "client.py"], "{'result': 5.0}"), ("js", [NODE, "client.mjs"], "{ result: 5 }")],
)
async def test_a_program_of_the_page_calls_a_tool(
    tmp_path: Path,
    serve: Serve,  # noqa: F811
    kind: str,
    program: list[str],
    said: str,
) -> None:
    shutil.copy(ROOT / "servers.json", tmp_path)
    served = await serve(ACCESS_TOKEN=TOKEN)
    [text] = re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / program[1]).write_text(text.replace("http://localhost:3000", served.url))
    (tmp_path / "node_modules").symlink_to(CLIENTS / "node_modules")
    process = await asyncio.create_subprocess_exec(
        *program,
        cwd=tmp_path,
        env=os.environ | NO_PROXY | {"MCP_BRIDGE_TOKEN": TOKEN},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    assert (process.returncode, out.decode().strip()) == (0, said)
