"""``/mcp``: many real servers behind one URL, for clients of the handshake era."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bridge.auth import tokens
from bridge.config.servers import Servers, parse_servers
from bridge.observe import audit
from tests.conftest import (
    ACCEPT,
    INITIALIZE,
    PEERS,
    Running,
    Session,
    StartBridge,
    events,
    in_time,
    last,
    message,
    peer,
    tool,
)

BROKEN = {"command": sys.executable, "args": ["-c", "raise SystemExit(3)"]}


def many(id_: str, **has: Any) -> dict[str, Any]:
    """A ``servers.json`` entry of tests/peers/many_peer.py."""
    config = {"id": id_, **{name: value for name, value in has.items() if not name.startswith("_")}}
    entry = {name[1:]: value for name, value in has.items() if name.startswith("_")}
    program = [str(PEERS / "many_peer.py"), json.dumps(config)]
    return {"command": sys.executable, "args": ["-I", "-S", *program], **entry}


def late(gate: Path, entry: dict[str, Any]) -> dict[str, Any]:
    """The same server, which does not begin before there is a file."""
    wait = f"import os, sys, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)\n"
    program = wait + "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    return {**entry, "args": ["-c", program, *entry["args"]]}


def read(**servers: Any) -> Servers:
    return parse_servers(json.dumps(servers), "servers.json", {})


async def everything(bridge: Running, query: str = "", **params: Any) -> Session:
    """Initialize at all servers."""
    return await bridge.session_at(f"/mcp{query}", **params)


async def names(session: Session, method: str = "tools/list", member: str = "tools", key: str = "name") -> list[str]:
    return [each[key] for each in (await session.ask(method))["result"][member]]


async def said(session: Session, name: str, **arguments: Any) -> Any:
    return (await session.call(name, **arguments))["result"]["structuredContent"]


TWO = {"a": many("a", tools=["one", "two", "three"]), "b": many("b", tools=["one"])}


async def test_all_tools_are_listed_with_their_server_and_called_there(start_bridge: StartBridge) -> None:
    bridge = await start_bridge(TWO)
    session = await everything(bridge)
    assert await names(session) == ["a__one", "a__two", "a__three", "b__one"]
    for name, server in (("a__one", "a"), ("b__one", "b")):
        got = await said(session, name, text="hello")
        assert (got["server"], got["params"]) == (server, {"name": "one", "arguments": {"text": "hello"}})
    pids = {(await said(session, name))["pid"] for name in ("a__one", "a__two", "a__three")}
    assert len(pids) == 1


async def test_a_session_has_children_of_its_own_and_ends_with_them(start_bridge: StartBridge) -> None:
    bridge = await start_bridge(TWO)
    one, two = await everything(bridge), await everything(bridge)
    assert (await said(one, "a__one"))["pid"] != (await said(two, "a__one"))["pid"]
    assert len(bridge.service.core.registry.children()) == 4
    async with one.delete() as response:
        assert response.status == 204
    async with one.post(tool("a__one")) as response:
        assert response.status == 404
    assert (await said(two, "b__one"))["server"] == "b"


async def test_a_server_that_fails_leaves_the_rest(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"broken": BROKEN, **TWO})
    session = await everything(bridge)
    assert await names(session) == ["a__one", "a__two", "a__three", "b__one"]
    assert "broken" in (await session.call("broken__x"))["error"]["message"]


async def test_a_crash_ends_one_call_and_nothing_else(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"a": many("a", tools=["die"]), "b": many("b", tools=["one"])})
    session = await everything(bridge)
    before = (await said(session, "b__one"))["pid"]
    assert "ended before it answered" in (await session.call("a__die"))["error"]["message"]
    assert (await said(session, "b__one"))["pid"] == before
    assert await names(session) == ["a__die", "b__one"]  # with another child, that was told what the first one was


async def test_only_chosen_servers_are_there(start_bridge: StartBridge) -> None:
    bridge = await start_bridge(TWO)
    session = await everything(bridge, "?servers=b")
    assert await names(session) == ["b__one"]
    assert "Unknown tool" in (await session.call("a__one"))["error"]["message"]
    assert [child.server for child in bridge.service.core.registry.children()] == ["b"]
    async with bridge.post("/mcp?servers=b,nobody", message("initialize", 0, **INITIALIZE)) as response:
        assert response.status == 404
        assert 'no server "nobody"' in (await response.json())["error"]["message"]


FULL = {
    "a": many(
        "a",
        tools=["asks", "updates", "progress", "waits", "heard", "changes"],
        prompts=["p"],
        resources=["x://1", "x://2", "x://only-a"],
        templates=["x://any/{id}"],
        instructions="Be a.",
    ),
    "b": many("b", tools=["asks", "updates", "heard"], prompts=["p"], resources=["x://1"], templates=["y://{+path}"]),
    "c": many("c", tools=["x"]),
}
#: One of these has resources of the other's scheme only after a while.
GAINING = {"a": many("a", resources=["x://1"]), "b": many("b", tools=["adds"], resources=[])}


async def test_what_the_endpoint_says_of_itself(start_bridge: StartBridge) -> None:
    session = await everything(await start_bridge(FULL), protocolVersion="2025-11-25")
    assert session.greeting["result"] == {
        "protocolVersion": "2025-11-25",
        "capabilities": {
            "tools": {"listChanged": True},
            "prompts": {"listChanged": True},
            "resources": {"listChanged": True, "subscribe": True},
            "completions": {},
            "logging": {},
        },
        "serverInfo": {"name": "mcp-bridge", "version": session.greeting["result"]["serverInfo"]["version"]},
        "instructions": "Names begin with the id of their server: <id>__<name>.\n\n# a\nBe a.",
    }
    assert (await session.ask("ping"))["result"] == {}
    assert (await session.ask("tools/list", cursor="2"))["error"]["code"] == -32602
    assert (await session.ask("tasks/list"))["error"]["code"] == -32601
    assert (await session.ask("tools/call"))["error"]["code"] == -32602


async def test_prompts_resources_and_templates(start_bridge: StartBridge) -> None:
    session = await everything(await start_bridge(FULL))
    assert await names(session, "prompts/list", "prompts") == ["a__p", "b__p"]
    uris = ["x://1", "x://2", "x://only-a", "bridge://b/x://1"]
    assert await names(session, "resources/list", "resources", "uri") == uris
    templates = ["x://any/{id}", "y://{+path}"]
    assert await names(session, "resources/templates/list", "resourceTemplates", "uriTemplate") == templates
    got = (await session.ask("prompts/get", name="b__p", arguments={"k": "v"}))["result"]
    assert (got["server"], got["params"]) == ("b", {"name": "p", "arguments": {"k": "v"}})


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize(
    ("uri", "server", "theirs"),
    [
        ("x://1", "a", "x://1"),
        ("x://only-a", "a", "x://only-a"),
        ("bridge://b/x://1", "b", "x://1"),
        ("bridge://a/x://1", "a", "x://1"),
        ("x://any/7", "a", "x://any/7"),
        ("y://deep/er", "b", "y://deep/er"),
        ("x://unlisted", "a", "x://unlisted"),
        ("z://nobody", None, ""),
        ("bridge://nobody/x://1", None, ""),
    ],
)
async def test_a_resource_is_read_where_it_is(
    start_bridge: StartBridge, listed: bool, uri: str, server: str | None, theirs: str
) -> None:
    session = await everything(await start_bridge(FULL))
    if listed:
        await session.ask("resources/list")
    answer = await session.ask("resources/read", uri=uri)
    if server is None:
        assert answer["error"]["code"] == -32002
    else:
        assert (answer["result"]["server"], answer["result"]["params"]) == (server, {"uri": theirs})


async def test_what_a_server_has_gained_without_a_word_is_found_there(start_bridge: StartBridge) -> None:
    session = await everything(await start_bridge(GAINING))
    assert await names(session, "resources/list", "resources", "uri") == ["x://1"]
    await session.call("b__adds", to="resources", what="x://2")
    assert (await session.ask("resources/read", uri="x://2"))["result"]["server"] == "b"
    assert (await session.ask("resources/read", uri="x://3"))["result"]["server"] == "a"


async def test_completion_goes_to_whom_it_is_about(start_bridge: StartBridge) -> None:
    session = await everything(await start_bridge(FULL))
    argument = {"name": "n", "value": "v"}
    for ref, server, theirs in (
        ({"type": "ref/prompt", "name": "b__p"}, "b", {"type": "ref/prompt", "name": "p"}),
        ({"type": "ref/resource", "uri": "y://{+path}"}, "b", {"type": "ref/resource", "uri": "y://{+path}"}),
        ({"type": "ref/resource", "uri": "x://any/{id}"}, "a", {"type": "ref/resource", "uri": "x://any/{id}"}),
    ):
        got = (await session.ask("completion/complete", ref=ref, argument=argument))["result"]
        assert (got["server"], got["params"]) == (server, {"ref": theirs, "argument": argument})


async def test_updates_come_under_the_uri_that_was_subscribed_to(start_bridge: StartBridge) -> None:
    session = await everything(await start_bridge(FULL))
    assert (await session.ask("resources/subscribe", uri="bridge://b/x://1"))["result"] == {}
    assert (await session.ask("resources/subscribe", uri="x://1"))["result"] == {}
    async with session.get() as stream:
        for name in ("a__updates", "b__updates"):
            await session.call(name, uri="x://1")
        coming = events(stream)
        got = [(await anext(coming))["params"]["uri"] for _ in range(2)]
    assert got == ["x://1", "bridge://b/x://1"]
    await session.ask("resources/unsubscribe", uri="bridge://b/x://1")
    subscribed = [["resources/subscribe", {"uri": "x://1"}], ["resources/unsubscribe", {"uri": "x://1"}]]
    assert (await said(session, "b__heard"))["heard"][-2:] == subscribed


@pytest.mark.parametrize("method", ["elicitation/create", "sampling/createMessage", "roots/list"])
async def test_servers_ask_the_client(start_bridge: StartBridge, method: str) -> None:
    session = await everything(await start_bridge(FULL))

    async def one(server: str) -> Any:
        async with session.post(tool(f"{server}__asks", server, method=method)) as response:
            stream = events(response)
            question = await anext(stream)
            assert (question["method"], question["params"]["message"]) == (method, server)
            answer = {"jsonrpc": "2.0", "id": question["id"], "result": {"to": server}}
            async with session.post(answer) as taken:
                assert taken.status == 202
            return (await anext(stream))["result"]["structuredContent"]

    for server in ("a", "b"):  # both with the same id of their own
        assert await one(server) == {"server": server, "answer": {"to": server}}


async def asked(session: Session, stack: AsyncExitStack, server: str) -> tuple[Any, AsyncIterator[dict[str, Any]]]:
    """A question of a server that wants to hear of progress, and what follows it."""
    call = tool(f"{server}__asks", server, method="roots/list", _meta={"progressToken": "p", "x": 1.0})
    stream = events(await stack.enter_async_context(session.post(call)))
    return await anext(stream), stream


async def posted(session: Session, body: dict[str, Any]) -> None:
    async with session.post(body) as taken:
        assert taken.status == 202


async def progressed(session: Session, question: Any, text: str) -> None:
    token = question["params"]["_meta"]["progressToken"]
    await posted(session, message("notifications/progress", progressToken=token, progress=1, message=text))


async def progress_of(session: Session, server: str) -> list[Any]:
    """What a server has heard of the progress of the client."""
    heard = (await said(session, f"{server}__heard"))["heard"]
    return [(params["progressToken"], params["message"]) for method, params in heard if method.endswith("/progress")]


async def test_progress_of_the_client_goes_to_the_server_that_asked(start_bridge: StartBridge) -> None:
    session = await everything(await start_bridge(FULL))
    async with AsyncExitStack() as stack:
        calls = {server: await asked(session, stack, server) for server in ("a", "b")}
        for server, (question, _) in calls.items():
            assert question["params"] == {"message": server, "_meta": {"progressToken": question["id"], "x": 1.0}}
            await progressed(session, question, f"for {server}")
        await posted(session, message("notifications/progress", progressToken="p", progress=1, message="for nobody"))
        for question, stream in calls.values():
            await posted(session, {"jsonrpc": "2.0", "id": question["id"], "result": {"roots": []}})
            assert "result" in await anext(stream)
            await progressed(session, question, "too late")
    for server in calls:
        assert await progress_of(session, server) == [("p", f"for {server}")]


async def test_progress_of_a_task_of_the_client_goes_on_until_that_has_ended(start_bridge: StartBridge) -> None:
    session = await everything(await start_bridge(FULL), protocolVersion="2025-11-25")
    async with AsyncExitStack() as stack:
        question, stream = await asked(session, stack, "a")
        task = {"taskId": "t", "status": "working", "ttl": None}
        await posted(session, {"jsonrpc": "2.0", "id": question["id"], "result": {"task": task}})
        assert "result" in await anext(stream)
    for status in ("working", "completed"):
        await progressed(session, question, status)
        await posted(session, message("notifications/tasks/status", **{**task, "status": status}))
    await progressed(session, question, "too late")
    assert await progress_of(session, "a") == [("p", "working"), ("p", "completed")]
    assert await progress_of(session, "b") == []


async def test_progress_does_not_reach_a_process_that_has_not_asked(start_bridge: StartBridge) -> None:
    session = await everything(await start_bridge({"a": many("a", tools=["asks", "die", "heard"])}))
    async with AsyncExitStack() as stack:
        question, stream = await asked(session, stack, "a")
        result = {"task": {"taskId": "t", "status": "working", "ttl": None}}
        await posted(session, {"jsonrpc": "2.0", "id": question["id"], "result": result})
        assert "result" in await anext(stream)
    await session.call("a__die")
    assert await progress_of(session, "a") == []  # which starts another one
    await progressed(session, question, "for the first")
    assert await progress_of(session, "a") == []


async def test_a_question_of_a_server_that_crashes_is_withdrawn(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"a": many("a", tools=["asks", "die"]), "b": many("b", tools=["one"])})
    session = await everything(bridge)
    async with session.post(tool("a__asks", method="roots/list")) as response:
        stream = events(response)
        question = await anext(stream)
        await session.call("a__die", 2)
        assert (await anext(stream))["error"]
    async with session.get() as stream:
        withdrawn = await anext(events(stream))
    assert (withdrawn["method"], withdrawn["params"]) == ("notifications/cancelled", {"requestId": question["id"]})
    [entry] = bridge.service.core.sessions.pool.entries()
    assert not entry.session.is_busy


async def test_a_question_of_a_server_that_is_taken_out_is_withdrawn(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"p": peer(), **FULL})
    session = await everything(bridge)
    async with session.get() as response, in_time():
        stream = events(response)
        async with session.post(tool("p__ask_later")) as called:
            question = await anext(events(called))  # which belongs to no call, and outlives this one
            await called.read()
        bridge.service.reload(read(**FULL))
        while (note := await anext(stream))["method"] != "notifications/cancelled":
            assert note["method"].endswith("list_changed")
        assert note["params"]["requestId"] == question["id"]


async def test_progress_logs_and_cancellation(start_bridge: StartBridge) -> None:
    session = await everything(await start_bridge(FULL))
    async with session.post(tool("a__progress", "id", token="mine")) as response:
        got = [event async for event in events(response)]
    assert got[0]["params"] == {"progressToken": "mine", "progress": 1}
    async with session.post(tool("a__waits", "w")) as response:
        assert (await anext(events(response)))["method"] == "notifications/message"
        async with session.post(message("notifications/cancelled", requestId="w", reason="enough")) as taken:
            assert taken.status == 202
        heard = (await said(session, "a__heard"))["heard"]
    assert heard[-1][0] == "notifications/cancelled"
    assert heard[-1][1]["reason"] == "enough"


async def test_level_and_roots_reach_all_that_run_and_those_that_come(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"a": many("a", tools=["heard", "die"]), "b": many("b", tools=["heard"])})
    session = await everything(bridge)
    assert (await session.ask("logging/setLevel", level="loud"))["error"]["code"] == -32602
    assert (await session.ask("logging/setLevel", level="warning"))["result"] == {}
    async with session.post(message("notifications/roots/list_changed")) as taken:
        assert taken.status == 202
    level = ["logging/setLevel", {"level": "warning"}]
    for server in ("a", "b"):
        heard = (await said(session, f"{server}__heard"))["heard"]
        assert [each[0] for each in heard] == [
            "notifications/initialized",
            "logging/setLevel",
            "notifications/roots/list_changed",
        ]
    await session.call("a__die")
    assert level in (await said(session, "a__heard"))["heard"]


async def test_a_server_without_a_log_is_told_no_level(start_bridge: StartBridge) -> None:
    silent = many("s", tools=["heard", "die"], silent=True)
    session = await everything(await start_bridge({"s": silent, **FULL}))
    assert (await session.ask("logging/setLevel", level="warning"))["result"] == {}
    await session.call("s__die")
    async with in_time():
        assert [each[0] for each in (await said(session, "s__heard"))["heard"]] == ["notifications/initialized"]


async def test_changes_are_announced(start_bridge: StartBridge) -> None:
    bridge = await start_bridge(FULL)
    session = await everything(bridge)
    async with session.get() as response:
        stream = events(response)
        await session.call("a__changes")
        assert (await anext(stream))["method"] == "notifications/tools/list_changed"
        assert "a__new6" in await names(session)
        bridge.service.reload(read(**FULL, new=many("new", tools=["t"])))
        changed = {(await anext(stream))["method"] for _ in range(3)}
        assert changed == {f"notifications/{group}/list_changed" for group in ("tools", "prompts", "resources")}
        assert "new__t" in await names(session)
        bridge.service.reload(read(a=FULL["a"]))
        for _ in range(3):
            await anext(stream)
        assert {name.partition("__")[0] for name in await names(session)} == {"a"}
    assert "Unknown tool" in (await session.call("b__heard"))["error"]["message"]


async def test_a_subscription_holds_at_a_server_that_has_changed_or_was_away(start_bridge: StartBridge) -> None:
    bridge = await start_bridge(FULL)
    session = await everything(bridge)
    await session.ask("resources/subscribe", uri="bridge://b/x://1")
    other = {**FULL["b"], "env": {"ANY": "thing"}}
    for servers in ({**FULL, "b": other}, {"a": FULL["a"]}, FULL):
        bridge.service.reload(read(**servers))
        if "b" in servers:
            assert ["resources/subscribe", {"uri": "x://1"}] in (await said(session, "b__heard"))["heard"]
    async with session.get() as stream:
        await session.call("b__updates", uri="x://1")
        async for event in events(stream):
            if event["method"] == "notifications/resources/updated":
                assert event["params"]["uri"] == "bridge://b/x://1"
                break
    await session.ask("resources/unsubscribe", uri="bridge://b/x://1")
    bridge.service.reload(read(**{**FULL, "b": other}))
    assert [method for method, _ in (await said(session, "b__heard"))["heard"]] == ["notifications/initialized"]


async def test_a_call_at_a_server_that_is_taken_out_goes_on(start_bridge: StartBridge) -> None:
    bridge = await start_bridge(FULL)
    session = await everything(bridge)
    async with session.post(tool("a__asks", method="roots/list")) as response:
        stream = events(response)
        question = await anext(stream)
        bridge.service.reload(read(c=FULL["c"]))
        async with session.post({"jsonrpc": "2.0", "id": question["id"], "result": {"roots": []}}) as taken:
            assert taken.status == 202
        assert (await anext(stream))["result"]["structuredContent"]["server"] == "a"
    assert await names(session) == ["c__x"]


async def test_a_slow_server_is_announced_when_it_is_there(start_bridge: StartBridge, tmp_path: Any) -> None:
    gate = tmp_path / "gate"
    wait = f"import os, sys, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)\n"
    slow = many("slow", tools=["t"])
    program = wait + "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    slow["args"] = ["-c", program, *slow["args"]]
    bridge = await start_bridge({"slow": slow, "b": many("b", tools=["t"])}, AGGREGATE_PATIENCE_MS=300)
    session = await everything(bridge)
    async with session.get() as response:
        stream = events(response)
        while await names(session) != ["b__t"]:  # b itself takes longer than that on a busy machine
            assert "list_changed" in (await anext(stream))["method"]
        gate.touch()
        assert "list_changed" in (await anext(stream))["method"]
        while await names(session) != ["slow__t", "b__t"]:
            assert "list_changed" in (await anext(stream))["method"]


NEVER_READY = {"command": "sleep", "args": ["1000"]}


async def test_a_start_that_nobody_waits_for_any_more_ends_with_its_session(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"slow": NEVER_READY}, AGGREGATE_PATIENCE_MS=100)
    session = await everything(bridge)
    [child] = bridge.service.core.registry.children()
    async with session.delete() as response:
        assert response.status == 204
    async with in_time():
        await child.ended.wait()


async def test_a_server_that_was_waited_for_in_vain_keeps_no_other_session_waiting(
    start_bridge: StartBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    bridge = await start_bridge({"slow": NEVER_READY, "b": many("b", tools=["t"])}, AGGREGATE_PATIENCE_MS=1500)
    first = await everything(bridge)
    assert await names(first) == ["b__t"]
    monkeypatch.setattr("bridge.sessions.gathering.LATE_PATIENCE", 0)
    bridge.service.core.aggregates.roster.patience = 1000
    async with in_time():
        second = await everything(bridge)
        assert await names(second) == ["b__t"]


async def test_a_list_that_is_cancelled_waits_for_nobody(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"slow": NEVER_READY, "b": many("b", tools=["t"])}, AGGREGATE_PATIENCE_MS=300)
    session = await everything(bridge)
    bridge.service.core.aggregates.roster.patience = 1000
    list_ = asyncio.create_task(session.ask("tools/list", "mine"))
    async with in_time():
        while (await bridge.get("/sessions"))[0]["in_use"] < 1:
            pass
        async with session.post(message("notifications/cancelled", requestId="mine")) as taken:
            assert taken.status == 202
        assert "cancelled" in (await list_)["error"]["message"]
        assert (await session.call("b__t"))["id"] == 1  # the others have not been given up


async def test_without_initialize_and_in_batches(start_bridge: StartBridge) -> None:
    bridge = await start_bridge(TWO)
    async with bridge.post("/mcp", message("tools/list", 1)) as response:
        assert len((await last(response))["result"]["tools"]) == 4
    session = await everything(bridge, protocolVersion="2025-03-26")
    async with session.http.post(
        session.url,
        json=[tool("a__one", 1), tool("b__one", 2), message("tools/list", 3)],
        headers={"Accept": ACCEPT, "Mcp-Session-Id": session.id},
    ) as response:
        found = {each["id"]: each["result"] for each in await response.json()}
    assert [found[1]["structuredContent"]["server"], found[2]["structuredContent"]["server"]] == ["a", "b"]
    assert len(found[3]["tools"]) == 4


async def test_rules_of_a_server_hold(start_bridge: StartBridge, tmp_path: Any) -> None:
    entry = many("a", tools=["one", "two", "waits"], _disabledTools=["two"], _maxConcurrent=1, _rateLimit="3/minute")
    bridge = await start_bridge({"a": entry, "b": many("b", tools=["waits", "one"], _maxConcurrent=1)})
    session = await everything(bridge)
    assert await names(session) == ["a__one", "a__waits", "b__waits", "b__one"]
    assert "Unknown tool" in (await session.call("a__two"))["error"]["message"]
    async with session.post(tool("b__waits", "w")) as waiting:
        await anext(events(waiting))
        async with session.post(tool("b__one", 2)) as refused:
            assert refused.status == 429
            assert "maxConcurrent" in await refused.text()
        assert (await session.call("a__one"))["result"]
    await session.call("a__one")
    async with session.post(tool("a__one", 4)) as refused:
        assert refused.status == 429
        assert "rateLimit" in await refused.text()


async def test_calls_are_written_down_as_what_they_are(
    start_bridge: StartBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[dict[str, Any]] = []
    monkeypatch.setattr(audit, "is_on", lambda: True)
    monkeypatch.setattr(audit, "record", lambda event, **members: written.append({"event": event, **members}))
    session = await everything(await start_bridge(TWO))
    await session.call("a__two")
    [call] = [each for each in written if each["event"] == "tool_call"]
    assert (call["server"], call["tool"], call["outcome"]) == ("a", "two", "ok")


async def test_a_peer_is_told_what_the_client_said(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"peer": peer()})
    session = await everything(bridge, extra="x")
    assert (await session.call("peer__echo", text="é"))["result"] == {"text": "é"}
    assert [child.server for child in bridge.service.core.registry.children()] == ["peer"]
    assert len(await bridge.get("/sessions")) == 1


async def test_a_token_sees_its_servers_only(start_bridge: StartBridge, tmp_path: Any) -> None:
    rows = [tokens.mint(name, scopes, None, datetime.now(UTC)) for name, scopes in (("a", ["servers:a"]), ("no", []))]
    tokens.write(tmp_path / "t.json", [row for _, row in rows])
    bridge = await start_bridge(TWO, TOKENS_FILE=tmp_path / "t.json")
    bridge.http.headers["X-API-Key"] = rows[1][0]
    assert await names(await everything(bridge)) == []
    bridge.http.headers["X-API-Key"] = rows[0][0]
    session = await everything(bridge)
    assert await names(session) == ["a__one", "a__two", "a__three"]
    assert "Unknown tool" in (await session.call("b__one"))["error"]["message"]
    assert {child.server for child in bridge.service.core.registry.children()} == {"a"}
    [row] = await bridge.get("/sessions")
    assert (row["server"], row["session_id"]) == ("*", session.id)
    async with bridge.http.patch(f"{bridge.url}/api/v1/sessions/{session.id}", json={"persistent": True}) as refused:
        assert refused.status == 403
    tokens.write(tmp_path / "t.json", [replace(rows[0][1], scopes=("servers:b", "sessions:persist"))])
    bridge.service.faces.guards._keyring._looked -= 10  # the second until the next look
    assert await names(session) == ["b__one"]
    assert "Unknown tool" in (await session.call("a__one"))["error"]["message"]
    async with bridge.http.patch(f"{bridge.url}/api/v1/sessions/{session.id}", json={"persistent": True}) as refused:
        assert (refused.status, "at all" in await refused.text()) == (400, True)


async def test_a_server_that_is_stopped_and_started_is_announced_to_whom_it_concerns(start_bridge: StartBridge) -> None:
    bridge = await start_bridge(TWO)
    session, other = await everything(bridge), await everything(bridge, "?servers=b")
    async with session.get() as response, other.get() as elsewhere:
        stream = events(response)
        for action, found in (("stop", ["b__one"]), ("start", ["a__one", "a__two", "a__three", "b__one"])):
            async with bridge.post(f"/api/v1/servers/a/{action}", {}) as done:
                assert done.status == 200
            for _ in range(3):
                assert (await anext(stream))["method"].endswith("list_changed")
            assert await names(session) == found
        bridge.service.reload(read(**TWO, c=TWO["b"]))
        await anext(stream)
        bridge.service.reload(read(a=TWO["a"]))
        assert (await anext(events(elsewhere)))["method"].endswith("list_changed")
    [track] = [track for entry in bridge.service.core.sessions.pool.entries() for track in [entry.session.backlog]][1:]
    assert len(track) == 3  # b has gone, and nothing else concerned this one


@pytest.mark.parametrize("query", ["servers=b", "server=b", "server=b,", "servers=b&server=b"])
async def test_both_ways_to_write_which_servers_are_meant(start_bridge: StartBridge, query: str) -> None:
    bridge = await start_bridge(TWO)
    for path in (f"/mcp?{query}", f"/mcp/?{query}"):
        assert await names(await bridge.session_at(path)) == ["b__one"]
    assert {tag["name"] for tag in (await bridge.get(f"/openapi.json?{query}"))["tags"]} == {"b"}


@pytest.mark.parametrize("query", ["servers=", "server=", "servers=,"])
async def test_an_empty_list_of_servers_is_a_mistake(start_bridge: StartBridge, query: str) -> None:
    bridge = await start_bridge({"a": peer()})
    async with bridge.post(f"/mcp?{query}", message("initialize", 0, **INITIALIZE)) as response:
        assert (response.status, "names no server" in await response.text()) == (400, True)
    async with bridge.http.get(f"{bridge.url}/openapi.json?{query}") as response:
        assert response.status == 400


@pytest.mark.parametrize("base", ["", "/tools"])
async def test_a_slash_at_the_end_of_an_url_changes_nothing(start_bridge: StartBridge, base: str) -> None:
    bridge = await start_bridge({"a": peer()}, BASE_PATH=base, ACCESS_TOKEN="sesame")
    token = {"Authorization": "Bearer sesame"}
    async with bridge.post("/mcp/a/", message("initialize", 0, **INITIALIZE), **token) as response:
        assert response.status == 200
        session = {"Mcp-Session-Id": response.headers["Mcp-Session-Id"], **token}
    async with bridge.http.get(f"{bridge.url}/mcp/a/", headers={"Accept": "text/event-stream", **session}) as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
    async with bridge.http.delete(f"{bridge.url}/mcp/a/", headers=session) as response:
        assert response.status == 204
    async with bridge.post("/bridge/a/", message("ping", 1), **token) as response:
        assert response.status == 200
    async with bridge.http.get(f"{bridge.url}/sse/a/", headers={"Accept": "text/event-stream", **token}) as response:
        assert response.status == 200
    for path in ("/mcp/a//", "/servers/", "/mcp//a/"):
        async with bridge.post(path, message("ping", 1), **token) as response:
            assert response.status == 404
    async with bridge.post("/mcp/a/", message("ping", 1)) as response:
        assert response.status == 401
