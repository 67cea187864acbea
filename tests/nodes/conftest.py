"""Nodes as processes, with a real Redis between them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from bridge.auth.principal import ANYONE
from bridge.cluster.hop import Hop, HopSeals
from bridge.web.hops import HOP_HEADER
from tests.cli.conftest import LISTENS, Served, below_of, environment
from tests.conftest import ACCEPT, INITIALIZE, Running, Session, in_time, last, message, peer, tool
from tests.faults.conftest import until
from tests.nodes.network import Host, Network, problem
from tests.stores.conftest import redis, shared_redis, start_redis  # noqa: F401 - fixtures
from tests.stores.redis_server import RedisServer

#: Seconds of a lease here.
LEASE = 0.9
#: Each node is a process that takes its time to start, most of all where many tests run at once.
SLOW = [pytest.mark.slow, pytest.mark.timeout(180)]
KEY = "a key that is for tests and for nobody else"
#: Where they are when there is no network but that of this machine.
HERE = Host("127.0.0.1", ())
KEPT = {"peer": peer(persistent=True)}


def free_port() -> int:
    """A port that is no outgoing connection's meanwhile: those are given higher ones."""
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Node(Running):
    """One node, and a client of it."""

    def __init__(self, name: str, url: str, served: Served, trust: ssl.SSLContext | None) -> None:
        self.name = name
        self.http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust or True))
        self.served = served
        self._url = url

    @property
    def url(self) -> str:
        return self._url

    def at(self, session: Session) -> Session:
        """The same session, for a client that asks this node."""
        return Session(self.http, f"{self.url}/mcp/peer", session.id, session.greeting)

    def signal(self, number: signal.Signals) -> None:
        self.served.process.send_signal(number)

    async def kill(self) -> None:
        """End it without a word, and wait until it is gone."""
        self.served.process.kill()
        await self.served.process.wait()

    def children(self) -> list[psutil.Process]:
        return below_of(self.served)

    async def own_sessions(self) -> list[str]:
        """The sessions that this node itself holds, by their short ids."""
        return [row["session_id"] for row in await self.get("/api/v1/sessions") if row["node"] == self.name]


