"""Stores of every kind, empty, on a clock that the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bridge.config.redis_address import redis_address
from bridge.stores.factory import open_store
from bridge.stores.record import Event, SessionRecord, SessionStore
from tests.faketime import FakeTime
from tests.stores.redis_server import RedisServer

PREFIX = "persistent_session:"
Start = Callable[..., RedisServer]


def record(id: str = "a", **fields: Any) -> SessionRecord:
    """A record as a session has it after its handshake; it never expires."""
    return SessionRecord(
        **{
            "id": id,
            "server": "files",
            "config": "c0ffee",
            "version": "2025-11-25",
            "initialize": msgspec.Raw(b'{"protocolVersion":"2025-11-25","capabilities":{}}'),
            "initialized": True,
            "level": "debug",
            "subscriptions": ["file:///a", "file:///\u00e9"],
            "owner": "0wn3r",
            "created": 900.0,
            "touched": 1000.0,
            "ttl": None,
            "metadata": {"name": "caf\u00e9", "n": 1, "deep": {"list": [1, None, True]}},
            "last_event": 3,
            **fields,
        }
    )


def events(stream: int, first: int, last: int, data: bytes = b'{"jsonrpc":"2.0"}') -> tuple[Event, ...]:
    return tuple(Event(number=number, stream=stream, data=data) for number in range(first, last + 1))


async def scanned(store: SessionStore) -> list[str]:
    """The ids that a scan finds, sorted; one that it finds twice is in it twice."""
    return sorted([found.id async for found in store.scan()])


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def redis(shared_redis: RedisServer) -> RedisServer:
    """A server that is empty. It is shared: a test that stops or changes one starts its own."""
    shared_redis.cli("FLUSHALL")
    return shared_redis


@pytest.fixture
def start_redis(tmp_path: Path) -> Iterator[Start]:
    """Start a server that only this test uses."""
    started: list[RedisServer] = []

    def start(*options: str) -> RedisServer:
        folder = tmp_path / f"redis{len(started)}"
        folder.mkdir()
        server = RedisServer(folder, *options)
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.stop()


MakeStore = Callable[..., SessionStore]


@pytest.fixture
def make_store(tmp_path: Path, time: FakeTime, request: pytest.FixtureRequest) -> MakeStore:
    """Make a store that is not open: ``memory``, ``file`` or ``redis``."""

    def make(kind: str, url: str = "") -> SessionStore:
        if kind == "redis" and not url:
            url = request.getfixturevalue("redis").url
        address = redis_address(url or "redis://localhost")
        return open_store(kind, directory=tmp_path / "sessions", redis=address, prefix=PREFIX, clock=time.clock)

    return make


@pytest.fixture(params=["memory", "file", "redis"])
async def store(request: pytest.FixtureRequest, make_store: MakeStore) -> AsyncIterator[SessionStore]:
    """An open, empty store of every kind."""
    made = make_store(request.param)
    await made.open()
    yield made
    await made.close()
