"""The Redis store against real servers: what lies in Redis, and what happens when it is gone, shut or slow."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import time as real_time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import RedisError

from bridge.config.redis_address import redis_address
from bridge.stores import redis_link
from bridge.stores.record import Append, Change, Delete, Save, SessionRecord, StoreUnavailable
from bridge.stores.redis import RedisStore, events_prefix
from tests.stores.conftest import PREFIX, Start, events, record, scanned
from tests.stores.redis_server import RedisServer, SentinelServer, free_port

PASSWORD = "p@ss/w%rd?:#"
QUOTED = "p%40ss%2Fw%25rd%3F%3A%23"
Connect = Callable[..., Awaitable[RedisStore]]


def fresh(id: str = "a", ttl: float | None = None) -> SessionRecord:
    """A record on the real clock, which is the one that Redis has."""
    return record(id, touched=real_time.time(), ttl=ttl)


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Open a store by its URL."""
    made: list[RedisStore] = []

    async def connect(url: str, prefix: str = PREFIX) -> RedisStore:
        made.append(RedisStore(redis_address(url), prefix))
        await made[-1].open()
        return made[-1]

    yield connect
    for store in made:
        await store.close()


async def refusal(awaitable: Awaitable[object]) -> str:
    with pytest.raises(StoreUnavailable) as caught:
        await awaitable
    return str(caught.value)


async def wait_until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(40):
        while not holds():  # noqa: ASYNC110 - another process, which tells nobody
            await asyncio.sleep(0.05)


# What lies in Redis


async def test_a_session_is_plain_json_and_nothing_else_is_under_its_prefix(
    redis: RedisServer, connect: Connect
) -> None:
    store = await connect(redis.url)
    await store.write([Save(record("a")), Append("a", events(1, 1, 3)), Save(record("b"))])
    assert sorted(redis.cli("KEYS", f"{PREFIX}*").split()) == [f"{PREFIX}a", f"{PREFIX}b"]
    assert redis.cli("TYPE", f"{PREFIX}a") == "string"
    assert json.loads(redis.cli("GET", f"{PREFIX}a"))["server"] == "files"
    assert redis.cli("LRANGE", f"mcp_bridge_events:{PREFIX}a", "0", "0") == '1 1 {"jsonrpc":"2.0"}'
    await store.write([Delete("a"), Delete("b")])
    assert redis.cli("KEYS", "*") == ""


async def test_a_session_that_never_ends_has_no_expiry(redis: RedisServer, connect: Connect) -> None:
    store = await connect(redis.url)
    await store.write([Save(fresh(ttl=None)), Append("a", events(1, 1, 1))])
    assert redis.cli("TTL", f"{PREFIX}a") == "-1"
    assert redis.cli("TTL", f"mcp_bridge_events:{PREFIX}a") == "-1"


async def test_the_expiry_slides_with_every_save_for_the_events_too(redis: RedisServer, connect: Connect) -> None:
    keys = (f"{PREFIX}a", f"mcp_bridge_events:{PREFIX}a")
    store = await connect(redis.url)

    def left() -> list[int]:
        return [int(redis.cli("TTL", key)) for key in keys]

    await store.write([Save(fresh(ttl=1800.0)), Append("a", events(1, 1, 1))])
    assert all(1790 <= seconds <= 1800 for seconds in left())
    await store.write([Save(record("a", touched=real_time.time() - 1700, ttl=1800.0))])
    assert all(90 <= seconds <= 100 for seconds in left())
    await store.write([Append("a", events(1, 2, 2))])  # which is no use of the session
    assert all(90 <= seconds <= 100 for seconds in left())
    await store.write([Save(fresh(ttl=1800.0))])
    assert all(1790 <= seconds <= 1800 for seconds in left())
    await store.write([Save(fresh(ttl=None))])
    assert left() == [-1, -1]
    await store.write([Save(fresh(ttl=60.0))])
    assert all(50 <= seconds <= 60 for seconds in left())
    await store.write([Save(fresh(ttl=1e15))])  # longer than Redis can count
    assert all(seconds > 3_000_000_000 for seconds in left())
    await store.write([Save(record("a", touched=real_time.time() - 61, ttl=60.0))])
    assert redis.cli("KEYS", "*") == ""


