"""How many sessions there may be, and who makes room."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.protocol.errors import BridgeError
from bridge.sessions.pool import SessionPool
from bridge.sessions.room import ABANDONED, Room, SessionEntry
from bridge.sessions.streamable import StreamableSession
from bridge.sessions.vacant import Vacant
from tests.faketime import FakeTime


async def _never() -> Any:
    raise AssertionError


class Stage:
    """A pool with room for four, three of one user, two of the server "small"."""

    def __init__(self) -> None:
        self.time = FakeTime()
        self.pool: SessionPool[StreamableSession] = SessionPool("streamable", self.time.clock, limit=4)
        self.room = Room(self.pool, per_user=3, per_server={"small": 2}.get)
        self.ended: list[tuple[str, str]] = []

    def open(self, key: str, owner: str = "ann", server: str = "big", *, kept: bool = False) -> SessionEntry:
        self.time.now += 1
        self.room.take(server, owner, self.end)
        session = StreamableSession(key, server, Vacant(_never), owner)
        session.is_kept = kept
        entry = self.pool.add(key, session, None)
        self.pool.opened(entry)
        return entry

    def end(self, entry: SessionEntry, why: str) -> None:
        assert self.pool.take(entry)
        self.room.give_back(entry.session.server, entry.session.owner)
        self.ended.append((entry.key, why))


@pytest.fixture
def stage() -> Stage:
    return Stage()


def refused(stage: Stage, **wish: Any) -> BridgeError:
    with pytest.raises(BridgeError) as caught:
        stage.open("refused", **wish)
    assert stage.ended == []
    assert caught.value.retry_in is not None
    return caught.value


def test_the_longest_idle_session_of_the_same_user_makes_room(stage: Stage) -> None:
    first, second, _ = (stage.open(key) for key in "abc")
    with stage.pool.using(first):  # a is used again
        stage.time.now += 1
    stage.open("d")
    assert [key for key, _ in stage.ended] == [second.key]
    assert "MAX_SESSIONS_PER_USER" in stage.ended[0][1]


def test_a_session_whose_process_works_at_a_task_makes_room_last(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StreamableSession, "works", property(lambda session: session.id in "ac"))
    for key in "abcde":
        stage.open(key)
    assert [key for key, _ in stage.ended] == ["b", "d"]


@pytest.mark.parametrize(("server", "limit"), [("small", "all 2 of its"), ("big", "MAX_SESSIONS_PER_USER")])
def test_who_is_full_of_persistent_sessions_is_told_so(stage: Stage, server: str, limit: str) -> None:
    for key in "abc"[: 2 if server == "small" else 3]:
        stage.open(key, server=server, kept=True)
    error = str(refused(stage, server=server))
    assert limit in error
    assert "only idle, but are persistent" in error
    assert "sessionTtlMs" in error
    for entry in stage.pool.entries():
        stage.pool.enter(entry)
    assert "persistent" not in str(refused(stage, server=server))


def test_sessions_in_use_and_kept_ones_are_left_alone(stage: Stage) -> None:
    stage.pool.enter(stage.open("a"))
    stage.open("b", kept=True)
    stage.pool.enter(stage.open("c"))
    error = refused(stage)
    assert error.fault.status == 429
    assert "MAX_SESSIONS_PER_USER" in str(error)


def test_a_server_has_a_limit_of_its_own(stage: Stage) -> None:
    busy = [stage.open(key, server="small") for key in "ab"]
    for entry in busy:
        stage.pool.enter(entry)
    error = refused(stage, server="small", owner="bob")
    assert error.fault.status == 503
    stage.open("c")  # of another server
    stage.pool.leave(busy[1])
    stage.open("d", server="small")
    assert [key for key, _ in stage.ended] == ["b"]


def test_a_full_bridge_asks_the_user_first_and_then_whoever_has_gone(stage: Stage) -> None:
    stage.open("a", "ann")
    stage.open("b", "ann")
    stage.open("c", "bob")
    stage.open("d", "cid")
    stage.open("e", "bob")
    assert [key for key, _ in stage.ended] == ["c"]  # bob's own
    stage.ended.clear()
    assert "MAX_SESSIONS" in str(refused(stage, owner="dan"))  # nobody has been away for long
    stage.time.now += ABANDONED
    stage.open("f", "dan")
    assert [key for key, _ in stage.ended] == ["a"]


def test_one_users_abandoned_sessions_do_not_lock_out_another(stage: Stage) -> None:
    for key in "abc":
        stage.open(key, "ann", kept=key == "a")
    stage.open("d", "bob")
    stage.time.now += ABANDONED
    for number in range(6):
        stage.open(f"new {number}", f"user {number}")
        stage.time.now += ABANDONED
    assert "a" not in [key for key, _ in stage.ended]  # a kept one stays


def test_what_is_given_back_can_be_taken_again(stage: Stage) -> None:
    for _ in range(20):
        entries = [stage.open(key, server="small") for key in "ab"]
        for entry in entries:
            stage.end(entry, "")
        stage.ended.clear()
