"""Secrets of the bridge are in no process that it starts for a server."""

from __future__ import annotations

import json
from pathlib import Path

import aiohttp
import pytest

from bridge.config.environment import OUR_SECRETS
from tests.cli.conftest import Serve, below_of
from tests.conftest import peer

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="there is no /proc to read it from")


@pytest.mark.parametrize("where", ["environment", ".env"])
async def test_no_child_has_a_secret_of_ours(
    serve: Serve,
    http: aiohttp.ClientSession,
    tmp_path: Path,
    where: str,
) -> None:
    servers = {
        "all": peer(inheritEnv="all"),
        "listed": peer(inheritEnv=[*sorted(OUR_SECRETS), "HARMLESS"], envFile=".env"),
        "forked": peer(inheritEnv="all", preload=["json"]),
    }
    settings = {name: f"ours-{name}" for name in OUR_SECRETS - {"TOKENS_FILE", "MCP_SERVERS", "AUTH_TOKEN"}}
    settings |= {"HARMLESS": "yes", "REDIS_URL": "redis://:ours-redis@localhost", "MCP_SERVERS": json.dumps(servers)}
    settings |= {"TOKENS_FILE": "ours-tokens.json"}
    (tmp_path / "ours-tokens.json").write_text('{"tokens":[]}')
    text = "".join(f"{name}='{value}'\n" for name, value in settings.items())
    (tmp_path / ".env").write_text(text if where == ".env" else "")
    served = await serve(**(settings if where == "environment" else {}))
    token = {"Authorization": "Bearer ours-ACCESS_TOKEN"}
    for server in servers:
        url = f"{served.url}/mcp/{server}"
        async with http.post(url, headers=token, json={"jsonrpc": "2.0", "id": 1, "method": "ping"}) as response:
            assert response.status == 200, await response.text()
    below = below_of(served)
    assert len(below) == 4  # a process each, and a zygote
    for process in below:
        environ = process.environ()  # /proc/<pid>/environ
        assert environ["HARMLESS"] == "yes"
        assert not [name for name, value in environ.items() if "ours-" in value], process.cmdline()