async def test_redis_itself_ends_a_session_and_its_events(redis: RedisServer, connect: Connect) -> None:
    store = await connect(redis.url)
    await store.write([Save(fresh("soon", ttl=0.15)), Append("soon", events(1, 1, 1)), Save(fresh("late", ttl=60.0))])
    await wait_until(lambda: "soon" not in redis.cli("KEYS", "*"))
    await store.write([Append("soon", events(1, 2, 2))])
    assert redis.cli("KEYS", "*") == f"{PREFIX}late"


@given(st.text(min_size=1, max_size=12), st.text(max_size=3))
def test_events_never_lie_under_the_prefix_of_the_sessions(prefix: str, id: str) -> None:
    assert not (events_prefix(prefix) + id).startswith(prefix)


@pytest.mark.parametrize(
    "prefix", ["m", "mcp_", "mcp_bridge_events:", "mcp_bridge_events:x:", "e", "*", "a[b]?\\:", "\u00e9"]
)
async def test_any_prefix_can_be_chosen(prefix: str, redis: RedisServer, connect: Connect) -> None:
    assert not events_prefix(prefix).startswith(prefix)
    redis.cli("SET", "zzz", "another application")
    redis.cli("SET", "abb:x", "another application")
    store = await connect(redis.url, prefix)
    await store.write([Save(record("a")), Append("a", events(1, 1, 1))])
    assert await scanned(store) == ["a"]
    assert await store.load("a") == record("a")
    assert await store.events("a") == list(events(1, 1, 1))


async def test_bridges_see_each_others_sessions_unless_their_prefixes_differ(
    redis: RedisServer, connect: Connect
) -> None:
    one, same, other = await connect(redis.url), await connect(redis.url), await connect(redis.url, "other:")
    await one.write([Save(record("a")), Append("a", events(1, 1, 1))])
    await other.write([Save(record("a", level="error")), Append("a", events(2, 2, 2))])
    assert await same.load("a") == record("a")
    assert await same.events("a") == list(events(1, 1, 1))
    assert (await scanned(same), await scanned(other)) == (["a"], ["a"])
    assert await other.events("a") == list(events(2, 2, 2))


