"""The file store where files go wrong: killed processes, damage, locks, full and read-only disks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import shutil
import signal
import sqlite3
import stat
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from bridge.stores.database import KEEP_DAMAGED, NAME
from bridge.stores.file import FileStore
from bridge.stores.record import Append, Change, Save, StoreUnavailable
from tests.faketime import FakeTime
from tests.stores.conftest import events, record, scanned

ROOT = Path(__file__).parent.parent.parent
NOBODY = 65534


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "deep" / ".sessions"


@pytest.fixture
async def file(directory: Path, time: FakeTime) -> AsyncIterator[FileStore]:
    store = FileStore(directory, clock=time.clock)
    await store.open()
    yield store
    await store.close()


@contextlib.contextmanager
def sql(directory: Path) -> Iterator[sqlite3.Connection]:
    """The closed database, to break something in it."""
    with contextlib.closing(sqlite3.connect(directory / NAME)) as db:
        yield db
        db.commit()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def open_files() -> set[int]:
    """The inodes of what this process has open."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # of this very look
            found.add(entry.stat().st_ino)
    return found


def chmod(path: Path, mode: int) -> None:
    path.chmod(mode)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def remove(directory: Path, *, instead: bool = False) -> None:
    """Remove the files of a database; ``instead`` puts an empty one there."""
    for path in list(directory.iterdir()):
        path.unlink()
    if instead:
        (directory / "new").touch()
        (directory / "new").rename(directory / NAME)


