"""Many clients in one process that are asked at the same time, each of which has to get its own answers."""

from __future__ import annotations

import json
from typing import Any

from tests.interop.conftest import ALL_SDKS, AUTO, HANDSHAKE, PATIENCE, Bridge
from tests.interop.expected import check_course

#: Each server of one era, and the clients of the other.
CROSSED = [("introducing-handshake", name) for name in AUTO] + [("introducing-modern", name) for name in HANDSHAKE]


def check_crowd(bridge: Bridge, server: str, name: str, times: int) -> None:
    """Run so many clients of one SDK, and see that none is mixed up with another."""
    with ALL_SDKS[name].start(f"{bridge.url}/mcp/{server}", "introduce", times=times) as process:
        try:
            out, err = process.communicate(None, 2 * PATIENCE)
        finally:
            process.kill()
    assert process.returncode == 0, err
    reports: list[dict[str, Any]] = [json.loads(line) for line in out.splitlines()]
    assert sorted(seen["number"] for seen in reports) == list(range(times))
    for seen in reports:
        check_course(name, seen, bridge)
        for n, call in enumerate(seen["calls"], seen["number"] * 10):
            assert call["text"] == f"client {seen['number']} likes blue {n}"
            steps = [[step, total] for step, total, _ in call["steps"] if total is not None]
            assert steps == [[1, n], [2, n]]  # the TypeScript SDK makes a step without a total of each round
