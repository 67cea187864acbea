"""Many clients that are asked at the same time, and clients that walk away from a question, across the eras."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any

import pytest

from bridge.sessions import parking, streamable
from tests.conftest import Running, StartBridge
from tests.interop.conftest import ALL_SDKS, AUTO, HANDSHAKE, INTRODUCING, PATIENCE, Bridge
from tests.interop.expected import check_course

pytestmark = [pytest.mark.slow, pytest.mark.timeout(4 * PATIENCE)]

TIMES = 20
#: Each server of one era, and the clients of the other.
CROSSED = [("introducing-handshake", name) for name in AUTO] + [("introducing-modern", name) for name in HANDSHAKE]


@pytest.mark.parametrize(("server", "name"), CROSSED)
def test_twenty_clients_are_asked_at_once_and_none_is_mixed_up(server: str, name: str, served: Bridge) -> None:
    with ALL_SDKS[name].start(f"{served.url}/mcp/{server}", "introduce", times=TIMES) as process:
        try:
            out, err = process.communicate(None, 2 * PATIENCE)
        finally:
            process.kill()
    assert process.returncode == 0, err
    reports: list[dict[str, Any]] = [json.loads(line) for line in out.splitlines()]
    assert sorted(seen["number"] for seen in reports) == list(range(TIMES))
    for seen in reports:
        check_course(name, seen, served)
        for n, call in enumerate(seen["calls"], seen["number"] * 10):
            assert call["text"] == f"client {seen['number']} likes blue {n}"
            steps = [[step, total] for step, total, _ in call["steps"] if total is not None]
            assert steps == [[1, n], [2, n]]  # the TypeScript SDK makes a step without a total of each round


async def until_asked(client: subprocess.Popen[str]) -> None:
    assert client.stdout is not None
    assert await asyncio.to_thread(client.stdout.readline) == "ready\n", client.communicate()


async def idle(bridge: Running) -> bool:
    """Whether nothing waits for anybody, and nobody holds anything but the bridge itself."""
    children, sessions = await bridge.get("/children"), await bridge.get("/sessions")
    parked = sum(server["parked_calls"] for server in await bridge.get("/servers"))
    waiting = sum(child["open_calls"] + child["open_questions"] for child in children)
    own = sum(session["pool"] == "bridge" for session in sessions)
    held = sum(child["holders"] for child in children)
    return (parked, waiting, held, len(sessions)) == (0, 0, own, own)


@pytest.mark.parametrize("server", ["handshake", "modern"])
@pytest.mark.parametrize("name", ["python-2-auto", "typescript-2-auto", "python-2-legacy", "typescript-2-legacy"])
async def test_a_client_that_walks_away_from_a_question_leaves_nothing_behind(
    start_bridge: StartBridge, monkeypatch: pytest.MonkeyPatch, server: str, name: str
) -> None:
    monkeypatch.setattr(parking, "PATIENCE", 0.5)
    monkeypatch.setattr(streamable, "QUESTION_TIMEOUT", 0.5)
    entry = {"command": sys.executable, "args": ["-I", "-S", str(INTRODUCING), server]}
    bridge = await start_bridge({"asks": entry}, STREAM_SESSION_TTL_MS=500)
    with ALL_SDKS[name].start(f"{bridge.url}/mcp/asks", "leave") as client:
        try:
            await until_asked(client)
            if (server, name in AUTO) != ("modern", True):  # whose state is with the client alone
                assert not await idle(bridge)
        finally:
            client.kill()
    async with asyncio.timeout(PATIENCE):
        while not await idle(bridge):
            pass
