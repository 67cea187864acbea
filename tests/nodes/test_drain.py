"""Nodes that are ended one after the other, while clients call: each request is answered, no kept session is lost."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import signal
import time
from collections import Counter

import aiohttp
import pytest

from bridge.auth.principal import ANYONE, NOBODY
from bridge.cluster.hop import Hop, HopSeals
from bridge.web.hops import HOP_HEADER
from bridge.web.peers import REDIS, WHO
from tests.conftest import INITIALIZE, Session, in_time, message, peer
from tests.nodes.conftest import BEGINS, KEPT, KEY, SLOW, Node, Nodes, answer_of, begin, begin_arriving

pytestmark = SLOW


#: Seconds that a call may take, whatever happens to nodes and between them.
ENDS = 20.0


class Client:
    """Calls over and over, as if through a load balancer: at any node that is ready. Counts how calls end, and notes
    which process has answered.
    """

    def __init__(self, nodes: list[Node], session: Session, seed: int) -> None:
        self.nodes = nodes
        self.session = session
        self.ends: Counter[str] = Counter()
        #: The processes that have answered, each time that it was another than before.
        self.owners: list[int] = []
        self._random = random.Random(seed)
        self.stopping = False
        self.ready = {node.name for node in nodes}

    async def watch(self) -> None:
        """Look which nodes are ready, as load balancers do."""
        while not self.stopping:
            for node in self.nodes:
                try:
                    ready = await is_ready(node)
                except aiohttp.ClientError:
                    ready = False
                (self.ready.add if ready else self.ready.discard)(node.name)
            await asyncio.sleep(0.1)

    async def run(self) -> None:
        for number in itertools.count():
            if self.stopping:
                return
            self.ends[await self._call(number)] += 1

    async def _call(self, number: int) -> str:
        for node in self._random.sample(self.nodes, len(self.nodes)):
            if node.name not in self.ready:
                continue
            try:
                async with asyncio.timeout(ENDS):
                    status, said = await answer_of(node.at(self.session), "pid", number)
            except aiohttp.ClientConnectorError:
                continue  # it took no connection, so nobody has read the call
            except aiohttp.ClientError as error:
                return f"lost: {error!r}"
            except TimeoutError:
                return f"wrong: {node.name} says nothing"
            if status == 200 and said["id"] == number and "result" in said:
                owner = said["result"]["pid"]
                if self.owners[-1:] != [owner]:
                    self.owners.append(owner)
                return "answered"
            is_told = status in (502, 503) and said["id"] in (number, None)
            return f"{status} {said['error']['message']}" if is_told else f"wrong: {status} {said}"
        await asyncio.sleep(0.01)  # others have to go on, or nobody would ever be there again
        return "nobody is there"


def check_ends(clients: list[Client], at_least: int = 100) -> Counter[str]:
    """Each call has ended once, and no session has had an owner again after another; return how calls have ended."""
    ends = sum((client.ends for client in clients), Counter[str]())
    assert ends["answered"] >= at_least, ends
    assert not [end for end in ends if end.startswith("wrong")], ends
    for client in clients:
        assert len(client.owners) == len(set(client.owners)), client.owners
    return ends


async def is_ready(node: Node) -> bool:
    async with node.http.get(f"{node.url}/readyz") as response:
        return response.status == 200


async def test_rolling_restart_loses_no_request_and_no_session(nodes: Nodes) -> None:
    living = await nodes.start_all("abc")
    clients = [Client(living, await living[number % 3].session(), number) for number in range(6)]
    running = [asyncio.create_task(each) for client in clients for each in (client.run(), client.watch())]
    for place, name in enumerate("abc"):
        node = living[place]
        assert await nodes.end(node) == 0
        living[place] = await nodes.start(name)
    for client in clients:
        client.stopping = True
    await asyncio.gather(*running)
    ends = check_ends(clients)
    assert not [end for end in ends if end.startswith(("lost", "nobody"))], ends
    for client in clients:
        assert "result" in await living[0].at(client.session).call("count")
    assert sum(len(node.children()) for node in living) == len(clients)


async def test_a_call_that_runs_is_finished_and_its_session_goes_on(nodes: Nodes) -> None:
    a, b = await nodes.start_all("ab")
    session = await a.session()
    waiting = asyncio.create_task(a.at(session).call("wait", key="k"))
    async with a.at(session).get():  # an open stream holds nothing up
        while not any(row["in_use"] == 2 for row in await a.get("/api/v1/sessions")):
            pass
        ending = asyncio.create_task(nodes.end(a))
        while await is_ready(a):
            pass
        new = await a.session()
        assert [row["node"] for row in await b.get("/api/v1/sessions") if row["state"] != "dormant"].count("b") == 1
        await b.at(session).call("release", 2, key="k")
    assert (await waiting)["result"] == {"released": "k"}
    assert await ending == 0
    assert (await b.at(session).call("count"))["result"]["count"] == 1
    assert (await b.at(new).call("count"))["result"]["count"] == 1


async def test_what_waits_longer_than_allowed_ends_with_an_error(nodes: Nodes) -> None:
    a = await nodes.start("a", SHUTDOWN_TIMEOUT_MS="300")
    b = await nodes.start("b")
    session = await a.session()
    call = asyncio.create_task(answer_of(b.at(session), "never"))
    while not any(row["in_use"] for row in await a.get("/api/v1/sessions")):
        pass
    assert await nodes.end(a) == 0
    _, said = await call
    assert "error" in said
    assert (await b.at(session).call("count"))["result"]["count"] == 1


async def test_a_node_is_not_restarted_in_place(nodes: Nodes) -> None:
    a = await nodes.start("a")
    async with a.http.post(f"{a.url}/api/v1/restart") as response:
        assert response.status == 409
        assert "nodes are restarted one after the other" in (await response.json())["error"]["message"]


@pytest.mark.parametrize(
    ("settings", "code", "said"),
    [
        ({"NODE_URL": "http://127.0.0.1:1"}, 1, "NODE_URL: http://127.0.0.1:1 does not lead to this node"),
        ({"NODE_ID": "a"}, 1, "NODE_ID: another node called a lives"),
        ({"CLUSTER_KEY": ""}, 2, "CLUSTER_KEY: is unset"),
        ({"WORKERS": "2"}, 2, "WORKERS: is 2, and with CLUSTER=redis each node is one process"),
    ],
)
async def test_a_node_that_could_not_work_is_refused(
    nodes: Nodes, settings: dict[str, str], code: int, said: str
) -> None:
    await nodes.start("a")
    with pytest.raises(AssertionError) as caught:
        await nodes.start("b", KEPT, **settings)
    assert said in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert await nodes.all[-1].served.process.wait() == code


async def test_a_node_that_does_not_believe_the_others_is_left_out_of_what_all_say(nodes: Nodes) -> None:
    """As while the key is changed at one after the other."""
    a = await nodes.start("a")
    session = await a.session()
    await nodes.start("b", CLUSTER_KEY=f"{KEY}, and another one")
    async with in_time():
        while (health := await a.get("/health"))["status"] == "ok":  # a has not heard of it yet
            pass
    assert ([*health["nodes"]], health["reasons"]) == (["a"], ["node b does not answer"])
    await a.served.line_with("node b refuses what others do not (403)")
    assert [row["node"] for row in await a.get("/sessions")] == ["a"]
    assert [row["id"] for row in await a.get("/servers")] == ["peer"]
    assert (await a.get("/api/v1/sessions/stats"))["total_sessions"] == 1
    async with a.http.get(f"{a.url}/metrics") as response:
        assert (response.status, 'node="a"' in await response.text()) == (200, True)
    assert (await session.call("count"))["result"]["count"] == 1
    async with a.http.get(f"{a.url}/api/v1/events") as response:
        async for line in response.content:
            if line.startswith(b"data: "):
                assert [*json.loads(line[6:])["bridge"]["nodes"]] == ["a"]
                break


async def test_new_sessions_go_to_no_node_that_does_not_believe_the_others(nodes: Nodes) -> None:
    a = await nodes.start("a")
    await nodes.start("b", CLUSTER_KEY=f"{KEY}, and another one")
    async with in_time():
        while (await a.get("/health"))["status"] == "ok":  # a has not heard of it yet
            pass
    sessions = [await a.session() for _ in range(6)]  # more than would stay here by themselves
    assert {session.id.partition(".")[0] for session in sessions} == {"a"}
    assert [await begin(a, path) for path in BEGINS] == [200, 201, 200]


async def test_new_sessions_go_to_no_node_that_is_drained(nodes: Nodes) -> None:
    a, b = await nodes.start_all("ab", {"peer": peer()})
    held = await a.session()
    assert {(await b.session()).id.partition(".")[0] for _ in range(8)} == {"a", "b"}
    before = len(await a.own_sessions())
    a.signal(signal.SIGUSR1)
    while await is_ready(a):
        pass
    for node in (b, a):
        for path in BEGINS:
            for _ in range(3):
                assert await begin(node, path) in (200, 201), (node.name, path)
    assert len(await a.own_sessions()) == before
    assert {path: await begin_arriving(a, path) for path in BEGINS} == dict.fromkeys(BEGINS, 421)
    b.signal(signal.SIGUSR1)
    while await is_ready(b):
        pass
    for node in (a, b):
        async with node.post("/mcp/peer", message("initialize", 7, **INITIALIZE)) as response:
            assert (response.status, response.headers["Retry-After"]) == (503, "30")
            said = await response.json()
            assert (said["id"], "being drained" in said["error"]["message"]) == (7, True)
        assert {path: await begin(node, path) for path in BEGINS} == dict.fromkeys(BEGINS, 503)
    assert (await b.at(held).call("count"))["result"]["count"] == 1


async def test_a_node_url_that_leads_to_another_node_is_refused(nodes: Nodes) -> None:
    a = await nodes.start("a")
    with pytest.raises(AssertionError, match=r"does not lead to this node.*it answers 403"):
        await nodes.start("b", {"peer": peer()}, NODE_URL=a.url)


async def test_what_nodes_say_to_each_other_is_said_by_no_client(nodes: Nodes) -> None:
    """Neither by one that comes here, nor by one whose request another node sends on."""
    a = await nodes.start("a")
    for path in (WHO, REDIS):
        for caller, status in ((None, 404), (ANYONE, 404), (NOBODY, 200)):
            headers = {}
            if caller is not None:
                hop = Hop("a", "b", "GET", path, caller.words, "", "", "")
                headers[HOP_HEADER] = HopSeals(KEY.encode()).write(hop, time.time())
            async with a.http.get(a.url + path, headers=headers) as response:
                assert response.status == status, (path, caller)
