"""Starting a few programs at a time: who is next, and that nobody waits for ever."""

from __future__ import annotations

import asyncio

import pytest

from bridge.children.starts import Slot, Starts
from tests.conftest import in_time

NEVER = 1000.0


class Line:
    """Starts that wait, by name; ``begun`` are those that have a slot, in their order."""

    def __init__(self, starts: Starts) -> None:
        self.starts = starts
        self.begun: list[str] = []
        self.slots: dict[str, Slot] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.urgent: set[str] = set()

    async def join(self, *names: str, warm: bool = False) -> None:
        """Names are ``server`` or ``server.number``."""
        for name in names:
            if not warm:
                self.urgent.add(name)
            self.tasks[name] = asyncio.create_task(self._enter(name))
        await self.settle()

    async def leave(self, name: str) -> None:
        self.slots[name].leave()
        await self.settle()

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    async def _enter(self, name: str) -> None:
        self.slots[name] = await self.starts.enter(name.partition(".")[0], lambda: name in self.urgent)
        self.begun.append(name)


@pytest.fixture
async def line() -> Line:
    return Line(Starts(2, silence=NEVER, patience=NEVER))


async def test_no_more_than_so_many_start_at_once(line: Line) -> None:
    await line.join("a.1", "a.2", "a.3", "a.4")
    assert line.begun == ["a.1", "a.2"]
    await line.leave("a.2")
    assert line.begun == ["a.1", "a.2", "a.3"]
    await line.leave("a.2")  # twice is once
    assert line.begun == ["a.1", "a.2", "a.3"]
    await line.leave("a.1")
    assert line.begun == ["a.1", "a.2", "a.3", "a.4"]


async def test_the_server_with_the_fewest_starts_is_next(line: Line) -> None:
    await line.join("a.1", "b.1", "a.2", "a.3", "b.2")
    assert line.begun == ["a.1", "b.1"]
    await line.leave("b.1")
    assert line.begun == ["a.1", "b.1", "b.2"], "a.2 came first, but another of a is starting"
    await line.leave("a.1")
    assert line.begun[3:] == ["a.2"]
    await line.leave("a.2")
    assert line.begun[4:] == ["a.3"]


async def test_a_server_of_which_nothing_is_starting_does_not_wait_for_another(line: Line) -> None:
    await line.join("slow.1", "slow.2", "slow.3", "b.1", "b.2", "c")
    assert line.begun == ["slow.1", "slow.2", "b.1", "c"]


async def test_what_is_kept_warm_comes_last_and_holds_up_nobody(line: Line) -> None:
    await line.join("a.1", "b.1", "c.1", warm=True)
    await line.join("a.2", "a.3", "a.4")
    assert line.begun == ["a.1", "b.1", "a.2", "a.3"]
    await line.leave("b.1")
    assert line.begun == ["a.1", "b.1", "a.2", "a.3"], "a.4 waits for one of its kind, c.1 for room"
    await line.leave("a.2")
    assert line.begun[4:] == ["a.4"]
    await line.leave("a.3")
    await line.leave("a.4")
    assert line.begun[5:] == ["c.1"]


async def test_what_was_to_be_warm_is_next_when_somebody_waits_for_it(line: Line) -> None:
    await line.join("w.1", "w.2", "w.3", "v", warm=True)
    assert line.begun == ["w.1", "w.2"]
    line.urgent.add("w.3")
    line.starts.fill()
    await line.settle()
    assert line.begun == ["w.1", "w.2", "w.3"]


async def test_who_gives_up_leaves_the_line(line: Line) -> None:
    await line.join("a.1", "a.2", "a.3", "a.4")
    line.tasks["a.3"].cancel()
    await line.leave("a.1")
    assert line.begun == ["a.1", "a.2", "a.4"]


async def test_who_gives_up_with_a_slot_in_hand_returns_it(line: Line) -> None:
    await line.join("a.1", "a.2", "a.3", "a.4")
    line.slots["a.1"].leave()  # it is a.3's now, which has not run since
    line.tasks["a.3"].cancel()
    await line.settle()
    assert line.begun == ["a.1", "a.2", "a.4"]


async def test_a_silent_program_counts_for_a_while_only() -> None:
    starts = Starts(1, silence=0.01, patience=NEVER)
    await starts.enter("a")
    async with in_time():
        await starts.enter("a")


async def test_nobody_waits_longer_than_a_while() -> None:
    starts = Starts(1, silence=NEVER, patience=0.01)
    await starts.enter("slow")
    warm = asyncio.create_task(starts.enter("slow", lambda: False))
    async with in_time():
        await starts.enter("slow")
    assert not warm.done()
    warm.cancel()


async def test_there_are_as_many_slots_as_processors_can_use() -> None:
    starts = Starts()
    assert repr(starts) in (f"<Starts [0 of {2 * n}, 0 waiting]>" for n in range(1, 1025))
