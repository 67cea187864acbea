"""What a stranger types wrong in the first hour, and what the command says to it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import sys
from pathlib import Path

import aiohttp
import pytest

from tests.cli.conftest import Serve, environment, run
from tests.conftest import INITIALIZE, in_time, message, peer
from tests.web.test_tls import Pair

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "servers.json").write_text(
        json.dumps({"mcpServers": {"peer": peer(env={"OAUTH_TOKEN": "${OAUTH_TOKEN:-}"})}})
    )
    return tmp_path


async def test_names_of_the_settings_file_that_are_almost_settings_are_told(folder: Path) -> None:
    (folder / ".env").write_text("ACESS_TOKEN=a\nPROT=4000\nOAUTH_TOKEN=theirs\nGITHUB_TOKEN=theirs\nLOG_LEVEL=INFO\n")
    code, out, err = await run(folder, "check")
    assert (code, err) == (0, "")
    assert [line for line in out.splitlines() if "no setting" in line] == [
        'warning: .env: ACESS_TOKEN is no setting; did you mean "ACCESS_TOKEN"?',
        'warning: .env: PROT is no setting; did you mean "PORT"?',
    ]


@pytest.mark.parametrize("verb", ["check", "serve", "doctor", "ps"])
async def test_a_line_of_the_settings_file_that_is_none_never_opens_the_bridge(folder: Path, verb: str) -> None:
    (folder / ".env").write_text('LOG_LEVEL=INFO\nACCESS_TOKEN="sesame\nPORT=3055\n')
    code, out, err = await run(folder, verb)
    assert (code, out) == (2, "")
    assert err.startswith("mcp-bridge: .env: line 2: must be NAME=value")
    assert err.count("\n") == 1
    assert "sesame" not in err


async def test_an_origin_without_a_scheme_is_refused_with_an_example(folder: Path) -> None:
    code, _, err = await run(folder, "check", ALLOWED_ORIGINS="https://b.example,app.example")
    assert code == 2
    assert "ALLOWED_ORIGINS: is 'https://b.example,app.example', must be origins with their scheme" in err
    assert "such as https://app.example" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "mcp-bridge: .env: PORT: is 'many', must be a whole number"),
        (["--session-timeout", "5m"], "--session-timeout: is '5m', must be a number of seconds above 0, or \"never\""),
        (["--session-timeout", "0"], "--session-timeout: is '0', must be a number of seconds above 0, or \"never\""),
    ],
)
async def test_a_bad_value_is_told_where_it_was_written(folder: Path, arguments: list[str], words: str) -> None:
    (folder / ".env").write_text("PORT=many\n")
    code, _, err = await run(folder, "check", *arguments)
    assert code == 2
    assert words in err


async def test_an_address_that_cannot_be_listened_at_is_told_once_with_what_to_change(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for workers in ("1", "2"):
            code, _, err = await run(folder, "serve", "--port", str(port), "--workers", workers)
            assert code == 1
            assert err.splitlines()[-1] == (
                f"mcp-bridge: PORT: cannot listen on 127.0.0.1:{port}: Address already in use; is a bridge "
                "running there already? choose another with --port"
            )
    code, _, err = await run(folder, "serve", "--port", "0", "--host", "192.0.2.1", ACCESS_TOKEN="sesame")
    assert code == 1
    assert re.search(r"mcp-bridge: HOST: cannot listen on 192\.0\.2\.1: Cannot assign .*--host\n", err)


@pytest.mark.parametrize(
    "arguments", [["serve", "npx", "foo"], ["add", "files", "npx", "-y", "x"], ["check", "npx", "--port", "1"]]
)
async def test_a_command_without_two_dashes_is_told_where_it_belongs(folder: Path, arguments: list[str]) -> None:
    code, _, err = await run(folder, *arguments)
    assert code == 2
    assert err.startswith(f"usage: mcp-bridge {arguments[0]}")
    assert "unrecognized arguments: npx" in err
    assert err.rstrip().endswith("; put the command behind --")


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("start", "there is no verb 'start'; did you mean serve? mcp-bridge --help lists all verbs"),
        ("chek", "there is no verb 'chek'; did you mean check? mcp-bridge --help lists all verbs"),
        ("npx -y foo", "there is no verb 'npx'; mcp-bridge --help lists all verbs, and a command is served by: mcp-br"),
        ("--port 8000 serve", "--port stands before the verb; write it behind: mcp-bridge serve --port ..."),
        ("serve --stdio x", "unrecognized arguments: --stdio x; put the command behind --"),
        ("serve --cors x -- cat", "unrecognized arguments: --cors x; set ALLOWED_ORIGINS"),
        ("serve --apiKey=x", "unrecognized arguments: --apiKey=x; set ACCESS_TOKEN"),
        ("serve --named-server-config x", "; write --config"),
    ],
)
async def test_a_word_of_another_program_is_told_what_it_is_here(folder: Path, typed: str, words: str) -> None:
    code, out, err = await run(folder, *typed.split())
    assert (code, out, words in err) == (2, "", True), err


async def test_without_a_verb_and_with_help_as_one_the_verbs_are_told(folder: Path) -> None:
    code, out, _ = told = await run(folder, "help")
    assert told == await run(folder, "--help")
    assert await run(folder) == (2, "", out)
    assert await run(folder, "help", "call") == await run(folder, "call", "--help")
    assert (code, "mcp-bridge serve -- COMMAND" in out) == (0, True)


async def test_a_python_without_what_the_bridge_needs_is_told(folder: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-S", "-m", "bridge", "serve"),
        cwd=folder,
        env=environment() | {"PYTHONPATH": str(ROOT)},
        stderr=asyncio.subprocess.PIPE,
    )
    _, err = await process.communicate()
    assert process.returncode == 1
    assert re.fullmatch(r"mcp-bridge: \w+ is not installed for /.*; make install, or pip install \..*\n", err.decode())


async def test_version_is_a_flag_too(folder: Path) -> None:
    assert await run(folder, "--version") == await run(folder, "version")


async def test_arguments_in_the_command_are_told_where_they_belong(folder: Path) -> None:
    (folder / "servers.json").write_text(json.dumps({"time": {"command": "python3 -m mcp_server_time"}}))
    _, out, _ = await run(folder, "check")
    assert '"command" is the program only: put the rest into "args"' in out


async def test_a_missing_token_and_a_start_that_is_none_yet_are_told(folder: Path, serve: Serve) -> None:
    bridge = await serve(servers={"crash": {"command": "false"}}, ACCESS_TOKEN="sesame")
    where = ["servers", "start", "crash", "--port", bridge.url.rpartition(":")[2]]
    code, _, err = await run(folder, *where)
    assert (code, "set MCP_BRIDGE_TOKEN" in err) == (1, True)
    code, out, _ = await run(folder, *where, MCP_BRIDGE_TOKEN="sesame")
    assert (code, out) == (0, "crash: may start again; the next request starts it\n")


async def test_a_mistake_in_an_entry_is_told_to_clients_as_that_of_a_server_that_cannot_start(
    folder: Path, serve: Serve, http: aiohttp.ClientSession
) -> None:
    """By a status that every SDK shows the text of; what is wrong is told to whoever operates the bridge."""
    bridge = await serve(servers={"wrong": {"command": 7, "env": {"A": "sesame"}}, "peer": peer()})
    why = "there is a mistake in its configuration; mcp-bridge check tells which"
    for path, status in (("/mcp/wrong", 200), ("/bridge/wrong", 503)):
        async with http.post(f"{bridge.url}{path}", json=message("initialize", 1, **INITIALIZE)) as response:
            assert response.status == status
            assert (await response.json())["error"]["message"] == f'server "wrong" cannot be started: {why}'
    for path in ("/mcp/nobody", "/bridge/nobody"):
        async with http.post(f"{bridge.url}{path}", json=message("ping", 1)) as response:
            assert response.status == 404
            said = (await response.json())["error"]["message"]
            assert said == 'no server "nobody" is in the configuration; GET /servers lists them'
    (folder / "servers.json").write_text(json.dumps({"mcpServers": {"wrong": peer(), "peer": {"args": 1}}}))
    async with http.post(f"{bridge.url}/api/v1/reload") as response:
        assert response.status == 200
    for server in ("wrong", "peer"):  # what has become a mistake stays what it was
        async with http.post(f"{bridge.url}/mcp/{server}", json=message("initialize", 1, **INITIALIZE)) as response:
            assert "result" in await response.json()


async def _ask_what_listens(folder: Path, answer: bytes) -> list[tuple[int, str, str]]:
    """What verbs say to a program that answers anything with this."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1") as other:
        port = str(other.sockets[0].getsockname()[1])
        return [
            await run(folder, *verb, "--port", port)
            for verb in (["ps"], ["call", "peer", "x"], ["servers", "stop", "x"])
        ]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.0 404 File not found\r\n\r\n<p>none</p>", " is no bridge: it says 404 File not found; "),
        (b'HTTP/1.0 404 Not Found\r\n\r\n{"error": "none"}', " is no bridge: it says 404 Not Found; "),
        (b"HTTP/1.0 200 OK\r\n\r\n<p>welcome</p>", " is no bridge: it says what is no JSON; "),
        (b"SSH-2.0-other\r\n", "no bridge answers at "),
    ],
)
async def test_another_program_on_the_port_is_told_as_such(folder: Path, answer: bytes, words: str) -> None:
    for code, out, err in await _ask_what_listens(folder, answer):
        assert (code, out, len(err.splitlines())) == (3, "", 1), err
        assert words in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("verb", ["check", "completion bash", "version", "doctor --no-start", "client-config cursor"])
