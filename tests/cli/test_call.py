"""``mcp-bridge tools`` and ``mcp-bridge call``: a client at the terminal, with real servers behind a real bridge."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import aiohttp
import pytest

from tests.cli.conftest import Serve, Served, Terminal, environment, initialize, run
from tests.conftest import PEERS, peer, tool


def asking(era: str) -> dict[str, object]:
    return {"command": sys.executable, "args": ["-I", "-S", str(PEERS / "asking_peer.py"), era]}


SERVERS = {
    "peer": peer(),
    "demo": {"command": "${BRIDGE_PYTHON}", "args": ["-m", "bridge.demo"]},
    "old": asking("handshake"),
    "new": asking("modern"),
    "lost": {"command": "no-such-thing"},
    "wrong": {"command": 7},
    "off": peer(disabled=True),
    "mirror": {"command": "cat"},
    "empty": {
        "command": "sh",
        "args": ["-c", """read x; echo '{"jsonrpc":"2.0","id":1,"result":[]}'; exec sleep 99"""],
    },
    "conformance": {"command": sys.executable, "args": [str(PEERS / "conformance_server.py")]},
}


def where(served: Served) -> list[str]:
    return ["--port", served.url.rpartition(":")[2]]


async def sessions(http: aiohttp.ClientSession, served: Served) -> int:
    async with http.get(f"{served.url}/api/v1/sessions") as response:
        return len(await response.json())


async def test_tools_and_calls(tmp_path: Path, serve: Serve, http: aiohttp.ClientSession) -> None:
    served = await serve(servers=SERVERS)
    code, out, err = await run(tmp_path, "tools", "demo", *where(served))
    assert (code, err) == (0, "")
    assert "add    Return the sum of two numbers." in out.splitlines()
    code, out, _ = await run(tmp_path, "tools", "demo", "--json", *where(served))
    assert {"a", "b"} == set({row["name"]: row for row in json.loads(out)}["add"]["inputSchema"]["properties"])
    for arguments in (['{"text": "5"}'], ["text=5"]):
        assert await run(tmp_path, "call", "demo", "echo", *arguments, *where(served)) == (0, "5\n", "")
    code, out, _ = await run(tmp_path, "call", "demo", "add", "a=1", "b=2", "--json", *where(served))
    assert (code, json.loads(out)["structuredContent"]) == (0, {"result": 3.0})
    code, out, _ = await run(tmp_path, "call", "peer", "echo", "n=[1]", "s=a b", "t={", *where(served))
    assert (code, json.loads(out)) == (0, {"n": [1], "s": "a b", "t": "{"})
    code, out, err = await run(tmp_path, "call", "demo", "add", "a=x", "b=1", *where(served))
    assert (code, "valid number" in out, err) == (1, True, ""), "the tool says itself that it failed"
    assert await sessions(http, served) == 0, "each ends its session"


@pytest.mark.parametrize("era", ["old", "new"])
async def test_questions_and_progress_are_shown_at_the_terminal(tmp_path: Path, serve: Serve, era: str) -> None:
    served = await serve(servers=SERVERS)
    terminal = await Terminal().run(tmp_path, "call", era, "introduce", "n=3", *where(served))
    for field, answer in (("name", "Ann"), ("color", "red")):
        await terminal.until(f"{field} (string): ")
        terminal.type(f"\n{answer}\n")  # an empty line is no answer to what is required
    code, out = await terminal.end()
    assert (code, out) == (0, "Ann likes red 3\n")
    assert "The server asks: name" in terminal.text
    assert "━" in terminal.text
    assert "1/3" in terminal.text


async def test_a_page_to_open_and_numbers_that_are_none_are_asked_at_the_terminal(tmp_path: Path, serve: Serve) -> None:
    served = await serve(servers=SERVERS)
    page = ("mode=url", "url=https://a.example/login", "elicitationId=e")
    terminal = await Terminal().run(tmp_path, "call", "peer", "ask", *page, *where(served))
    await terminal.until("It wants you to open https://a.example/login")
    await terminal.until("Done? [y/N] ")
    terminal.type("y\n")
    code, out = await terminal.end()
    assert (code, json.loads(out)) == (0, {"answer": {"action": "accept"}})
    schema = {"properties": {"n": {"type": "number"}}, "required": ["n"]}
    terminal = await Terminal().run(
        tmp_path, "call", "peer", "ask", json.dumps({"requestedSchema": schema}), *where(served)
    )
    for answer in ("nan", "1e999", "many"):
        await terminal.until("n (number): ")
        terminal.type(f"{answer}\n")
        await terminal.until("please answer a number")
        terminal.text = terminal.text.rpartition("please answer a number")[2]
    await terminal.until("n (number): ")
    terminal.type("1.5\n")
    code, out = await terminal.end()
    assert (code, json.loads(out)) == (0, {"answer": {"action": "accept", "content": {"n": 1.5}}})


async def test_a_page_that_a_call_wants_first_is_told(tmp_path: Path, serve: Serve) -> None:
    mirror = {"command": sys.executable, "args": ["-I", "-S", str(PEERS / "mirror.py")]}
    served = await serve(servers={"mirror": mirror})
    error = {
        "code": -32042,
        "message": "log in",
        "data": {"elicitations": [{"mode": "url", "url": "https://a.example"}]},
    }
    said = json.dumps({"jsonrpc": "2.0", "id": "ID", "error": error}).replace('"ID"', "ID").encode().hex()
    code, out, err = await run(tmp_path, "call", "mirror", "x", json.dumps({"say": said}), *where(served))
    assert (code, out) == (1, "")
    assert err == "mcp-bridge: log in (error -32042); open https://a.example, and call it again\n"


async def test_without_a_terminal_questions_are_declined_and_sampling_is_refused(tmp_path: Path, serve: Serve) -> None:
    served = await serve(servers=SERVERS)
    code, out, err = await run(tmp_path, "call", "peer", "ask", *where(served))
    assert (code, json.loads(out)) == (0, {"answer": {"action": "decline"}})
    assert err == "mcp-bridge: stdin is no terminal, so what the server asks is declined: what?\n"
    code, out, err = await run(tmp_path, "call", "conformance", "test_sampling", "prompt=x", *where(served))
    assert (code, out) == (1, "")
    assert err == "mcp-bridge: the client does not offer what sampling/createMessage needs (error -32601)\n"


async def test_what_is_no_text_is_named_and_sized(tmp_path: Path, serve: Serve) -> None:
    served = await serve(servers=SERVERS)
    code, out, _ = await run(tmp_path, "call", "conformance", "test_image_content", *where(served))
    assert (code, out.startswith("[image image/png, "), out.endswith("B; --json has it]\n")) == (0, True, True)


async def test_arguments_come_from_stdin(tmp_path: Path, serve: Serve) -> None:
    served = await serve(servers={"peer": peer()})
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bridge", "call", "peer", "echo", "-", *where(served)),
        cwd=tmp_path,
        env=environment(),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate(b'{"text": "hello"}')
    assert (process.returncode, json.loads(out)) == (0, {"text": "hello"})


async def test_ctrl_c_is_quiet_and_ends_the_call_on_the_server(
    tmp_path: Path, serve: Serve, http: aiohttp.ClientSession
) -> None:
    served = await serve(servers={"peer": peer(sharing="shared")})
    terminal = await Terminal().run(tmp_path, "call", "peer", "wait", '{"key": "k"}', *where(served))
    headers = await initialize(http, f"{served.url}/mcp/peer")
    while True:  # until the peer knows the call
        async with http.get(f"{served.url}/api/v1/children") as response:
            if any(row["open_calls"] for row in await response.json()):
                break
    terminal.process.send_signal(signal.SIGINT)
    assert await terminal.end() == (130, "")
    assert "Traceback" not in terminal.text
    async with http.post(f"{served.url}/mcp/peer", json=tool("cancelled"), headers=headers) as response:
        assert len((await response.json())["result"]["cancelled"]) == 1
    assert await sessions(http, served) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["peer", "nothing"], 1, "no tool 'nothing' (error -32602)"),
        (["nobody", "x"], 1, 'no server "nobody" is in the configuration; mcp-bridge servers lists them'),
        (["wrong", "x"], 1, 'server "wrong" is invalid: servers.json: "wrong": "command" must be a string'),
        (["off", "x"], 1, 'server "off" is disabled'),
        (["lost", "x"], 1, "no-such-thing"),
        (["peer", "echo", "{"], 2, "the arguments are no JSON"),
        (["peer", "echo", "text"], 2, "'text' is no key=value"),
        (["peer", "echo", "{}", "a=1"], 2, "not both"),
        (["peer", "die"], 1, "these are my last words"),
        (["mirror", "x"], 1, "it sends back what it is sent"),
        (["empty", "x"], 1, "answered initialize without a protocolVersion"),
    ],
)
async def test_what_goes_wrong_is_one_line(
    tmp_path: Path, serve: Serve, arguments: list[str], code: int, words: str
) -> None:
    served = await serve(servers=SERVERS)
    found, out, err = await run(tmp_path, "call", *arguments, *where(served))
    assert (found, out, err.startswith("mcp-bridge: "), len(err.splitlines())) == (code, "", True, 1), err
    assert words in err


async def test_a_server_that_was_stopped_is_not_ready(tmp_path: Path, serve: Serve) -> None:
    served = await serve(servers=SERVERS)
    assert (await run(tmp_path, "servers", "stop", "peer", *where(served)))[0] == 0
    code, _, err = await run(tmp_path, "tools", "peer", *where(served))
    assert (code, "it was stopped; to start it" in err) == (4, True)
