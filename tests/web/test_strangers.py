"""The log tells of whoever is not let in, and is not filled by them."""

from __future__ import annotations

import pytest

from bridge.web.strangers import EVERY, Strangers
from tests.conftest import StartBridge, message


def test_a_line_at_once_and_then_one_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    now = [1000.0]
    strangers = Strangers(lambda: now[0])
    for _ in range(3):
        strangers.refused("10.0.0.1", 401, "who are you?")
    assert [record.message for record in caplog.records] == ["refused with 401 what came from 10.0.0.1: who are you?"]
    now[0] += EVERY
    for _ in range(2):
        strangers.refused("10.0.0.2", 403, "not from there")
    assert [record.message for record in caplog.records[1:]] == [
        "refused with 403 what came from 10.0.0.2: not from there (2 more since the line before this one)"
    ]


@pytest.mark.parametrize(
    ("headers", "status"), [({"Authorization": "Bearer a-wrong-one"}, 401), ({"Origin": "http://evil.example"}, 403)]
)
async def test_the_log_says_who_was_refused_and_why_but_no_token(
    start_bridge: StartBridge, caplog: pytest.LogCaptureFixture, headers: dict[str, str], status: int
) -> None:
    caplog.set_level("INFO")
    bridge = await start_bridge(ACCESS_TOKEN="the-right-one")
    async with bridge.post("/mcp/peer", message("ping", 1), **headers) as response:
        assert response.status == status
    [line] = [record.message for record in caplog.records if record.name == "bridge.web.strangers"]
    assert line.startswith(f"refused with {status} what came from 127.0.0.1: ")
    assert "a-wrong-one" not in line
