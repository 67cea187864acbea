"""Choosing a store by the word that SESSION_STORE has. What a store needs is imported when it is chosen."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from bridge.config.redis_address import RedisAddress
from bridge.stores.record import SessionStore


def open_store(
    store: str, *, directory: Path, redis: RedisAddress, prefix: str, clock: Callable[[], float] = time.time
) -> SessionStore:
    """Return the store ``memory``, ``file`` or ``redis``; whoever takes it opens it and closes it.

    ``directory`` is for the file store, ``redis`` and ``prefix`` are for Redis. ``clock`` is the wall clock.
    """
    if store == "redis":
        from bridge.stores.redis import RedisStore

        return RedisStore(redis, prefix, clock=clock)
    if store == "file":
        from bridge.stores.file import FileStore

        return FileStore(directory, clock=clock)
    from bridge.stores.memory import MemoryStore

    return MemoryStore(clock=clock)
