"""Programs on the way to a bridge: the MCP Inspector on its command line, and mcp-remote, which makes stdio of a URL.

Both leave without DELETE, so that their sessions stay until their time limit: these tests have a bridge of their own.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from tests.interop.conftest import ALL_SDKS, CLIENTS, NO_PROXY, NODE, PACKAGES, PATIENCE, Bridge, Reports, each
from tests.interop.expected import (
    EVERYTHING_TOOLS,
    PROMPTED,
    RESOURCE,
    check_everything,
    entity_of,
    resource_text,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(4 * PATIENCE)]

INSPECTOR = (NODE, str(PACKAGES / "inspector" / "clients" / "launcher" / "build" / "index.js"), "--cli")
MCP_REMOTE = (NODE, str(CLIENTS / "node_modules" / "mcp-remote" / "dist" / "proxy.js"))


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    """In the end it must stop in order, and end the processes of all sessions that were left."""
    bridge = Bridge.start(tmp_path_factory.mktemp("gateways"))
    try:
        yield bridge
        children = psutil.Process(bridge.process.pid).children(recursive=True)
        assert children
        assert bridge.stop() == 0, bridge.log
        assert "Traceback" not in bridge.log, bridge.log
        assert [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE] == []
    finally:
        bridge.kill()


def inspect(bridge: Bridge, path: str, method: str, *args: str) -> dict[str, Any]:
    """Start the Inspector for one request; return the result it prints."""
    transport = "sse" if path.startswith("/sse/") else "http"
    done = subprocess.run(
        [*INSPECTOR, bridge.url + path, "--transport", transport, "--format", "json", "--method", method, *args],
        env={**os.environ, **NO_PROXY, "HOME": str(bridge.folder)},  # where it keeps its own files
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return dict(json.loads(done.stdout)["result"])


ECHO = ("tools/call", "--tool-name", "echo", "--tool-arg", "message=Grüße, 世界")
ECHOED = {"content": [{"type": "text", "text": "Echo: Grüße, 世界"}]}
#: A request each: path, method, arguments.
REQUESTS = {
    "tools": ("/mcp/everything", "tools/list"),
    "call": ("/mcp/everything", *ECHO),
    "resource": ("/mcp/everything", "resources/read", "--uri", RESOURCE, "--protocol-era", "auto"),
    "prompt": (
        *("/mcp/everything", "prompts/get", "--prompt-name", "args-prompt"),
        *("--prompt-args", "city=Paris", "state=Texas"),
    ),
    "call on HTTP+SSE": ("/sse/everything", *ECHO),
    "memory tools": ("/mcp/shared-memory", "tools/list"),
}


@pytest.fixture(scope="module")
def inspected(bridge: Bridge) -> Reports:
    return each(lambda name: inspect(bridge, *REQUESTS[name]), REQUESTS)


def test_inspector_lists(inspected: Reports) -> None:
    # It answers neither sampling nor elicitation, so the server does not offer the tools that ask for them.
    plain = EVERYTHING_TOOLS - {"trigger-sampling-request", "trigger-elicitation-request"}
    assert {tool["name"] for tool in inspected["tools"].result()["tools"]} == plain | {"get-roots-list"}
    assert {"create_entities", "read_graph"} < {tool["name"] for tool in inspected["memory tools"].result()["tools"]}


@pytest.mark.parametrize("request_name", ["call", "call on HTTP+SSE"])
def test_inspector_calls_a_tool(request_name: str, inspected: Reports) -> None:
    assert inspected[request_name].result() == ECHOED


def test_inspector_reads_a_resource(inspected: Reports) -> None:
    [content] = inspected["resource"].result()["contents"]
    assert content == {"uri": RESOURCE, "mimeType": "text/markdown", "text": resource_text()}


def test_inspector_gets_a_prompt(inspected: Reports) -> None:
    [message] = inspected["prompt"].result()["messages"]
    assert message == {"role": "user", "content": {"type": "text", "text": PROMPTED}}


def test_inspector_finds_what_it_wrote(bridge: Bridge, inspected: Reports) -> None:
    entities = json.dumps({"entities": [entity_of("inspector")]})
    call = ("/mcp/shared-memory", "tools/call", "--tool-name")
    inspect(bridge, *call, "create_entities", "--tool-args-json", entities)
    graph = inspect(bridge, *call, "read_graph")["structuredContent"]
    assert entity_of("inspector") in graph["entities"]


#: The SDK on the near side of mcp-remote: path and scenario on the far side, and flags.
REMOTE = {
    "python-1": ("/mcp/everything", "everything"),
    "python-2-auto": ("/sse/everything", "everything", "--transport", "sse-only"),
    "typescript-1": ("/mcp/everything", "everything"),
    "typescript-2-auto": ("/mcp/shared-memory", "memory", "--protocol", "auto"),
}


@pytest.fixture(scope="module")
def remote(bridge: Bridge) -> Reports:
    def run(name: str) -> dict[str, Any]:
        path, scenario, *flags = REMOTE[name]
        url = bridge.url + path
        command, *args = [*MCP_REMOTE, url, *flags]
        program = {"command": command, "args": args, "env": {"MCP_REMOTE_CONFIG_DIR": str(bridge.folder / "remote")}}
        return ALL_SDKS[name].run(url, scenario, transport="stdio", program=program, entity=entity_of(name))

    return each(run, REMOTE)


@pytest.mark.parametrize("name", [name for name in REMOTE if "everything" in REMOTE[name]])
def test_everything_through_mcp_remote(name: str, remote: Reports) -> None:
    seen = remote[name].result()
    assert "error" not in seen, seen
    check_everything(name, seen, one_stream=True)


def test_memory_through_mcp_remote(remote: Reports) -> None:
    seen = remote["typescript-2-auto"].result()
    assert "error" not in seen, seen
    assert seen["server"] == "memory-server"
    assert {"create_entities", "read_graph"} < set(seen["tools"])
    assert entity_of("typescript-2-auto") in seen["graph"]["entities"]
