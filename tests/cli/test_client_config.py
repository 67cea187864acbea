"""``mcp-bridge client-config``: snippets that each client can read, and that reach the servers."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bridge.cli.client_config import CLIENTS
from tests.cli.conftest import Serve, initialize, run
from tests.conftest import peer

SERVERS = {"peer": peer(), "a.b": peer(), "off": peer(disabled=True)}
URL = "http://127.0.0.1:3000/mcp/peer"
#: What "a.b" is called at clients that take letters, digits, - and _ only.
DOTTED = {"claude-code": "a-b", "codex": "a-b"}


def entries(client: str, text: str) -> dict[str, dict[str, Any]]:
    """What a client would read: name to its entry, with the URL as ``url`` and the header as ``auth``."""
    if client == "claude-code":
        rows = [shlex.split(line) for line in text.splitlines()]
        return {row[5]: {"url": row[6], "auth": row[8].partition(": ")[2] if row[8:] else None} for row in rows}
    if client == "codex":
        tables = tomllib.loads(text)["mcp_servers"]
        return {name: {"url": one["url"], "auth": one.get("bearer_token_env_var")} for name, one in tables.items()}
    key = {"vscode": "servers", "zed": "context_servers", "opencode": "mcp"}.get(client, "mcpServers")
    found = {}
    for name, one in json.loads(text)[key].items():
        if client == "claude-desktop":
            found[name] = {"url": one["args"][2], "auth": one.get("env", {}).get("AUTH_HEADER")}
        else:
            [url] = [one[member] for member in ("url", "serverUrl", "httpUrl") if member in one]
            found[name] = {"url": url, "auth": one.get("headers", {}).get("Authorization")}
    return found


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_client_gets_every_enabled_server_and_no_token(tmp_path: Path, client: str) -> None:
    (tmp_path / "servers.json").write_text(json.dumps(SERVERS))
    code, out, err = await run(tmp_path, "client-config", client)
    assert (code, err.startswith("mcp-bridge: ")) == (0, True)
    assert entries(client, out) == {
        "peer": {"url": URL, "auth": None},
        DOTTED.get(client, "a.b"): {"url": URL.replace("peer", "a.b"), "auth": None},
    }
    code, out, _ = await run(tmp_path, "client-config", client, "peer", "--url", "https://x.y/", ACCESS_TOKEN="s3cret")
    auth = {"vscode": "Bearer ${input:mcp-bridge-token}", "codex": "MCP_BRIDGE_TOKEN"}.get(client, "Bearer YOUR_TOKEN")
    assert entries(client, out) == {"peer": {"url": "https://x.y/mcp/peer", "auth": auth}}
    assert "s3cret" not in out
    assert (client == "vscode") == ("promptString" in out)
    code, out, _ = await run(tmp_path, "client-config", client, "--show-token", ACCESS_TOKEN="s3cret", BASE_PATH="/b")
    assert "s3cret" in out
    assert entries(client, out)["peer"]["url"] == URL.replace("/mcp", "/b/mcp")


@pytest.mark.parametrize("client", DOTTED)
async def test_no_two_servers_get_one_name(tmp_path: Path, client: str) -> None:
    ids = ("a.b", "a-b", "a-b_", "a..b", "a.-b")
    (tmp_path / "servers.json").write_text(json.dumps(dict.fromkeys(ids, peer())))
    code, out, _ = await run(tmp_path, "client-config", client)
    found = entries(client, out)
    assert (code, [one["url"].rpartition("/")[2] for one in found.values()]) == (0, [*ids])
    assert (found["a-b"]["url"], found["a-b_"]["url"]) == (URL.replace("peer", "a-b"), URL.replace("peer", "a-b_"))
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", name) for name in found)


@pytest.mark.parametrize("client", CLIENTS)
async def test_all_servers_are_one_entry(tmp_path: Path, client: str) -> None:
    (tmp_path / "servers.json").write_text(json.dumps(SERVERS))
    for chosen, query in (([], ""), (["a.b", "peer"], "?servers=a.b,peer")):
        code, out, _ = await run(tmp_path, "client-config", client, *chosen, "--one-url", BASE_PATH="/b")
        assert code == 0
        assert entries(client, out) == {"mcp-bridge": {"url": f"http://127.0.0.1:3000/b/mcp{query}", "auth": None}}


async def test_a_snippet_reaches_the_server(tmp_path: Path, serve: Serve, http: aiohttp.ClientSession) -> None:
    served = await serve(servers=SERVERS, ACCESS_TOKEN="sesame")
    where = ["--port", served.url.rpartition(":")[2]]
    _, out, _ = await run(tmp_path, "client-config", "cursor", "peer", "--show-token", *where, ACCESS_TOKEN="sesame")
    entry = json.loads(out)["mcpServers"]["peer"]
    http.headers.update(entry["headers"])
    assert await initialize(http, entry["url"])
    _, out, _ = await run(tmp_path, "client-config", "cursor", "--one-url", *where)
    assert await initialize(http, json.loads(out)["mcpServers"]["mcp-bridge"]["url"])


async def test_a_bridge_that_serves_a_command_is_asked_what_it_serves(tmp_path: Path, serve: Serve) -> None:
    command = ["--", peer()["command"], *peer()["args"]]
    served = await serve(*command, ACCESS_TOKEN="sesame")
    where = ["--port", served.url.rpartition(":")[2]]
    wanted = {"default": {"url": f"{served.url}/mcp/default", "auth": "Bearer YOUR_TOKEN"}}
    for arguments in ([*where], ["default", *where], [*where, *command]):
        code, out, _ = await run(tmp_path, "client-config", "cursor", *arguments, ACCESS_TOKEN="sesame")
        assert (code, entries("cursor", out)) == (0, wanted)
    code, _, err = await run(tmp_path, "client-config", "cursor", "gone", *where, ACCESS_TOKEN="sesame")
    assert (code, 'the bridge that runs has no server "gone"; there are: default' in err) == (2, True)
    code, _, err = await run(tmp_path, "client-config", "cursor", *where)
    assert (code, "the bridge needs a token" in err) == (1, True)
    served.process.terminate()
    await served.process.wait()
    code, _, err = await run(tmp_path, "client-config", "cursor", *where)
    assert (code, "servers.json: no such file" in err) == (2, True)


async def test_a_bridge_elsewhere_is_asked_for_what_a_client_can_use_there(tmp_path: Path, serve: Serve) -> None:
    served = await serve(servers={**SERVERS, "wrong": {"command": 7}}, ACCESS_TOKEN="sesame")
    (tmp_path / "far").mkdir()
    where = ["--port", served.url.rpartition(":")[2]]
    code, out, _ = await run(tmp_path / "far", "client-config", "cursor", *where, MCP_BRIDGE_TOKEN="sesame")
    found = entries("cursor", out)
    assert (code, [*found], {one["auth"] for one in found.values()}) == (0, ["peer", "a.b"], {"Bearer YOUR_TOKEN"})
    for name in ("off", "wrong"):
        code, _, err = await run(tmp_path / "far", "client-config", "cursor", name, *where, MCP_BRIDGE_TOKEN="sesame")
        assert (code, f'has no server "{name}"; there are: peer, a.b' in err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "settings", "code", "words"),
    [
        (["nobody"], {}, 2, "invalid choice: 'nobody'"),
        (["cursor", "off"], {}, 2, 'server "off" is disabled in servers.json'),
        (["cursor", "wrong"], {}, 2, 'server "wrong" is invalid: servers.json: "wrong": "command" must be'),
        (["cursor", "gone"], {}, 2, 'no server "gone" in servers.json; there are: peer, a.b'),
        (["cursor", "--url", "x.y"], {}, 2, "must begin with http"),
        (["cursor", "--url", "https://x.y/?a=b"], {}, 2, "and have no ? and no #"),
        (["cursor", "--show-token"], {"TOKENS_FILE": "t.json"}, 1, "the tokens file holds hashes"),
    ],
)
async def test_what_cannot_be_printed(
    tmp_path: Path, arguments: list[str], settings: dict[str, str], code: int, words: str
) -> None:
    (tmp_path / "servers.json").write_text(json.dumps({**SERVERS, "wrong": {"command": 7}}))
    found, out, err = await run(tmp_path, "client-config", *arguments, **settings)
    assert (found, out) == (code, "")
    assert re.search(re.escape(words), err), err
