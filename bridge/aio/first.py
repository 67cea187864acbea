"""Waiting for whichever comes first."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable


async def any_of(*awaitables: Awaitable[object]) -> None:
    """Return when one of these has ended; the others are cancelled."""
    waits = [asyncio.ensure_future(each) for each in awaitables]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
