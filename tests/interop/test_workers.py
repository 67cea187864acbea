"""SDK clients of both eras at a bridge of two workers: their connections come to either, and nobody can tell."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.interop.conftest import ALL_SDKS, AUTO, HANDSHAKE, PATIENCE, Bridge
from tests.interop.expected import check_course

pytestmark = [pytest.mark.slow, pytest.mark.timeout(4 * PATIENCE)]

TIMES = 8
#: Each server of one era, and the clients of the other.
CROSSED = [("introducing-handshake", name) for name in AUTO] + [("introducing-modern", name) for name in HANDSHAKE]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    """A bridge of two workers."""
    bridge = Bridge.start(tmp_path_factory.mktemp("two"), environ={"WORKERS": "2"})
    try:
        yield bridge
        assert bridge.stop() == 0, bridge.log
        assert "Traceback" not in bridge.log, bridge.log
    finally:
        bridge.kill()


@pytest.mark.parametrize(("server", "name"), CROSSED)
def test_clients_that_are_asked_are_not_mixed_up_between_workers(server: str, name: str, two: Bridge) -> None:
    with ALL_SDKS[name].start(f"{two.url}/mcp/{server}", "introduce", times=TIMES) as process:
        try:
            out, err = process.communicate(None, 2 * PATIENCE)
        finally:
            process.kill()
    assert process.returncode == 0, err
    reports: list[dict[str, Any]] = [json.loads(line) for line in out.splitlines()]
    assert sorted(seen["number"] for seen in reports) == list(range(TIMES))
    for seen in reports:
        check_course(name, seen, two)
        for n, call in enumerate(seen["calls"], seen["number"] * 10):
            assert call["text"] == f"client {seen['number']} likes blue {n}"
