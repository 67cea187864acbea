"""``/mcp``: many real servers of both eras behind one URL, for clients of the modern one."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from bridge.protocol.modern import SUBSCRIPTION_ID
from bridge.protocol.prefix import Prefixes
from tests.conftest import PEERS, Running, StartBridge, events, in_time, tool
from tests.modern_client import ModernClient
from tests.web.test_aggregate import BROKEN, FULL, GAINING, late, many, read

MODERN = {"command": sys.executable, "args": ["-I", "-S", str(PEERS / "modern_peer.py")]}
BOTH = {"modern": MODERN, **FULL}


def client(bridge: Running, query: str = "", **capabilities: Any) -> ModernClient:
    """A client of all servers."""
    found = ModernClient(bridge, "", capabilities)
    found.path += query
    return found


async def names(one: ModernClient, method: str = "tools/list", member: str = "tools", key: str = "name") -> list[str]:
    return [each[key] for each in (await one.ask(method))["result"][member]]


async def test_discover(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"broken": BROKEN, **BOTH})
    result = (await client(bridge).ask("server/discover"))["result"]
    assert result["supportedVersions"] == ["2026-07-28"]
    assert (result["resultType"], result["ttlMs"], result["cacheScope"]) == ("complete", 0, "private")
    assert result["capabilities"]["resources"] == {"listChanged": True, "subscribe": True}
    assert "# modern\nbe modern\n\n# a\nBe a." in result["instructions"]
    async with client(bridge, "?servers=a,x").send(client(bridge).body("server/discover")) as response:
        assert response.status == 404


async def test_lists_of_servers_of_both_eras_and_calls_at_each(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"broken": BROKEN, **BOTH})
    one = client(bridge)
    tools = (await one.ask("tools/list"))["result"]
    assert (tools["resultType"], tools["ttlMs"], tools["cacheScope"]) == ("complete", 0, "private")
    found = [tool["name"] for tool in tools["tools"]]
    assert found[:3] == ["modern__echo", "modern__number", "a__asks"]
    assert found[-1] == "c__x"
    assert (await one.call("c__x", k="v"))["result"]["structuredContent"]["params"]["arguments"] == {"k": "v"}
    assert (await one.call("modern__number"))["result"]["structuredContent"] == 5
    assert await names(one, "prompts/list", "prompts") == ["a__p", "b__p"]
    uris = ["x://1", "x://2", "x://only-a", "bridge://b/x://1"]
    assert await names(one, "resources/list", "resources", "uri") == uris
    only = client(bridge, "?servers=c")
    assert await names(only) == ["c__x"]
    assert (await only.call("modern__number"))["error"]["message"] == "Unknown tool: modern__number"


async def test_a_header_that_repeats_an_argument_is_checked(start_bridge: StartBridge) -> None:
    one = client(await start_bridge(BOTH))
    body = one.body("tools/call", name="modern__echo", arguments={"region": "eu"})
    async with one.send(body, Mcp_Param_Region="us") as response:
        assert response.status == 400
        assert (await response.json())["error"]["code"] == -32020
    async with one.send(body, Mcp_Param_Region="eu") as response:
        assert (await response.json())["result"]["structuredContent"] == {"region": "eu"}
    async with one.send(body, Mcp_Name="echo", Mcp_Param_Region="eu") as response:
        assert response.status == 400


@pytest.mark.parametrize("uri", ["x://1", "bridge://b/x://1", "y://deep/er", "z://nobody"])
async def test_a_resource_is_read_where_it_is(start_bridge: StartBridge, uri: str) -> None:
    answer = await client(await start_bridge(BOTH)).ask("resources/read", uri=uri)
    if uri == "z://nobody":
        assert answer["error"] == {"code": -32602, "message": "Unknown resource: z://nobody"}
    else:
        assert answer["result"]["server"] == ("a" if uri == "x://1" else "b")


async def test_what_a_server_has_gained_without_a_word_is_found_there(start_bridge: StartBridge) -> None:
    one = client(await start_bridge(GAINING))
    assert await names(one) == ["b__adds"]
    assert await names(one, "resources/list", "resources", "uri") == ["x://1"]
    await one.call("b__adds", to="resources", what="x://2")
    assert (await one.ask("resources/read", uri="x://2"))["result"]["server"] == "b"
    long = "t" * 64  # so that its name with the server's has to be looked up
    await one.call("b__adds", to="tools", what=long)
    added = Prefixes(GAINING, "__").public("b", long)
    assert (await one.call(added))["result"]["structuredContent"]["params"]["name"] == long


async def test_a_server_that_failed_when_it_was_asked_is_found_when_it_is_there(
    start_bridge: StartBridge, tmp_path: Path
) -> None:
    gate, long = tmp_path / "gate", "t" * 64
    there = many("a", tools=[long])
    program = f"import os, sys\nif not os.path.exists({str(gate)!r}): sys.exit(3)\n"
    program += "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    one = client(await start_bridge({"a": {**there, "args": ["-c", program, *there["args"]]}}))
    name = Prefixes(["a"], "__").public("a", long)
    assert "Unknown tool" in (await one.call(name))["error"]["message"]
    gate.touch()
    assert (await one.call(name))["result"]["structuredContent"]["server"] == "a"


async def test_resources_that_nobody_has_are_looked_for_once_in_one_subscription(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"a": many("a", resources=["x://1"])})
    one = client(bridge)
    await names(one, "resources/list", "resources", "uri")
    before = bridge.service.core.registry.traffic("a").calls
    wanted = {"resourceSubscriptions": [f"z://{number}" for number in range(50)]}
    async with one.send(one.body("subscriptions/listen", notifications=wanted)) as response:
        assert (await anext(events(response)))["params"]["notifications"] == {}
    assert bridge.service.core.registry.traffic("a").calls == before + 2  # resources and templates


async def test_prompts_completion_and_what_is_not_there(start_bridge: StartBridge) -> None:
    one = client(await start_bridge(BOTH))
    assert (await one.ask("prompts/get", name="b__p"))["result"]["params"]["name"] == "p"
    ref = {"type": "ref/prompt", "name": "b__p"}
    got = await one.ask("completion/complete", ref=ref, argument={"name": "n", "value": "v"})
    assert got["result"]["params"]["ref"] == {"type": "ref/prompt", "name": "p"}
    async with one.send(one.body("ping")) as response:
        assert response.status == 404
    async with one.send(one.body("nobody/knows")) as response:
        assert response.status == 404
    assert (await one.ask("tools/list", cursor="x"))["error"]["code"] == -32602


async def test_questions_are_results_and_answers_find_their_call(start_bridge: StartBridge) -> None:
    one = client(await start_bridge(BOTH), elicitation={}, sampling={})
    for server, key in (("a", "r0"), ("b", "r0")):
        params = {"name": f"{server}__asks", "arguments": {"method": "elicitation/create"}}
        asked = (await one.ask("tools/call", **params))["result"]
        assert asked["resultType"] == "input_required"
        assert asked["inputRequests"][key]["params"]["message"] == server
        again = {**params, "requestState": asked["requestState"], "inputResponses": {key: {"to": server}}}
        told = (await one.ask("tools/call", 2, **again))["result"]["structuredContent"]
        assert told == {"server": server, "answer": {"to": server}}
    asked = (await one.call("modern__ask"))["result"]
    assert set(asked["inputRequests"]) == {"a", "b"}


async def test_a_server_that_ends_while_it_waits_for_an_answer_is_what_ends_the_call(start_bridge: StartBridge) -> None:
    session = await (await start_bridge({"modern": MODERN})).session_at("/mcp")
    async with session.post(tool("modern__ask")) as response, in_time():
        stream = events(response)
        assert (await anext(stream))["method"] == "elicitation/create"
        await session.call("modern__die", 2)
        assert "it exited with code 3" in [event async for event in stream][-1]["error"]["message"]


async def test_progress(start_bridge: StartBridge) -> None:
    one = client(await start_bridge(BOTH))
    for name in ("a__progress", "modern__progress"):
        body = one.body("tools/call", "id", {"progressToken": "mine"}, name=name, arguments={"steps": 1})
        async with one.send(body) as response:
            got = [event async for event in events(response)]
        assert got[0]["params"] == {"progressToken": "mine", "progress": 1}


async def test_a_list_whose_last_page_follows_itself_has_an_end(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"a": many("a", tools=["one"], again="")})

    def asked() -> int:
        return sum(bridge.service.core.registry.traffic("a").results["tools/list"].counts)

    assert await names(client(bridge)) == ["a__one"]
    assert asked() == 2
    session = await bridge.session_at("/mcp")
    assert [tool["name"] for tool in (await session.ask("tools/list"))["result"]["tools"]] == ["a__one"]
    assert asked() == 4
    assert [tool["name"] for tool in (await bridge.get("/api/v1/servers/a/tools"))["tools"]] == ["one"]
    assert asked() == 6


async def test_a_subscription_hears_all_servers(start_bridge: StartBridge) -> None:
    bridge = await start_bridge(BOTH)
    one = client(bridge)
    wanted = {
        "toolsListChanged": True,
        "resourcesListChanged": False,
        "resourceSubscriptions": ["x://1", "bridge://b/x://1", "z://nobody"],
    }
    async with one.send(one.body("subscriptions/listen", "sub", notifications=wanted)) as response:
        stream = events(response)
        acknowledged = (await anext(stream))["params"]
        assert acknowledged["_meta"] == {SUBSCRIPTION_ID: "sub"}
        granted = acknowledged["notifications"]
        assert sorted(granted.pop("resourceSubscriptions")) == ["bridge://b/x://1", "x://1"]
        assert granted == {"toolsListChanged": True}

        async def heard() -> tuple[str, Any]:
            note = await anext(stream)
            assert note["params"]["_meta"][SUBSCRIPTION_ID] == "sub"
            return note["method"], note["params"].get("uri")

        changed = ("notifications/tools/list_changed", None)
        for tool in ("modern__changed", "a__changes"):
            await one.call(tool)
            assert await heard() == changed
        for server, uri in (("a", "x://1"), ("b", "bridge://b/x://1")):
            await one.call(f"{server}__updates", uri="x://1")
            assert await heard() == ("notifications/resources/updated", uri)
        bridge.service.reload(read(**BOTH, new=many("new", tools=["t"])))
        assert await heard() == changed
        assert "new__t" in await names(one)
        await one.call("modern__die")  # another child is subscribed to, and its lists may be other ones
        while (await heard()) != changed:
            pass
        bridge.service.reload(read(b=FULL["b"]))
        assert await heard() == changed
        assert {name.partition("__")[0] for name in await names(one)} == {"b"}
        closing = asyncio.create_task(bridge.service.stop())
        end = [note async for note in stream][-1]
        assert (end["id"], end["result"]["resultType"]) == ("sub", "complete")
        await closing


async def test_a_subscription_that_is_closed_is_closed_at_all_servers(start_bridge: StartBridge) -> None:
    one = client(await start_bridge({"modern": MODERN}))

    async def open_ones() -> int:
        return len((await one.call("modern__listens"))["result"]["structuredContent"]["wanted"])

    before = await open_ones()  # that of the bridge itself
    async with one.send(one.body("subscriptions/listen", notifications={"toolsListChanged": True})) as response:
        await anext(events(response))
        assert await open_ones() == before + 1
    while await open_ones() > before:
        pass


async def test_as_many_as_may_subscribe_to_one_server_may_to_all(
    start_bridge: StartBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.sessions.modern.MOST_LISTENS", 2)
    one = client(await start_bridge(FULL))
    body = one.body("subscriptions/listen", notifications={"toolsListChanged": True})
    async with AsyncExitStack() as stack, in_time():
        streams = [events(await stack.enter_async_context(one.send(body))) for _ in range(2)]
        for stream in streams:
            assert (await anext(stream))["params"]["notifications"] == {"toolsListChanged": True}
        await one.call("a__changes")
        for stream in streams:
            assert (await anext(stream))["method"] == "notifications/tools/list_changed"
        async with one.send(body) as response:
            assert "all 2 subscriptions are in use" in (await response.json())["error"]["message"]


async def test_a_server_that_was_waited_for_in_vain_keeps_no_other_request_waiting(
    start_bridge: StartBridge, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    slow = late(gate, many("slow", tools=["t"]))
    bridge = await start_bridge({"slow": slow, "b": many("b", tools=["t"])}, AGGREGATE_PATIENCE_MS=1500)
    one = client(bridge)
    assert await names(one) == ["b__t"]
    monkeypatch.setattr("bridge.sessions.gathering.LATE_PATIENCE", 0.2)
    bridge.service.core.aggregates.roster.patience = 1000
    async with in_time():
        assert (await one.ask("server/discover"))["result"]["supportedVersions"] == ["2026-07-28"]
        assert await names(one) == ["b__t"]
        async with one.send(one.body("subscriptions/listen", notifications={"toolsListChanged": True})) as response:
            assert (await anext(events(response)))["params"]["notifications"] == {"toolsListChanged": True}
        gate.touch()
        while await names(one) != ["slow__t", "b__t"]:
            pass
    assert not bridge.service.core.aggregates.roster.late


async def test_a_slow_server_is_announced_when_it_is_there(start_bridge: StartBridge, tmp_path: Any) -> None:
    slow = late(tmp_path / "gate", many("slow", tools=["t"]))
    bridge = await start_bridge({"slow": slow, "b": many("b", tools=["t"])}, AGGREGATE_PATIENCE_MS=300)
    one = client(bridge)
    assert (await one.ask("server/discover"))["result"]["supportedVersions"] == ["2026-07-28"]
    async with one.send(one.body("subscriptions/listen", notifications={"toolsListChanged": True})) as response:
        stream = events(response)
        assert (await anext(stream))["params"]["notifications"] == {"toolsListChanged": True}
        while await names(one) != ["b__t"]:  # b itself takes longer than that on a busy machine
            assert "list_changed" in (await anext(stream))["method"]
        (tmp_path / "gate").touch()
        assert "list_changed" in (await anext(stream))["method"]
        while await names(one) != ["slow__t", "b__t"]:
            assert "list_changed" in (await anext(stream))["method"]
