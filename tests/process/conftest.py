"""Processes that end with their test, started plainly or forked from a zygote."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from bridge.process.spawn import Command, Process
from bridge.process.zygote import Zygote
from tests.process.watched import Watched

Watch = Callable[..., Awaitable[Watched]]
Grow = Callable[..., Awaitable[Zygote]]


def python(folder: Path, line: str = "{python} s.py", interpreter: str = sys.executable, **env: str) -> Command:
    """A command in a folder; ``{python}`` and ``{folder}`` are filled in."""
    words = [word.format(python=interpreter, folder=folder) for word in line.split()]
    return Command(tuple(words), {"PATH": os.environ["PATH"], **env}, folder)


@pytest.fixture
async def watch() -> AsyncIterator[Watch]:
    """Start a command, from a zygote if there is one."""
    watched: list[Watched] = []

    async def start(command: Command, zygote: Zygote | None = None) -> Watched:
        async def fork(_command: Command) -> Process:
            assert zygote is not None
            return await zygote.fork()

        it = Watched(command, 100_000) if zygote is None else Watched(command, 100_000, fork)
        watched.append(it)
        await it.child.start()
        return it

    yield start
    await asyncio.gather(*(it.child.stop(0.01) for it in watched))


@pytest.fixture
async def grow() -> AsyncIterator[Grow]:
    """Start a zygote for a command; what it prints is added to ``prints``."""
    grown: list[Zygote] = []

    async def start(command: Command, *modules: str, prints: list[bytes] | None = None) -> Zygote:
        zygote = Zygote(command, modules, [].append if prints is None else prints.append)
        grown.append(zygote)
        await zygote.start(30)
        return zygote

    yield start
    await asyncio.gather(*(zygote.stop(1) for zygote in grown))
