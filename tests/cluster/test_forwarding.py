"""Any worker answers any request: real workers, real children, each request sent to the worker that must pass it on."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bridge.cluster.hop import Hop, HopSeals
from bridge.web.hops import HOP_HEADER
from tests.cluster.conftest import NAMES, SERVERS, StartWorkers, Workers, held_by, through
from tests.conftest import INITIALIZE, PEERS, Session, events, in_time, last, message, sse, tool
from tests.modern_client import ModernClient

KEY = "0123456789abcdef" * 2
BOTH = pytest.mark.parametrize(("here", "there"), [NAMES, NAMES[::-1]])


@BOTH
async def test_a_session_is_served_by_whichever_worker_is_asked(workers: Workers, here: str, there: str) -> None:
    session = await held_by(workers, here)
    other = through(session, workers.way(there))
    pids = {(await each.call("pid"))["result"]["pid"] for each in (session, other)}
    assert len(pids) == 1
    assert (await other.call("big", size=3_000_000))["result"]["text"] == "x" * 3_000_000
    async with other.post(tool("progress", 5, token="t", steps=3)) as response:
        assert response.content_type == "text/event-stream"
        assert response.headers["Mcp-Session-Id"] == session.id
        steps = [event async for event in events(response)]
    assert [step["params"]["progress"] for step in steps[:-1]] == [1, 2, 3]
    async with other.post(message("notifications/initialized")) as response:
        assert response.status == 202
    async with other.delete() as response:
        assert response.status == 204
    for each in (session, other):
        async with each.post(tool("echo")) as response:
            assert response.status == 404
            assert (await response.json())["error"]["code"] == -32001


async def test_a_question_and_its_answer_cross_between_workers(workers: Workers) -> None:
    session = await held_by(workers, "w1")
    other = through(session, workers.way("w2"))
    async with other.post(tool("ask", 7)) as response:
        found = events(response)
        question = await anext(found)
        assert question["method"] == "elicitation/create"
        answer = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": {"n": 1}}}
        async with other.post(answer) as taken:
            assert taken.status == 202
        assert (await anext(found))["result"]["answer"]["content"] == {"n": 1}


async def test_a_stream_is_resumed_over_the_worker_that_does_not_hold_it(workers: Workers) -> None:
    session = await held_by(workers, "w2")
    other = through(session, workers.way("w1"))
    response = await other.post(tool("wait", "mine", token="p", key="k")).__aenter__()
    stream = sse(response)
    event_id, found = await anext(stream)
    while found is None:
        event_id, found = await anext(stream)
    await session.call("say", key="k", progress=1)
    event_id, _ = await anext(stream)
    response.close()
    await session.call("say", key="k", progress=2)
    async with other.get(event_id) as resumed:
        rest = sse(resumed)
        assert (await anext(rest))[1]["params"]["progress"] == 2
        await other.call("release", key="k")
        assert (await anext(rest))[1]["result"] == {"released": "k"}


async def test_a_get_stream_crosses_between_workers(workers: Workers) -> None:
    session = await held_by(workers, "w1")
    async with through(session, workers.way("w2")).get() as response:
        assert response.status == 200
        stream = sse(response)
        await session.call("list_changed")
        while (found := (await anext(stream))[1]) is None:
            pass
        assert found["method"] == "notifications/tools/list_changed"


async def test_head_is_answered_as_by_the_worker_that_holds_it(workers: Workers) -> None:
    """With the length of a body that does not come (RFC 9110, 9.3.2); and the connection is good for the next one."""
    session = await held_by(workers, "w1")
    for path, status in ((f"/api/v1/sessions/{session.id}", 200), ("/mcp/peer", 405), ("/mcp/peer?x=1", 405)):
        lengths = set()
        for name in ("w1", "w2", "w2"):
            way = workers.way(name)
            async with in_time(), way.http.head(way.url + path, headers={"Mcp-Session-Id": session.id}) as response:
                assert (response.status, await response.read()) == (status, b"")
                lengths.add(response.headers["Content-Length"])
        assert len(lengths) == 1, path
        assert lengths != {"0"}, path
    assert (await through(session, workers.way("w2")).call("echo", text="x"))["result"] == {"text": "x"}


async def test_a_client_that_hangs_up_ends_the_request_over_there(workers: Workers) -> None:
    """A modern call is cancelled by that; its retry names the worker, which is how it gets there."""
    client = ModernClient(workers.way("w1"), "peer", {"elicitation": {}})
    asked = await client.call("ask", 1)
    state = asked["result"]["requestState"]
    assert state.startswith("w1~")
    over = ModernClient(workers.way("w2"), "peer", {"elicitation": {}})
    answers = {key: {"action": "accept", "content": {"n": 2}} for key in asked["result"]["inputRequests"]}
    body = over.body("tools/call", 2, name="ask", arguments={}, requestState=state, inputResponses=answers)
    async with over.send(body) as response:
        found = await last(response)
    assert found["result"]["answer"]["content"] == {"n": 2}
    async with over.send(body) as response:  # good once
        assert response.status == 400
        assert (await last(response))["error"]["data"] == {"restarted": False}
    forged = over.body("tools/call", 3, name="ask", arguments={}, requestState="w9~x", inputResponses=answers)
    async with over.send(forged) as response:
        assert response.status == 400


async def test_a_client_that_does_not_read_is_felt_where_its_session_is(own_workers: Workers) -> None:
    """Nothing piles up between the workers: what is dropped is dropped by the one that holds the session."""
    session = await held_by(own_workers, "w1")
    other = through(session, own_workers.way("w2"))
    response = await other.post(tool("progress", 1, token="t" * 1000, steps=40_000)).__aenter__()
    assert (await session.call("echo", 2, text="x"))["result"] == {"text": "x"}  # behind all of them
    response.close()
    line = await own_workers.served.line_with("reads too slowly")
    assert " w1 session w1." in line


async def test_new_sessions_go_where_there_are_fewer_children(own_workers: Workers) -> None:
    way = own_workers.way("w1")
    found = Counter([(await way.session()).id.partition(".")[0] for _ in range(12)])
    assert found["w1"] >= found["w2"] >= 4


async def test_http_sse_of_2024_works_over_both(workers: Workers) -> None:
    for opens, posts in (NAMES, NAMES[::-1]):
        async with workers.way(opens).http.get("http://localhost/sse/peer") as stream:
            lines = (line.decode().rstrip("\n") async for line in stream.content)
            while not (line := await anext(lines)).startswith("data: "):
                pass
            url = f"http://localhost{line.removeprefix('data: ')}"
            async with workers.way(posts).http.post(url, json=message("initialize", 1, **INITIALIZE)) as response:
                assert response.status == 202, await response.text()
            while not (line := await anext(lines)).startswith("data: "):
                pass
            assert '"protocolVersion"' in line


@pytest.mark.parametrize("session_id", ["w2.1.AAAAAAAAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAAAAAAAA", "nonsense"])
async def test_a_forged_id_is_404_where_it_comes_in(workers: Workers, session_id: str) -> None:
    session = Session(workers.way("w1").http, "http://localhost/mcp/peer", session_id, {})
    async with session.post(tool("echo")) as response:
        assert response.status == 404


async def test_an_id_of_a_node_that_is_not_there_is_404(start_workers: StartWorkers) -> None:
    from bridge.cluster.ids import Birth, SessionIds

    workers = await start_workers(CLUSTER_KEY=KEY)
    for birth in (Birth("w3", 1), Birth("w2", 1)):  # one that never was, and an earlier life
        foreign = SessionIds(birth, KEY.encode()).mint()
        async with Session(workers.way("w1").http, "http://localhost/mcp/peer", foreign, {}).post(
            tool("echo")
        ) as found:
            assert found.status == 404
            assert "initialize again" in (await found.json())["error"]["message"]


def _hop(**changes: Any) -> Hop:
    right: dict[str, Any] = {
        "to": "w1",
        "sender": "w2",
        "method": "GET",
        "target": "/sessions",
        "caller": ["anonymous", ["admin"], None, None, True],
        "address": "10.1.2.3",
        "scheme": "http",
        "host": "localhost",
    }
    return Hop(**{**right, **changes})


async def _status(workers: Workers, header: str) -> int:
    async with workers.way("w1").http.get("http://localhost/sessions", headers={HOP_HEADER: header}) as response:
        return response.status


async def test_only_a_sealed_header_lets_a_request_in_without_a_token(start_workers: StartWorkers) -> None:
    workers = await start_workers(CLUSTER_KEY=KEY, ACCESS_TOKEN="a token that nobody knows")
    seals, now = HopSeals(KEY.encode()), time.time()
    assert await _status(workers, seals.write(_hop(), now)) == 200
    for wrong in (
        seals.write(_hop(), now - 60),
        seals.write(_hop(to="w2"), now),
        seals.write(_hop(target="/children"), now),
        HopSeals(b"another key").write(_hop(), now),
        "",
        "x.y",
    ):
        assert await _status(workers, wrong) == 403
    async with workers.way("w1").http.get("http://localhost/sessions") as response:
        assert response.status == 401
    header = {"Authorization": "Bearer a token that nobody knows"}
    async with workers.way("w1").http.get("http://localhost/children", headers=header) as response:
        assert response.status == 200


async def test_a_clock_that_is_set_back_shuts_no_worker_out(start_workers: StartWorkers, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import time\nfrom pathlib import Path\nwall = time.time\n"
        f"time.time = lambda: wall() + float(Path({str(tmp_path / 'ahead')!r}).read_text())\n"
    )
    (tmp_path / "ahead").write_text("0")
    workers = await start_workers(PYTHONPATH=f"{tmp_path}:{PEERS.parent.parent}")
    there = await held_by(workers, "w1")
    assert (await through(there, workers.way("w2")).call("echo", n=1))["result"] == {"n": 1}
    (tmp_path / "next").write_text("-7200")
    (tmp_path / "next").replace(tmp_path / "ahead")
    before = workers.socket("w1")
    (await workers.process("w1")).kill()
    await workers.replaced("w1", before)  # by one that has not seen what was sealed before
    while not (await workers.way("w2").session()).id.startswith("w1."):
        pass


async def test_what_was_sent_on_is_never_sent_on_again(start_workers: StartWorkers) -> None:
    """A session of w2, sent to w1 as if w2 had: w1 does not have it, and says so."""
    workers = await start_workers(CLUSTER_KEY=KEY)
    session = await held_by(workers, "w2")
    assert (await through(session, workers.way("w1")).call("echo", text="x"))["result"] == {"text": "x"}
    header = HopSeals(KEY.encode()).write(_hop(method="POST", target="/mcp/peer"), time.time())
    async with through(session, workers.way("w1")).post(tool("echo"), **{HOP_HEADER: header}) as response:
        assert response.status == 404
    greeting = message("initialize", 0, **INITIALIZE)
    for _ in range(5):  # also where the other worker has fewer children by now
        async with workers.way("w1").post("/mcp/peer", greeting, **{HOP_HEADER: header}) as response:
            assert response.headers["Mcp-Session-Id"].startswith("w1.")


async def test_a_path_that_begins_as_base_path_does_is_not_below_it(start_workers: StartWorkers) -> None:
    workers = await start_workers(BASE_PATH="/m")
    session = await held_by(workers, "w2")
    here = workers.way("w1")
    for base in ("", "/m"):
        asked = Session(here.http, f"{here.url}{base}/mcp/peer", session.id, session.greeting)
        async with asked.get() as stream:
            assert stream.status == 200
        async with here.http.get(f"{here.url}{base}/metrics") as response:
            assert 'node="w2"' in await response.text()
    async with through(session, here).delete() as response:
        assert response.status == 204


async def test_a_token_counts_on_the_other_worker_too(start_workers: StartWorkers, tmp_path: Path) -> None:
    """Who may not use a server may not over there, and a session of one user is none of another's."""
    from tests.cli.conftest import run

    tokens = {}
    for name, scope in (("ann", "servers:*"), ("bob", "servers:*"), ("eve", "servers:new")):
        given = ("token", "add", name, "--scope", scope)
        code, out, err = await run(tmp_path, *given, TOKENS_FILE="tokens.json")
        assert code == 0, err
        tokens[name] = {"Authorization": f"Bearer {out.split()[-1]}"}
    workers = await start_workers(TOKENS_FILE="tokens.json")
    way = workers.way("w1")
    async with way.post("/mcp/peer", message("initialize", 0, **INITIALIZE), **tokens["ann"]) as response:
        assert response.status == 200, await response.text()
        session = Session(way.http, "http://localhost/mcp/peer", response.headers["Mcp-Session-Id"], {})
    for name, status in (("ann", 200), ("bob", 404), ("eve", 403)):
        async with through(session, workers.way("w2")).post(tool("echo"), **tokens[name]) as response:
            assert response.status == status, name


async def test_modern_calls_and_bridge_calls_are_answered_where_they_come_in(workers: Workers) -> None:
    for name in NAMES:
        for server in SERVERS:
            found = await ModernClient(workers.way(name), server).call("echo", text="x")
            assert "error" not in found
        assert (await workers.way(name).bridge_call("peer", "tools/list"))["result"] == {"tools": []}


async def test_a_hundred_calls_at_once_each_get_their_own_answer(workers: Workers) -> None:
    sessions = [await held_by(workers, name) for name in NAMES]
    ways = [through(session, workers.way(name)) for session in sessions for name in NAMES]
    asking = (ways[n % 4].call("echo", id_=n, n=n) for n in range(100))
    for n, found in enumerate(await asyncio.gather(*asking)):
        assert (found["id"], found["result"]) == (n, {"n": n})
