"""``preload``: the children of a pool come from its zygote while it has one, and always come."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from bridge.children import launcher
from bridge.children.exchange import Exchange
from bridge.children.owner import ChildLimits
from bridge.children.policy import DEDICATED, SHARED, Sharing
from bridge.children.pool import Capacity, ChildPool, Lease
from bridge.config.servers import parse_servers
from bridge.protocol.errors import StartFailed
from bridge.protocol.messages import Request
from tests.conftest import PEERS, in_time, peer

Pool = Callable[..., ChildPool]


@pytest.fixture
async def pool(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Pool]:
    """Make a pool of tests/peers/peer.py that preloads."""
    caplog.set_level(logging.INFO)
    pools: list[ChildPool] = []

    def make(**entry: Any) -> ChildPool:
        text = json.dumps({"peer": {**peer(), "preload": True, **entry}})
        config = parse_servers(text, "servers.json", dict(os.environ)).entries["peer"]
        pools.append(ChildPool(config, ChildLimits(1_000_000, 60), Capacity(100), lambda _line: None))
        return pools[-1]

    yield make
    for each in pools:
        await each.close()


def zygotes(caplog: pytest.LogCaptureFixture) -> list[int]:
    """Process ids of the zygotes that have got ready, as the log has them."""
    lines = [record for record in caplog.records if "modules in" in record.msg]
    return [int(record.args[1]) for record in lines if isinstance(record.args, tuple)]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def parent(lease: Lease) -> int:
    assert lease.child.pid is not None
    return psutil.Process(lease.child.pid).ppid()


async def ping(lease: Lease) -> bytes:
    exchange = Exchange(Request(b"1", "ping"))
    lease.connection.exchange(exchange)
    return await exchange.receive()


async def test_children_are_forked_from_one_zygote(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    made = pool()
    leases = [await made.lease(sharing) for sharing in (DEDICATED, DEDICATED, SHARED)]
    [zygote] = zygotes(caplog)
    assert [parent(lease) for lease in leases] == [zygote] * 3
    assert b'"result"' in await ping(leases[2])
    await made.close()
    assert not psutil.pid_exists(zygote)
    assert not any(psutil.pid_exists(lease.child.pid or 0) for lease in leases)
    assert warnings(caplog) == []


async def test_a_zygote_begins_before_anyone_asks(pool: Pool) -> None:
    made = pool()
    made.keep_warm(DEDICATED)
    made.keep_warm(DEDICATED)
    assert [task.get_name() for task in asyncio.all_tasks() if "peer" in task.get_name()] == ["zygote peer"]


async def test_a_warm_child_is_forked_too(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    made = pool(warm=1)
    warm = Sharing(holders=1, hold="session", warm=1)
    made.keep_warm(warm)
    [child] = made.children
    await child.ready
    lease = await made.lease(warm)
    assert lease.child is child
    assert [parent(lease)] == zygotes(caplog)


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"command": "sh", "args": ["-c", f"exec {sys.executable} {PEERS / 'peer.py'}"]}, "'sh' is no Python script"),
        ({"preload": ["no_such_module"]}, "No module named 'no_such_module'"),
        (
            {"preload": ["nothreads"], "env": {"PYTHONPATH": "{folder}"}, "args": [str(PEERS / "peer.py")]},
            "threads: mine",
        ),
    ],
)
async def test_a_server_that_cannot_preload_is_started_plainly_and_says_so_once(
    entry: dict[str, Any], why: str, pool: Pool, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    (tmp_path / "nothreads.py").write_text(
        "import threading\nthreading.Thread(target=threading.Event().wait, name='mine', daemon=True).start()\n"
    )
    made = pool(**json.loads(json.dumps(entry).replace("{folder}", str(tmp_path))))
    for _ in range(2):
        lease = await made.lease(SHARED)
        assert parent(lease) == os.getpid()
        assert b'"result"' in await ping(lease)
        lease.release()
        await lease.gone()
    [warning] = warnings(caplog)
    assert warning.startswith("server peer: cannot preload, is started plainly: ")
    assert why in warning


async def test_a_program_that_does_not_exist_is_told_as_ever(pool: Pool) -> None:
    with pytest.raises(StartFailed, match="'/no/such/python' not found"):
        await pool(command="/no/such/python").lease(SHARED)


async def test_a_zygote_that_dies_is_replaced_a_few_times_and_its_children_go_on(
    pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    made = pool()
    leases = []
    for deaths in range(launcher.DEATHS):
        lease = await made.lease(DEDICATED)
        leases.append(lease)
        assert parent(lease) == zygotes(caplog)[deaths]
        os.kill(parent(lease), signal.SIGKILL)
        [keeper] = [task for task in asyncio.all_tasks() if task.get_name() == "zygote peer"]
        await asyncio.wait([keeper])
    last = await made.lease(DEDICATED)
    assert parent(last) == os.getpid()
    assert [await ping(lease) for lease in leases]
    assert len(zygotes(caplog)) == len(warnings(caplog)) == launcher.DEATHS
    assert "ended: it was killed by signal 9" in warnings(caplog)[0]


async def test_a_child_is_started_plainly_when_its_zygote_does_not_fork(
    pool: Pool, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    (tmp_path / "hooked.py").write_text("import os\nos.register_at_fork(after_in_child=lambda: os._exit(1))")
    args = [str(PEERS / "peer.py")]
    made = pool(args=args, preload=["hooked"], env={"PYTHONPATH": str(tmp_path)})
    assert parent(await made.lease(DEDICATED)) == os.getpid()
    [warning] = warnings(caplog)
    assert "does not fork: the child did not come as far as its program" in warning


async def test_closing_does_not_wait_for_imports(pool: Pool, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(1000)")
    args = [str(PEERS / "peer.py")]
    made = pool(args=args, preload=["slow"], env={"PYTHONPATH": str(tmp_path)})
    caller = asyncio.create_task(made.lease(SHARED))
    made.keep_warm(DEDICATED)
    await asyncio.sleep(0)
    async with in_time():
        await made.close()
    with pytest.raises(Exception, match="stopped while it started"):
        await caller