async def test_a_full_disk_below_stdout_is_told(folder: Path, verb: str, unbuffered: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bridge", *verb.split()),
        cwd=folder,
        env=environment(PYTHONUNBUFFERED=unbuffered),
        stdout=(full := os.open("/dev/full", os.O_WRONLY)),
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(full)
    _, err = await process.communicate()
    assert process.returncode == 1
    assert err.decode().splitlines()[-1] == "mcp-bridge: the output cannot be written: No space left on device"


def _until(reading: int, words: bytes) -> None:
    text = b""
    while words not in text:
        data = os.read(reading, 65536)
        assert data, text
        text += data


@pytest.mark.parametrize("unbuffered", ["", "1"])
async def test_a_reader_that_has_seen_enough_ends_doctor_quietly(folder: Path, unbuffered: str) -> None:
    os.mkfifo(folder / "gate")
    gate = os.open(folder / "gate", os.O_RDWR)
    entry = {"command": "sh", "args": ["-c", "read x < gate"], "cwd": str(folder)}
    (folder / "servers.json").write_text(json.dumps({"one": entry}))
    reading, writing = os.pipe()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bridge", "doctor", "--port", "0"),
        cwd=folder,
        env=environment(PYTHONUNBUFFERED=unbuffered),
        stdout=writing,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(writing)
    async with in_time():
        await asyncio.to_thread(_until, reading, b"files may be open\n")
    os.close(reading)  # before it is told of the server, which waits for the gate
    os.write(gate, b"\n")
    _, err = await process.communicate()
    os.close(gate)
    assert (process.returncode, err) == (130, b"")


@pytest.mark.parametrize(
    ("entry", "settings", "words"),
    [
        ({"command": "no-such-thing"}, {}, "command 'no-such-thing' not found on the PATH"),
        ({"command": "/no/such"}, {}, "command '/no/such' not found\n"),
        ({"command": "./folder"}, {}, "command './folder' is no program, but a directory"),
        ({"command": "./text"}, {}, "command './text' may not be executed"),
        ({"command": "true", "cwd": "gone"}, {}, "\"cwd\" 'gone' is no directory"),
        ({"command": "true"}, {"TOKENS_FILE": "text"}, "error: TOKENS_FILE: text is no JSON"),
        ({"command": "true"}, {"PINS_FILE": "text"}, "error: PINS_FILE: text is no JSON"),
        ({"command": "true"}, {"TOKENS_FILE": "gone.json"}, "error: TOKENS_FILE gone.json: No such file"),
        ({"command": "true"}, {"LOG_DIR": "text/logs"}, "error: LOG_DIR text/logs: "),
        ({"command": "true"}, {"SESSION_STORE": "file", "SESSION_DIR": "text"}, "error: SESSION_DIR text: "),
    ],
)
async def test_check_finds_what_would_fail_later(
    folder: Path, entry: dict[str, str], settings: dict[str, str], words: str
) -> None:
    (folder / "folder").mkdir()
    (folder / "text").write_text("no tokens")
    (folder / "servers.json").write_text(json.dumps({"one": entry}))
    code, out, err = await run(folder, "check", **settings)
    assert (code, err) == (1, "")
    assert words in out


async def test_serve_says_at_its_start_and_after_a_reload_what_check_says(folder: Path, serve: Serve) -> None:
    bridge = await serve("--watch", servers={"gone": {"command": "no-such-thing"}, "peer": peer()})
    said = "[WARNING] server gone will not start: command 'no-such-thing' not found on the PATH of its environment"
    assert [line.partition(" ")[2].rstrip() for line in bridge.lines if "will not start" in line] == [said]
    (folder / "servers.json").write_text(json.dumps({"peer": peer(cwd="gone")}))
    await bridge.line_with("[WARNING] server peer will not start: \"cwd\" 'gone' is no directory")
    (folder / "servers.json").write_text("{}")
    await bridge.line_with("[WARNING] no server is enabled, so nothing is served")


async def test_serve_says_that_its_command_is_not_there(serve: Serve) -> None:
    bridge = await serve("--", "no-such-thing")
    assert "[WARNING] server default will not start: command 'no-such-thing' not found" in "".join(bridge.lines)


async def test_no_server_at_all_is_told(folder: Path, serve: Serve) -> None:
    bridge = await serve(servers={})
    assert "[WARNING] no server is enabled, so nothing is served" in "".join(bridge.lines)
    code, out, _ = await run(folder, "check")
    assert (code, "note: no server is enabled, so nothing is served; add one: mcp-bridge add" in out) == (0, True)


async def test_two_dashes_without_a_command_are_refused(folder: Path) -> None:
    code, _, err = await run(folder, "serve", "--port", "0", "--")
    assert (code, "serve: no command follows the --" in err) == (2, True)


@pytest.mark.parametrize("verb", ["ps", "servers", "sessions", "tools x", "logs", "restart"])
async def test_a_verb_that_asks_a_bridge_needs_no_more_than_its_address(folder: Path, verb: str) -> None:
    """127.1 is no other machine, and looks like one: off loopback a bridge would need a token, and TLS a key."""
    where = ["--host", "127.1", "--port", "9"]
    code, _, err = await run(folder, *verb.split(), *where, MCP_BRIDGE_TOKEN="a", BASE_PATH="/mcp", CLUSTER="redis")
    assert (code, "no bridge answers at http://127.1:9" in err) == (3, True), err
    Pair(folder)
    code, _, err = await run(folder, *verb.split(), *where, SSL_CERTFILE="cert.pem")
    assert (code, "no bridge answers at https://127.1:9" in err) == (3, True), err


@pytest.mark.parametrize("token", ["s3cret\r", "s3\ncret"])
async def test_a_token_that_no_header_can_bring_is_refused_and_not_repeated(tmp_path: Path, token: str) -> None:
    for name in ("MCP_BRIDGE_TOKEN", "ACCESS_TOKEN"):
        code, out, err = await run(tmp_path, "ps", **{name: token})
        assert (code, out) == (2, "")
        assert f"{name}: is (hidden), must be a token in one line, of letters that can be written" in err
        assert "cret" not in err


@pytest.mark.parametrize("host", ["http://localhost", "localhost:3000", "[::1]", "\u65e5\u672c"])
async def test_a_host_that_is_none_is_told_with_examples(tmp_path: Path, host: str) -> None:
    code, _, err = await run(tmp_path, "ps", "--host", host)
    assert (code, err.count("\n")) == (2, 1)
    assert "must be a name or an address, without scheme and port, such as localhost" in err


@pytest.mark.parametrize("name", ["a\udcff", "a\tb", "\u65e5"])
async def test_an_id_of_any_bytes_is_refused_and_not_written(tmp_path: Path, name: str) -> None:
    code, _, err = await run(tmp_path, "add", name, "--", "cat")
    assert (code, err.count("\n")) == (2, 1)
    assert "the id must be 1 to 64 of A-Z" in err
    assert not (tmp_path / "servers.json").exists()


async def test_words_that_are_no_text_are_names_of_nothing(folder: Path, serve: Serve) -> None:
    where = ("--port", (await serve()).url.rpartition(":")[2])
    for words in (
        ("tools", "\udcff"),
        ("pins", "diff", "\udcff"),
        ("sessions", "--server", "\udcff"),
        ("servers", "stop", "\udcff"),
        ("logs", "--tail", "\u00b2"),
    ):
        code, _, err = await run(folder, *words, *where)
        assert code in (1, 2)
        assert "internal error" not in err
        assert "invalid _count" not in err


async def test_a_token_of_any_letters_opens_the_bridge(folder: Path, serve: Serve) -> None:
    served = await serve(ACCESS_TOKEN="\u65e5\u672c s\u00e9same")
    code, _, err = await run(
        folder, "ps", "--port", served.url.rpartition(":")[2], MCP_BRIDGE_TOKEN="\u65e5\u672c s\u00e9same"
    )
    assert (code, err) == (0, "")


@pytest.mark.parametrize("streams", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
async def test_a_stream_that_is_closed_is_missed_by_nobody(folder: Path, serve: Serve, streams: str) -> None:
    port = (await serve()).url.rpartition(":")[2]
    for words in (f"ps --port {port}", f"call peer echo a=1 --port {port}", "version"):
        command = f'"$0" -m bridge {words} {streams}'
        process = await asyncio.create_subprocess_exec(
            *("sh", "-c", command, sys.executable), cwd=folder, env=environment(), stderr=asyncio.subprocess.PIPE
        )
        _, err = await process.communicate()
        assert (process.returncode, err) == (0, b"")


async def test_letters_that_the_terminal_does_not_know_are_shown_as_escapes(folder: Path, serve: Serve) -> None:
    where = ("--port", (await serve()).url.rpartition(":")[2])
    code, out, _ = await run(folder, "call", "peer", "echo", "text=\u65e5", *where, PYTHONIOENCODING="ascii")
    assert (code, "\\u65e5" in out) == (0, True)
    code, out, _ = await run(folder, "call", "peer", "echo", "a=\u00e9", "--json", *where, PYTHONIOENCODING="ascii")
    assert (code, "\u00e9" in str(json.loads(out))) == (0, True)
