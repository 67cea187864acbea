"""The modern era (2026-07-28) over real HTTP, on children of either era."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bridge.auth import tokens
from bridge.children.child import Child
from bridge.protocol.modern import CAPABILITIES, CLIENT_INFO, LOG_LEVEL, SERVER_INFO, SUBSCRIPTION_ID, VERSION
from bridge.sessions import parking
from tests.conftest import INITIALIZE, PEERS, Running, StartBridge, events, in_time, last, message, peer
from tests.faults.conftest import until
from tests.modern_client import ModernClient
from tests.web.test_doors import NOW

SERVERS = {
    "old": peer(),
    "new": {"command": sys.executable, "args": ["-I", "-S", str(PEERS / "modern_peer.py")]},
}
EVERYTHING = {"elicitation": {}, "sampling": {}, "roots": {}}

#: A handshake server that has tools for what its client offers alone, and says much around its questions.
PARTICULAR = """
import json, sys
def send(**message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)
def note(method, **params):
    send(method="notifications/" + method, params=params)
def ask(id_, method):
    send(id=id_, method=method, params={"message": "?", "requestedSchema": {"type": "object"}})
for line in sys.stdin:
    message = json.loads(line)
    method, params = message.get("method"), message.get("params", {})
    if method == "initialize":
        offered = params["capabilities"]
        about = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {}}
        send(id=message["id"], result=about)
    elif method == "tools/list":
        send(id=message["id"], result={"tools": [{"name": name, "inputSchema": {}} for name in offered]})
    elif method == "tools/call":
        call, token = message["id"], params.get("_meta", {}).get("progressToken")
        if params["name"] == "work":
            note("progress", progressToken=token, progress=1)
            note("tools/list_changed")
            ask("q", "elicitation/create")
        else:
            ask("q", "elicitation/create")
            note("cancelled", requestId="q")
            ask("r", "custom/question")
    elif message.get("id") == "q":
        note("message", level="info", data="answered")
        note("progress", progressToken=token, progress=2)
        send(id=call, result={"content": []})
    elif message.get("id") == "r":
        send(id=call, result={"content": [], "code": message["error"]["code"]})
    elif method and "id" in message:
        send(id=message["id"], error={"code": -32601, "message": "no such method"})
