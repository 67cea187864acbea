"""A process that writes batches to a file store until it is killed, and says which are on the disk."""

from __future__ import annotations

import asyncio
import itertools
import sys
from pathlib import Path

from bridge.stores.file import FileStore
from bridge.stores.record import Append, Change, Delete, Save
from tests.stores.conftest import events, record


async def main(directory: str) -> None:
    store = FileStore(Path(directory))
    await store.open()
    for number in itertools.count():
        changes: list[Change] = [Save(record(f"{number}-{part}", ttl=None)) for part in range(20)]
        changes += [Append(f"{number}-{part}", events(1, 1, 10, b"x" * 1000)) for part in range(20)]
        changes += [Delete(f"{number - 5}-{part}") for part in range(20)]
        await store.write(changes)
        print(number, flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
