"""Children that wait hear ahead what their client will greet them with, which nobody notices but by the time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from bridge.children.ahead import EARLY, MOST, MOST_EARLY, Ahead, Expected, words_of
from bridge.children.child import Child
from bridge.children.connection import ChildConnection
from bridge.children.exchange import Exchange
from bridge.children.policy import Sharing
from bridge.children.pool import ChildPool
from bridge.protocol.errors import Fault, Rejection
from bridge.protocol.messages import Request
from bridge.protocol.mux import Undirected
from bridge.protocol.transport import Stalled
from tests.children.test_large import Scripted
from tests.children.test_pool import pool
from tests.conftest import INITIALIZE, Running, Session, StartBridge, events, in_time, last, message, peer
from tests.faults.conftest import until

__all__ = ["pool"]

WORDS = b'{"protocolVersion":"2025-06-18","capabilities":{}}'


NOTE = b'{"jsonrpc":"2.0","method":"notifications/message","params":{"data":%d}}'


class Waiting(Scripted):
    """A child that waits for its client."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.failures = 0
        self.connection = ChildConnection("scripted", self.connect, lambda _line: None)

    def write(self, line: bytes) -> None:
        self.heard.append(line)

    def say(self, line: bytes) -> None:
        self.hearing.on_line(line)

    def end(self) -> None:
        self.hearing.on_end()

    def greeted_ahead(self) -> Ahead:
        return Ahead(self.connection, WORDS, 1000, self._failed)

    def _failed(self) -> None:
        self.failures += 1


@pytest.fixture
async def child() -> Waiting:
    return Waiting()


def greeting(id_: bytes = b'"own"') -> Exchange:
    return Exchange(Request(id_, "initialize", WORDS))