"""
#: What its tool does instead of asking alone: it goes on to talk when the test lets it.
TALKS = """ask("q", "elicitation/create")
            import os
            while not os.path.exists("talk"):
                pass
            note("message", level="info", data="meanwhile")
            os.rename("talk", "talked")"""
MIRROR = {"command": sys.executable, "args": ["-I", "-S", str(PEERS / "mirror.py")]}
PARTICULAR_SERVER = {"command": sys.executable, "args": ["-I", "-S", "-c", PARTICULAR]}


@pytest.fixture
async def bridge(start_bridge: StartBridge) -> Running:
    return await start_bridge(SERVERS)


@pytest.mark.parametrize("server", ["old", "new"])
async def test_a_modern_client_discovers_a_server_of_either_era(bridge: Running, server: str) -> None:
    answer = await ModernClient(bridge, server).ask("server/discover", "d")
    assert answer["id"] == "d"
    result = answer["result"]
    assert result["resultType"] == "complete"
    assert result["supportedVersions"] == ["2026-07-28"]
    assert isinstance(result["ttlMs"], int)
    assert result["cacheScope"] in ("public", "private")
    assert "tools" in result["capabilities"]
    assert result["_meta"][SERVER_INFO]["name"].endswith("peer")


@pytest.mark.parametrize("server", ["old", "new"])
async def test_lists_say_how_long_they_may_be_kept(bridge: Running, server: str) -> None:
    result = (await ModernClient(bridge, server).ask("tools/list"))["result"]
    assert result["resultType"] == "complete"
    assert isinstance(result["ttlMs"], int)
    assert result["cacheScope"]
    assert SERVER_INFO in result["_meta"]


@pytest.mark.parametrize("server", ["old", "new"])
async def test_twenty_clients_with_equal_ids_and_tokens_share_a_process_and_keep_apart(
    bridge: Running, server: str
) -> None:
    client = ModernClient(bridge, server)

    async def one(steps: int) -> None:
        body = client.body("tools/call", 7, {"progressToken": "p"}, name="progress", arguments={"steps": steps})
        async with client.send(body) as response:
            got = [event async for event in events(response)]
        assert [event["params"]["progress"] for event in got[:-1]] == list(range(1, steps + 1))
        assert {event["params"]["progressToken"] for event in got[:-1]} <= {"p"}
        assert got[-1]["id"] == 7

    await asyncio.gather(*(one(steps) for steps in range(20)))
    living = [child for child in bridge.service.core.registry.children() if child.lives]  # a probed one may be ending
    assert len(living) == 1


async def test_events_of_this_era_have_no_ids(bridge: Running) -> None:
    client = ModernClient(bridge, "new")
    body = client.body("tools/call", 1, {"progressToken": "p"}, name="progress", arguments={"steps": 1})
    async with client.send(body) as response:
        assert response.headers["X-Accel-Buffering"] == "no"
        text = await response.text()
    assert "\nid:" not in text
    assert "retry:" not in text
    assert "Mcp-Session-Id" not in response.headers


@pytest.mark.parametrize("server", ["old", "new"])
async def test_closing_the_stream_cancels(bridge: Running, server: str) -> None:
    client = ModernClient(bridge, server, {"elicitation": {}})
    body = client.body("tools/call", 1, {"progressToken": "p", LOG_LEVEL: "debug"}, name="wait", arguments={"key": "k"})
    other = ModernClient(bridge, server)
    await other.call("echo")
    async with client.send(body) as response:
        assert response.content_type == "text/event-stream"
        await anext(events(response))
        assert sum(row["open_calls"] for row in await bridge.get("/children")) == 1
    while sum(row["open_calls"] for row in await bridge.get("/children")):
        pass
    if server == "new":
        assert len((await other.call("cancelled"))["result"]["structuredContent"]["cancelled"]) == 1


async def test_the_childs_own_words_reach_only_who_asked_for_them(bridge: Running) -> None:
    for server in ("old", "new"):
        client = ModernClient(bridge, server)
        body = client.body("tools/call", 1, {LOG_LEVEL: "info"}, name="log", arguments={"text": "hear me"})
        async with client.send(body) as response:
            got = [event async for event in events(response)]
        assert [event["params"]["data"] for event in got[:-1]] == ["hear me"]
        for level in (None, "error"):
            meta = {LOG_LEVEL: level} if level and server == "old" else {}
            body = client.body("tools/call", 1, meta, name="log", arguments={"text": "not me"})
            async with client.send(body) as response:
                assert len([event async for event in events(response)]) == 1


@pytest.mark.parametrize("other", ["alice", "bob"])
async def test_what_a_child_says_of_one_principal_reaches_no_other(
    start_bridge: StartBridge, tmp_path: Path, other: str
) -> None:
    made = {name: tokens.mint(name, ["servers:*"], None, NOW) for name in ("alice", "bob")}
    tokens.write(tmp_path / "tokens.json", [row for _, row in made.values()])
    bridge = await start_bridge(SERVERS, TOKENS_FILE=tmp_path / "tokens.json")
    client = ModernClient(bridge, "new")

    def send(who: str, name: str, **arguments: Any) -> Any:
        meta = {"progressToken": who} | ({} if name == "release" else {LOG_LEVEL: "debug"})
        body = client.body("tools/call", 1, meta, name=name, arguments=arguments)
        return client.send(body, Authorization=f"Bearer {made[who][0]}")

    async with send(other, "wait", key="k") as waiting:
        stream = events(waiting)
        await anext(stream)  # it is open, and the only one that wants a log whenever that line comes
        async with send("alice", "log_late", text="for alice") as late:
            await last(late)
        async with send("alice", "release", key="k") as released:
            await last(released)
        heard = [event["params"]["data"] async for event in stream if "params" in event]
    assert heard == (["for alice"] if other == "alice" else [])


# The validation ladder


def _without(body: dict[str, Any], key: str) -> dict[str, Any]:
    copy = json.loads(json.dumps(body))
    del copy["params"]["_meta"][key]
    return dict(copy)


LIST = ModernClient(None, "x").body("tools/list", "me")  # type: ignore[arg-type]
CALL = ModernClient(None, "x").body("tools/call", "me", name="echo", arguments={})  # type: ignore[arg-type]
OLD_VERSION = json.loads(json.dumps(LIST).replace("2026-07-28", "2099-01-01"))


@pytest.mark.parametrize("server", ["old", "new"])
@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (_without(LIST, CAPABILITIES), {}, 400, -32602),
        ({**LIST, "params": {}}, {}, 400, -32602),
        (LIST, {"Mcp_Method": "tools/call"}, 400, -32020),
        (LIST, {"MCP_Protocol_Version": "2025-06-18"}, 400, -32020),
        (LIST, {"MCP_Protocol_Version": "2099-01-01"}, 400, -32020),
        (CALL, {"Mcp_Name": "other"}, 400, -32020),
        (CALL, {"Mcp_Name": "=?base64?%%%?="}, 400, -32020),
        (OLD_VERSION, {"MCP_Protocol_Version": "2099-01-01"}, 400, -32022),
        ({**LIST, "method": "initialize"}, {"Mcp_Method": "initialize"}, 404, -32601),
        ({**LIST, "method": "ping"}, {"Mcp_Method": "ping"}, 404, -32601),
        ({**LIST, "method": "no/such"}, {"Mcp_Method": "no/such"}, 404, -32601),
    ],
)
async def test_a_bad_modern_request_gets_its_status_code_and_id(
    bridge: Running, server: str, body: dict[str, Any], headers: dict[str, str], status: int, code: int
) -> None:
    async with ModernClient(bridge, server).send(body, **headers) as response:
        assert response.status == status, await response.text()
        answer = await response.json()
    assert answer["id"] == "me"
    assert answer["error"]["code"] == code


async def test_a_name_may_be_written_in_base64(bridge: Running) -> None:
    client = ModernClient(bridge, "new")
    body = client.body("tools/call", 1, name="echo", arguments={})
    async with client.send(body, Mcp_Name="=?base64?ZWNobw==?=") as response:
        assert response.status == 200


async def test_mirrored_arguments_and_their_headers_must_agree(bridge: Running) -> None:
    client = ModernClient(bridge, "new")
    body = client.body("tools/call", 1, name="echo", arguments={"region": "eu"})
    for headers, status in (({"Mcp_Param_Region": "eu"}, 200), ({"Mcp_Param_Region": "us"}, 400), ({}, 400)):
        async with client.send(body, **headers) as response:
            assert response.status == status, headers
    async with client.send(client.body("tools/call", 1, name="echo", arguments={}), Mcp_Param_Region="eu") as response:
        assert response.status == 400


async def test_a_version_that_is_not_served_is_answered_with_that_which_is(bridge: Running) -> None:
    async with ModernClient(bridge, "old").send(OLD_VERSION, MCP_Protocol_Version="2099-01-01") as response:
        data = (await response.json())["error"]["data"]
    assert data == {"supported": ["2026-07-28"], "requested": "2099-01-01"}


async def test_a_missing_capability_is_told_by_the_server(bridge: Running) -> None:
    client = ModernClient(bridge, "new")
    async with client.send(client.body("tools/call", 1, name="needs_sampling", arguments={})) as response:
        assert response.status == 400
        error = (await response.json())["error"]
    assert error["code"] == -32021
    assert error["data"]["requiredCapabilities"] == {"sampling": {}}


async def test_session_headers_are_ignored_and_get_and_delete_do_not_exist(bridge: Running) -> None:
    client = ModernClient(bridge, "new")
    async with client.send(client.body("tools/list"), Mcp_Session_Id="whatever") as response:
        assert response.status == 200
    headers = {"MCP-Protocol-Version": "2026-07-28", "Accept": "text/event-stream"}
    for method in ("GET", "DELETE"):
        async with bridge.http.request(method, bridge.url + "/mcp/new", headers=headers) as response:
            assert response.status == 405
            assert response.headers["Allow"] == "POST"


async def test_a_notification_is_accepted_and_an_answer_refused(bridge: Running) -> None:
    client = ModernClient(bridge, "new")
    note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {}}
    async with client.send(note) as response:
        assert response.status == 202
    headers = {"MCP_Protocol_Version": "2026-07-28"}
    async with bridge.post("/mcp/new", {"jsonrpc": "2.0", "id": 1, "result": {}}, **headers) as response:
        assert response.status == 400


# Questions, over several requests


async def test_a_question_of_a_handshake_server_becomes_a_round_trip(bridge: Running) -> None:
    client = ModernClient(bridge, "old", {"elicitation": {}})
    first = (await client.ask("tools/call", 1, name="ask", arguments={"x": 1}))["result"]
    assert first["resultType"] == "input_required"
    [(key, question)] = first["inputRequests"].items()
    assert question["method"] == "elicitation/create"
    answers = {key: {"action": "accept", "content": {"n": 1}}}
    second = await client.ask(
        "tools/call",
        2,
        name="ask",
        arguments={"x": 1},
        inputResponses=answers,
        requestState=first["requestState"],
    )
    assert second["id"] == 2
    assert second["result"]["answer"] == answers[key]
    assert second["result"]["resultType"] == "complete"


async def _asked(client: ModernClient, **arguments: Any) -> dict[str, Any]:
    answer = await client.call("ask", **arguments)
    return dict(answer["result"])


async def _retry(client: ModernClient, state: str, name: str = "ask", **arguments: Any) -> dict[str, Any]:
    answers = {"r0": {"action": "accept", "content": {}}}
    return await client.ask("tools/call", 2, name=name, arguments=arguments, inputResponses=answers, requestState=state)


async def test_a_state_is_good_once_for_the_same_request_and_unchanged(bridge: Running) -> None:
    client = ModernClient(bridge, "old", {"elicitation": {}})
    state = (await _asked(client, x=1))["requestState"]
    foreign = (await _asked(client, x=2))["requestState"]
    name, _, seal = state.partition(".")
    for bad in (f"{name}.{'0' * len(seal)}", name, "", "nonsense", foreign, f"{name}x.{seal}"):
        assert (await _retry(client, bad, x=1))["error"]["code"] == -32602
    assert (await _retry(client, state, x=3))["error"]["code"] == -32602
    assert (await _retry(client, state, "echo", x=1))["error"]["code"] == -32602
    assert (await _retry(client, state, x=1))["result"]["resultType"] == "complete"
    assert (await _retry(client, state, x=1))["error"]["code"] == -32602


async def test_a_retry_without_the_answer_is_asked_again(bridge: Running) -> None:
    client = ModernClient(bridge, "old", {"elicitation": {}})
    state = (await _asked(client))["requestState"]
    again = await client.ask("tools/call", 2, name="ask", arguments={}, inputResponses={}, requestState=state)
    assert again["result"]["inputRequests"].keys() == {"r0"}
    assert (await _retry(client, again["result"]["requestState"]))["result"]["resultType"] == "complete"


async def test_a_client_that_walks_away_from_a_question_leaves_nothing_behind(
    start_bridge: StartBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parking, "PATIENCE", 0.3)
    bridge = await start_bridge(SERVERS)
    client = ModernClient(bridge, "old", {"elicitation": {}})
    state = (await _asked(client))["requestState"]
    assert {row["id"]: row["parked_calls"] for row in await bridge.get("/servers")} == {"old": 1, "new": 0}
    while any(row["open_calls"] or row["open_questions"] for row in await bridge.get("/children")):
        pass
    assert (await _retry(client, state))["error"]["code"] == -32602
    [free] = [row for row in await bridge.get("/children") if row["holders"]]
    assert free["open_calls"] == 0


async def _wants_url(client: ModernClient, id_: int = 1, **more: Any) -> dict[str, Any]:
    """Call what can go on only when a page has been opened; return the answer, and its status."""
    page = {"mode": "url", "url": "https://a.example", "message": "log in", "elicitationId": "e"}
    error = {"code": -32042, "message": "log in first", "data": {"elicitations": [page]}}
    said = json.dumps({"jsonrpc": "2.0", "id": "ID", "error": error}).replace('"ID"', "ID")
    body = client.body("tools/call", id_, name="x", arguments={"say": said.encode().hex()}, **more)
    async with client.send(body) as response:
        return {**await last(response), "status": response.status}


async def test_a_page_that_must_be_opened_is_a_question(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"old": MIRROR})
    client = ModernClient(bridge, "old", {"elicitation": {"url": {}}})
    asked = (await _wants_url(client))["result"]
    assert asked["inputRequests"]["r0"]["params"]["url"] == "https://a.example"
    answers = {"requestState": asked["requestState"], "inputResponses": {"r0": {"action": "accept"}}}
    assert (await _wants_url(client, 2, **answers))["result"]["resultType"] == "input_required"  # it wants it still


@pytest.mark.parametrize("offered", [{}, {"elicitation": {}}, {"elicitation": {"form": {}}}])
async def test_a_page_that_a_client_did_not_offer_to_open_is_an_error(
    start_bridge: StartBridge, offered: dict[str, Any]
) -> None:
    bridge = await start_bridge({"old": MIRROR})
    answer = await _wants_url(ModernClient(bridge, "old", offered))
    assert (answer["status"], answer["error"]["code"]) == (400, -32021)
    assert answer["error"]["message"] == "log in first"
    assert answer["error"]["data"]["requiredCapabilities"] == {"elicitation": {"url": {}}}
    assert answer["error"]["data"]["elicitations"][0]["url"] == "https://a.example"


async def test_one_page_too_many_that_must_be_opened_is_an_error(
    start_bridge: StartBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.sessions.parking.MOST", 1)
    client = ModernClient(await start_bridge({"old": MIRROR}), "old", {"elicitation": {"url": {}}})
    assert "result" in await _wants_url(client)
    assert "wait for their users already" in (await _wants_url(client))["error"]["message"]


async def test_a_server_is_not_let_ask_what_the_client_did_not_offer(bridge: Running) -> None:
    for capabilities in ({}, {"sampling": {}}):
        answer = await ModernClient(bridge, "old", capabilities).call("ask")
        assert answer["result"]["answer"]["code"] == -32601


async def test_the_server_learns_what_the_client_offers(bridge: Running) -> None:
    client = ModernClient(bridge, "old", {"elicitation": {}, "sampling": {}})
    await _asked(client)
    assert len(bridge.service.core.registry.children()) == 2  # the shared one, and one for this call alone


async def test_a_question_of_a_modern_server_passes_with_its_own_state(bridge: Running) -> None:
    client = ModernClient(bridge, "new", EVERYTHING)
    first = (await client.call("ask"))["result"]
    assert (first["resultType"], first["requestState"]) == ("input_required", "first")
    again = await client.ask(
        "tools/call", 2, name="ask", arguments={}, inputResponses={"a": {}, "b": {}}, requestState="first"
    )
    assert again["result"]["inputRequests"]["c"]["params"]["message"] == "and 2?"


async def test_a_list_is_of_what_the_client_offers(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"particular": PARTICULAR_SERVER})
    for capabilities in ({}, {"elicitation": {}}):
        answer = await ModernClient(bridge, "particular", capabilities).ask("tools/list")
        assert {tool["name"] for tool in answer["result"]["tools"]} == capabilities.keys()


async def test_progress_goes_on_under_the_token_of_the_retry(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"particular": PARTICULAR_SERVER})
    client = ModernClient(bridge, "particular", {"elicitation": {}})
    heard: list[object] = []

    async def call(id_: int, token: object, **params: Any) -> dict[str, Any]:
        meta = {"progressToken": token, LOG_LEVEL: "info"}
        body = client.body("tools/call", id_, meta, name="work", arguments={}, **params)
        async with client.send(body) as response:
            *notes, answer = [event async for event in events(response)]
        heard.extend(note.get("params", note) for note in notes)
        return dict(answer["result"])

    asked = await call(1, "first")
    answered = await call(2, 7, inputResponses={"r0": {"action": "accept"}}, requestState=asked["requestState"])
    assert answered["resultType"] == "complete"
    assert heard == [  # and no list_changed: nobody subscribed to it
        {"progressToken": "first", "progress": 1},
        {"level": "info", "data": "answered"},
        {"progressToken": 7, "progress": 2},
    ]


async def test_only_questions_that_stand_and_that_this_era_knows_reach_the_client(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"particular": PARTICULAR_SERVER})
    answer = await ModernClient(bridge, "particular", {"elicitation": {}}).call("withdraws")
    assert (answer["result"]["resultType"], answer["result"]["code"]) == ("complete", -32601)


async def test_what_a_parked_call_says_waits_for_the_retry(start_bridge: StartBridge, tmp_path: Path) -> None:
    program = PARTICULAR.replace('ask("q", "elicitation/create")', TALKS, 1)
    bridge = await start_bridge({"particular": {**PARTICULAR_SERVER, "args": ["-c", program], "cwd": str(tmp_path)}})
    client = ModernClient(bridge, "particular", {"elicitation": {}})
    asked = (await client.call("work", 1, {LOG_LEVEL: "info"}))["result"]
    (tmp_path / "talk").touch()
    while not (tmp_path / "talked").exists():
        await bridge.get("/children")
    retry = {"inputResponses": {"r0": {"action": "accept"}}, "requestState": asked["requestState"]}
    body = client.body("tools/call", 2, {LOG_LEVEL: "info"}, name="work", arguments={}, **retry)
    async with client.send(body) as response:
        *notes, _ = [event async for event in events(response)]
    assert [note["params"]["data"] for note in notes] == ["meanwhile", "answered"]


# Subscriptions


@pytest.mark.parametrize("server", ["old", "new"])
async def test_a_subscription_is_acknowledged_and_carries_the_clients_id(
    start_bridge: StartBridge, server: str
) -> None:
    old = peer(args=[*peer()["args"], "--changes"])
    bridge = await start_bridge({**SERVERS, "old": old})
    client = ModernClient(bridge, server)
    wanted = {"toolsListChanged": True, "resourceSubscriptions": ["a://b"]}
    async with client.send(client.body("subscriptions/listen", "mine", notifications=wanted)) as response:
        stream = events(response)
        acknowledged = await anext(stream)
        assert acknowledged["method"] == "notifications/subscriptions/acknowledged"
        assert acknowledged["params"]["notifications"] == wanted
        assert acknowledged["params"]["_meta"][SUBSCRIPTION_ID] == "mine"
        await client.call("updated", uri="x://y")
        await client.call("updated", uri="a://b")
        updated = await anext(stream)
        assert updated["method"] == "notifications/resources/updated"
        assert updated["params"]["uri"] == "a://b"
        assert updated["params"]["_meta"][SUBSCRIPTION_ID] == "mine"
        await client.call("changed" if server == "new" else "list_changed")
        assert (await anext(stream))["method"] == "notifications/tools/list_changed"
        await client.call("die")
        ended = await anext(stream)
        assert ended["id"] == "mine"


async def test_a_subscription_that_the_server_refuses_is_not_acknowledged(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"old": peer(args=[*peer()["args"], "--changes"])})
    client = ModernClient(bridge, "old")
    wanted = {"toolsListChanged": True, "resourceSubscriptions": ["refuse://me", "a://b"]}
    async with client.send(client.body("subscriptions/listen", 1, notifications=wanted)) as response:
        acknowledged = await anext(events(response))
    honored = {"toolsListChanged": True, "resourceSubscriptions": ["a://b"]}
    assert acknowledged["params"]["notifications"] == honored


CHANGING = peer(args=[*peer()["args"], "--changes"])


@contextlib.asynccontextmanager
async def listening(client: ModernClient, **wanted: Any) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """A subscription that has been acknowledged."""
    async with client.send(client.body("subscriptions/listen", 1, notifications=wanted)) as response:
        stream = events(response)
        acknowledged = await anext(stream)
        assert acknowledged["params"]["notifications"] == wanted
        yield stream


@pytest.mark.parametrize("capabilities", [{}, {"elicitation": {}}, {"elicitation": {}, "sampling": {}}])
async def test_a_subscription_hears_of_the_children_that_calls_hold_alone(
    start_bridge: StartBridge, capabilities: dict[str, Any]
) -> None:
    bridge = await start_bridge({"old": CHANGING})
    client = ModernClient(bridge, "old", capabilities)
    alone = {LOG_LEVEL: "emergency"}  # so that the call of a client that offers nothing has a child for itself too
    async with listening(client, toolsListChanged=True, resourceSubscriptions=["a://b"]) as stream:
        await client.call("list_changed", 1, alone)
        assert (await anext(stream))["method"] == "notifications/tools/list_changed"
        await client.call("updated", 1, alone, uri="x://y")
        await client.call("updated", 1, alone, uri="a://b")
        updated = await anext(stream)
    assert len(bridge.service.core.registry.children()) == 2
    assert updated["params"] == {"uri": "a://b", "_meta": {SUBSCRIPTION_ID: 1}}


async def test_an_update_reaches_only_those_who_subscribed_to_it_and_offer_the_same(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"old": CHANGING})
    one, other = ModernClient(bridge, "old", {"roots": {}}), ModernClient(bridge, "old", {"sampling": {}})
    async with (
        listening(one, resourceSubscriptions=["a://1"]) as first,
        listening(one, resourceSubscriptions=["a://2"]) as second,
        listening(other, resourceSubscriptions=["a://1"]) as third,
    ):
        await one.call("updated", uri="a://1")
        await one.call("updated", uri="a://2")
        assert (await anext(first))["params"]["uri"] == "a://1"
        assert (await anext(second))["params"]["uri"] == "a://2"
        await other.call("updated", uri="a://1/part")
        assert (await anext(third))["params"]["uri"] == "a://1/part"


async def test_all_children_that_calls_may_hold_are_subscribed_as_long_as_anybody_listens(
    start_bridge: StartBridge,
) -> None:
    bridge = await start_bridge({"old": CHANGING})
    client = ModernClient(bridge, "old", {"roots": {}})

    async def seen() -> Any:
        return (await client.call("seen"))["result"]["subscriptions"]

    assert await seen() == []
    async with listening(client, resourceSubscriptions=["a://1"]):
        assert await seen() == [["subscribe", "a://1"]], "one that was there before"
        body = client.body("tools/call", 1, {LOG_LEVEL: "debug"}, name="wait", arguments={"key": "k"})
        async with client.send(body) as held:
            await anext(events(held))
            assert await seen() == [["subscribe", "a://1"]], "one that has just started"
            async with listening(client, resourceSubscriptions=["a://1"]):
                pass
            assert await seen() == [["subscribe", "a://1"]], "another one still listens"
    # A child that is just being told so may have been replaced by one that never heard of it.
    while (found := await seen()) not in ([["subscribe", "a://1"], ["unsubscribe", "a://1"]], []):
        assert found == [["subscribe", "a://1"]]


@contextlib.asynccontextmanager
async def frozen(child: Child) -> AsyncIterator[None]:
    """A child that gives no answer for a while."""
    assert child.pid is not None
    os.kill(child.pid, signal.SIGSTOP)
    yield
    os.kill(child.pid, signal.SIGCONT)
    await until(lambda: child.connection.open_exchanges == 0, "it answers what it was asked")


@pytest.mark.parametrize("sharing", ["session", "shared", {"holders": 1, "hold": "exchange", "limit": 1}])
async def test_a_subscription_that_is_closed_before_the_child_has_answered_ends_on_it(
    start_bridge: StartBridge, sharing: Any
) -> None:
    bridge = await start_bridge({"old": {**CHANGING, "sharing": sharing}})
    client, listens = ModernClient(bridge, "old"), bridge.service.core.modern._listens
    assert (await client.call("seen"))["result"]["subscriptions"] == []
    [child] = [each for each in bridge.service.core.registry.children() if each.lives]
    async with frozen(child):
        opening = asyncio.create_task(
            client.ask("subscriptions/listen", notifications={"resourceSubscriptions": ["a://1"]})
        )
        await until(lambda: child.connection.open_exchanges == 1, "the child is asked")
        opening.cancel()
        await until(lambda: not listens, "it is closed")
    seen = (await client.call("seen"))["result"]["subscriptions"]
    assert seen == [["subscribe", "a://1"], ["unsubscribe", "a://1"]]


async def test_a_subscription_that_is_closed_before_the_child_has_answered_ends_no_other(
    start_bridge: StartBridge,
) -> None:
    bridge = await start_bridge({"old": CHANGING})
    client, listens = ModernClient(bridge, "old"), bridge.service.core.modern._listens
    await client.call("seen")
    [child] = [each for each in bridge.service.core.registry.children() if each.lives]
    body = client.body("subscriptions/listen", notifications={"resourceSubscriptions": ["a://1"]})
    async with frozen(child):
        opening, other = (asyncio.create_task(client.send(body).__aenter__()) for _ in range(2))
        await until(lambda: child.connection.open_exchanges == 2, "the child is asked twice")
        opening.cancel()
        await until(lambda: len(listens) == 1, "the first one is closed")
    async with await other as response:
        await anext(stream := events(response))
        await client.call("updated", uri="a://1")
        assert (await anext(stream))["params"]["uri"] == "a://1"
        assert (await client.call("seen"))["result"]["subscriptions"] == [["subscribe", "a://1"]] * 2
    await until(lambda: not listens, "it is closed too")
    assert (await client.call("seen"))["result"]["subscriptions"][-1] == ["unsubscribe", "a://1"]


@pytest.mark.parametrize("server", ["old", "new"])
async def test_a_shutdown_ends_subscriptions_in_good_order_and_does_not_wait_for_them(
    start_bridge: StartBridge, server: str
) -> None:
    bridge = await start_bridge({**SERVERS, "old": CHANGING}, SHUTDOWN_TIMEOUT_MS=30_000)
    async with listening(ModernClient(bridge, server), toolsListChanged=True) as stream:
        async with in_time():
            await bridge.service.stop()
        rest = [each async for each in stream]
    assert rest == [{"jsonrpc": "2.0", "id": 1, "result": {"resultType": "complete", "_meta": {SUBSCRIPTION_ID: 1}}}]


# Handshake clients on a modern server


async def test_a_handshake_client_is_greeted_by_a_modern_server(bridge: Running) -> None:
    session = await bridge.session("new", protocolVersion="2025-06-18")
    result = session.greeting["result"]
    assert result["protocolVersion"] == "2025-06-18"
    assert result["serverInfo"]["name"] == "modern peer"
    assert result["instructions"] == "be modern"
    assert "resultType" not in result
    listed = await session.ask("tools/list")
    assert set(listed["result"]) == {"tools"}
    called = await session.call("echo", 5, text="hello")
    assert called == {"jsonrpc": "2.0", "id": 5, "result": {"content": [], "structuredContent": {"text": "hello"}}}
    assert (await session.ask("ping"))["result"] == {}


async def test_its_requests_get_the_envelope_of_what_it_said(bridge: Running) -> None:
    session = await bridge.session("new", capabilities={"roots": {}})
    assert (await session.ask("logging/setLevel", level="error"))["result"] == {}
    meta = (await session.call("meta"))["result"]["structuredContent"]
    assert meta[VERSION] == "2026-07-28"
    assert meta[CAPABILITIES] == {"roots": {}}
    assert meta[CLIENT_INFO] == INITIALIZE["clientInfo"]
    assert meta[LOG_LEVEL] == "error"


async def test_its_questions_come_on_the_stream_and_the_answers_go_back(bridge: Running) -> None:
    session = await bridge.session("new")
    async with session.post(message("tools/call", 9, name="ask", arguments={})) as response:
        stream = events(response)
        asked = [await anext(stream), await anext(stream)]
        assert sorted(question["method"] for question in asked) == ["elicitation/create", "sampling/createMessage"]
        for question in asked:
            async with session.post({"jsonrpc": "2.0", "id": question["id"], "result": {"to": question["method"]}}):
                pass
        third = await anext(stream)
        assert third["params"]["message"] == "and 2?"
        async with session.post({"jsonrpc": "2.0", "id": third["id"], "result": {"last": True}}) as accepted:
            assert accepted.status == 202
        answer = await anext(stream)
    assert answer["id"] == 9
    assert answer["result"]["structuredContent"] == {"answers": {"c": {"last": True}}}


async def test_a_call_can_be_cancelled_while_it_asks(bridge: Running) -> None:
    session = await bridge.session("new")
    async with session.post(message("tools/call", "mine", name="ask", arguments={})) as response:
        stream = events(response)
        asked = {(await anext(stream))["id"], (await anext(stream))["id"]}
        async with session.post(message("notifications/cancelled", requestId="mine")) as accepted:
            assert accepted.status == 202
        rest = [event async for event in stream]
    assert {event["params"]["requestId"] for event in rest[:-1]} == asked
    assert "cancelled" in rest[-1]["error"]["message"]
    [row] = [row for row in await bridge.get("/sessions") if row["pool"] == "streamable"]
    assert row["in_use"] == 0


async def test_a_question_it_did_not_offer_to_answer_is_an_error_of_the_call(bridge: Running) -> None:
    session = await bridge.session("new", capabilities={})
    assert (await session.call("ask"))["error"]["code"] == -32021


@pytest.mark.parametrize("how", ["not offered", "refused"])
async def test_a_question_without_an_answer_ends_the_call_though_others_stand(bridge: Running, how: str) -> None:
    offered = {"elicitation": {}} if how == "not offered" else EVERYTHING
    session = await bridge.session("new", capabilities=offered)
    async with session.post(message("tools/call", 9, name="ask", arguments={})) as response:
        said = []
        async for event in events(response):
            said.append(event)
            if event.get("method") == "sampling/createMessage":
                error = {"code": -1, "message": "no"}
                async with session.post({"jsonrpc": "2.0", "id": event["id"], "error": error}) as taken:
                    assert taken.status == 202
    [form] = [event["id"] for event in said if event.get("method") == "elicitation/create"]
    assert said[-1]["id"] == 9
    assert "error" in said[-1]
    assert [each["params"]["requestId"] for each in said if each.get("method") == "notifications/cancelled"] == [form]


async def test_a_level_that_does_not_exist_is_refused_and_spoils_nothing(bridge: Running) -> None:
    session = await bridge.session("new")
    answer = await session.ask("logging/setLevel", level="verbose")
    assert (answer["error"]["code"], "must be one of debug, info" in answer["error"]["message"]) == (-32602, True)
    assert (await session.ask("logging/setLevel", level="error"))["result"] == {}
    assert (await session.call("meta"))["result"]["structuredContent"][LOG_LEVEL] == "error"


async def test_structured_output_that_older_clients_cannot_take_is_wrapped(bridge: Running) -> None:
    session = await bridge.session("new")
    assert (await session.call("number"))["result"]["structuredContent"] == {"result": 5}
    [_, number] = (await session.ask("tools/list"))["result"]["tools"]
    assert number["outputSchema"]["properties"]["result"] == {"type": "integer"}


async def test_a_result_of_an_unknown_kind_is_an_error_and_never_silence(bridge: Running) -> None:
    session = await bridge.session("new")
    assert "something/else" in (await session.call("strange"))["error"]["message"]


async def test_progress_cancellation_and_changes_reach_a_handshake_client(bridge: Running) -> None:
    session = await bridge.session("new")
    async with session.get() as get:
        stream = events(get)
        body = message("tools/call", "mine", name="wait", arguments={"key": "k"}, _meta={"progressToken": "p"})
        async with session.post(body) as waiting:
            got = events(waiting)
            assert (await anext(got))["params"]["progressToken"] == "p"
            async with session.post(message("notifications/cancelled", requestId="mine")) as response:
                assert response.status == 202
            assert len((await session.call("cancelled"))["result"]["structuredContent"]["cancelled"]) == 1
            await session.call("release", key="k")
            assert (await anext(got))["id"] == "mine"
        await session.call("changed")
        changed = await anext(stream)
        assert changed == {"jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": {}}
        assert (await session.ask("resources/subscribe", uri="a://b"))["result"] == {}
        await session.call("updated", uri="a://b")
        assert (await anext(stream))["params"] == {"uri": "a://b"}


async def test_its_subscriptions_are_granted_or_refused_by_the_server(bridge: Running) -> None:
    session = await bridge.session("new")

    async def wanted() -> Any:
        return (await session.call("listens"))["result"]["structuredContent"]["wanted"][1:]

    assert (await session.ask("resources/subscribe", uri="refuse://me"))["error"]["code"] == -32601
    for _ in range(2):
        assert (await session.ask("resources/subscribe", uri="a://b"))["result"] == {}
    assert await wanted() == [{"resourceSubscriptions": ["a://b"]}]
    assert (await session.ask("resources/unsubscribe", uri="a://b"))["result"] == {}
    assert await wanted() == []


async def test_list_changes_are_asked_for_once_for_all_sessions(bridge: Running) -> None:
    sessions = [await bridge.session("new") for _ in range(5)]
    wanted = (await sessions[0].call("listens"))["result"]["structuredContent"]["wanted"]
    assert wanted == [{"toolsListChanged": True}]
    async with sessions[1].get() as first, sessions[4].get() as second:
        await sessions[0].call("changed")
        for response in (first, second):
            assert (await anext(events(response)))["method"] == "notifications/tools/list_changed"


async def test_a_child_that_refused_the_handshake_is_not_left_behind(bridge: Running) -> None:
    session = await bridge.session("new")
    async with session.delete() as response:
        assert response.status == 204
    while await bridge.get("/children"):
        pass


async def test_two_handshake_sessions_share_a_modern_process(bridge: Running) -> None:
    one, two = await bridge.session("new"), await bridge.session("new")
    pids = [(await session.call("pid"))["result"]["structuredContent"]["pid"] for session in (one, two)]
    assert pids[0] == pids[1]


async def test_bridge_calls_work_on_a_server_of_either_era(bridge: Running) -> None:
    await bridge.session("new")  # now it is known to be modern only
    for server in ("old", "new"):
        answer = await bridge.bridge_call(server, "tools/call", name="echo", arguments={"a": 1})
        assert answer["result"].get("structuredContent", answer["result"]) == {"a": 1}


async def test_a_server_may_be_told_its_era(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"old": peer(childEra="handshake"), "new": {**SERVERS["new"], "childEra": "modern"}})
    for server in ("old", "new"):
        assert "result" in await ModernClient(bridge, server).ask("tools/list")
    assert "result" in await (await bridge.session("new")).ask("tools/list")
    assert len(bridge.service.core.registry.children()) == 2
