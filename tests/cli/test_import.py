"""``mcp-bridge import``: files as the clients write them, and what becomes of them."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.cli.conftest import Serve, Terminal, initialize, run
from tests.conftest import PEERS

PEER = [sys.executable, "-I", "-S", str(PEERS / "peer.py")]
DESKTOP = ".config/Claude/claude_desktop_config.json"
CODE = ".config/Code/User"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="paths are those of Linux")


def put(folder: Path, name: str, content: Any) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def entries(folder: Path) -> Any:
    return json.loads((folder / "servers.json").read_text())["mcpServers"]


FILES: list[tuple[str, str, Any, dict[str, Any]]] = [
    (
        "claude-desktop",
        DESKTOP,
        {"mcpServers": {"My Files": {"command": "cat", "args": ["x"], "env": {"A": "b"}}}, "globalShortcut": ""},
        {"My-Files": {"command": "cat", "args": ["x"], "env": {"A": "b"}}},
    ),
    (
        "claude-code",
        ".claude.json",
        {
            "numStartups": 7,
            "mcpServers": {"a": {"type": "stdio", "command": "cat", "args": [], "env": {}}},
            "projects": {"HERE": {"mcpServers": {"b": {"type": "http", "url": "https://b.example/mcp"}}}, "/x": {}},
        },
        {"a": {"type": "stdio", "command": "cat", "args": [], "env": {}}, "b": {"url": "https://b.example/mcp"}},
    ),
    (
        "claude-code",
        ".mcp.json",
        {"mcpServers": {"a": {"command": "cat", "env": {"K": "${K:-x}"}}}},
        {"a": {"command": "cat", "env": {"K": "${K:-x}"}}},
    ),
    (
        "cursor",
        ".cursor/mcp.json",
        '{"mcpServers": {"a": {"url": "https://a.example/mcp", "headers": {"X": "${env:HOME}"}}, /* c */}}',
        {"a": {"url": "https://a.example/mcp", "headers": {"X": "${env:HOME}"}}},
    ),
    (
        "vscode",
        f"{CODE}/mcp.json",
        {
            "inputs": [{"type": "promptString", "id": "api-key", "password": True}],
            "servers": {
                "a": {"type": "stdio", "command": "cat", "args": ["${userHome}"], "env": {"K": "${input:api-key}"}},
                "b": {
                    "type": "http",
                    "url": "https://b.example",
                    "headers": {"Authorization": "Bearer ${input:api-key}"},
                },
            },
        },
        {
            "a": {"type": "stdio", "command": "cat", "args": ["${HOME}"], "env": {"K": "${API_KEY}"}},
            "b": {"url": "https://b.example", "headers": {"Authorization": "Bearer ${API_KEY}"}},
        },
    ),
    ("vscode", f"{CODE}/settings.json", {"mcp": {"servers": {"a": {"command": "cat"}}}}, {"a": {"command": "cat"}}),
    (
        "windsurf",
        ".codeium/windsurf/mcp_config.json",
        {"mcpServers": {"a": {"serverUrl": "https://a.example/sse", "disabledTools": []}}},
        {"a": {"url": "https://a.example/sse"}},
    ),
    (
        "cline",
        f"{CODE}/globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json",
        {
            "mcpServers": {
                "a": {"type": "streamableHttp", "url": "https://a.example", "autoApprove": ["x"], "disabled": True},
            }
        },
        {"a": {"url": "https://a.example", "disabled": True}},
    ),
    (
        "gemini",
        ".gemini/settings.json",
        {
            "theme": "x",
            "mcpServers": {"a": {"httpUrl": "https://a.example"}, "b": {"command": "cat", "env": {"K": "$K"}}},
        },
        {"a": {"url": "https://a.example"}, "b": {"command": "cat", "env": {"K": "${K}"}}},
    ),
    (
        "gemini",
        ".gemini/settings.json",
        {
            "mcpServers": {
                "a": {
                    "httpUrl": "https://a.example/mcp",
                    "url": "https://a.example/sse",
                    "headers": {"Authorization": "Bearer $K", "X": "costs 5$, or $5"},
                    "includeTools": ["read"],
                    "excludeTools": ["remove"],
                }
            }
        },
        {
            "a": {
                "headers": {"Authorization": "Bearer ${K}", "X": "costs 5$, or $5"},
                "url": "https://a.example/mcp",
                "allowedTools": ["read"],
                "disabledTools": ["remove"],
            }
        },
    ),
    (
        "windsurf",
        ".codeium/windsurf/mcp_config.json",
        {"mcpServers": {"a": {"command": "cat", "args": ["$K", "a$K"], "disabledTools": ["remove"]}}},
        {"a": {"command": "cat", "args": ["${K}", "a$K"], "disabledTools": ["remove"]}},
    ),
    (
        "codex",
        ".codex/config.toml",
        'model = "x"\n[mcp_servers.a]\ncommand = "cat"\nargs = ["-u"]\nenv_vars = ["HOME"]\nstartup_timeout_sec = 20\n'
        'enabled_tools = ["read"]\ndisabled_tools = ["remove"]\n'
        '[mcp_servers.a.env]\nK = "v"\n[mcp_servers.b]\nurl = "https://b.example"\nbearer_token_env_var = "TOK"\n',
        {
            "a": {
                "command": "cat",
                "args": ["-u"],
                "env": {"K": "v", "HOME": None},
                "allowedTools": ["read"],
                "disabledTools": ["remove"],
            },
            "b": {"url": "https://b.example", "headers": {"Authorization": "Bearer ${TOK}"}},
        },
    ),
]


@pytest.mark.parametrize(("client", "file", "content", "wanted"), FILES, ids=[f"{row[0]} {row[1]}" for row in FILES])
async def test_a_file_of_a_client_is_found_and_taken_over(
    tmp_path: Path, client: str, file: str, content: Any, wanted: dict[str, Any]
) -> None:
    text = json.dumps(content).replace("HERE", str(tmp_path)) if isinstance(content, dict) else content
    put(tmp_path, file, text)
    for chosen in ((), ("--from", client), (file,), (file, "--from", client)):
        (tmp_path / "servers.json").unlink(missing_ok=True)
        code, out, err = await run(tmp_path, "import", "--yes", *chosen, HOME=str(tmp_path))
        assert (code, "server(s) are in servers.json" in err) == (0, True), err + out
        assert entries(tmp_path) == wanted, chosen
        assert "not taken over" not in out
        assert "is there already" not in out


async def test_what_is_imported_runs(tmp_path: Path, serve: Serve, http: aiohttp.ClientSession) -> None:
    put(tmp_path, DESKTOP, {"mcpServers": {"peer": {"command": PEER[0], "args": PEER[1:]}}})
    assert (await run(tmp_path, "import", "--yes", HOME=str(tmp_path)))[0] == 0
    served = await serve()
    assert await initialize(http, f"{served.url}/mcp/peer")


async def test_it_shows_no_secret_and_writes_after_a_yes_only(tmp_path: Path) -> None:
    servers = {
        "a": {
            "command": "cat",
            "args": ["--api-key", "s3cret-1", "--token=s3cret-2", "https://u:s3cret-3@x/?k=s3cret-4", "sk-s3cret-5"],
            "env": {"KEY": "s3cret-6", "PATH": "/bin", "PRICE": "s3cret-9${c}"},
        },
        "b": {"url": "https://x.example/mcp?key=s3cret-7", "headers": {"Authorization": "Bearer s3cret-8"}},
        "same": {"command": "one"},
        "clash": {"command": "two"},
        "broken": {"command": ["x"]},
        "listed": {"command": "x", "env": ["A=s3cret-9"]},
        "me": {"command": "npx", "args": ["mcp-remote", "http://localhost:3000/mcp/x"]},
        "odd": {"command": "cat", "sandbox": {}},
    }
    put(tmp_path, DESKTOP, {"mcpServers": servers})
    folder = {"command": "cat", "args": ["${workspaceFolder}/x"], "env": {"TOKEN": "${TOKEN}"}}
    put(tmp_path, ".cursor/mcp.json", {"mcpServers": {"folder": folder}})
    before = '{"mcpServers": {"same": {"command": "one"}, "clash": {"command": "other"}}} // mine'
    put(tmp_path, "servers.json", before)
    code, out, err = await run(tmp_path, "import", HOME=str(tmp_path))
    assert (code, "nobody is here to say yes to 4 server(s)" in err) == (2, True)
    assert "s3cret" not in out
    code, shown, err = await run(tmp_path, "import", "--json", HOME=str(tmp_path))
    assert (code, err, "s3cret" in shown) == (0, "", False)
    assert (tmp_path / "servers.json").read_text() == before
    rows = {row["id"]: row for row in json.loads(shown)}
    assert {name: row["action"] for name, row in rows.items()} == {
        **dict.fromkeys(("a", "b", "folder", "odd"), "add"),
        **dict.fromkeys(("same", "clash", "broken", "listed", "me"), "skip"),
    }
    for line in (
        "same: is there already",
        "clash: another server has that id",
        'broken: "command" must be a string',
        "folder: ${workspaceFolder} is known to an editor only",
        "me: is this bridge",
        'odd: "sandbox" is not taken over',
        'listed: "env" must be an object',
        "a: ${ is text at that client, and stays so as $${",
        "folder: set TOKEN in .env",
    ):
        assert f"  {line}" in out
    assert "set c" not in out
    assert "KEY=*** PATH=/bin PRICE=***" in out
    assert "cat ${workspaceFolder}/x TOKEN=${TOKEN}" in out
    for answer in ("n", "y"):
        assert (tmp_path / "servers.json").read_text() == before
        terminal = await Terminal().run(tmp_path, "import", HOME=str(tmp_path))
        await terminal.until("Add 4 server(s)? [y/N] ")
        terminal.type(f"{answer}\n")
        assert (await terminal.end())[0] == 0
    text = (tmp_path / "servers.json").read_text()
    assert text.endswith("// mine")
    assert "s3cret-8" in text


async def test_each_thing_is_said_once_and_nothing_else_is_contradicted(tmp_path: Path) -> None:
    servers = {
        "ws": {"command": "cat", "args": ["${workspaceFolder}", "${workspaceFolder:a}", "${config:a.b}"]},
        "pplx": {"command": "cat", "args": ["${input:k}"], "env": {"K": "${input:k}", "HOME": "${userHome}"}},
        "set": {"command": "cat", "env": {"S": "${input:is-set}", "E": "${env:OTHER}"}},
    }
    put(tmp_path, f"{CODE}/mcp.json", {"servers": servers})
    code, out, _ = await run(tmp_path, "import", "--yes", HOME=str(tmp_path), IS_SET="1")
    assert code == 0
    assert [line.strip() for line in out.splitlines() if re.match("  [a-z]+: ", line)] == [
        *(
            f"ws: {reference} is known to an editor only; write what it stands for instead"
            for reference in ("${workspaceFolder}", "${workspaceFolder:a}", "${config:a.b}")
        ),
        "pplx: VS Code asks for k, which is ${K} here",
        "pplx: set K in .env",
        "set: VS Code asks for is-set, which is ${IS_SET} here",
        "set: set OTHER in .env",
    ]
    assert list(entries(tmp_path)) == ["ws", "pplx", "set"]


async def test_what_a_client_hands_on_as_it_is_reaches_the_server_as_it_is(
    tmp_path: Path, serve: Serve, http: aiohttp.ClientSession
) -> None:
    text = "a${c} ${input:x} $${d} ${"
    put(tmp_path, DESKTOP, {"mcpServers": {"peer": {"command": PEER[0], "args": PEER[1:], "env": {"MARK": text}}}})
    assert (await run(tmp_path, "import", "--yes", HOME=str(tmp_path)))[0] == 0
    served = await serve()
    body = {"method": "tools/call", "params": {"name": "environment", "arguments": {}}}
    async with http.post(f"{served.url}/bridge/peer", json=body) as response:
        assert (await response.json())["result"]["MARK"] == text


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 1, ".codeium/windsurf/mcp_config.json"),
        (["--from", "cursor"], 1, ".cursor/mcp.json"),
        (["gone.json"], 2, "gone.json: cannot be read: No such file"),
        (["broken.json"], 2, "broken.json: is not JSON"),
        (["broken.toml"], 2, "broken.toml: is no TOML"),
        (["empty.json"], 0, "there is nothing to add"),
    ],
)
async def test_files_that_are_not_there_or_hold_nothing(
    tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    for name, text in (("broken.json", "{"), ("broken.toml", "="), ("empty.json", "")):
        put(tmp_path, name, text)
    found, _, err = await run(tmp_path, "import", *arguments, HOME=str(tmp_path))
    assert (found, words in err) == (code, True), err


async def test_a_broken_file_of_one_client_hides_no_other(tmp_path: Path) -> None:
    put(tmp_path, DESKTOP, "{")
    code, _, err = await run(tmp_path, "import", HOME=str(tmp_path))
    assert (code, f"{DESKTOP}: is not JSON" in err) == (2, True), "there is nothing else"
    put(tmp_path, ".cursor/mcp.json", {"mcpServers": {"a": {"command": "cat"}}})
    put(tmp_path, ".gemini/settings.json", {"mcpServers": {"b": {"command": "cat"}}})
    code, _, err = await run(tmp_path, "import", "--yes", "--from", "claude-desktop", HOME=str(tmp_path))
    assert (code, f"{DESKTOP}: is not JSON" in err, "left out" in err) == (2, True, False)
    code, _, err = await run(tmp_path, "import", "--yes", HOME=str(tmp_path))
    told, _ = err.splitlines()
    assert (code, f"{DESKTOP}: is not JSON" in told, told.endswith("; it is left out")) == (0, True, True)
    assert list(entries(tmp_path)) == ["a", "b"]


@pytest.mark.parametrize("file", [".vscode/mcp.json", ".cursor/mcp.json"])
async def test_the_folder_of_a_project_is_what_its_editor_has_open(tmp_path: Path, file: str) -> None:
    home, project = tmp_path / "home", tmp_path / "a ${b}"
    home.mkdir()
    entry = {"command": "cat", "args": ["${workspaceFolder}/x"], "envFile": "${workspaceFolder}/.env"}
    put(project, file, {"servers" if "vscode" in file else "mcpServers": {"a": entry}})
    put(project, ".env", "A=b\n")
    code, out, _ = await run(project, "import", "--yes", HOME=str(home))
    assert (code, "known to an editor only" in out) == (0, False)
    assert (await run(project, "check"))[0] == 0
    (project / ".env").unlink()  # which is the one that is meant
    code, out, _ = await run(project, "check")
    assert (code, f"{project}/.env does not exist" in out) == (2, True)


async def test_the_folder_of_a_project_is_unknown_to_a_file_of_the_user(tmp_path: Path) -> None:
    entry = {"command": "cat", "envFile": "${workspaceFolder}/.env"}
    put(tmp_path, ".cursor/mcp.json", {"mcpServers": {"a": entry}})
    code, out, _ = await run(tmp_path, "import", "--yes", HOME=str(tmp_path))
    assert (code, out.count("${workspaceFolder} is known to an editor only"), "x/.env" in out) == (0, 1, False)
    assert entries(tmp_path) == {"a": entry}


@pytest.mark.parametrize("content", ["[]", '{"mcpServers": []}', "\xff"])
async def test_a_servers_file_that_is_none_is_told_before_anything_is_shown(tmp_path: Path, content: str) -> None:
    put(tmp_path, "theirs.json", {"mcpServers": {"a": {"command": "cat"}}})
    (tmp_path / "servers.json").write_bytes(content.encode("latin-1"))
    code, out, err = await run(tmp_path, "import", "--yes", "theirs.json")
    assert (code, out, err.count("\n"), err.startswith("mcp-bridge: servers.json: ")) == (2, "", 1, True)
    code, out, err = await run(tmp_path, "import", "--yes", "theirs.json", "-c", ".")
    assert (code, out, err) == (2, "", "mcp-bridge: .: cannot be read: Is a directory\n")


async def test_a_file_without_servers_is_named(tmp_path: Path) -> None:
    put(tmp_path, "theirs.json", {"servers": [], "mcp_servers": {}})
    code, _, err = await run(tmp_path, "import", "theirs.json")
    assert (code, err) == (0, "mcp-bridge: there is nothing to add: no server stands in theirs.json\n")


async def test_a_url_with_variables_is_shown_without_what_may_be_secret(tmp_path: Path) -> None:
    urls = ["http://localhost:${PORT}/mcp", "https://user:s3cret@x.example:8443/mcp?key=s3cret#s3cret"]
    put(tmp_path, "theirs.json", {"mcpServers": {f"s{n}": {"url": url} for n, url in enumerate(urls)}})
    code, out, _ = await run(tmp_path, "import", "--yes", "theirs.json")
    assert (code, "s3cret" in out) == (0, False)
    assert "http://localhost:${PORT}/mcp" in out
    assert "https://x.example:8443/mcp\n" in out


async def test_entries_of_any_form_are_left_out_with_the_reason(tmp_path: Path) -> None:
    odd = {
        **dict.fromkeys(("a", "b"), 7),
        "c": None,
        "d": {"command": ["x"], "env": [1], "headers": 3, "env_vars": ["K"], "env_http_headers": [1]},
        "e": {"url": "https://[::1/x"},
        "f": {"url": "http://h:99999/"},
        "g": {"command": "cat", "env_vars": "PATH"},
    }
    put(tmp_path, "theirs.json", {"mcpServers": odd})
    toml = "[mcp_servers]\na = 1\n[mcp_servers.b]\ncommand = 'cat'\nargs = [2020-01-01, inf]\n"
    put(tmp_path, "theirs.toml", f"{toml}env = {{A = 2020-01-01T00:00:00Z}}\n")
    for file, taken in (("theirs.json", ["g"]), ("theirs.toml", [])):
        (tmp_path / "servers.json").unlink(missing_ok=True)
        code, out, err = await run(tmp_path, "import", "--yes", file)
        assert (code, "internal error" in err) == (0, False), err
        assert re.findall(r"^(\w+) +\S+ +add ", out, re.MULTILINE) == taken
        assert not taken or entries(tmp_path) == {"g": {"command": "cat"}}


@pytest.mark.parametrize("arguments", [[], ["--one-url"], ["--one-url", "a", "b"]])
@pytest.mark.parametrize("client", ["cursor", "claude-desktop"])
async def test_what_client_config_has_written_is_not_taken_for_a_server(
    tmp_path: Path, client: str, arguments: list[str]
) -> None:
    put(tmp_path, "servers.json", {"mcpServers": {name: {"command": "cat"} for name in ("a", "b")}})
    _, snippet, _ = await run(tmp_path, "client-config", client, *arguments, BASE_PATH="/tools")
    put(tmp_path, "theirs.json", snippet)
    (tmp_path / "servers.json").unlink()
    code, out, _ = await run(tmp_path, "import", "--yes", "theirs.json", BASE_PATH="/tools")
    assert (code, "is this bridge" in out, (tmp_path / "servers.json").exists()) == (0, True, False)