ANSWERS = {
    "result": (b'"result":{"a":1e999, "a":\t2}', b'"result":{"a":1e999, "a":\t2}'),
    "error": (b'"error":{"code":-32602,"message":"no"}', b'"error":{"code":-32602,"message":"no"}'),
}


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("is_first", [False, True])
async def test_its_client_gets_the_answer_under_its_own_id(child: Waiting, answer: str, is_first: bool) -> None:
    said, expected = ANSWERS[answer]
    it, client = child.greeted_ahead(), greeting()
    assert child.heard == [b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":%b}' % WORDS]
    if is_first:
        it.answer(client)
        assert (client.ended, it.is_answered) == (False, False)
    child.say(b'{"jsonrpc":"2.0","id":1,%b}' % said)
    assert it.is_answered
    if not is_first:
        it.answer(client)
    assert client.answer == b'{"jsonrpc":"2.0","id":"own",%b}' % expected
    assert (len(child.heard), child.failures) == (1, 0)


@pytest.mark.parametrize("is_first", [False, True])
async def test_a_child_that_ends_before_it_answers_is_of_no_use(child: Waiting, is_first: bool) -> None:
    it, client = child.greeted_ahead(), greeting()
    if is_first:
        it.answer(client)
    child.end()
    if not is_first:
        it.answer(client)
    assert client.failure is not None
    assert "killed by signal 9" in str(client.failure)
    assert b'"id":"own","error"' in client.answer
    assert child.failures == (not is_first)  # its client tells by itself


async def test_a_child_that_reads_nothing_is_of_no_use(child: Waiting, monkeypatch: pytest.MonkeyPatch) -> None:
    def stalls(_line: bytes) -> None:
        raise Stalled

    monkeypatch.setattr(child, "write", stalls)
    with pytest.raises(Rejection) as raised:
        child.greeted_ahead()
    assert raised.value.fault is Fault.CHILD_FAILED


async def test_what_it_says_meanwhile_waits_for_its_client(child: Waiting) -> None:
    it, client = child.greeted_ahead(), greeting()
    for number in range(EARLY - 1):
        if number == 7:
            child.say(b'{"jsonrpc":"2.0","id":1,"result":{}}')
        child.say(NOTE % number)
    child.say(b'{"jsonrpc":"2.0","id":"q","method":"roots/list"}')
    child.say(b'{"jsonrpc":"2.0","id":"one too many","method":"roots/list"}')
    assert b'"id":"one too many","error"' in child.heard[-1]
    heard: list[tuple[Undirected, bool]] = []
    it.listen(lambda message: heard.append((message, client.ended)))
    assert heard == []  # its session is not ready for it
    it.answer(client)
    notes = [json.loads(message.message)["params"]["data"] for message, _ in heard[:-1]]
    assert notes == list(range(EARLY - 1))
    assert [is_answered for _, is_answered in heard] == [False] * 7 + [True] * (EARLY - 7)
    assert heard[-1][0].method == "roots/list"
    assert heard[-1][0].question is not None
    child.say(NOTE % 1000)
    assert b"1000" in heard[-1][0].message
    it.listen(lambda message: heard.clear())
    child.say(NOTE % 1001)
    assert heard == []
    assert len(child.heard) == 2


async def test_much_of_what_it_says_meanwhile_is_not_kept(child: Waiting) -> None:
    it, client = child.greeted_ahead(), greeting()
    for size in (MOST_EARLY - 1000, 2000, 1):
        child.say(b'{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"%b"}}' % (b"x" * size))
    heard: list[Undirected] = []
    it.listen(heard.append)
    it.answer(client)
    assert len(heard) == 1
    child.say(b'{"jsonrpc":"2.0","id":1,"result":{}}')
    assert client.ended


def test_only_what_somebody_else_may_say_too_is_remembered() -> None:
    assert words_of(Request(b"1", "initialize", WORDS)) == WORDS
    assert words_of(Request(b"1", "initialize", b'{"_meta":{"traceparent":"00-1"}}')) == b""
    assert words_of(Request(b"1", "initialize", b'{"x":"%b"}' % (b"x" * (MOST - 8)))) != b""
    assert words_of(Request(b"1", "initialize", b'{"x":"%b"}' % (b"x" * (MOST - 7)))) == b""


def test_what_two_clients_in_succession_say_is_expected() -> None:
    expected = Expected()
    seen = []
    for words in (b"a", b"a", b"b", b"a", b"b", b"b"):
        expected.hear(words)
        seen.append(expected.words)
    assert seen == [b"", b"a", b"a", b"a", b"a", b"b"]
    expected.forget()
    expected.hear(b"b")
    assert expected.words == b""


@pytest.mark.parametrize(
    ("warm", "waiting", "missing"),
    [
        (1, [], [b""]),
        (2, [], [b"", WORDS]),
        (2, [b""], [WORDS]),
        (2, [WORDS], [b""]),
        (3, [WORDS], [b"", WORDS]),
        (3, [b""], [WORDS, WORDS]),
        (3, [WORDS, WORDS], [b""]),
        (3, [b"", b""], [WORDS]),
        (2, [b"", b""], []),
        (2, [b"", b"", b""], []),
        (2, [WORDS, WORDS], []),
    ],
)
def test_one_of_those_that_wait_has_heard_nothing(warm: int, waiting: list[bytes], missing: list[bytes]) -> None:
    expected = Expected()
    assert expected.missing([b""] * len(waiting), warm) == [b""] * len(missing)
    for _ in range(2):
        expected.hear(WORDS)
    assert expected.missing(waiting, warm) == missing
    for _ in range(2):
        expected.hear(b"")  # what nobody else would say
    assert expected.words == b""


async def test_a_child_that_is_started_for_its_client_hears_it_from_that(pool: ChildPool) -> None:
    lease = await pool.lease(Sharing(holders=1, hold="session", warm=1, words=WORDS))
    assert lease.child.ahead is None
    assert lease.child.connection.traffic.calls == 0


# Real children


def _children(bridge: Running) -> list[Child]:
    return bridge.service.core.registry.children()


def _waiting(bridge: Running) -> list[Child]:
    return [child for child in _children(bridge) if child.is_free]


async def _one_is_greeted(bridge: Running) -> Child:
    """Wait until a child has heard its client's greeting, and as many wait as should."""
    await until(lambda: len(_waiting(bridge)) == 2 and any(child.has_answered for child in _waiting(bridge)), "none")
    [found] = [child for child in _waiting(bridge) if child.has_answered]
    return found


Start = Callable[..., Awaitable[Running]]


@pytest.fixture(params=["warm", "sharing"])
def start(request: pytest.FixtureRequest, start_bridge: StartBridge, monkeypatch: pytest.MonkeyPatch) -> Start:
    monkeypatch.setattr("bridge.children.spares.REFILL", 0)
    warm = {"warm": {"warm": 2}, "sharing": {"sharing": {"holders": 1, "hold": "session", "warm": 2}}}[request.param]

    async def begin(settings: dict[str, object] | None = None, **entry: object) -> Running:
        return await start_bridge({"peer": peer(**warm, **entry)}, **(settings or {}))

    return begin


@pytest.fixture
async def bridge(start: Start) -> Running:
    bridge = await start()
    for _ in range(2):
        await bridge.session()
    return bridge


async def test_the_third_session_finds_its_answer(bridge: Running) -> None:
    child = await _one_is_greeted(bridge)
    session = await bridge.session()
    assert child.holders == 1
    assert session.greeting["id"] == 0
    assert session.greeting["result"]["saw"] == INITIALIZE
    assert child.connection.traffic.calls == 1  # and its client's was the same
    assert (await session.call("echo", x=1))["result"] == {"x": 1}
    assert child.state.name == "READY"


async def test_whoever_says_anything_else_gets_a_child_that_has_heard_nothing(bridge: Running) -> None:
    greeted = await _one_is_greeted(bridge)
    [other] = [child for child in _waiting(bridge) if child is not greeted]
    session = await bridge.session(capabilities={})
    assert (greeted.holders, other.holders) == (0, 1)
    assert session.greeting["result"]["saw"]["capabilities"] == {}
    assert other.connection.traffic.calls == 1


async def test_a_child_greeted_for_nobody_makes_way_for_one_that_is_expected(bridge: Running) -> None:
    before = await _one_is_greeted(bridge)
    await bridge.session(capabilities={})
    assert await _one_is_greeted(bridge) is before
    await bridge.session(capabilities={})
    await before.ended.wait()
    now = await _one_is_greeted(bridge)
    session = await bridge.session(capabilities={})
    assert now.holders == 1
    assert session.greeting["result"]["saw"]["capabilities"] == {}


async def test_a_child_greeted_for_somebody_else_makes_room_at_the_limit(start: Start) -> None:
    bridge = await start(maxChildren=4)
    for _ in range(2):
        await bridge.session()
    greeted = await _one_is_greeted(bridge)
    async with in_time():
        for _ in range(2):
            await bridge.session(capabilities={})
    assert greeted not in _children(bridge)
    assert len([child for child in _children(bridge) if child.holders]) == 4


async def test_a_child_greeted_for_somebody_else_makes_room_at_the_limit_of_the_policy(
    start_bridge: StartBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.children.spares.REFILL", 0)
    bridge = await start_bridge({"peer": peer(sharing={"holders": 1, "hold": "session", "warm": 2, "limit": 4})})
    for _ in range(2):
        await bridge.session()
    await _one_is_greeted(bridge)
    for _ in range(2):
        await bridge.session(capabilities={})
    async with bridge.post("/mcp/peer", message("initialize", 0, **INITIALIZE)) as response:
        assert response.status == 503
        assert "all 4 of its children are in use" in await response.text()


async def test_a_child_that_ends_while_it_waits_is_nothing_to_expect(bridge: Running) -> None:
    child = await _one_is_greeted(bridge)
    pool = bridge.service.core.registry.pool("peer")
    child.connection.transport.kill()
    await child.ended.wait()
    assert pool._spares.expected.words == b""


TALKER = """
import json, sys

def say(**message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)

for line in sys.stdin:
    message = json.loads(line)
    if message.get("method") == "initialize":
        say(method="notifications/message", params={"level": "info", "data": "before"})
        result = {"protocolVersion": "2025-06-18", "capabilities": {"logging": {}}}
        say(id=message["id"], result=result)
        say(id="r", method="roots/list")
        say(id="c", method="custom/ask")
        said = []
    elif "method" not in message:
        said.append(message.get("error", message.get("result")))
    elif "id" in message:
        say(id=message["id"], result={"said": said})
"""


async def test_a_server_that_speaks_first_is_heard_as_ever(start: Start) -> None:
    bridge = await start(args=["-I", "-S", "-c", TALKER])
    found = []
    for is_greeted in (False, False, True):
        if is_greeted:
            child = await _one_is_greeted(bridge)
        async with bridge.post("/mcp/peer", message("initialize", 0, **INITIALIZE)) as response:
            assert response.status == 200, await response.text()
            said = [each.get("method", "the answer") async for each in events(response)]
            session = Session(bridge.http, f"{bridge.url}/mcp/peer", response.headers["Mcp-Session-Id"], {})
        async with session.get() as stream:
            asked = [await anext(each) for each in [events(stream)]]
            [entry] = [each for each in bridge.service.core.stream_pool.entries() if each.session.id == session.id]
            assert entry.in_use > 0  # or it would be reaped
        found.append((said, asked[0]["method"]))
    assert child.holders == 1
    assert found[2] == found[0] == found[1]
    assert found[0] == (["notifications/message", "the answer"], "roots/list")


async def test_a_session_that_is_made_first_finds_its_answer_too(bridge: Running) -> None:
    child = await _one_is_greeted(bridge)
    async with bridge.post("/api/v1/sessions", {"server": "peer"}) as response:
        made = await response.json()
    session = Session(bridge.http, made["mcp_url"], made["session_id"], {})
    async with session.post(message("initialize", 7, **INITIALIZE)) as response:
        assert (await last(response))["id"] == 7
    assert (child.holders, child.connection.traffic.calls) == (1, 1)


async def test_a_session_that_is_woken_finds_its_answer_too(start: Start, tmp_path: Path) -> None:
    bridge = await start({"SESSION_STORE": "file", "SESSION_DIR": tmp_path / "kept"}, persistent=True)
    first, _ = [await bridge.session() for _ in range(2)]
    pid = (await first.call("pid"))["result"]["pid"]
    [held] = [child for child in _children(bridge) if child.pid == pid]
    held.connection.transport.kill()
    await held.ended.wait()
    child = await _one_is_greeted(bridge)
    assert (await first.call("echo", x=1))["result"] == {"x": 1}
    assert (child.holders, child.connection.traffic.calls) == (1, 2)


async def test_a_classic_client_gets_a_child_that_has_heard_nothing(bridge: Running) -> None:
    greeted = await _one_is_greeted(bridge)
    async with bridge.http.get(f"{bridge.url}/sse/peer") as response:
        assert await response.content.readline() == b"event: endpoint\n"
        assert greeted.holders == 0


FUSSY = """
import json, sys
from pathlib import Path

enough = Path(sys.argv[1])
for line in sys.stdin:
    message = json.loads(line)
    if message.get("method") == "initialize" and enough.exists():
        sys.exit("I have been greeted often enough")
    if "id" in message:
        result = {"protocolVersion": "2025-06-18"}
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
"""
SILENT = FUSSY.replace('sys.exit("I have been greeted often enough")', "continue")


async def _greeted_often_enough(start: Start, program: str, enough: Path, patch: pytest.MonkeyPatch) -> Running:
    """A bridge with two sessions that starts another child of the program, from now on, and greets it ahead."""
    patch.setattr("bridge.children.spares.REFILL", 1000)
    bridge = await start(args=["-I", "-S", "-c", program, str(enough)])
    for _ in range(2):
        await bridge.session()
    await asyncio.to_thread(enough.touch)
    bridge.service.core.registry.keep_warm()
    return bridge


async def test_nothing_is_expected_any_more_when_it_was_no_good(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bridge = await _greeted_often_enough(start, FUSSY, tmp_path / "enough", monkeypatch)
    pool = bridge.service.core.registry.pool("peer")
    await until(lambda: "often enough" in pool.restarts.last_error, "none has failed")
    await until(lambda: pool._spares.expected.words == b"", "it is expected still")


async def test_one_that_is_stopped_before_it_answers_says_nothing_of_what_is_expected(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bridge = await _greeted_often_enough(start, SILENT, tmp_path / "enough", monkeypatch)
    await until(lambda: any(child.ahead for child in _waiting(bridge)), "none is greeted")
    [child] = [child for child in _waiting(bridge) if child.ahead]
    child.stop()
    await child.ended.wait()
    assert bridge.service.core.registry.pool("peer")._spares.expected.words == child.sharing.words != b""
