"""Many clients that are asked at the same time, and clients that walk away from a question, across the eras."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from bridge.sessions import parking, streamable
from tests.conftest import Running, StartBridge
from tests.interop.conftest import ALL_SDKS, AUTO, INTRODUCING, PATIENCE, Bridge
from tests.interop.crowd import CROSSED, check_crowd

pytestmark = [pytest.mark.slow, pytest.mark.timeout(4 * PATIENCE)]

TIMES = 20


@pytest.mark.parametrize(("server", "name"), CROSSED)
def test_twenty_clients_are_asked_at_once_and_none_is_mixed_up(server: str, name: str, served: Bridge) -> None:
    check_crowd(served, server, name, TIMES)


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
