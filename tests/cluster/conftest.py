"""Real Redis servers for nodes; and a bridge with two workers as processes, with a way to each of them: the socket on
which the other reaches it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from tests.cli.conftest import LISTENS, Serve, Served, environment, serve
from tests.conftest import PEERS, Running, Session, peer
from tests.faults.conftest import until
from tests.stores.conftest import redis, shared_redis, start_redis

__all__ = ["redis", "serve", "shared_redis", "start_redis"]

SERVERS = {"peer": peer(), "new": {"command": sys.executable, "args": ["-I", "-S", str(PEERS / "modern_peer.py")]}}
NAMES = ("w1", "w2")


class Way(Running):
    """A client of one worker. A request that comes over its socket without a seal is one of a client."""

    def __init__(self, socket: Path) -> None:
        connector = aiohttp.UnixConnector(str(socket), limit=0)
        self.http = aiohttp.ClientSession(connector=connector)

    @property
    def url(self) -> str:
        return "http://localhost"


class Workers:
    """Two workers by their names. ``served`` is the parent, where a test has one of its own."""

    def __init__(self, url: str, sockets: Path, served: Served | None = None) -> None:
        self.url = url
        self._served = served
        self._sockets = sockets
        self._ways: dict[Path, Way] = {}
        self._opened: list[Session] = []
        self.http = aiohttp.ClientSession()

    @property
    def served(self) -> Served:
        """The parent."""
        assert self._served is not None
        return self._served

    def socket(self, name: str) -> Path:
        """The newest socket of a worker."""
        return max(self._sockets.glob(f"*/{name}.*"))

    def way(self, name: str) -> Way:
        """A client whose connections this worker accepts."""
        socket = self.socket(name)
        if socket not in self._ways:
            self._ways[socket] = Way(socket)
        return self._ways[socket]

    async def session(self, name: str) -> Session:
        """A session that this worker holds; the emptiest gets a new one, so that the first may be the other's."""
        while True:
            session = await self.way(name).session()
            self._opened.append(session)
            if session.id.startswith(f"{name}."):
                return session

    def processes(self) -> list[psutil.Process]:
        """The workers, in the order of their starts."""
        found = psutil.Process(self.served.process.pid).children()
        return sorted((each for each in found if "bridge" in each.cmdline()), key=psutil.Process.create_time)

    async def process(self, name: str) -> psutil.Process:
        """The process of a worker: whose child of its own is the one that it lists."""
        own = {row["pid"] for row in await self.way(name).get("/children") if row["node"] == name}
        for each in self.processes():
            if own & {child.pid for child in each.children()}:
                return each
        raise AssertionError(f"{name} has no child to be known by")

    async def replaced(self, name: str, before: Path) -> None:
        """Wait until another one listens in the place of a worker."""
        await self.served.line_with(f"{name} Streamable session cleanup")
        await until(lambda: any(each != before for each in self._sockets.glob(f"*/{name}.*")), "no new worker")

    async def close(self) -> None:
        """End what was opened, and close every connection."""
        if self._served is None:
            for session in self._opened:
                (await session.delete()).release()
        await self.http.close()
        for way in self._ways.values():
            await way.http.close()


StartWorkers = Callable[..., Awaitable[Workers]]


@pytest.fixture
async def start_workers(serve: Serve) -> AsyncIterator[StartWorkers]:
    """Start a bridge with two workers, unless arguments say otherwise."""
    with tempfile.TemporaryDirectory(prefix="w", dir="/tmp") as folder:
        started: list[Workers] = []

        async def start(*arguments: str, servers: dict[str, Any] | None = None, **settings: str) -> Workers:
            given = arguments or ("--workers", "2")
            served = await serve(*given, servers=servers or SERVERS, TMPDIR=folder, **settings)
            started.append(Workers(served.url, Path(folder), served))
            return started[-1]

        yield start
        for each in started:
            await each.close()


@pytest.fixture
async def own_workers(start_workers: StartWorkers) -> Workers:
    """Two workers that no other test has seen or will see."""
    return await start_workers()


@dataclass
class _Shared:
    url: str
    sockets: Path


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Shared]:
    """Two workers for all tests of a module, with a server of each era."""
    folder = tmp_path_factory.mktemp("shared")
    (folder / "servers.json").write_text(json.dumps({"mcpServers": SERVERS}))
    with tempfile.TemporaryDirectory(prefix="w", dir="/tmp") as sockets, (folder / "stderr").open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "bridge", "serve", "--port", "0", "--workers", "2"],
            cwd=folder,
            env=environment(TMPDIR=sockets),
            stdin=subprocess.DEVNULL,
            stderr=stderr,
        )
        try:
            while (found := LISTENS.search((folder / "stderr").read_text())) is None:
                assert process.poll() is None, (folder / "stderr").read_text()
            yield _Shared(found[1], Path(sockets))
        finally:
            process.terminate()
            assert process.wait(30) == 0


@pytest.fixture
async def workers(shared: _Shared) -> AsyncIterator[Workers]:
    """Two workers that other tests use too, without a session."""
    made = Workers(shared.url, shared.sockets)
    yield made
    await made.close()


async def held_by(workers: Workers, name: str) -> Session:
    """A session that this worker holds."""
    return await workers.session(name)


def through(session: Session, way: Way) -> Session:
    """The same session, as it is used over another worker."""
    return Session(way.http, session.url, session.id, session.greeting)
