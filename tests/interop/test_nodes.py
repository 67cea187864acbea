"""SDK clients of both eras at three nodes with Redis between them, behind nginx, which gives each request to the next
node: two of three requests of a session come to a node that does not hold it, and nobody can tell.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest

from tests.interop.conftest import (
    ALL_SDKS,
    PATIENCE,
    SDKS,
    Bridge,
    Gather,
    Reports,
    each,
    finish,
    run_all,
    send,
    servers,
)
from tests.interop.crowd import check_crowd
from tests.interop.cut import Cut
from tests.interop.expected import DEMO_STEPS, check_course, check_everything, streamable
from tests.nodes.balancer import nginx_command, passed
from tests.nodes.conftest import KEY, free_port
from tests.stores.redis_server import RedisServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(6 * PATIENCE)]

TIMES = 3
NAMES = ("a", "b", "c")


class Balanced:
    """Nodes by their names, and ``front``: what clients see, whose process is nginx."""

    def __init__(self, nodes: dict[str, Bridge], front: Bridge) -> None:
        self.nodes = nodes
        self.front = front

    @property
    def url(self) -> str:
        return self.front.url

    def strayed(self, method: str) -> int:
        """How many requests of sessions have been answered by a node that does not hold the session."""
        ports = {node.port: name for name, node in self.nodes.items()}
        found = [each for each in passed(self.front.folder) if each.method == method and each.status < 300]
        return sum(each.session_id[:2] not in ("-", f"{ports[each.port]}.") for each in found)


def _knows_all(node: Bridge) -> bool:
    return len(node.get("/health")["nodes"]) == len(NAMES)


@contextlib.contextmanager
def balanced(folder: Path, entries: Mapping[str, Any] | None = None) -> Iterator[Balanced]:
    """Three nodes behind nginx for the length of a block. In the end SIGTERM must end each that is there in order."""
    (folder / "redis").mkdir()
    redis = RedisServer(folder / "redis")
    redis.start()
    with contextlib.ExitStack() as stack:
        stack.callback(redis.stop)
        nodes: dict[str, Bridge] = {}
        for name in NAMES:
            port = free_port()
            (folder / name).mkdir()
            ours = {"CLUSTER": "redis", "CLUSTER_KEY": KEY, "REDIS_URL": redis.url, "TRUST_PROXY": "true"}
            own = {"NODE_ID": name, "NODE_URL": f"http://127.0.0.1:{port}"}
            given = None if entries is None else dict(entries)
            nodes[name] = Bridge.start(folder / name, given, {**ours, **own}, port)
            stack.callback(nodes[name].kill)
        port, site = free_port(), folder / "nginx"
        process = subprocess.Popen(nginx_command(site, port, [node.url for node in nodes.values()]), text=True)
        front = Bridge(process, site, f"http://127.0.0.1:{port}")
        stack.callback(front.kill)
        while True:
            assert process.poll() is None
            with contextlib.suppress(URLError):  # nginx does not say when it listens
                if len(front.get("/health")["nodes"]) == len(NAMES) and all(map(_knows_all, nodes.values())):
                    break
        while redis.cli("KEYS", "*settling").strip():  # for a moment nothing is taken: Redis may just have come back
            assert process.poll() is None
        yield Balanced(nodes, front)
        for node in nodes.values():
            node.process.terminate()
        for node in nodes.values():
            assert node.ended() == 0, node.log
            assert "Traceback" not in node.log, node.log


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Balanced]:
    """Three nodes for all tests here."""
    with balanced(tmp_path_factory.mktemp("three")) as found:
        yield found


@pytest.mark.parametrize("server", ["introducing-handshake", "introducing-modern"])
@pytest.mark.parametrize("name", ALL_SDKS)
def test_clients_that_are_asked_are_not_mixed_up_between_nodes(server: str, name: str, three: Balanced) -> None:
    check_crowd(three.front, server, name, TIMES)


@pytest.fixture(scope="module")
def everything(three: Balanced) -> Reports:
    # One after the other: modern calls start this server, which takes its time, on each of the nodes.
    return run_all(three.front, "everything", "everything", names=ALL_SDKS, at_once=1)


@pytest.mark.parametrize("name", ALL_SDKS)
def test_everything_works_through_whichever_node(name: str, everything: Reports, three: Balanced) -> None:
    seen = everything[name].result()
    check_course(name, seen, three.front)
    check_everything(name, seen)


@pytest.fixture(scope="module")
def roots(three: Balanced) -> Reports:
    return run_all(three.front, "everything", "roots", options=lambda _: {"root": "file:///some/where"})


def test_a_question_comes_over_the_get_stream_of_another_node(name: str, roots: Reports, three: Balanced) -> None:
    seen = roots[name].result()
    check_course(name, seen, three.front)
    assert seen["log"] == "Roots updated: 1 root(s) received from client"
    assert "GET 200" in seen["wire"]


@pytest.fixture(scope="module")
def cut_off(three: Balanced) -> Reports:
    """Each client behind a relay of its own, which cuts its call off once."""

    def run(name: str) -> dict[str, Any]:
        with Cut(three.front.port, b"step 2 of 4") as cut:
            return {**ALL_SDKS[name].run(f"{cut.url}/mcp/demo", "slow"), "cuts": cut.cuts}

    return each(run, SDKS)


def test_a_call_is_resumed_at_another_node(name: str, cut_off: Reports, three: Balanced) -> None:
    seen = cut_off[name].result()
    check_course(name, seen, three.front)
    assert (seen["cuts"], seen["slow"]) == (1, {"text": "took 0.4 s", "steps": DEMO_STEPS})


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
def test_many_of_these_requests_came_to_a_node_without_the_session(
    method: str, three: Balanced, everything: Reports, roots: Reports, cut_off: Reports
) -> None:
    """Or the tests above have shown nothing."""
    assert three.strayed(method) >= len(SDKS)


def test_clients_go_on_when_the_node_of_their_session_is_killed(tmp_path: Path, gather: Gather) -> None:
    entries = {"demo": {**servers(tmp_path)["demo"], "persistent": True}}
    with balanced(tmp_path, entries) as three:
        clients = [
            (name, process)
            for _ in range(2)
            for name, process in gather("together", dict.fromkeys(SDKS, f"{three.url}/mcp/demo")).items()
        ]
        rows = streamable(three.front)
        lost = [row for row in rows if row["node"] == "a"]
        assert 0 < len(lost) < len(rows) == len(clients)
        killed = three.nodes.pop("a")
        killed.process.kill()
        assert killed.ended() == -signal.SIGKILL
        send([process for _, process in clients], "go\n")
        reports = [(name, finish(process)) for name, process in clients]
        assert not [seen for _, seen in reports if "error" in seen]
        for name, seen in reports:
            check_course(name, seen, three.front)
            assert (seen["slow"], seen["greet"]) == ({"text": "took 0.4 s", "steps": DEMO_STEPS}, "Hello Ada Lovelace")
        # The counter is in the memory of the server: it begins again where that is a new process.
        counts = sorted(seen["second"] for _, seen in reports)
        assert counts == ["1"] * len(lost) + ["2"] * (len(clients) - len(lost))
