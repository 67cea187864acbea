"""A bridge in a process of its own that tells what it holds: ``python -m tests.faults.glass serve ...``.

It is the bridge of ``mcp-bridge``, changed in nothing. Asked by the signal ``ASK``, it writes what it holds to
``holds.json`` in its working directory, as :class:`Holds` reads it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from bridge.process.memory import Heap
from tests.faults.test_kill import living, marked

TOLD = Path("holds.json")
#: Seconds until a bridge listens, or tells what it holds.
PATIENCE = 30.0
#: What asks it. A bridge hears others: SIGUSR1 drains it, SIGUSR2 has another take its place.
ASK = signal.SIGWINCH
#: Characters of a text from which on it is told of by itself.
LARGE = 64 * 1024


def _tell(*_: object) -> None:
    gc.collect()
    heap = Heap()
    told = {
        "tasks": sorted(task.get_name() for task in asyncio.all_tasks() if not task.done()),
        "blocks": sys.getallocatedblocks(),
        "in_use": heap.in_use(),
        "free": heap.free(),
        "resident": heap.resident(),
        "large": _large(),
        "ours": ours(),
    }
    TOLD.with_suffix(".part").write_text(json.dumps(told))
    TOLD.with_suffix(".part").replace(TOLD)


def _large() -> list[str]:
    """What is longer than ``LARGE``, longest first: its size, how it begins, and the types of what holds it."""
    found: dict[int, tuple[int, str, set[str]]] = {}
    for holder in gc.get_objects():
        for each in gc.get_referents(holder):
            if isinstance(each, bytes | bytearray | str) and len(each) > LARGE:
                begin = repr(each[:40])
                found.setdefault(id(each), (len(each), begin, set()))[2].add(type(holder).__name__)
    longest = sorted(found.values(), key=lambda entry: -entry[0])[:20]
    return [f"{size} {begin} in {', '.join(sorted(holders))}" for size, begin, holders in longest]


def ours() -> Counter[str]:
    """How many objects there are of each class of the bridge."""
    gc.collect()
    kinds = (type(each) for each in gc.get_objects())
    named = (f"{kind.__module__}.{kind.__qualname__}" for kind in kinds)
    return Counter(name for name in named if name.startswith("bridge."))


@dataclass(frozen=True)
class Holds:
    """What a bridge holds at one moment. Memory is in bytes.

    ``blocks``: small objects of Python. ``in_use`` and ``free``: what the C allocator has handed out, and what it keeps
    although it was given back. ``large``: the longest texts, and what they are part of. ``ours``: how many objects of
    each class of the bridge. ``below``: processes, without the watchdog.
    """

    tasks: tuple[str, ...]
    blocks: int
    in_use: int
    free: int
    resident: int
    large: tuple[str, ...]
    ours: dict[str, int] = field(repr=False)
    descriptors: int
    below: int

    @classmethod
    async def of(cls, bridge: Bridge) -> Holds:
        told = bridge.folder / TOLD
        told.unlink(missing_ok=True)
        os.kill(bridge.pid, ASK)
        async with asyncio.timeout(PATIENCE):
            while not told.exists():
                await bridge.nudge()
        process = psutil.Process(bridge.pid)
        below = [each for each in process.children(recursive=True) if not _is_watchdog(each)]
        held: dict[str, Any] = json.loads(told.read_text())
        held |= {name: tuple(held[name]) for name in ("tasks", "large")}
        return cls(**held, descriptors=process.num_fds(), below=len(below))


def _is_watchdog(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return any(part.endswith("watchdog.py") for part in process.cmdline())
    return False


class Bridge:
    """A bridge process that listens at ``url`` and logs to ``folder / "stderr"``."""

    def __init__(self, folder: Path, process: asyncio.subprocess.Process, url: str) -> None:
        self.folder = folder
        self.process = process
        self.pid = process.pid
        self.url = url

    async def nudge(self) -> None:
        """Give Python in it an occasion to handle a signal: libuv does not interrupt its own waiting."""
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            await reader.read()
            writer.close()

    @property
    def said(self) -> str:
        """Its log."""
        return (self.folder / "stderr").read_text(errors="replace")

    async def stop(self, seconds: float) -> list[str]:
        """End it with SIGTERM; return what is wrong with its end."""
        processes = psutil.Process(self.pid).children(recursive=True)
        self.process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(seconds):
                code = await self.process.wait()
        except TimeoutError:
            return [f"SIGTERM did not end it within {seconds:g} s"]
        wrong = [f"exit code {code} after SIGTERM"] if code else []
        left = {*living(processes), *marked(self.pid)}
        return [*wrong, *(f"left after the end: {each}" for each in left)]


def configure(folder: Path, servers: dict[str, Any]) -> None:
    """Write, at once, which servers a bridge has."""
    (folder / "servers.part").write_text(json.dumps({"mcpServers": servers}))
    (folder / "servers.part").replace(folder / "servers.json")


@contextlib.asynccontextmanager
async def served(folder: Path, servers: dict[str, Any], **settings: str) -> AsyncIterator[Bridge]:
    """A bridge that serves these servers. It is killed if it is still there in the end."""
    configure(folder, servers)
    environment = {**os.environ, **settings, "PYTHONPATH": str(Path(__file__).parent.parent.parent)}
    with (folder / "stderr").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.faults.glass", "serve", "--port", "0"),
            cwd=folder,
            env=environment,
            stderr=log,
        )
    bridge = Bridge(folder, process, "")
    try:
        async with asyncio.timeout(PATIENCE):
            while not (lines := [each for each in bridge.said.splitlines() if " listens on http" in each]):
                assert process.returncode is None, bridge.said
                await asyncio.sleep(0.05)
        bridge.url = lines[0].rpartition(" ")[2]
        yield bridge
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def main(run: Callable[[], int]) -> int:
    signal.signal(ASK, _tell)
    return run()


if __name__ == "__main__":
    from bridge.cli.main import main as run_bridge

    sys.exit(main(run_bridge))
