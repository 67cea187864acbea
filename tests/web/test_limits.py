"""How often a caller may ask, and guess tokens. Time is a fake clock."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bridge.auth import tokens
from bridge.config.values import Rate
from bridge.web import limits
from bridge.web.bucket import Buckets, neighbourhood
from tests.conftest import Running, StartBridge, message, peer, tool
from tests.faketime import FakeTime

NOW = datetime.now(UTC)


def test_a_bucket_gives_what_is_in_it_and_then_one_at_a_time() -> None:
    time = FakeTime()
    buckets = Buckets(Rate(3, 60), time.clock)
    assert [buckets.take("a") for _ in range(5)] == [0, 0, 0, 20, 20]
    assert buckets.take("b") == 0
    time.now += 19
    assert buckets.wait("a") == pytest.approx(1)
    time.now += 1
    assert [buckets.take("a") for _ in range(2)] == [0, 20]
    time.now += 1000
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 20]


def test_callers_are_forgotten_when_their_buckets_are_full_and_else_the_oldest() -> None:
    time = FakeTime()
    buckets = Buckets(Rate(1, 60), time.clock, most=20)
    for number in range(20):
        buckets.take(str(number))
    time.now += 60
    buckets.take("new")
    assert len(buckets) == 1
    for number in range(100):
        buckets.take(str(number))
        assert len(buckets) <= 20
    assert buckets.take("99") > 0
    assert buckets.take("new") == 0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("10.0.0.1", "10.0.0.2", False),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False),
        ("", "10.0.0.1", False),
    ],
)
def test_a_network_of_ipv6_is_one_caller(one: str, other: str, same: bool) -> None:
    assert (neighbourhood(one) == neighbourhood(other)) is same


class Asking:
    """A bridge, and its answers to callers."""

    def __init__(self, bridge: Running, time: FakeTime) -> None:
        self.bridge = bridge
        self.time = time

    async def statuses(self, count: int, path: str = "/bridge/peer", body: Any = None, **headers: str) -> list[int]:
        found = []
        for _ in range(count):
            async with self.bridge.post(path, body or {"method": "ping"}, **headers) as response:
                found.append(response.status)
                if response.status == 429:
                    self.error = (await response.json())["error"]["message"]
                    self.after = int(response.headers["Retry-After"])
        return found


@pytest.fixture
def asking(start_bridge: StartBridge, monkeypatch: pytest.MonkeyPatch) -> Any:
    time = FakeTime()
    for made in (limits.Limits, limits.Guesses):
        defaults = made.__init__.__defaults__
        assert defaults is not None
        monkeypatch.setattr(made.__init__, "__defaults__", (*defaults[:-1], time.clock))

    async def start(servers: dict[str, Any] | None = None, **settings: Any) -> Asking:
        return Asking(await start_bridge(servers, **settings), time)

    return start


@pytest.mark.parametrize("path", ["/bridge/peer", "/bridge/pee%72", "/mcp/peer", "/absent"])
async def test_a_caller_that_asks_too_often_is_told_when_to_come_back(asking: Any, path: str) -> None:
    it = await asking(RATE_LIMIT="3")
    assert 429 not in await it.statuses(3, path)
    assert await it.statuses(1, path) == [429]
    assert "RATE_LIMIT" in it.error
    assert "3 per minute" in it.error
    assert it.after == 20
    async with it.bridge.http.get(f"{it.bridge.url}/health") as response:
        assert response.status == 200
    async with it.bridge.http.get(f"{it.bridge.url}/servers") as response:
        assert response.status == 429
    it.time.now += it.after
    assert 429 not in await it.statuses(1, path)


async def test_a_rate_is_of_one_server_and_one_caller(asking: Any, tmp_path: Path) -> None:
    rows = [tokens.mint(name, ["servers:*"], None, NOW) for name in ("a", "b")]
    tokens.write(tmp_path / "t.json", [row for _, row in rows])
    (a, _), (b, _) = rows
    servers = {"peer": peer(rateLimit="2/hour"), "free": peer()}
    it = await asking(servers, TOKENS_FILE=tmp_path / "t.json")
    assert await it.statuses(3, X_API_Key=a) == [200, 200, 429]
    assert '"rateLimit" of server "peer"' in it.error
    assert it.after == 1800
    assert await it.statuses(1, "/bridge/pee%72", X_API_Key=a) == [429]
    assert await it.statuses(1, "/bridge", {"method": "ping", "server": "peer"}, X_API_Key=a) == [429]
    assert await it.statuses(3, "/bridge/free", X_API_Key=a) == [200, 200, 200]
    assert await it.statuses(2, X_API_Key=b) == [200, 200]


@pytest.mark.parametrize("base", ["", "/x", "/x/api/v1"])
async def test_to_operate_a_server_is_not_to_use_it_wherever_the_bridge_stands(asking: Any, base: str) -> None:
    it = await asking({"peer": peer(rateLimit="2/hour")}, BASE_PATH=base)
    assert await it.statuses(3, "/api/v1/servers/peer/start") == [200, 200, 200]
    statuses = []
    for _ in range(3):
        async with it.bridge.http.get(f"{it.bridge.url}/mcp/peer") as response:
            statuses.append(response.status)
    assert statuses == [400, 400, 429]


@pytest.mark.parametrize(("server", "settings"), [({"rateLimit": "5"}, {}), ({}, {"RATE_LIMIT": "5"})])
async def test_each_request_of_a_batch_counts(asking: Any, server: dict[str, Any], settings: dict[str, str]) -> None:
    it = await asking({"peer": peer(**server)}, **settings)
    session = await it.bridge.session(protocolVersion="2025-03-26")  # two POSTs
    batch = [message("notifications/roots/list_changed"), *(tool("echo", number) for number in range(6))]
    async with session.post(batch) as response:
        answers = await response.json()
    assert sorted(answer["id"] for answer in answers if "result" in answer) == [0, 1, 2]
    refused = [answer["error"]["message"] for answer in answers if "error" in answer]
    assert len(refused) == 3
    assert all("5 per minute" in text for text in refused)


async def test_callers_without_a_token_are_told_apart_by_their_address(asking: Any) -> None:
    it = await asking(RATE_LIMIT="1/hour", TRUST_PROXY="true")
    for client in ("9.9.9.1", "9.9.9.2", "2001:db8::1"):
        assert await it.statuses(2, X_Forwarded_For=client) == [200, 429]
    assert await it.statuses(1, X_Forwarded_For="2001:db8::2") == [429]
    assert await it.statuses(1, X_Forwarded_For="9.9.9.1, 9.9.9.3") == [200]


async def test_who_guesses_tokens_is_not_listened_to_for_a_while(asking: Any) -> None:
    it = await asking(ACCESS_TOKEN="sesame", TRUST_PROXY="true")
    guesser = {"X_Forwarded_For": "9.9.9.9"}
    most = limits.GUESSES.count
    assert await it.statuses(most, X_API_Key="wrong", **guesser) == [401] * most
    assert await it.statuses(1, X_API_Key="sesame", **guesser) == [429]
    assert "too many wrong tokens" in it.error
    assert it.after == 2
    assert await it.statuses(1, X_API_Key="sesame", X_Forwarded_For="9.9.9.8") == [200]
    assert await it.statuses(1, **guesser) == [401]  # that is no guess
    headers = {"X-API-Key": "sesame", "X-Forwarded-For": "9.9.9.9"}
    async with it.bridge.http.get(f"{it.bridge.url}/health", headers=headers) as response:
        # Nothing that tells right from wrong.
        assert (response.status, await response.text()) == (
            200,
            '{"status":"ok"}\n',
        )
    it.time.now += 2
    assert await it.statuses(2, X_API_Key="sesame", **guesser) == [200, 200]


async def test_wrong_tokens_are_counted_on_probes_too(asking: Any) -> None:
    it = await asking(ACCESS_TOKEN="sesame", TRUST_PROXY="true")
    headers = {"X-API-Key": "wrong", "X-Forwarded-For": "9.9.9.9"}
    for _ in range(limits.GUESSES.count):
        async with it.bridge.http.get(f"{it.bridge.url}/health", headers=headers) as response:
            assert response.status == 200
    assert await it.statuses(1, X_API_Key="sesame", X_Forwarded_For="9.9.9.9") == [429]


async def test_a_program_on_this_machine_with_an_old_token_shuts_nobody_out(asking: Any) -> None:
    it = await asking(ACCESS_TOKEN="sesame")
    most = limits.GUESSES.count * 2
    assert await it.statuses(most, X_API_Key="wrong") == [401] * most
    assert await it.statuses(1, X_API_Key="sesame") == [200]


async def test_wrong_tokens_of_a_neighbour_shut_out_nobody_with_one_that_cannot_be_guessed(
    asking: Any, tmp_path: Path
) -> None:
    token, row = tokens.mint("a", ["servers:*"], None, NOW)
    tokens.write(tmp_path / "t.json", [row])
    it = await asking(ACCESS_TOKEN="0123456789abcdefghij", TOKENS_FILE=tmp_path / "t.json", TRUST_PROXY="true")
    proxy = {"X_Forwarded_For": "9.9.9.9"}
    most = limits.GUESSES.count
    assert await it.statuses(most + 1, X_API_Key="wrong", **proxy) == [401] * most + [429]
    assert await it.statuses(2, X_API_Key=token, **proxy) == [200, 200]
    assert await it.statuses(1, X_API_Key="0123456789abcdefghij", **proxy) == [200]
    assert await it.statuses(1, X_API_Key="wrong", **proxy) == [429]
