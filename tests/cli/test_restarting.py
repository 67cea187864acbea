"""Who asks for a restart at which moment. The bridge is no real one, which answers in no order that a test chooses."""

from __future__ import annotations

import asyncio
import errno
import os

import pytest

from bridge.cli.restarting import Restarting
from bridge.config.settings import read_settings
from bridge.process.systemd import Notifier
from bridge.protocol.errors import Rejection


class Busy:
    """A bridge that takes its time to say whether the one before it lives. It has no room to restart."""

    sockets = ()

    def __init__(self) -> None:
        self.begun = 0
        self.may_say = asyncio.Event()

    async def is_busy(self) -> bool:
        await self.may_say.wait()
        return False

    def side(self) -> object:
        self.begun += 1
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/x")


async def test_of_two_that_ask_at_once_one_restarts() -> None:
    bridge = Busy()
    restarting = Restarting(read_settings({}), [], {}, Notifier({}), None, bridge)  # type: ignore[arg-type]
    asking = [asyncio.create_task(restarting.restart(60)) for _ in range(2)]
    await asyncio.sleep(0)  # both have asked
    bridge.may_say.set()
    said = await asyncio.gather(*asking, return_exceptions=True)
    assert bridge.begun == 1
    assert sorted(each.fault.name for each in said if isinstance(each, Rejection)) == ["CONFLICT", "INTERNAL"]


async def test_one_that_could_not_make_its_folder_may_be_asked_again() -> None:
    bridge = Busy()
    bridge.may_say.set()
    restarting = Restarting(read_settings({}), [], {}, Notifier({}), None, bridge)  # type: ignore[arg-type]
    for _ in range(2):
        with pytest.raises(Rejection, match="no folder could be made: /tmp/x: No space left on device"):
            await restarting.restart(60)
    assert bridge.begun == 2
