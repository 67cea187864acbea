"""A modern call that is answered without a task: as any other, and cancelled when its client goes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bridge.web import reply
from tests.conftest import ACCEPT, Running, StartBridge, peer
from tests.modern_client import ModernClient
from tests.web.test_direct import Wire, connections, taken, until, ways, wired
from tests.web.test_modern import SERVERS

__all__ = ["ways"]


@pytest.fixture(params=["old", "new"])
def server(request: pytest.FixtureRequest) -> str:
    """A server of either era."""
    return str(request.param)


@pytest.fixture
async def bridge(start_bridge: StartBridge, server: str) -> Running:
    bridge = await start_bridge(SERVERS)
    await ModernClient(bridge, server).call("echo", x=1)  # it is known which era it speaks, and which tools it has
    return bridge


class Modern:
    """Modern requests on one connection."""

    def __init__(self, bridge: Running, server: str, wire: Wire) -> None:
        self.client = ModernClient(bridge, server)
        self.wire = wire

    def send(self, method: str, extra: str = "", meta: dict[str, Any] | None = None, **params: Any) -> None:
        data = json.dumps(self.client.body(method, 1, meta, **params)).encode()
        head = {
            "Host": "localhost",
            "Content-Type": "application/json",
            "Accept": ACCEPT,
            "MCP-Protocol-Version": "2026-07-28",
            "Mcp-Method": method,
            **({"Mcp-Name": params["name"]} if "name" in params else {}),
        }
        given = {line.partition(":")[0] for line in extra.split("\r\n")}
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items() if name not in given)
        self.wire.writer.write(
            f"POST {self.client.path} HTTP/1.1\r\n{lines}{extra}Content-Length: {len(data)}\r\n\r\n".encode() + data
        )

    def call(self, name: str, token: Any = None, **arguments: Any) -> None:
        meta = {} if token is None else {"progressToken": token}
        self.send("tools/call", meta=meta, name=name, arguments=arguments)

    async def answer(self) -> tuple[int, Any]:
        status, _, body = await self.wire.answer()
        return status, json.loads(body)


@pytest.fixture
async def modern(bridge: Running, server: str) -> AsyncIterator[Modern]:
    async with wired(bridge) as wire:
        yield Modern(bridge, server, wire)


async def test_a_modern_call_is_answered_without_a_task(bridge: Running, modern: Modern, ways: Counter[str]) -> None:
    ways.clear()
    for number in range(3):
        modern.call("echo", x=number)
        status, head, body = await modern.wire.answer()
        assert (status, "mcp-session-id" in head) == (200, False)
        assert f'"x":{number}' in json.dumps(json.loads(body)["result"], separators=(",", ":"))
    assert ways == {"direct": 3}
    assert bridge.service._drain.running == 0
    assert all(entry.in_use == 0 for entry in bridge.service.core.bridge_pool.entries())


async def test_both_ways_give_the_same_answer(modern: Modern, ways: Counter[str]) -> None:
    answers = []
    for extra in ("", "X: y\r\nAccept: application/json, text/event-stream, */*\r\n"):
        ways.clear()
        modern.send("tools/call", extra, name="echo", arguments={"x": "é"})
        status, head, body = await modern.wire.answer()
        answers.append((status, {**head, "date": ""}, body))
        assert ways == {"usual" if extra else "direct": 1}
    assert answers[0] == answers[1]


async def test_an_error_has_the_status_that_it_ever_had(modern: Modern, ways: Counter[str]) -> None:
    ways.clear()
    modern.send("no/such/method")
    status, answer = await modern.answer()
    assert (status, answer["error"]["code"]) == (404, -32601)
    assert ways == {"direct": 1, "task": 1}
    modern.call("echo", x=1)
    assert (await modern.answer())[0] == 200


@pytest.mark.parametrize(
    ("method", "extra", "status"),
    [
        ("tools/call", "Mcp-Name: other\r\n", 400),
        ("tools/call", "Mcp-Method: tools/list\r\n", 400),
        ("tools/call", "MCP-Protocol-Version: 1999-01-01\r\n", 400),
        ("initialize", "", 404),
        ("server/discover", "", 200),
    ],
)
async def test_what_is_unusual_is_told_as_ever(
    modern: Modern, ways: Counter[str], method: str, extra: str, status: int
) -> None:
    ways.clear()
    modern.send(method, extra, **({"name": "echo", "arguments": {}} if method == "tools/call" else {}))
    assert (await modern.answer())[0] == status
    assert ways == {"usual": 1}
    modern.call("echo", x=1)
    assert (await modern.answer())[0] == 200
    assert ways["direct"] == 1


async def test_a_state_that_nobody_has_given_is_refused_on_the_usual_way(
    modern: Modern, ways: Counter[str], server: str
) -> None:
    ways.clear()
    modern.send("tools/call", name="echo", arguments={}, requestState="made up")
    assert (await modern.answer())[0] == (400 if server == "old" else 200)
    assert ways == ({"usual": 1} if server == "old" else {"direct": 1})


async def test_progress_comes_before_the_answer(modern: Modern, ways: Counter[str]) -> None:
    ways.clear()
    modern.call("progress", token="t", steps=2)
    _, head, body = await modern.wire.answer()
    assert head["content-type"] == "text/event-stream"
    sent = [json.loads(line[6:]) for line in body.split(b"\n") if line.startswith(b"data: ")]
    assert [each["params"]["progressToken"] for each in sent[:-1]] == ["t"] * (len(sent) - 1)
    assert "result" in sent[-1]
    assert b"id: " not in body
    assert ways == {"direct": 1}
    modern.call("echo", x=1)
    assert (await modern.answer())[0] == 200


@pytest.mark.parametrize("begun", [False, True])
async def test_a_client_that_hangs_up_cancels(bridge: Running, server: str, ways: Counter[str], begun: bool) -> None:
    async with wired(bridge) as wire:
        modern = Modern(bridge, server, wire)
        ways.clear()
        modern.call("wait" if begun else "never", key="k")
        await taken(ways)
        if begun and server == "new":
            await wire.head()
        wire.writer.transport.abort()
    await until(lambda: bridge.service._drain.running == 0)
    assert all(entry.in_use == 0 for entry in bridge.service.core.bridge_pool.entries())
    children = bridge.service.core.registry.children()
    assert [child.connection.open_exchanges for child in children] == [0] * len(children)


async def test_a_long_silence_is_broken_in_a_task(
    start_bridge: StartBridge, ways: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reply, "KEEP_ALIVE", 0.05)
    bridge = await start_bridge(SERVERS)
    await ModernClient(bridge, "old").call("echo", x=1)
    async with wired(bridge) as wire:
        ways.clear()
        Modern(bridge, "old", wire).call("never")
        await wire.head()
        comments = 0
        while comments < 3:
            comments += (await wire.chunk()).count(b": ping\n\n")
        assert ways == {"direct": 1, "task": 1}


async def test_a_server_that_hears_of_headers_is_asked_on_the_usual_way(
    start_bridge: StartBridge, ways: Counter[str]
) -> None:
    bridge = await start_bridge({"old": peer(headerEnv={"X-Key": "KEY"})})
    await ModernClient(bridge, "old").call("echo", x=1)
    async with wired(bridge) as wire:
        modern = Modern(bridge, "old", wire)
        ways.clear()
        modern.call("echo", x=1)
        assert (await modern.answer())[0] == 200
        modern.send("tools/call", "X-Key: secret\r\n", name="echo", arguments={})
        assert (await modern.answer())[0] == 400
        assert ways == {"usual": 2}


async def test_a_call_for_which_its_client_may_be_asked_has_a_child_of_its_own(
    start_bridge: StartBridge, ways: Counter[str]
) -> None:
    bridge = await start_bridge(SERVERS)
    await ModernClient(bridge, "old", {"elicitation": {}}).call("echo", x=1)
    async with wired(bridge) as wire:
        modern = Modern(bridge, "old", wire)
        modern.client.capabilities = {"elicitation": {}}
        ways.clear()
        modern.call("ask")
        _, answer = await modern.answer()
        assert answer["result"]["resultType"] == "input_required"
        assert ways == {"usual": 1}
    assert connections(bridge)
