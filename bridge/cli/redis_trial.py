"""Whether Redis keeps sessions for us: one of our own is written, read and deleted, as a bridge does it.

That it answers is not enough: its ACL may refuse scripts or our keys, its memory may be full, it may be a replica.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid

from bridge.cli.findings import Finding
from bridge.config.settings import Settings
from bridge.stores.record import Append, Delete, Event, Save, SessionRecord, SessionStore, StoreUnavailable, Unwritable
from bridge.stores.redis import RedisStore, cluster_prefix, events_prefix
from bridge.stores.redis_owned import OwnedRedisStore

#: Seconds for all of it; the session is gone after them in any case.
SECONDS = 5.0


async def try_redis(settings: Settings) -> Finding:
    """Say whether it does, and why not. With nodes, as one of them."""
    store = RedisStore(settings.redis_url, settings.redis_prefix)
    if settings.cluster is not None:
        store = OwnedRedisStore(settings.redis_url, settings.redis_prefix, "doctor.0", patience=SECONDS)
    try:
        async with asyncio.timeout(SECONDS):
            await store.open()
            await _keep_one(store)
    except TimeoutError:
        why = f"{settings.redis_url}: no answer within {SECONDS:g} s"
        return Finding("error", "bridge", f"Redis at {why}", _repair(why, settings))
    except (StoreUnavailable, Unwritable) as error:
        return Finding("error", "bridge", f"Redis at {error}", _repair(str(error), settings))
    finally:
        with contextlib.suppress(StoreUnavailable):
            await store.close()
    return Finding("ok", "bridge", f"Redis at {settings.redis_url} keeps sessions")


async def _keep_one(store: SessionStore) -> None:
    now = time.time()
    record = SessionRecord(
        id=str(uuid.uuid4()),
        server="doctor",
        config="",
        version=None,
        initialize=None,
        initialized=False,
        level=None,
        subscriptions=[],
        owner="",
        created=now,
        touched=now,
        ttl=SECONDS,
        metadata={},
    )
    try:
        await store.write([Save(record), Append(record.id, (Event(1, 0, b"{}"),))])
        await store.load(record.id)
        await store.events(record.id)
    finally:
        await store.write([Delete(record.id)])


def _repair(why: str, settings: Settings) -> str:
    said = why.lower()
    if "permission" in said or "can't run this command" in said:  # the latter of what a script runs
        prefix = settings.redis_prefix
        prefixes = [prefix, events_prefix(prefix), *([cluster_prefix(prefix)] if settings.cluster is not None else [])]
        keys = " ".join(f"~{each}*" for each in prefixes)
        return f"let its user do that: ACL SETUSER NAME +@read +@write +@connection +eval {keys}"
    if "maxmemory" in said:
        return "give it more memory (maxmemory), or remove what else it keeps"
    if "read only" in said:
        return "it is a replica; REDIS_URL must name the primary"
    return "start it, or correct REDIS_URL"
