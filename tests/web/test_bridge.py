"""``/bridge/{server_id}`` over real HTTP: one POST, one answer."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from tests.conftest import Running, StartBridge, in_time, message, peer, tool


async def _until_open_calls(bridge: Running, number: int) -> None:
    """Ask the bridge, as an operator would, until its child has so many calls open."""
    while (await bridge.get("/children"))[0]["open_calls"] != number:
        pass


async def test_a_call_needs_nothing_but_method_and_params(bridge: Running) -> None:
    answer = await bridge.bridge_call("peer", "tools/call", name="echo", arguments={"a": [1, None]})
    assert answer == {"result": {"a": [1, None]}}


async def test_an_error_of_the_server_comes_as_error(bridge: Running) -> None:
    answer = await bridge.bridge_call("peer", "tools/call", name="nope")
    assert answer["error"]["code"] == -32602
    assert set(answer) == {"error"}


async def test_a_whole_json_rpc_message_is_answered_with_a_whole_one(bridge: Running) -> None:
    async with bridge.post("/bridge/peer", tool("echo", "my id", x=1)) as response:
        assert await response.json() == {"jsonrpc": "2.0", "id": "my id", "result": {"x": 1}}


async def test_any_accept_header_will_do(bridge: Running) -> None:
    async with bridge.post("/bridge/peer", {"method": "ping"}, Accept="text/html") as response:
        assert await response.json() == {"result": {}}


async def test_initialize_is_answered_by_the_bridge(bridge: Running) -> None:
    answer = await bridge.bridge_call("peer", "initialize", protocolVersion="2025-06-18")
    assert answer["result"]["serverInfo"]["name"] == "peer"
    assert answer["result"]["saw"]["capabilities"] == {}


async def test_a_cancellation_never_reaches_a_call_of_someone_else(bridge: Running) -> None:
    async with bridge.post(
        "/bridge/peer", {"method": "notifications/cancelled", "params": {"requestId": 9}}
    ) as response:
        assert response.status == 202
    answer = await bridge.bridge_call("peer", "tools/call", name="cancelled")
    assert answer["result"]["cancelled"] == []  # it names no call of the bridge's own


async def test_the_client_stays_alive_between_calls_and_is_shared(bridge: Running) -> None:
    answers = await asyncio.gather(
        *(bridge.bridge_call("peer", "tools/call", name="pid", arguments={}) for _ in range(20))
    )
    assert len({answer["result"]["pid"] for answer in answers}) == 1
    [row] = await bridge.get("/sessions")
    assert (row["pool"], row["server"], row["state"]) == ("bridge", "peer", "idle")


async def test_one_client_per_server(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"one": peer(), "two": peer()})
    pids = [
        (await bridge.bridge_call(server, "tools/call", name="pid", arguments={}))["result"]["pid"]
        for server in ("one", "two", "one")
    ]
    assert pids[0] == pids[2] != pids[1]


async def test_progress_is_left_out_of_the_one_answer(bridge: Running) -> None:
    async with bridge.post("/bridge/peer", tool("progress", 1, token="t", steps=3)) as response:
        assert response.content_type == "application/json"
        assert (await response.json())["id"] == 1


async def test_a_question_that_nobody_can_answer_is_refused_to_the_server(bridge: Running) -> None:
    answer = await bridge.bridge_call("peer", "tools/call", name="ask", arguments={})
    assert answer["result"]["answer"]["code"] == -32601


async def test_a_call_whose_caller_hangs_up_is_cancelled_on_the_server(bridge: Running) -> None:
    await bridge.bridge_call("peer", "ping")
    call = asyncio.create_task(bridge.bridge_call("peer", "tools/call", name="wait", arguments={"key": "k"}))
    await _until_open_calls(bridge, 1)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await _until_open_calls(bridge, 0)
    [seen] = (await bridge.bridge_call("peer", "tools/call", name="cancelled"))["result"]["cancelled"]
    assert seen["reason"] == "the client has gone"


async def test_a_killed_child_fails_its_calls_and_the_next_call_gets_a_new_one(bridge: Running) -> None:
    pid = (await bridge.bridge_call("peer", "tools/call", name="pid", arguments={}))["result"]["pid"]
    call = bridge.post("/bridge/peer", tool("never", 5))
    waiting = asyncio.create_task(call.__aenter__())
    await _until_open_calls(bridge, 1)
    os.kill(pid, 9)
    async with in_time():
        response = await waiting
    assert response.status == 502
    answer = await response.json()
    assert answer["id"] == 5
    assert "killed by signal 9" in answer["error"]["message"]
    fresh = (await bridge.bridge_call("peer", "tools/call", name="pid", arguments={}))["result"]["pid"]
    assert fresh != pid


async def test_silence_beyond_the_request_timeout_is_504(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"peer": peer(requestTimeout=50)})
    async with bridge.post("/bridge/peer", tool("never")) as response:
        assert response.status == 504
        assert "0.05 s" in (await response.json())["error"]["message"]


async def test_a_server_that_cannot_start_is_502_with_its_reason(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"bad": {"command": "sh", "args": ["-c", "echo no licence >&2; exit 4"]}})
    async with bridge.post("/bridge/bad", {"method": "tools/list"}) as response:
        assert response.status == 502
        text = (await response.json())["error"]["message"]
    assert "exited with code 4" in text
    assert "no licence" in text


async def test_a_server_that_never_answers_initialize_is_given_up(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"mute": {"command": "cat", "startTimeout": 50, "args": ["/dev/zero"]}})
    del bridge
    bridge = await start_bridge({"mute": {"command": "sleep", "args": ["1000"], "startTimeout": 50}})
    async with bridge.post("/bridge/mute", {"method": "tools/list"}) as response:
        assert response.status == 502
        assert "did not answer initialize within 0." in (await response.json())["error"]["message"]


@pytest.mark.parametrize("named", [{"serverPath": peer()["command"], "args": peer()["args"]}, {"server": "peer"}])
async def test_a_program_that_is_configured_may_be_named(bridge: Running, named: dict[str, Any]) -> None:
    async with bridge.post("/bridge", {"method": "ping", **named}) as response:
        assert await response.json() == {"result": {}}


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/bridge/nobody", {"method": "ping"}, 404, "no server"),
        ("/bridge/peer", {}, 400, '"method" is missing'),
        ("/bridge/peer", {"params": {}}, 400, "method"),
        ("/bridge/peer", {"method": 5}, 400, "method"),
        ("/bridge/peer", {"method": "ping", "params": [1]}, 400, '"params" must be an object'),
        ("/bridge/peer", {"method": "ping", "id": {}}, 400, '"id" must be'),
        ("/bridge/peer", b"{", 400, "parse error"),
        ("/bridge/peer", [], 400, "batches"),
        ("/bridge/peer", {"method": "ping", "serverPath": "/bin/sh"}, 403, "never names a program"),
        ("/bridge/peer", {"method": "ping", "env": {"LD_PRELOAD": "x"}}, 403, "never names a program"),
        ("/bridge", {"method": "ping"}, 400, "say which server"),
        ("/bridge", {"method": "ping", "server": 5}, 400, "say which server"),
        ("/bridge", {"method": "ping", "server": "nobody"}, 404, "no server"),
        ("/bridge", {"method": "ping", "serverPath": "/bin/sh", "args": []}, 403, "never names a program"),
    ],
)
async def test_a_bad_call_is_refused_with_its_reason(
    bridge: Running, path: str, body: Any, status: int, words: str
) -> None:
    async with bridge.post(path, body) as response:
        assert response.status == status, await response.text()
        assert words in (await response.json())["error"]["message"]


async def test_the_body_may_name_the_server(bridge: Running) -> None:
    async with bridge.post("/bridge", {"server": "peer", **message("ping", 3)}) as response:
        assert await response.json() == {"jsonrpc": "2.0", "id": 3, "result": {}}
