"""A store that loses what it had, or stands still, while nobody writes to it: it is noticed all the same."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.config.redis_address import redis_address
from bridge.sessions import keeper as keeper_module
from bridge.sessions.keeper import LOOK, Keeper
from bridge.stores import redis_link
from bridge.stores.file import FileStore
from bridge.stores.record import SessionStore
from bridge.stores.redis import RedisStore
from tests.conftest import StartBridge, in_time, peer
from tests.faketime import FakeTime
from tests.faults.conftest import until
from tests.stores.conftest import PREFIX, Start, record, scanned


class Idle:
    """A keeper of one session that nobody uses."""

    def __init__(self, store: SessionStore, time: FakeTime) -> None:
        self.store = store
        self.time = time
        self.saves = 0
        self.keeper = Keeper(store, lambda *_: None, self.save, time.sleep)

    def save(self) -> None:
        self.saves += 1
        self.keeper.save("a", record)

    async def start(self) -> None:
        await self.keeper.start()
        self.save()
        assert await self.keeper.written("a")

    async def look(self) -> None:
        """Let it look; return when the store has what it had."""
        await self.time.advance(LOOK)
        await until(lambda: self.saves == 2 and self.keeper.holds("a"), "nothing is written again")
        assert await scanned(self.store) == ["a"]


@pytest.fixture
async def closing() -> AsyncIterator[list[Idle]]:
    made: list[Idle] = []
    yield made
    for each in made:
        await each.keeper.close()


async def test_redis_that_was_started_anew_gets_what_it_had(
    start_redis: Start, time: FakeTime, closing: list[Idle], caplog: pytest.LogCaptureFixture
) -> None:
    redis = start_redis()
    idle = Idle(RedisStore(redis_address(redis.url), PREFIX), time)
    closing.append(idle)
    await idle.start()
    redis.stop()
    redis.start()  # empty, and there again before anybody asks
    await idle.look()
    assert "was started anew, and may have lost what it had" in caplog.text


async def test_a_folder_that_was_removed_is_made_again_with_what_it_had(
    tmp_path: Path, time: FakeTime, closing: list[Idle]
) -> None:
    folder = tmp_path / "sessions"
    idle = Idle(FileStore(folder), time)
    closing.append(idle)
    await idle.start()
    folder.rename(tmp_path / "elsewhere")
    await idle.look()
    assert (folder / "sessions.db").exists()


async def test_who_may_not_ask_redis_which_run_it_is_is_served(start_redis: Start, time: FakeTime) -> None:
    redis = start_redis()
    redis.cli("ACL", "SETUSER", "default", "-info")
    store = RedisStore(redis_address(redis.url), PREFIX)
    await store.open()
    await store.look()
    await store.close()


async def test_health_tells_of_redis_that_stands_still_while_nobody_writes(
    start_bridge: StartBridge, start_redis: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper_module, "LOOK", 0.05)
    monkeypatch.setattr(redis_link, "ANSWER_TIMEOUT", 0.5)
    redis = start_redis()
    bridge = await start_bridge({"peer": peer()}, REDIS_ENABLED="true", REDIS_URL=redis.url)
    assert (await bridge.get("/health"))["status"] == "ok"
    assert redis.process is not None
    for number, status in ((signal.SIGSTOP, "degraded"), (signal.SIGCONT, "ok")):
        redis.process.send_signal(number)
        async with in_time():
            while (await bridge.get("/health"))["status"] != status:
                pass
