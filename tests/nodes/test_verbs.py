"""What an operator does to all nodes, where these are not all alike."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from bridge.auth.principal import ANYONE
from bridge.cluster.hop import Hop, HopSeals
from bridge.web.hops import HOP_HEADER
from tests.conftest import peer
from tests.nodes.conftest import KEY, SLOW, Node, Nodes, acquainted

pytestmark = SLOW


async def ask(node: Node, verb: str) -> tuple[int, dict[str, Any]]:
    async with node.http.post(f"{node.url}/api/v1/{verb}") as response:
        return response.status, await response.json()


async def state(node: Node, server: str) -> str:
    return next(str(row["state"]) for row in await node.get("/servers") if row["id"] == server)


async def own_state(node: Node, server: str) -> str:
    """The state of a server at this node alone, as it tells another."""
    hop = Hop(node.name, "other", "GET", "/servers", ANYONE.words, "", "http", "")
    headers = {HOP_HEADER: HopSeals(KEY.encode()).write(hop, time.time())}
    async with node.http.get(f"{node.url}/servers", headers=headers) as response:
        return next(str(row["state"]) for row in await response.json() if row["id"] == server)


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
        assert (status, found["error"]["message"][:26]) == (404, 'no server "nobody" is in t')


async def test_a_node_that_joins_starts_no_server_that_was_stopped(nodes: Nodes) -> None:
    servers = {"peer": peer(), "new": peer(sharing={"warm": 1})}
    a, b = await nodes.start_all("ab", servers)
    assert (await ask(a, "servers/new/stop"))[0] == 200
    await nodes.end(b)
    b = await nodes.start("b", servers)
    assert await own_state(b, "new") == "stopped"
    assert "server new: started" not in "".join(b.served.lines)
    await acquainted(a, b)
    assert (await ask(b, "servers/new/start"))[0] == 200
    assert "stopped" not in (await own_state(a, "new"), await own_state(b, "new"))


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