class Nodes:
    """Nodes that share a Redis. At the end none may have left a process behind. In a ``network`` each has a host of its
    own, which is called as it is.
    """

    def __init__(self, folder: Path, server: RedisServer, network: Network | None = None) -> None:
        self._folder = folder
        self._network = network
        self.redis = server
        #: Seconds of a lease.
        self.lease = LEASE
        #: What their clients trust, where they speak https.
        self.trust: ssl.SSLContext | None = None
        self.all: list[Node] = []
        self.below: set[psutil.Process] = set()

    async def start(self, name: str, servers: dict[str, Any] | None = None, **settings: str) -> Node:
        """Start a node; one that had this name before keeps its port."""
        before = [node for node in self.all if node.name == name]
        port = before[-1].url.rpartition(":")[2] if before else str(free_port())
        folder = self._folder / f"{name}{len(before)}"
        folder.mkdir()
        (folder / "servers.json").write_text(json.dumps({"mcpServers": servers or KEPT}))
        host = HERE if self._network is None else self._network.host(name)
        url = f"{'http' if self.trust is None else 'https'}://{host.address}:{port}"
        common = {
            "LEASE": str(self.lease),
            "CLUSTER": "redis",
            "CLUSTER_KEY": KEY,
            "NODE_ID": name,
            "NODE_URL": url,
            "REDIS_URL": self.redis.url,
            "HOST": host.address,
            "ALLOWED_HOSTS": host.address,
            "ALLOW_UNAUTHENTICATED": "true",
        }
        process = await asyncio.create_subprocess_exec(
            *(*host.prefix, sys.executable, str(Path(__file__).with_name("node.py")), "serve", "--port", port),
            cwd=folder,
            env=environment(**{**common, **settings}),
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        node = Node(name, url, Served(process), self.trust)
        self.all.append(node)
        assert LISTENS.search(await node.served.line_with("listens on"))
        return node

    async def start_all(self, names: str, servers: dict[str, Any] | None = None, **settings: str) -> list[Node]:
        """Start several, called by one letter each, which have heard of each other."""
        found = await asyncio.gather(*(self.start(name, servers, **settings) for name in names))
        await acquainted(*found)
        return found

    async def end(self, node: Node) -> int:
        """Ask a node to end; return its exit code. None of its processes may be left."""
        self.below.update(node.children())
        node.signal(signal.SIGTERM)
        return await node.served.process.wait()

    async def close(self) -> None:
        running = [node for node in self.all if node.served.process.returncode is None]
        for node in self.all:
            await node.http.close()  # a node that ends waits for its clients to go
        for node in running:  # all at once: one that has a successor takes its time to end
            with contextlib.suppress(psutil.NoSuchProcess):
                self.below.update(node.children())
            node.signal(signal.SIGCONT)
            node.served.process.terminate()
        for node in self.all:
            with contextlib.suppress(TimeoutError):
                async with in_time():
                    await node.served.process.wait()
            if node.served.process.returncode is None:
                node.served.process.kill()
            assert node.served.process.stderr is not None
            node.served.lines.append((await node.served.process.stderr.read()).decode())
            sys.stdout.write(f"--- {node.name}\n{''.join(node.served.lines)}")
        await until(lambda: not [each for each in self.below if each.is_running()], "processes are left", 10)


@pytest.fixture
async def nodes(tmp_path: Path, start_redis: Callable[..., RedisServer]) -> AsyncIterator[Nodes]:  # noqa: F811
    """No node yet, and a Redis of their own."""
    found = Nodes(tmp_path, start_redis())
    yield found
    await found.close()


@pytest.fixture
def network() -> Iterator[Network]:
    """A network with no host yet but ``client``, where the test is."""
    if (why := problem()) is not None:
        pytest.skip(why)
    with Network() as made:
        yield made


@pytest.fixture
async def far(tmp_path: Path, network: Network) -> AsyncIterator[Nodes]:
    """No node yet, and a Redis, each of which has a host of its own."""
    (tmp_path / "redis").mkdir()
    server = RedisServer(tmp_path / "redis", "--protected-mode", "no")
    server.address, server.prefix = network.host("redis")
    server.start()
    found = Nodes(tmp_path, server, network)
    found.lease = 3.0  # that of users: what is shown here is not how short it may be
    yield found
    network.join()
    await found.close()
    server.stop()


async def acquainted(*nodes: Node) -> None:
    """Wait until each has heard of all others, as it does with its first beats."""
    names = {node.name for node in nodes}
    async with in_time():
        for node in nodes:
            while names - (await node.get("/health"))["nodes"].keys():  # noqa: ASYNC110
                await asyncio.sleep(0.05)


async def answer_of(session: Session, name: str = "count", id_: Any = 1) -> tuple[int, dict[str, Any]]:
    """Status and last message of one call, without a second try."""
    async with session.post(tool(name, id_)) as response:
        return response.status, await last(response)


#: Every way to begin a session, by its path: what is sent.
BEGINS = {
    "/mcp/peer": message("initialize", 7, **INITIALIZE),
    "/api/v1/sessions": {"server": "peer"},
    "/sse/peer": None,
}


async def begin(node: Node, path: str, **headers: str) -> int:
    """Begin a session in one of these ways; return the status."""
    body = BEGINS[path]
    given = {"Accept": ACCEPT, **headers}
    async with node.http.request("GET" if body is None else "POST", node.url + path, json=body, headers=given) as found:
        return found.status


async def begin_arriving(node: Node, path: str) -> int:
    """Do the same as another node that sends a client there."""
    hop = Hop(node.name, "other", "GET" if BEGINS[path] is None else "POST", path, ANYONE.words, "", "http", "")
    return await begin(node, path, **{HOP_HEADER: HopSeals(KEY.encode()).write(hop, time.time())})