async def test_what_is_no_record_is_reported_once_and_left_alone(
    redis: RedisServer, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    store = await connect(redis.url)
    await store.write([Save(record("good"))])
    redis.cli("SET", f"{PREFIX}foreign-0123", "not JSON")
    redis.cli("SET", f"{PREFIX}copy", redis.cli("GET", f"{PREFIX}good"))
    redis.cli("LPUSH", f"{PREFIX}list", "x")
    for _ in range(2):
        assert await scanned(store) == ["good"]
        assert [await store.load(id) for id in ("foreign-0123", "copy", "list")] == [None, None, None]
    assert sorted(each.getMessage() for each in caplog.records) == [
        f"redis://127.0.0.1:{redis.port}/0: {PREFIX}copy... is damaged or not ours, and is left alone: "
        "it is the record of another session",
        f"redis://127.0.0.1:{redis.port}/0: {PREFIX}foreign-... is damaged or not ours, and is left alone: "
        "JSON is malformed: invalid character (byte 4)",
    ]
    assert redis.cli("GET", f"{PREFIX}foreign-0123") == "not JSON"
    assert redis.cli("TYPE", f"{PREFIX}list") == "list"
    await store.write([Save(record("copy"))])  # it is a session of ours now
    assert await scanned(store) == ["copy", "good"]


async def test_many_keys_that_are_no_records_do_not_fill_the_log(
    redis: RedisServer, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    store = await connect(redis.url)
    redis.cli("MSET", *(word for number in range(100) for word in (f"{PREFIX}{number}", "?")))
    assert await scanned(store) == []
    assert len(caplog.records) == 21
    assert caplog.messages[-1] == f"more keys under {PREFIX} are no records; they are left alone and not reported"


async def test_events_that_are_damaged_are_left_out(redis: RedisServer, connect: Connect) -> None:
    store = await connect(redis.url)
    key = f"mcp_bridge_events:{PREFIX}a"
    await store.write([Save(record("a")), Append("a", events(1, 1, 1))])
    redis.cli("RPUSH", key, "junk", "1 x y", "")
    await store.write([Append("a", events(1, 2, 2))])
    assert await store.events("a") == list(events(1, 1, 2))
    redis.cli("DEL", key)
    redis.cli("SET", key, "junk")
    assert await store.events("a") == []  # else no bridge could read its sessions
    await store.write([Append("a", events(1, 3, 3))])  # no list: begun anew, or no batch would ever be written again
    assert await store.events("a") == list(events(1, 3, 3))


# When it is gone, shut, or slow


async def test_a_server_that_is_not_there_is_unavailable_at_once(connect: Connect) -> None:
    port = free_port()
    before = real_time.monotonic()
    assert "Connect call failed" in await refusal(connect(f"redis://u:{QUOTED}@127.0.0.1:{port}"))
    assert real_time.monotonic() - before < redis_link.CONNECT_TIMEOUT


async def test_a_server_that_comes_back_is_used_again(start_redis: Start, connect: Connect) -> None:
    server = start_redis()
    store = await connect(server.url)
    await store.write([Save(record("before"))])
    await asyncio.gather(*(store.ping() for _ in range(8)))  # every connection is in use
    server.stop()
    owed: list[Change] = [Save(record("owed")), Append("owed", events(1, 1, 3))]
    for call in (
        store.ping(),
        store.load("before"),
        store.write(owed),
        store.events("before"),
        scanned(store),
        store.open(),
    ):
        assert str(server.port) in await refusal(call)
    server.start()
    await store.write(owed)  # not even opened again
    await store.write(owed)
    assert await scanned(store) == ["owed"]
    assert await store.events("owed") == list(events(1, 1, 3))


async def test_connections_that_died_unseen_cost_nothing(start_redis: Start, connect: Connect) -> None:
    server = start_redis()
    store = await connect(server.url)
    await asyncio.gather(*(store.ping() for _ in range(8)))
    server.stop()
    server.start()
    await asyncio.gather(*(store.write([Save(record(str(number)))]) for number in range(20)))
    assert len(await scanned(store)) == 20


async def test_a_server_that_does_not_answer_is_unavailable_in_time(
    start_redis: Start, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start_redis()
    store = await connect(server.url)
    await store.write([Save(record("a"))])
    monkeypatch.setattr(redis_link, "TIMEOUT", 0.2)
    assert server.process is not None
    server.process.send_signal(signal.SIGSTOP)
    calls = [refusal(store.load("a")) for _ in range(30)]  # more than there are connections
    said = set(await asyncio.gather(*calls))
    # On a machine that is slow itself, the limit of one answer may come first.
    assert said <= {
        f"{server.url}: {why}" for why in ("no answer within 0.2 s", f"Timeout reading from {server.where}")
    }
    server.process.send_signal(signal.SIGCONT)
    monkeypatch.setattr(redis_link, "TIMEOUT", 5.0)
    assert await store.load("a") == record("a")


async def test_a_server_that_refuses_a_batch_says_why_without_saying_what_was_in_it(
    start_redis: Start, connect: Connect
) -> None:
    server = start_redis()
    store = await connect(server.url)
    await store.write([Save(record("a"))])
    server.cli("CONFIG", "SET", "maxmemory", "1")
    secret = record("b", metadata={"secret": "s3cret"}, initialize=msgspec.Raw(b'"s3cret"'))
    why = await refusal(store.write([Save(secret), Delete("a")]))
    assert "command not allowed when used memory > 'maxmemory'" in why
    assert "s3cret" not in why
    assert PREFIX not in why
    assert await scanned(store) == ["a"]  # nothing of the batch was done
    server.cli("CONFIG", "SET", "maxmemory", "0")
    await store.write([Save(secret), Delete("a")])
    assert await scanned(store) == ["b"]


async def test_a_read_only_replica_is_unavailable_for_writing(start_redis: Start, connect: Connect) -> None:
    master = start_redis()
    replica = start_redis("--replicaof", "127.0.0.1", str(master.port))
    store = await connect(replica.url)
    assert "read only replica" in await refusal(store.write([Save(record("a"))]))


# Passwords, users, TLS, sockets, sentinels


async def test_a_password_is_sent_and_never_shown(
    start_redis: Start, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server = start_redis("--requirepass", PASSWORD)
    where = f"127.0.0.1:{server.port}"
    store = await connect(f"redis://:{QUOTED}@{where}/2")
    await store.write([Save(record("a"))])
    assert server.cli("-a", PASSWORD, "-n", "2", "EXISTS", f"{PREFIX}a") == "1"
    wrong = await refusal(connect(f"redis://:wr0ng{QUOTED}@{where}"))
    assert wrong.startswith(f"redis://{where}/0: ")
    assert "password" in wrong
    assert "Authentication required" in await refusal(connect(f"redis://{where}"))
    seen = caplog.text + wrong + repr(store)
    assert PASSWORD not in seen
    assert QUOTED not in seen
    assert "wr0ng" not in seen


async def test_an_error_that_quotes_a_password_is_passed_on_without_it(redis: RedisServer) -> None:
    link = redis_link.RedisLink(redis_address(f"{redis.url}?sentinel_password=s3ntinel".replace("//", f"//:{QUOTED}@")))
    link.open()

    async def fail(_: object) -> None:
        raise RedisError(f"AUTH {PASSWORD} s3ntinel failed")

    assert await refusal(link.ask(fail)) == f"{redis.url}: AUTH *** *** failed"
    await link.close()


async def test_a_user_of_redis_with_no_more_rights_than_needed(start_redis: Start, connect: Connect) -> None:
    server = start_redis()
    rights = ("+mget", "+get", "+scan", "+lrange", "+set", "+del", "+persist", "+pexpire", "+eval")
    inside = ("+ping", "+select", "+pttl", "+type", "+rpush", "+ltrim")
    keys = (f"~{PREFIX}*", "~mcp_bridge_events:*")
    server.cli("ACL", "SETUSER", "bridge", "on", f">{PASSWORD}", *keys, *rights, *inside)
    store = await connect(f"redis://bridge:{QUOTED}@127.0.0.1:{server.port}")
    await store.write([Save(fresh("a", ttl=60.0)), Append("a", events(1, 1, 300)), Save(record("b"))])
    await store.write([Delete("b"), Save(fresh("a"))])
    assert await scanned(store) == ["a"]
    assert len(await store.events("a")) == 256
    server.cli("ACL", "SETUSER", "bridge", "-set")
    why = await refusal(store.write([Save(record("c"))]))
    assert "can't run this command" in why or "no permissions to run" in why, "as Redis 7 and 8 say it"
    assert PASSWORD not in why


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    for name, host in (("server", "127.0.0.1"), ("elsewhere", "redis.example"), ("client", "bridge.example")):
        issued = authority.issue_cert(host)
        issued.private_key_pem.write_to_path(str(folder / f"{name}.key"))
        issued.cert_chain_pems[0].write_to_path(str(folder / f"{name}.pem"))
    return folder


def tls(folder: Path, port: int, name: str = "server", clients: str = "no") -> list[str]:
    key, certificate = str(folder / f"{name}.key"), str(folder / f"{name}.pem")
    return [
        *("--tls-port", str(port), "--tls-key-file", key, "--tls-cert-file", certificate),
        *("--tls-ca-cert-file", str(folder / "ca.pem"), "--tls-auth-clients", clients),
    ]


async def test_tls_with_a_private_authority(start_redis: Start, connect: Connect, certificates: Path) -> None:
    port = free_port()
    start_redis(*tls(certificates, port))
    store = await connect(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={certificates}/ca.pem")
    await store.write([Save(record("a"))])
    assert await scanned(store) == ["a"]
    assert "certificate verify failed" in await refusal(connect(f"rediss://127.0.0.1:{port}"))
    unchecked = await connect(f"rediss://127.0.0.1:{port}?ssl_cert_reqs=none")
    assert await scanned(unchecked) == ["a"]
    missing = await refusal(connect(f"rediss://127.0.0.1:{port}?ssl_ca_certs=/does/not/exist.pem"))
    assert missing.startswith(f"rediss://127.0.0.1:{port}/0: ")


async def test_tls_checks_the_name_and_shows_our_certificate(
    start_redis: Start, connect: Connect, certificates: Path
) -> None:
    port = free_port()
    start_redis(*tls(certificates, port, "elsewhere", clients="yes"))
    url = (
        f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificates}/ca.pem"
        f"&ssl_certfile={certificates}/client.pem&ssl_keyfile={certificates}/client.key"
    )
    assert "certificate" in await refusal(connect(url))
    store = await connect(f"{url}&ssl_check_hostname=false")
    await store.write([Save(record("a"))])
    without = f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificates}/ca.pem&ssl_check_hostname=false"
    await refusal(connect(without))


async def test_a_unix_socket(start_redis: Start, connect: Connect, tmp_path: Path) -> None:
    server = start_redis("--unixsocket", f"{tmp_path}/r s.sock")
    store = await connect(f"unix://{tmp_path}/r%20s.sock?db=3")
    await store.write([Save(record("a"))])
    assert server.cli("-n", "3", "EXISTS", f"{PREFIX}a") == "1"
    server.stop()
    assert f"unix://{tmp_path}/r s.sock: " in await refusal(store.ping())


async def written(store: RedisStore, what: SessionRecord) -> bool:
    try:
        await store.write([Save(what)])
    except StoreUnavailable:
        return False
    return True


@pytest.mark.slow
async def test_sentinels_say_where_redis_is_also_after_a_failover(
    start_redis: Start, connect: Connect, tmp_path: Path
) -> None:
    auth = ("--requirepass", PASSWORD, "--masterauth", PASSWORD)
    master = start_redis(*auth)
    replica = start_redis("--replicaof", "127.0.0.1", str(master.port), *auth)
    folder = tmp_path / "sentinel"
    folder.mkdir()
    sentinel = SentinelServer(folder, master.port, f'sentinel auth-pass bridge "{PASSWORD}"', 'requirepass "s3ntinel"')
    sentinel.start()
    try:
        hosts = f"127.0.0.1:{free_port()},127.0.0.1:{sentinel.port}"  # the first one is down
        url = f"redis+sentinel://:{QUOTED}@{hosts}/bridge/1?sentinel_password=s3ntinel"
        store = await connect(url)
        await store.write([Save(record("a"))])
        assert master.cli("-a", PASSWORD, "-n", "1", "EXISTS", f"{PREFIX}a") == "1"
        for wrong, why in (("s3ntinel", "wr0ng-one"), ("/bridge/", "/other/")):
            said = await refusal(connect(url.replace(wrong, why)))
            assert said.startswith(f"redis+sentinel://{hosts}/")
            for secret in (PASSWORD, QUOTED, "s3ntinel", "wr0ng-one"):
                assert secret not in said
        assert "No master found for 'other'" in said

        await wait_until(lambda: replica.cli("-a", PASSWORD, "-n", "1", "EXISTS", f"{PREFIX}a") == "1")
        await wait_until(lambda: "name" in sentinel.cli("-a", "s3ntinel", "SENTINEL", "replicas", "bridge"))
        master.stop()
        failures = 0
        async with asyncio.timeout(40):
            while await written(store, record("b")) is False:
                failures += 1
                await asyncio.sleep(0.1)
        assert failures > 0
        assert replica.cli("-a", PASSWORD, "-n", "1", "EXISTS", f"{PREFIX}b") == "1"
        assert await scanned(store) == ["a", "b"]
    finally:
        sentinel.stop()
