"""One file of pins for several processes, as workers have it: what any of them has seen or approved is not lost."""

from __future__ import annotations

import asyncio
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridge.children import pinbook as module
from bridge.children.pinbook import DELAY, LAST_RETRY, PinBook
from bridge.children.pinmerge import merge
from bridge.children.pins import MOST_TOOLS, ServerPins
from bridge.config.server import ServerConfig
from tests.faketime import FakeTime
from tests.faults.conftest import until
from tests.writers import write_at_once

CONFIG = ServerConfig("s", ("x",), {}, pin_tools="block")


def tool(name: str, text: str = "") -> tuple[str, bytes]:
    return name, json.dumps({"name": name, "description": text}).encode()


class Worker:
    """A process with the file, as far as its pins go."""

    def __init__(self, path: Path) -> None:
        self.book = PinBook(path)
        found = self.book.of(CONFIG)
        assert found is not None
        self.pins: ServerPins = found
        self.told: list[str] = []
        self.book.on_approved = self.told.append

    async def lists(self, *tools: tuple[str, bytes]) -> None:
        self.pins.see(list(tools), is_last=True)
        await self.book.close()


def states(pins: ServerPins | None) -> dict[str, str]:
    assert pins is not None
    return {name: pin.state for name, pin in sorted(pins.tools.items())}


async def test_an_approval_is_not_lost_when_another_worker_writes(tmp_path: Path) -> None:
    path = tmp_path / "pins.json"
    first = Worker(path)
    await first.lists(tool("a"), tool("b"))
    second = Worker(path)
    await first.lists(tool("a", "changed"), tool("b"))
    assert first.pins.approve(["a"]) == ["a"]
    await first.book.close()
    await second.lists(tool("a"), tool("b", "changed"))  # its process is of before
    assert states(PinBook(path).of(CONFIG)) == states(second.pins) == {"a": "pinned", "b": "changed"}
    assert second.pins.is_shown(*tool("a", "changed"))
    assert not second.pins.is_shown(*tool("a"))


async def test_what_was_approved_elsewhere_is_shown_here_and_clients_are_told(tmp_path: Path) -> None:
    path = tmp_path / "pins.json"
    first = Worker(path)
    await first.lists(tool("a"))
    second = Worker(path)
    await first.lists(tool("a", "changed"), tool("new"))
    first.pins.approve(["a", "new"])
    await first.book.close()
    second.pins.see([tool("a", "changed"), tool("new")], is_last=True)
    assert second.pins.news == {"a": "changed", "new": "new"}
    await second.book.close()
    assert (second.pins.news, second.told, first.told) == ({}, ["s"], [])
    assert second.pins.is_shown(*tool("a", "changed"))


async def test_what_could_not_be_written_is_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory, time = tmp_path / "state", FakeTime()
    book = PinBook(directory / "pins.json", sleep=time.sleep)
    pins = book.of(CONFIG)
    assert pins is not None
    directory.write_text("a file in place of the directory")
    run = asyncio.create_task(book.run())
    pins.see([tool("a")], is_last=True)
    while not caplog.records:
        await time.advance(DELAY)
        await asyncio.sleep(0.001)  # the write is in a thread
    directory.unlink()
    while not (directory / "pins.json").exists():
        await time.advance(LAST_RETRY)
        await asyncio.sleep(0.001)
    run.cancel()
    await asyncio.wait([run])
    assert states(PinBook(directory / "pins.json").of(CONFIG)) == {"a": "pinned"}
    assert [each.levelname for each in caplog.records] == ["WARNING"]  # however often it was tried


async def test_a_file_that_somebody_removes_is_written_again_with_all_that_was_in_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK", 0.001)
    path = tmp_path / "state" / "pins.json"
    await Worker(path).lists(tool("a"), tool("b"))
    before = path.read_text()
    other = replace(CONFIG, id="other")  # and the one before is not configured any longer
    book = PinBook(path, sleep=lambda _: asyncio.sleep(0))
    pins = book.of(other)
    assert pins is not None
    run = asyncio.create_task(book.run())
    shutil.rmtree(path.parent)
    await until(path.exists, "the file is not there")
    assert path.read_text() == before
    pins.see([tool("c")], is_last=True)
    await until(lambda: "c" in states(PinBook(path).of(other)), "no c")
    assert states(PinBook(path).of(CONFIG)) == {"a": "pinned", "b": "pinned"}
    run.cancel()
    await asyncio.wait([run])
    assert [each.levelname for each in caplog.records] == ["WARNING"]