def damage_a_page(directory: Path) -> None:
    path = directory / NAME
    size = path.stat().st_size
    with path.open("r+b") as raw:
        raw.seek(size // 2 // 4096 * 4096)
        raw.write(b"\xff" * 4096)


async def readable(store: FileStore) -> int:
    """How many sessions it has, once damage has been seen."""
    with contextlib.suppress(StoreUnavailable):
        await store.open()
        await scanned(store)
    await store.open()
    return len(await scanned(store))


async def refusal(store: FileStore) -> str:
    with pytest.raises(StoreUnavailable) as caught:
        await store.open()
    return str(caught.value)


# What is on the disk


async def test_only_we_can_read_it(directory: Path) -> None:
    before = os.umask(0)
    try:
        store = FileStore(directory)
        await store.open()
        await store.write([Save(record("a"))])
        assert mode(directory) == 0o700
        assert names(directory) == [NAME, f"{NAME}-wal"]
        assert {mode(directory / name) for name in names(directory)} == {0o600}
        await store.close()
    finally:
        os.umask(before)


async def test_a_database_that_others_could_read_is_closed_to_them_and_its_directory_is_left_alone(
    directory: Path, file: FileStore
) -> None:
    await file.close()
    chmod(directory, 0o755)
    chmod(directory / NAME, 0o644)
    await file.open()
    assert (mode(directory), mode(directory / NAME)) == (0o755, 0o600)


async def test_what_was_kept_is_there_for_the_next_bridge(directory: Path, file: FileStore) -> None:
    await file.write([Save(record("a")), Append("a", events(1, 1, 3))])
    await file.close()
    async with contextlib.AsyncExitStack() as stack:
        next_one = FileStore(directory)
        stack.push_async_callback(next_one.close)
        await next_one.open()
        assert await next_one.load("a") == record("a")
        assert await next_one.events("a") == list(events(1, 1, 3))


async def test_what_has_expired_is_removed_from_the_file(directory: Path, file: FileStore, time: FakeTime) -> None:
    await file.write([Save(record("a", touched=time.now, ttl=60.0)), Append("a", events(1, 1, 3)), Save(record("b"))])
    await time.advance(60)
    await file.write([Save(record("c"))])
    await file.close()
    await file.open()
    await file.close()
    with sql(directory) as db:
        assert db.execute("SELECT id FROM sessions ORDER BY id").fetchall() == [("b",), ("c",)]
        assert db.execute("SELECT count(*) FROM events").fetchone() == (0,)


async def test_what_has_expired_meanwhile_does_not_come_back_when_the_clock_is_set_back(
    directory: Path, file: FileStore, time: FakeTime
) -> None:
    await file.write([Save(record("a", touched=time.now, ttl=60.0)), Save(record("b"))])
    await file.close()
    time.now += 61
    await file.open()
    time.now -= 61
    assert await scanned(file) == ["b"]


async def test_a_file_of_a_newer_version_is_not_touched(directory: Path, file: FileStore) -> None:
    await file.write([Save(record("a"))])
    await file.close()
    with sql(directory) as db:
        db.execute("PRAGMA user_version = 2")
    assert "written by a newer version (tables 2, not 1)" in await refusal(file)
    with sql(directory) as db:
        db.execute("PRAGMA user_version = 1")
    await file.open()
    assert await scanned(file) == ["a"]


# Processes


@pytest.mark.parametrize("batches", [1, 7, 23])
async def test_a_process_that_is_killed_loses_nothing_that_was_written(directory: Path, batches: int) -> None:
    writer = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.stores.writer", str(directory)), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert writer.stdout is not None
    for _ in range(batches):
        written = int(await writer.stdout.readline())
    writer.kill()  # in the midst of the next one
    for line in (await writer.stdout.read()).split():
        written = int(line)
    await writer.wait()

    store = FileStore(directory)
    await store.open()
    parts: dict[int, int] = {}
    for id in await scanned(store):
        assert await store.events(id) == list(events(1, 1, 10, b"x" * 1000))
        assert await store.load(id) == record(id)
        parts[int(id.split("-")[0])] = parts.get(int(id.split("-")[0]), 0) + 1
    await store.close()
    last = max(parts)
    assert last in (written, written + 1)  # killed behind the write, before it was said
    assert parts == dict.fromkeys(range(max(0, last - 4), last + 1), 20)  # every batch whole
    assert names(directory) == [NAME]  # nothing was damaged


async def test_two_bridges_cannot_have_one_directory(directory: Path, file: FileStore) -> None:
    other = FileStore(directory)
    assert await refusal(other) == (
        f"{directory / NAME}: another process uses it; every bridge needs a SESSION_DIR of its own"
    )
    await file.write([Save(record("a"))])  # which does not hurt the first
    assert "another process" in await refusal(other)
    await file.close()
    await other.open()
    assert await scanned(other) == ["a"]
    await other.close()


async def test_another_process_is_kept_out_and_its_death_opens_the_door(directory: Path, file: FileStore) -> None:
    await file.close()
    writer = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.stores.writer", str(directory)), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert writer.stdout is not None
    await writer.stdout.readline()
    assert "another process uses it" in await refusal(file)
    writer.kill()
    await writer.stdout.read()
    await writer.wait()
    await file.open()
    await file.ping()


# Damage


@pytest.mark.parametrize(
    "damage",
    [b"", b"\xff\xfe not JSON", b'{"id":"bad"}', record("other").to_json(), record("bad").to_json()[:-9]],
)
@pytest.mark.parametrize("way", ["load", "scan"])
async def test_a_damaged_record_is_set_aside_and_reported_once(
    directory: Path, file: FileStore, damage: bytes, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    await file.write([Save(record("good")), Save(record("bad-0123456789")), Append("bad-0123456789", events(1, 1, 1))])
    await file.close()
    with sql(directory) as db:
        db.execute("UPDATE sessions SET record = ? WHERE id = 'bad-0123456789'", (damage,))
    await file.open()
    for _ in range(2):
        assert await scanned(file) == ["good"] if way == "scan" else await file.load("bad-0123456789") is None
    assert await file.events("bad-0123456789") == []
    [line] = [each.getMessage() for each in caplog.records]
    assert line.startswith(f"{directory / NAME}: session bad-0123... is damaged (")
    assert line.endswith(", set aside in table damaged")
    await file.write([Save(record("bad-0123456789"))])  # the id is free again
    assert await scanned(file) == ["bad-0123456789", "good"]
    await file.close()
    with sql(directory) as db:
        assert db.execute("SELECT id, record FROM damaged").fetchall() == [("bad-0123456789", damage)]


async def test_a_bounded_number_of_damaged_records_is_kept(directory: Path, file: FileStore) -> None:
    many = KEEP_DAMAGED + 10
    await file.write([Save(record(str(number), metadata={})) for number in range(many)])
    await file.close()
    with sql(directory) as db:
        db.execute("UPDATE sessions SET record = x'00'")
    logging.getLogger("bridge.stores").setLevel(logging.ERROR)
    try:
        await file.open()
        assert await scanned(file) == []
    finally:
        logging.getLogger("bridge.stores").setLevel(logging.NOTSET)
    await file.close()
    with sql(directory) as db:
        assert db.execute("SELECT count(*) FROM damaged").fetchone() == (KEEP_DAMAGED,)


async def test_a_file_that_is_no_database_is_renamed_and_a_new_one_is_made(
    directory: Path, file: FileStore, caplog: pytest.LogCaptureFixture
) -> None:
    await file.close()
    (directory / NAME).write_bytes(b"this is not a database\n" * 1000)
    await file.open()
    [line] = [each.getMessage() for each in caplog.records]
    [aside] = [directory / name for name in names(directory) if ".damaged-" in name]
    assert line == (
        f"{directory / NAME} was damaged (file is not a database): it is now {aside.name}, "
        "and the new one took over 0 session(s)"
    )
    assert aside.read_bytes().startswith(b"this is not")
    await file.write([Save(record("a"))])
    await file.close()
    await file.open()
    assert await scanned(file) == ["a"]
    assert len(caplog.records) == 1


async def test_a_database_with_a_damaged_page_gives_up_what_can_still_be_read(
    directory: Path, file: FileStore, caplog: pytest.LogCaptureFixture
) -> None:
    await file.write([Save(record(f"{number:04}", metadata={"x": "y" * 500})) for number in range(500)])
    await file.close()
    damage_a_page(directory)
    with contextlib.suppress(StoreUnavailable):  # it may be seen at once, or when the page is read
        await file.open()
        assert len(await scanned(file)) < 500
    await file.open()
    found = await scanned(file)
    assert 400 < len(found) < 500
    assert "0000" in found  # from both ends
    assert "0499" in found
    [line] = [each.getMessage() for each in caplog.records]
    assert f"the new one took over {len(found)} session(s)" in line
    await file.write([Save(record("new"))])
    assert "new" in await scanned(file)


#: Reads a directory as the next bridge does, and is killed when it does something for the nth time that others can see.
RESCUER = """
import asyncio, os, signal, sys
from pathlib import Path
from bridge.stores.file import FileStore
from tests.stores.test_file import readable

left = int(sys.argv[2])

def hear(event, _):
    global left
    if event in ("os.rename", "os.remove", "sqlite3.connect"):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

async def main():
    store = FileStore(Path(sys.argv[1]))
    sys.addaudithook(hear)
    await readable(store)

asyncio.run(main())
"""


async def test_a_bridge_that_is_killed_while_it_gives_up_a_damaged_file_loses_none_of_it(
    directory: Path, file: FileStore, tmp_path: Path
) -> None:
    await file.write([Save(record(f"{number:04}", metadata={"x": "y" * 500})) for number in range(100)])
    await file.close()
    damage_a_page(directory)
    killed, found = 0, set()
    while True:
        copy = tmp_path / f"copy{killed}"
        shutil.copytree(directory, copy)
        rescuer = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", RESCUER, str(copy), str(killed + 1)), cwd=ROOT
        )
        ended = await rescuer.wait()
        after = FileStore(copy)
        found.add(await readable(after))
        await after.close()
        assert [name for name in names(copy) if ".damaged-" not in name] == [NAME]
        if ended == 0:
            break
        assert ended == -signal.SIGKILL
        killed += 1
    assert killed > 8
    assert len(found) == 1
    assert found.pop() > 80


async def test_a_disk_that_is_full_when_a_file_is_damaged_costs_nothing_of_it(directory: Path, file: FileStore) -> None:
    await file.write([Save(record(f"{number:04}", metadata={"x": "y" * 500})) for number in range(500)])
    await file.close()
    damage_a_page(directory)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match=r"disk I/O error|database or disk is full"):
                await readable(file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert await readable(file) > 400


async def test_a_damaged_file_that_another_process_has_is_left_to_it(directory: Path, file: FileStore) -> None:
    await file.write([Save(record(f"{number:04}", metadata={"x": "y" * 500})) for number in range(500)])
    await file.close()
    damage_a_page(directory)
    await file.open()
    with pytest.raises(StoreUnavailable, match="is damaged"):
        await scanned(file)
    with contextlib.closing(sqlite3.connect(directory / NAME, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("SELECT * FROM sessions LIMIT 1").fetchone()
        assert "another process uses it" in await refusal(file)
        assert NAME in names(directory)
    assert await readable(file) > 400


async def test_damage_while_it_is_in_use_is_unavailable_until_it_is_opened_again(
    directory: Path, file: FileStore, caplog: pytest.LogCaptureFixture
) -> None:
    await file.write([Save(record(f"{number:04}", metadata={"x": "y" * 500})) for number in range(20_000)])
    with (directory / NAME).open("r+b") as raw:  # the cache of SQLite is smaller than the file
        raw.truncate(8 * 4096)
    with pytest.raises(StoreUnavailable, match="is damaged: database disk image is malformed"):
        await scanned(file)
    with pytest.raises(StoreUnavailable, match="is not open"):
        await file.ping()
    await file.open()
    await file.write([Save(record("new"))])
    assert "new" in await scanned(file)
    assert len(caplog.records) == 1


async def test_a_log_that_is_damaged_costs_what_was_in_it_only(directory: Path, file: FileStore) -> None:
    await file.write([Save(record("a"))])
    await file.close()
    await file.open()
    await file.write([Save(record("b"))])
    copy = directory.with_name("copy")  # as a power cut would leave it
    shutil.copytree(directory, copy)
    log = copy / f"{NAME}-wal"
    log.write_bytes(log.read_bytes()[:50] + b"\x00" * 5000)
    after = FileStore(copy)
    await after.open()
    assert await scanned(after) == ["a"]
    await after.close()


# Disks


async def test_a_full_disk_is_unavailable_and_what_was_owed_can_be_written_later(file: FileStore) -> None:
    await file.write([Save(record("a"))])
    owed: list[Change] = [Save(record(f"{number}", metadata={"x": "y" * 4000})) for number in range(500)]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        with pytest.raises(StoreUnavailable, match=f"{NAME}: (disk I/O error|database or disk is full)"):
            await file.write([*owed, Save(record("b"))])
        with pytest.raises(StoreUnavailable, match=NAME):
            await asyncio.gather(*(file.ping() for _ in range(100)))  # the log has a little room left
        assert await scanned(file) == ["a"]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    await file.ping()
    await file.write(owed)
    assert len(await scanned(file)) == 501


@contextlib.contextmanager
def without_privileges() -> Iterator[None]:
    """Root may write everywhere: be somebody else for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A directory that nobody may write into, and that others can reach."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        path.mkdir()
        Path(folder).chmod(0o755)
        path.chmod(0o555)
        yield path


async def test_a_directory_that_cannot_be_written_is_unavailable_until_that_is_put_right(read_only: Path) -> None:
    new, old = FileStore(read_only / ".sessions"), FileStore(read_only)
    with without_privileges():
        assert await refusal(new) == f"{read_only / '.sessions'}: Permission denied"
        assert await refusal(old) == f"{read_only / NAME}: Permission denied"
    chmod(read_only, 0o777)
    with without_privileges():
        await new.open()
        await old.open()
        await old.write([Save(record("a"))])
        await new.close()
        await old.close()
        chmod(read_only / NAME, 0o400)  # which its owner can change
        await old.open()
        assert await scanned(old) == ["a"]
        await old.close()


async def test_a_path_that_is_no_directory_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert await refusal(FileStore(tmp_path / "file")) == f"{tmp_path / 'file'}: File exists"
    assert await refusal(FileStore(tmp_path / "file" / "x")) == f"{tmp_path / 'file' / 'x'}: Not a directory"


@pytest.mark.parametrize("what", ["directory", "file", "replaced"])
async def test_a_file_that_was_removed_is_noticed_and_made_anew(directory: Path, file: FileStore, what: str) -> None:
    await file.write([Save(record("a"))])
    if what == "directory":
        shutil.rmtree(directory)
    else:
        remove(directory, instead=what == "replaced")
    call = file.ping() if what == "file" else file.write([Save(record("b"))])
    with pytest.raises(StoreUnavailable, match=r"No such file or directory|was replaced while it was in use"):
        await call
    await file.open()
    await file.write([Save(record("b"))])
    await file.close()
    with sql(directory) as db:
        assert db.execute("SELECT id FROM sessions").fetchall() == [("b",)]


async def test_a_file_that_is_given_up_is_closed_also_when_nobody_waits_for_that(
    directory: Path, file: FileStore
) -> None:
    (directory / NAME).rename(directory / "elsewhere")
    database = (directory / "elsewhere").stat().st_ino
    loop, worker, go = asyncio.get_running_loop(), file._worker, threading.Event()
    writing = asyncio.create_task(file.write([Save(record("a"))]))
    await asyncio.sleep(0)  # the thread has been given the write
    failed = loop.run_in_executor(worker, str)
    stuck = loop.run_in_executor(worker, go.wait)
    await failed  # the write, and the file is to be closed behind what the thread is stuck in
    writing.cancel()
    await asyncio.wait([writing])
    go.set()
    await stuck
    await loop.run_in_executor(worker, str)
    assert database not in open_files()
