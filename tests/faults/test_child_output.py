"""What a child writes that it should not: each request ends once, and nobody else notices.

A line that cannot be understood ends the request that it names; any other one is logged and skipped.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bridge.children.stream import BACKLOG_BYTES
from bridge.children.traffic import Traffic
from bridge.protocol import mux
from tests.conftest import Running, Session, StartBridge, events, in_time, peer, tool
from tests.faults.conftest import babbler, until

RIGHT = '{"jsonrpc":"2.0","id":@ID@,"result":{"right":true}}\n'
DEEP = "[" * 20_000 + "]" * 20_000  # stands for @DEEP@


@pytest.fixture
async def bridge(start_bridge: StartBridge) -> Running:
    return await start_bridge({"babbler": babbler()})


async def _say(session: Session, *pieces: str, id_: Any = "mine") -> dict[str, Any]:
    """Have the child write this; return what the call is answered with."""
    async with in_time():
        return await session.call("raw", id_, raw=[piece.replace("@DEEP@", DEEP) for piece in pieces])


async def _still_serves(*sessions: Session) -> None:
    for session in sessions:
        assert (await session.call("echo", 2, n=1))["result"]["arguments"] == {"n": 1}


NOISE = {
    "a log line": "Server listening on stdio\n",
    "blank lines": "\n\n \t \n\r\n",
    "half an object": "{broken\n",
    "null": "null\n",
    "a number": "5\n",
    "a string": '"text"\n',
    "an object": "{}\n",
    "an array": "[]\n",
    "control characters": "\x00\x01\x02\n",
    "no UTF-8": "\xff\xfe\xff\n",
    "a logger that writes JSON": '{"level":30,"id":@ID@,"msg":"request completed"}\n',
    "a log line that quotes": 'answered {"jsonrpc":"2.0","id":@ID@,"result":NaN}\n',
    "a method that is no text": '{"jsonrpc":"2.0","method":5}\n',
    "params that are no object": '{"jsonrpc":"2.0","method":"notifications/x","params":[1]}\n',
    "a broken notification": '{"jsonrpc":"2.0","method":"notifications/message","params":{"n":NaN}}\n',
    "a broken question": '{"jsonrpc":"2.0","id":@ID@,"method":"sampling/createMessage","params":{"n":NaN}}\n',
    "an unknown id": '{"jsonrpc":"2.0","id":999999,"result":{"whose":"nobody"}}\n',
    "an id that became text": '{"jsonrpc":"2.0","id":"@ID@","result":{"whose":"nobody"}}\n',
    "an id that is null": '{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"Parse error"}}\n',
    "an id below zero": '{"jsonrpc":"2.0","id":-@ID@,"result":{}}\n',
    "an id with a point": '{"jsonrpc":"2.0","id":@ID@.0,"result":{}}\n',
    "an id of 30 digits": '{"jsonrpc":"2.0","id":%s,"result":{}}\n' % ("9" * 30),
    "an id beyond any number": '{"jsonrpc":"2.0","id":1e999,"result":{}}\n',
    "nesting without end": "@DEEP@\n",
    "a deep notification": '{"jsonrpc":"2.0","method":"notifications/x","params":{"a":@DEEP@}}\n',
    "progress without a token": '{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":@ID@}}\n',
    "a cancellation of nothing": '{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":@ID@}}\n',
}


@pytest.mark.parametrize("noise", NOISE.values(), ids=NOISE)
async def test_noise_before_an_answer_costs_nothing(bridge: Running, noise: str) -> None:
    session, other = await bridge.session("babbler"), await bridge.session("babbler")
    assert await _say(session, noise, RIGHT) == {"jsonrpc": "2.0", "id": "mine", "result": {"right": True}}
    await _still_serves(session, other)


FRAMES = {
    "a byte order mark": ["\xef\xbb\xbf", RIGHT],  # as .NET writes it
    "CRLF": [RIGHT.replace("\n", "\r\n")],
    "blanks around": [" \t" + RIGHT.replace("\n", " \n")],
    "byte by byte": ['{"jsonrpc":"2.0","id":@ID@', *',"result":{"right":true}}\n'],
    "twice": [RIGHT, RIGHT],
    "twice and different": [RIGHT, RIGHT.replace("true", "false")],
    "and once more broken": [RIGHT, RIGHT.replace("true", "NaN")],
    "a batch": ["[" + RIGHT.strip() + "]\n"],  # as 2025-03-26 has them
    "a batch with more": ["[5," + RIGHT.strip() + ',{"jsonrpc":"2.0","method":"notifications/x"}]\n'],
}


@pytest.mark.parametrize("pieces", FRAMES.values(), ids=FRAMES)
async def test_an_answer_is_understood_however_it_is_framed(bridge: Running, pieces: list[str]) -> None:
    session = await bridge.session("babbler")
    assert await _say(session, *pieces) == {"jsonrpc": "2.0", "id": "mine", "result": {"right": True}}
    await _still_serves(session)


@pytest.mark.parametrize("flags", [["--first", r"\xef\xbb\xbf"], ["--first", r"npm WARN old\nServer on stdio\r\n\n"]])
async def test_what_comes_before_the_first_answer_costs_nothing(start_bridge: StartBridge, flags: list[str]) -> None:
    bridge = await start_bridge({"babbler": babbler(*flags)})
    await _still_serves(await bridge.session("babbler"))


HALVES = {
    "in a word": ('{"jsonrpc":"2.0","id":@ID@,"res', 'ult":{"e":"\xc3\xa9"}}\n'),
    "in a character": ('{"jsonrpc":"2.0","id":@ID@,"result":{"e":"\xc3', '\xa9"}}\n'),
}


@pytest.mark.parametrize("halves", HALVES.values(), ids=HALVES)
async def test_an_answer_that_comes_in_two_halves_is_put_together(bridge: Running, halves: tuple[str, str]) -> None:
    session = await bridge.session("babbler")
    [child] = bridge.service.core.registry.children()
    waiting = asyncio.create_task(_say(session, halves[0], id_=1))
    await until(lambda: child.connection.open_exchanges == 1, "the first call is on its way")
    assert (await _say(session, halves[1], RIGHT, id_=2))["result"] == {"right": True}
    assert await waiting == {"jsonrpc": "2.0", "id": 1, "result": {"e": "é"}}


BROKEN = {
    "NaN": '{"jsonrpc":"2.0","id":@ID@,"result":{"n":NaN}}\n',
    "Infinity": '{"jsonrpc": "2.0", "id": @ID@, "result": {"n": Infinity}}\n',
    "the id last": '{"result":{"n":-Infinity},"jsonrpc":"2.0","id":@ID@}\n',  # as the TypeScript SDK orders it
    "the id last but one": '{"result":{"n":NaN},"id":@ID@,"jsonrpc":"2.0"}\n',
    "the id first": '{"id":@ID@,"jsonrpc":"2.0","result":{"n":NaN}}\n',
    "no UTF-8": '{"jsonrpc":"2.0","id":@ID@,"result":{"s":"\xff\xfe"}}\n',
    "no UTF-8 and the id last": '{"jsonrpc":"2.0","result":{"s":"\xc3\x28"},"id":@ID@}\n',
    "a lone surrogate": '{"jsonrpc":"2.0","id":@ID@,"result":{"s":"\\ud800"}}\n',
    "a lone surrogate in an error": '{"jsonrpc":"2.0","id":@ID@,"error":{"code":1,"message":"\\udfff"}}\n',
    "nesting without end": '{"jsonrpc":"2.0","id":@ID@,"result":@DEEP@}\n',
    "nesting without end and the id last": '{"jsonrpc":"2.0","result":@DEEP@,"id":@ID@}\n',
    "a control character": '{"jsonrpc":"2.0","id":@ID@,"result":{"s":"\x00"}}\n',
    "half of it": '{"jsonrpc":"2.0","id":@ID@,"result":{"half":\n',
    "two messages in a line": '{"jsonrpc":"2.0","id":@ID@,"result":{}}{"jsonrpc":"2.0","method":"x"}\n',
    "result and error": '{"jsonrpc":"2.0","id":@ID@,"result":{},"error":{"code":1,"message":"both"}}\n',
    "an error that is null": '{"jsonrpc":"2.0","id":@ID@,"error":null}\n',
    "an error that is null and the id last": '{"error":null,"jsonrpc":"2.0","id":@ID@}\n',
    "an error that is text": '{"jsonrpc":"2.0","id":@ID@,"error":"no such tool"}\n',
    "neither result nor error": '{"jsonrpc":"2.0","id":@ID@}\n',
    "another version": '{"jsonrpc":"1.0","id":@ID@,"result":{}}\n',
    "no version": '{"id":@ID@,"result":{}}\n',
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
async def test_a_broken_answer_ends_the_request_that_it_names(bridge: Running, broken: str) -> None:
    session, other = await bridge.session("babbler"), await bridge.session("babbler")
    answer = await _say(session, broken)
    assert answer["id"] == "mine"
    assert 'server "babbler" answered with what cannot be passed on' in answer["error"]["message"]
    await _still_serves(session, other)


DEEP_ONES = {
    "a result": '{"jsonrpc":"2.0","id":@ID@,"result":{"x":@DEEP@}}\n',
    "an error": '{"jsonrpc":"2.0","id":@ID@,"error":{"code":-32000,"message":"m","data":@DEEP@}}\n',
    "a question": '{"jsonrpc":"2.0","id":"q@ID@","method":"elicitation/create","params":{"x":@DEEP@}}\n' + RIGHT,
    "a notification": '{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"\\u0020","x":@DEEP@}}\n'
    + RIGHT,
}


@pytest.mark.parametrize("text", DEEP_ONES.values(), ids=DEEP_ONES)
async def test_what_can_just_be_read_is_passed_on_or_skipped_and_ends_nothing_else(bridge: Running, text: str) -> None:
    session = await bridge.session("babbler")

    async def passes(depth: int) -> bool:
        deep = "[" * depth + "]" * depth
        async with in_time(), session.post(tool("raw", 1, raw=[text.replace("@DEEP@", deep)])) as response:
            assert response.status == 200
            return deep in await response.text()

    good, bad = 1, 40_000
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if await passes(middle) else (good, middle)
    assert {await passes(depth) for depth in range(good - 2, good + 12)} == {True, False}
    await _still_serves(session)


async def test_what_cannot_be_counted_is_answered(bridge: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    session = await bridge.session("babbler")
    monkeypatch.setattr(Traffic, "error", None)
    answer = await _say(session, '{"jsonrpc":"2.0","id":@ID@,"error":{"code":1,"message":"m"}}\n')
    assert answer == {"jsonrpc": "2.0", "id": "mine", "error": {"code": 1, "message": "m"}}


async def test_questions_without_end_are_refused_to_who_asks_them(
    start_bridge: StartBridge, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mux, "MOST_QUESTIONS", 3)
    bridge = await start_bridge({"peer": peer()})
    session, other = await bridge.session("peer"), await bridge.session("peer")
    for _ in range(3):
        await session.call("ask_later")
    for _ in range(2):
        refused = (await session.call("ask"))["result"]["answer"]
        assert refused["code"] == -32603
        assert "3 questions of this server wait for an answer already" in refused["message"]
    assert len([line for line in caplog.messages if "server peer asks too much" in line]) == 1
    async with other.post(tool("ask", 1)) as response:  # each child has room of its own
        assert (await anext(events(response)))["method"] == "elicitation/create"


@pytest.mark.parametrize("value", ["1e999", "-1e999", "9" * 30, "0.1e-400", '"\\ud83d\\ude00"', "[" * 200 + "]" * 200])
async def test_what_some_clients_cannot_hold_passes_byte_for_byte(bridge: Running, value: str) -> None:
    session = await bridge.session("babbler")
    line = f'{{"jsonrpc":"2.0","id":@ID@,"result":{{"v":{value}}}}}'
    async with session.post(tool("raw", 1, raw=[line, "\n"])) as response:
        assert await response.text() == line.replace("@ID@", "1")
    await _still_serves(session)


@pytest.mark.parametrize("id_last", [False, True])
async def test_a_message_over_the_cap_ends_the_request_that_it_answers(
    start_bridge: StartBridge, id_last: bool
) -> None:
    bridge = await start_bridge({"babbler": babbler()}, MAX_MESSAGE_BYTES=1_000_000)
    session, other = await bridge.session("babbler"), await bridge.session("babbler")
    answer = await session.call("big", "mine", big={"size": 3_000_000, "id_last": id_last})
    assert answer["id"] == "mine"
    assert "MAX_MESSAGE_BYTES" in answer["error"]["message"]
    await _still_serves(session, other)


async def test_a_question_over_the_cap_ends_no_request_that_has_its_number(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"babbler": babbler()}, MAX_MESSAGE_BYTES=100_000)
    session = await bridge.session("babbler")
    question = '{"jsonrpc":"2.0","id":@ID@,"method":"sampling/createMessage","params":{"t":"%s"}}\n' % ("x" * 200_000)
    assert (await _say(session, question, RIGHT))["result"] == {"right": True}


@pytest.mark.parametrize("id_last", [False, True])
async def test_an_answer_of_50_megabytes_arrives_and_others_are_served_meanwhile(
    bridge: Running, id_last: bool
) -> None:
    session, other = await bridge.session("babbler"), await bridge.session("babbler")
    size = 50 * 1024 * 1024

    async def big() -> int:
        async with session.post(tool("big", 1, big={"size": size, "id_last": id_last})) as response:
            return len(await response.read())

    waiting = asyncio.create_task(big())
    served = 0
    while not waiting.done():
        async with in_time():
            await _still_serves(other)
        served += 1
    assert size < await waiting < size + 100
    assert served > 1


@pytest.mark.parametrize("newlines", [True, False])
@pytest.mark.parametrize("size", [5_000_000, 20_000_000])
async def test_a_flood_on_stderr_costs_nobody_an_answer(start_bridge: StartBridge, size: int, newlines: bool) -> None:
    bridge = await start_bridge({"babbler": babbler()})
    session = await bridge.session("babbler")
    assert (await session.call("noisy", 1, stderr={"size": size, "newlines": newlines}))["result"] == {}
    await _still_serves(session)


FLOOD = 100_000


async def test_progress_in_a_flood_arrives_whole_and_in_order(bridge: Running) -> None:
    session = await bridge.session("babbler")
    flood = {"method": "notifications/progress", "params": {"progressToken": "@TOKEN@"}, "times": FLOOD}
    seen = 0
    async with session.post(tool("flood", 1, token="p", flood=flood)) as response:
        async for event in events(response):
            if event.get("id") == 1:
                break
            assert event["params"]["progressToken"] == "p"
            assert event["params"]["progress"] == seen
            seen += 1
    assert seen == FLOOD


@pytest.mark.parametrize("token", ["p", None])
async def test_progress_that_nobody_reads_costs_its_request_nothing(bridge: Running, token: str | None) -> None:
    """Over ``/bridge`` there is no way for progress; without a token nobody has asked for it."""
    flood = {"method": "notifications/progress", "params": {"progressToken": "@TOKEN@"}, "times": FLOOD}
    if token is None:
        flood["params"] = {"progressToken": "nobody's"}
    async with (
        asyncio.timeout(120),
        bridge.post("/bridge/babbler", tool("flood", 1, token=token, flood=flood)) as response,
    ):
        assert (await response.json())["result"] == {}


async def test_announcements_in_a_flood_wait_bounded_until_somebody_listens(
    bridge: Running, caplog: pytest.LogCaptureFixture
) -> None:
    session = await bridge.session("babbler")
    flood = {"method": "notifications/tools/list_changed", "params": {}, "times": FLOOD, "size": 1000, "after": True}
    assert (await session.call("flood", 1, flood=flood))["result"] == {}
    await _still_serves(session)  # the child answers only after it has written all that
    async with session.get() as response:
        numbers = []
        async for event in events(response):
            numbers.append(event["params"]["progress"])
            if numbers[-1] == FLOOD - 1:
                break
    assert numbers == list(range(numbers[0], FLOOD))  # the newest, in order, without a hole
    assert 0.7 * BACKLOG_BYTES < 1070 * len(numbers) < 1.1 * BACKLOG_BYTES
    async with session.delete() as response:
        assert response.status == 204
    assert f"{FLOOD - len(numbers)} notifications that nobody listened to were dropped" in caplog.text


async def test_logs_in_a_flood_reach_the_request_in_flight(bridge: Running) -> None:
    session = await bridge.session("babbler")
    flood = {"method": "notifications/message", "params": {"level": "info"}, "times": FLOOD}
    async with session.post(tool("flood", 1, flood=flood)) as response:
        got = [event async for event in events(response)]
    assert [event["params"]["progress"] for event in got[:-1]] == list(range(FLOOD))
    assert got[-1] == {"jsonrpc": "2.0", "id": 1, "result": {}}
