"""What every fault has to leave as it was: no process, no file descriptor, no task more than before.

These tests run on the event loop that the bridge itself runs on.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from bridge.cli.serve import _loop_factory
from tests.conftest import PATIENCE, PEERS
from tests.faults.raw import opened

DESCRIPTORS = Path("/proc/self/fd")


def babbler(*flags: str, **entry: Any) -> dict[str, Any]:
    """A ``servers.json`` entry of tests/peers/babbler.py."""
    return {"command": sys.executable, "args": ["-I", "-S", str(PEERS / "babbler.py"), *flags], **entry}


async def until(holds: Callable[[], bool], what: str | Callable[[], str], seconds: float = PATIENCE) -> None:
    """Look until something holds that nothing announces: descriptors and processes of ours, in the main."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not holds():
        assert asyncio.get_running_loop().time() < deadline, what if isinstance(what, str) else what()
        await asyncio.sleep(0.005)


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that ``mcp-bridge serve`` runs on."""
    return {"production": _loop_factory() or asyncio.new_event_loop}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """More time, because floods take it on a machine that is busy. No signal ends a test that uvloop runs."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.timeout(180, method="thread"))


def _tasks() -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() if not task.done()} - {asyncio.current_task()}


def _processes() -> set[psutil.Process]:
    return {each for each in psutil.Process().children(recursive=True) if each.status() != psutil.STATUS_ZOMBIE}


def _descriptors() -> dict[str, str]:
    found = {}
    for entry in DESCRIPTORS.iterdir():
        with contextlib.suppress(OSError):  # that of this very look
            found[entry.name] = str(entry.readlink())
    # libuv keeps /dev/null open as long as the loop lives, to refuse connections with when it runs out of descriptors.
    return {number: what for number, what in found.items() if what != os.devnull}


@pytest.fixture(autouse=True)
async def nothing_left() -> AsyncIterator[None]:
    """Fails a test after which something is there that was not there before it."""
    tasks, processes, descriptors = _tasks(), _processes(), len(_descriptors())
    yield
    await until(lambda: _tasks() <= tasks, f"tasks left: {_tasks() - tasks}")
    await until(lambda: _processes() <= processes, "processes left")
    gc.collect()
    await until(lambda: len(_descriptors()) <= descriptors, lambda: f"more than {descriptors}: {_descriptors()}")


@pytest.fixture(autouse=True)
async def connections_closed(nothing_left: None) -> AsyncIterator[None]:
    """Closes what clients of raw sockets have opened."""
    yield
    while opened:
        await opened.pop().close()
