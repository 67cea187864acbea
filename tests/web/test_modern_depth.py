"""What is nested so deeply that only the deepest reader of a modern request stumbles over it leaves no child held."""

from __future__ import annotations

import json

from tests.conftest import Running, in_time, last
from tests.modern_client import ModernClient

#: Deeper than any reader follows, on any version of Python.
TOO_DEEP = 40_000
#: How far around the deepest arguments that are good to look: more than the frames between two readers.
AROUND = 12


async def _status(bridge: Running, depth: int) -> int:
    """Call a tool, in a way that holds a child alone, with arguments of this depth."""
    body = ModernClient(bridge, "peer", {"elicitation": {}}).body("tools/call", name="echo", arguments={"x": "HERE"})
    text = json.dumps(body).replace('"HERE"', "[" * depth + "]" * depth).encode()
    headers = {"MCP_Protocol_Version": "2026-07-28", "Mcp_Method": "tools/call", "Mcp_Name": "echo"}
    async with bridge.post("/mcp/peer", text, **headers) as response:
        await last(response)
        return int(response.status)


async def test_a_call_that_is_refused_late_holds_no_child(bridge: Running) -> None:
    async with in_time():
        good, bad = 1, TOO_DEEP
        while bad - good > 1:
            middle = (good + bad) // 2
            good, bad = (middle, bad) if await _status(bridge, middle) == 200 else (good, middle)
        children = bridge.service.core.registry.children
        before = sum(child.holders for child in children())
        assert {await _status(bridge, depth) for depth in range(good - 2, good + AROUND)} == {200, 400}
        assert sum(child.holders for child in children()) == before
