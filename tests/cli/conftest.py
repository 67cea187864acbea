"""A bridge as a process of its own, and its command line as a user runs it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from tests.conftest import ACCEPT, INITIALIZE, PEERS, in_time, message

LISTENS = re.compile(r'listens on (https?://[^\s"]+)')


def environment(**settings: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in os.environ if name.startswith(("PATH", "HOME", "COV", "LANG"))}
    return {**kept, "PYTHONPATH": str(PEERS.parent.parent), **settings}


async def run(folder: Path, *arguments: str, **settings: str) -> tuple[int, str, str]:
    """Run a verb to its end; return exit code, stdout, stderr."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bridge", *arguments),
        cwd=folder,
        env=environment(**settings),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


class Served:
    """A bridge process that listens."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self.url = ""

    async def line_with(self, words: str) -> str:
        """The next log line that contains these words."""
        assert self.process.stderr is not None
        async with in_time():
            while True:
                line = (await self.process.stderr.readline()).decode()
                assert line, f"the bridge ended without {words!r}:\n{''.join(self.lines)}"
                self.lines.append(line)
                if words in line:
                    return line

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        assert self.process.stderr is not None
        async with in_time():
            self.lines.append((await self.process.stderr.read()).decode())
            return await self.process.wait()


def below_of(served: Served) -> list[psutil.Process]:
    """Every process that a bridge has started for its servers, the watchdog left out."""
    below = psutil.Process(served.process.pid).children(recursive=True)
    return [process for process in below if "watchdog.py" not in " ".join(process.cmdline())]


Serve = Callable[..., Awaitable[Served]]


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    served: list[Served] = []

    async def start(*arguments: str, servers: dict[str, Any] | None = None, **settings: str) -> Served:
        if servers is not None:
            (tmp_path / "servers.json").write_text(json.dumps({"mcpServers": servers}))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bridge", "serve", "--port", "0", *arguments),
            cwd=tmp_path,
            env=environment(**settings),
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        it = Served(process)
        served.append(it)
        found = LISTENS.search(await it.line_with("listens on"))
        assert found is not None
        it.url = found[1]
        return it

    yield start
    for it in served:
        if it.process.returncode is None:
            it.process.kill()
            await it.process.wait()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(headers={"Accept": ACCEPT}) as session:
        yield session


async def initialize(http: aiohttp.ClientSession, url: str) -> dict[str, str]:
    """Open a session; return its header."""
    async with http.post(url, json=message("initialize", 1, **INITIALIZE)) as response:
        assert response.status == 200, await response.text()
        return {"Mcp-Session-Id": response.headers["Mcp-Session-Id"]}


class Terminal:
    """A verb with a terminal of its own on stdin and stderr; its stdout is a pipe, unless ``shows_all``."""

    def __init__(self) -> None:
        self.text = ""
        self._ours, self._theirs = pty.openpty()

    async def run(self, folder: Path, *arguments: str, shows_all: bool = False, **settings: str) -> Terminal:
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bridge", *arguments),
            cwd=folder,
            env=environment(TERM="xterm", COLUMNS="100", **settings),
            stdin=self._theirs,
            stdout=self._theirs if shows_all else asyncio.subprocess.PIPE,
            stderr=self._theirs,
        )
        os.close(self._theirs)
        return self

    async def until(self, words: str) -> None:
        """Wait until it shows these words."""
        loop = asyncio.get_running_loop()
        while words not in self.text:
            try:
                data = await loop.run_in_executor(None, os.read, self._ours, 65536)
            except OSError:  # its other side is closed
                data = b""
            assert data, f"ended without {words!r}:\n{self.text}"
            self.text += data.decode(errors="replace")

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    async def end(self) -> tuple[int, str]:
        """Return the exit code and what came on stdout."""
        out, _ = await self.process.communicate()
        with contextlib.suppress(OSError):  # EIO is the end of a terminal
            while data := os.read(self._ours, 65536):
                self.text += data.decode(errors="replace")
        os.close(self._ours)
        assert self.process.returncode is not None
        return self.process.returncode, (out or b"").decode()
