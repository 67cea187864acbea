"""A child of a zygote imports nothing that its libraries import only when they are used: that is done as well."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from bridge.process.foreign.zygote import WHEN_USED
from tests.conftest import INITIALIZE, PEERS
from tests.process.conftest import Grow, Watch, python
from tests.process.watched import Watched

CACHE = PEERS.parent.parent / ".cache"
SDK1, SDK2 = (str(CACHE / name / "bin" / "python") for name in ("sdk1", "sdk2"))
ADD = {"name": "add", "arguments": {"a": 1, "b": 2}}
NOW = {"name": "get_current_time", "arguments": {"timezone": "UTC"}}
#: What comes with the question that needs it, as the modules of the standard library do.
TABLES = ("tzdata", "rich._unicode_data.")

#: What a person writes after the first page of a library.
SERVER = """
from {module} import {name}
server = {name}("adds")
@server.tool()
def add(a: int, b: int) -> int:
    return a + b
server.run()
"""


@pytest.mark.parametrize(
    ("interpreter", "line", "library", "name", "call"),
    [
        (SDK1, "s.py", "mcp.server.fastmcp", "FastMCP", ADD),
        (SDK2, "s.py", "mcp.server.mcpserver", "MCPServer", ADD),
        (SDK2, "s.py", "fastmcp", "FastMCP", ADD),
        (sys.executable, "-m mcp_server_time", "mcp.server.mcpserver", "", NOW),
    ],
    ids=["mcp 1", "mcp 2", "fastmcp", "mcp-server-time"],
)
async def test_what_libraries_import_when_they_are_used_is_imported_before(
    interpreter: str, line: str, library: str, name: str, call: dict[str, Any], tmp_path: Path, watch: Watch, grow: Grow
) -> None:
    (tmp_path / "s.py").write_text(SERVER.format(module=library, name=name))
    command = python(tmp_path, "{python} -v " + line, interpreter)
    plain = await imported(await watch(command), call)
    forked = await imported(await watch(command, await grow(command)), call)
    assert "argparse" not in forked
    forked = {module for module in forked if module.partition(".")[0] not in sys.stdlib_module_names}
    assert [module for module in forked if not module.startswith(TABLES)] == []
    known = [module for key in WHEN_USED if key in plain for module in WHEN_USED[key]]
    assert "anyio._backends._asyncio" in known
    assert set(known) <= plain


async def imported(it: Watched, call: dict[str, Any]) -> set[str]:
    """Greet it, ask for its tools, call one; return what it has imported for that."""
    await ask(it, 1, "initialize", INITIALIZE)
    it.child.write(b'{"jsonrpc":"2.0","method":"notifications/initialized"}')
    assert call["name"] in [tool["name"] for tool in (await ask(it, 2, "tools/list", {}))["tools"]]
    assert not (await ask(it, 3, "tools/call", call)).get("isError")
    it.child.close_stdin()
    await it.ended.wait()
    return {line.split("'")[1] for line in it.errors if line.startswith("import '")}


async def ask(it: Watched, number: int, method: str, params: dict[str, Any]) -> Any:
    """Return the result of a request; what the server says unasked is left aside."""
    it.child.write(json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode())
    while (answer := json.loads(await it.line())).get("id") != number:
        pass
    return answer["result"]
