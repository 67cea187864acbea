"""The parent of workers, for orders of events that no signal of ours can be timed for."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bridge.cli.workers import Parent
from bridge.config.settings import Settings
from tests.conftest import PEERS, in_time
from tests.faults.conftest import until


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_worker_that_was_being_started_at_the_end_ends_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: signal.Signals
) -> None:
    begins = asyncio.create_subprocess_exec
    begun: list[asyncio.subprocess.Process] = []

    async def begin_and_hear(*command: str, **how: Any) -> asyncio.subprocess.Process:
        """Start it; the signal comes before anybody else knows of the process."""
        process = await begins(*command, **how)
        begun.append(process)
        os.kill(os.getpid(), number)
        await until(lambda: "SIG" in "".join(heard), "no signal came")
        return process

    heard: list[str] = []
    stop: Callable[[Parent, int], None] = Parent._stop

    def hear(parent: Parent, number: int) -> None:
        stop(parent, number)
        heard.append(signal.Signals(number).name)

    monkeypatch.setattr(Parent, "_stop", hear)
    monkeypatch.setattr("bridge.cli.workers.asyncio.create_subprocess_exec", begin_and_hear)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "servers.json").write_text('{"mcpServers": {}}')
    monkeypatch.setenv("PYTHONPATH", str(PEERS.parent.parent))
    settings = Settings(port=0, workers=2)
    async with in_time():
        code = await Parent(settings, ["serve", "--port", "0", "--workers", "2"], os.environ, None, print).run()
    assert code == 0
    assert [process.returncode for process in begun] == [-signal.SIGTERM] * 2