@pytest.mark.parametrize("cut_off", [False, True])
async def test_the_end_writes_what_has_not_been_written(tmp_path: Path, cut_off: bool) -> None:
    directory = tmp_path / "state"
    worker = Worker(directory / "pins.json")
    directory.write_text("a file in place of the directory")
    if cut_off:  # the task that writes is ended while it waits for the disk
        worker.pins.see([tool("a")], is_last=True)
        write = asyncio.create_task(worker.book.close())
        await asyncio.sleep(0)
        write.cancel()
        await asyncio.wait([write])
        assert write.cancelled()
    else:
        await worker.lists(tool("a"))
    directory.unlink()
    await worker.book.close()
    assert states(PinBook(directory / "pins.json").of(CONFIG)) == {"a": "pinned"}


V1, V2, V3 = ({"sha256": each, "text": "", "at": ""} for each in ("v1", "v2", "v3"))


def row(**tools: tuple[Any, Any]) -> dict[str, Any]:
    named = {name: {"pinned": pinned, "pending": pending} for name, (pinned, pending) in tools.items()}
    return {"since": 5.0, "complete": True, "tools": named}


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "expected"),
    [
        ((V1, None), (V1, None), (V2, None), (V2, None)),
        ((V1, None), (V2, None), (V1, None), (V2, None)),
        ((V1, V2), (V2, None), (V1, V3), (V2, V3)),  # approved here, changed again there
        ((V1, V2), (V1, V3), (V2, None), (V2, V3)),
        ((V1, V2), (V1, None), (V2, None), (V2, None)),  # as it was here, approved there
        ((V1, None), (V1, V2), (V2, None), (V2, None)),  # news here that is approved there
        ((V1, None), (V1, V2), (V1, V3), (V1, V2)),
        (None, (V1, None), (V1, None), (V1, None)),
        (None, (V2, None), (V1, None), (V1, V2)),  # both have trusted at first sight: the first is right
        (None, (V1, V2), (None, V2), (V1, V2)),
        (None, (None, V2), (V1, None), (V1, V2)),
        (None, (None, V2), (V2, None), (V2, None)),
    ],
)
def test_two_changes_of_one_tool_become_one(base: Any, ours: Any, theirs: Any, expected: Any) -> None:
    before = None if base is None else row(a=base)
    assert merge(before, row(a=ours), row(a=theirs)) == row(a=expected)


def test_of_two_lists_everything_stays_within_bounds() -> None:
    ours, theirs = (row(**{f"{who}{number}": (V1, None) for number in range(MOST_TOOLS - 1)}) for who in "ab")
    found = merge(None, {**ours, "since": None, "complete": False}, theirs)
    assert len(found["tools"]) == MOST_TOOLS
    assert (found["since"], found["complete"]) == (5.0, True)
    assert merge(None, ours, None) == ours
    assert merge(ours, ours, None) == ours  # somebody has taken it out: it is in use


WRITER = """
import asyncio, json, sys
from pathlib import Path
from bridge.children import pinbook as module
from bridge.children.pinbook import PinBook
from bridge.config.server import ServerConfig
book, name = PinBook(Path(sys.argv[1])), sys.argv[2]
pins = book.of(ServerConfig("s", ("x",), {}, pin_tools="report"))
other = book.of(ServerConfig(name, ("x",), {}, pin_tools="report"))
async def main():
    for number in range(30):
        tool = f"{name}{number}"
        pins.see([(tool, json.dumps({"name": tool}).encode())], is_last=True)
        other.see([(tool, json.dumps({"name": tool}).encode())], is_last=True)
        await book.close()
sys.stdin.readline()
asyncio.run(main())
"""


def test_processes_that_write_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    path, names = tmp_path / "pins.json", "abc"
    write_at_once(WRITER, [(str(path), name) for name in names])
    servers = json.loads(path.read_text())["servers"]
    assert set(servers["s"]["tools"]) == {f"{name}{number}" for name in names for number in range(30)}
    assert {name: len(servers[name]["tools"]) for name in names} == dict.fromkeys(names, 30)
