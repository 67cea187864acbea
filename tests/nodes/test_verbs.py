"""What an operator does to all nodes, where these are not all alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.conftest import peer
from tests.nodes.conftest import SLOW, Node, Nodes, acquainted

pytestmark = SLOW


async def ask(node: Node, verb: str) -> tuple[int, dict[str, Any]]:
    async with node.http.post(f"{node.url}/api/v1/{verb}") as response:
        return response.status, await response.json()


async def state(node: Node, server: str) -> str:
    return next(str(row["state"]) for row in await node.get("/servers") if row["id"] == server)


async def test_a_server_that_one_node_has_is_operated_at_whichever_is_asked(nodes: Nodes) -> None:
    a = await nodes.start("a", {"peer": peer()})
    b = await nodes.start("b", {"peer": peer(), "new": peer()})
    await acquainted(a, b)
    for node in (a, b):
        for verb, is_then in (("stop", "stopped"), ("start", "idle"), ("restart", "idle")):
            status, found = await ask(node, f"servers/new/{verb}")
            assert (status, found["id"]) == (200, "new")
            assert await state(node, "new") == is_then
        status, found = await ask(node, "servers/nobody/stop")
        assert (status, found["error"]["message"][:26]) == (404, 'no server "nobody" is serv')


async def test_a_reload_tells_what_has_changed_on_any_node(nodes: Nodes, tmp_path: Path) -> None:
    a, b = await nodes.start_all("ab", {"peer": peer()})
    file = tmp_path / "b0" / "servers.json"
    for node, late in ((a, "late"), (b, "later")):
        file.write_text(json.dumps({"mcpServers": {"peer": peer(), late: peer()}}))
        assert (await ask(node, "reload"))[1]["added"] == [late]
    file.write_text("{")
    for node in (a, b):
        status, found = await ask(node, "reload")
        said = found["error"]["message"]
        assert (status, said.startswith("node b: the old "), said.endswith("; it is done on a")) == (400, True, True)
