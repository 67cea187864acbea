"""How zygotes and their children end, by themselves or by force, and what a zygote refuses to begin."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from bridge.process import child
from bridge.process import zygote as zygote_module
from bridge.process.spawn import Command
from bridge.process.zygote import Zygote, ZygoteError
from tests.conftest import PATIENCE, PEERS, in_time
from tests.process.conftest import Grow, Watch, python
from tests.process.watched import lives


def echo(folder: Path) -> Command:
    """Repeats each line."""
    (folder / "s.py").write_text("import sys\nfor line in sys.stdin: print(line, end='', flush=True)\n")
    return python(folder)


def stubborn(folder: Path) -> Command:
    """Ignores end-of-file and SIGTERM, and has a grandchild in its group and one outside of it."""
    (folder / "s.py").write_text(
        "import signal, subprocess, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "there = [subprocess.Popen(['sleep', '1000'], start_new_session=new).pid for new in (False, True)]\n"
        "print(*there, flush=True)\n"
        "while True: time.sleep(1000)\n"
    )
    return python(folder)


@pytest.mark.parametrize(
    ("last", "code"),
    [
        ("", 0),
        ("sys.exit(3)", 3),
        ("sys.exit('no licence')", 1),
        ("raise ValueError('why')", 1),
        ("os._exit(4)", 4),
        ("os.kill(os.getpid(), 15)", -signal.SIGTERM),
        ("os.abort()", -signal.SIGABRT),
        ("raise KeyboardInterrupt", -signal.SIGINT),
    ],
)
@pytest.mark.parametrize("line", ["{python} s.py", "{python} -m s"])
async def test_a_child_ends_as_a_plain_one_does(
    last: str, code: int, line: str, tmp_path: Path, watch: Watch, grow: Grow
) -> None:
    (tmp_path / "s.py").write_text(f"import os, sys\nprint('begun', flush=True)\nprint('unflushed')\n{last}\n")
    command = python(tmp_path, line)
    ends = []
    for it in (await watch(command), await watch(command, await grow(command))):
        await it.ended.wait()
        assert it.child.returncode == code
        said = [await it.line() for _ in range(it.lines.qsize())]
        errors = it.errors
        ends.append((said, errors[:1], errors[-1:]))  # the frames of a traceback differ
    assert ends[0] == ends[1]


async def test_a_killed_child_is_seen_and_leaves_no_zombie(tmp_path: Path, watch: Watch, grow: Grow) -> None:
    command = echo(tmp_path)
    zygote = await grow(command)
    it = await watch(command, zygote)
    os.kill(it.child.pid, signal.SIGKILL)
    await it.ended.wait()
    assert it.child.returncode == -signal.SIGKILL
    assert psutil.Process(it.child.pid).status() == psutil.STATUS_ZOMBIE  # its number is kept
    await it.child.stop(1)
    await it.child.stop(1)
    await watch(command, zygote)  # asked for later, so the zygote has reaped the first by now
    assert not psutil.pid_exists(it.child.pid)


async def test_the_stop_ladder_ends_a_stubborn_child_and_its_tree(tmp_path: Path, watch: Watch, grow: Grow) -> None:
    command = stubborn(tmp_path)
    zygote = await grow(command)
    it = await watch(command, zygote)
    in_group, outside = map(int, (await it.line()).split())
    await it.child.stop(0.05)
    assert it.child.returncode == -signal.SIGKILL
    assert not lives(in_group)
    assert not lives(outside)
    assert lives(zygote.pid)


async def test_a_child_outlives_its_zygote(
    tmp_path: Path, watch: Watch, grow: Grow, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = echo(tmp_path)
    zygote = await grow(command)
    it, other = await watch(command, zygote), await watch(command, zygote)
    os.kill(zygote.pid, signal.SIGKILL)
    await zygote.ended.wait()
    assert zygote.obituary == "it was killed by signal 9"
    it.child.write(b"still there")
    assert await it.line() == "still there"
    with pytest.raises(ZygoteError, match="killed by signal 9"):
        await zygote.fork()
    it.child.close_stdin()
    await it.ended.wait()
    with monkeypatch.context() as patch:
        signalled: list[int] = []
        patch.setattr(os, "killpg", lambda group, _number: signalled.append(group))
        await it.child.stop(1)
    assert it.child.pid not in signalled, "its number may be another's by now"
    assert it.child.returncode is None
    assert it.child.obituary == "it ended, with an exit code that is not known"
    await other.child.stop(1)
    assert not lives(other.child.pid)


async def test_a_zygote_that_is_stopped_takes_its_children_with_it(tmp_path: Path, watch: Watch, grow: Grow) -> None:
    command = stubborn(tmp_path)
    zygote = await grow(command)
    it = await watch(command, zygote)
    tree = [it.child.pid, *map(int, (await it.line()).split())]
    await zygote.stop(5)
    assert not any(map(lives, tree))
    assert not psutil.pid_exists(zygote.pid)


async def test_nothing_of_a_zygote_is_left_when_the_bridge_is_killed(tmp_path: Path) -> None:
    stubborn(tmp_path)
    (tmp_path / "bridge_.py").write_text(
        "import asyncio, os, sys\n"
        "from pathlib import Path\n"
        "from bridge.process.spawn import Command\n"
        "from bridge.process.zygote import Zygote\n"
        "async def main():\n"
        "    zygote = Zygote(Command((sys.executable, 's.py'), dict(os.environ), Path.cwd()), (), print)\n"
        "    await zygote.start(30)\n"
        "    child = await zygote.fork()\n"
        "    print(zygote.pid, child.pid, flush=True)\n"
        "    print(child.pipes[1].readline().decode(), flush=True)\n"
        "    await asyncio.sleep(1000)\n"
        "asyncio.run(main())\n"
    )
    env = {**os.environ, "PYTHONPATH": str(PEERS.parent.parent)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "bridge_.py", cwd=tmp_path, env=env, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    pids = (await process.stdout.readline()).split() + (await process.stdout.readline()).split()
    left = [psutil.Process(int(pid)) for pid in pids]
    assert len(left) == 4
    process.kill()
    await process.wait()
    _, alive = await asyncio.to_thread(psutil.wait_procs, left, PATIENCE)
    assert alive == []


# What a zygote cannot do


@pytest.mark.parametrize(
    ("module", "text", "why"),
    [
        ("missing", "import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("leaving", "raise SystemExit(5)", "SystemExit: 5"),
        (
            "threaded",
            "import threading, time\nthreading.Thread(target=time.sleep, args=(99,), name='mine', daemon=True).start()",
            "its imports have started threads: mine",
        ),
        (
            "native",
            "import _thread, time\n_thread.start_new_thread(time.sleep, (99,))",
            r"its imports have started 1 thread\(s\) of a library",
        ),
        (
            "connected",
            "import socket\nkept = socket.socket()",
            r"its imports have opened socket:\[\d+\], which children cannot share",
        ),
        (
            "looped",
            "import asyncio\nkept = asyncio.new_event_loop()",
            r"its imports have opened (anon_inode:\[eventpoll\]|socket)",
        ),
        ("reading", "kept = open(__file__)", r"its imports have opened .*/reading\.py, which"),
        ("crashing", "import os\nos.abort()", "it was killed by signal 6"),
        ("unreadable", "x =", "SyntaxError"),
    ],
)
async def test_what_a_fork_would_break_is_refused(module: str, text: str, why: str, tmp_path: Path, grow: Grow) -> None:
    (tmp_path / f"{module}.py").write_text(text)
    (tmp_path / "s.py").write_text(f"import {module}")
    with pytest.raises(ZygoteError, match=why):
        await grow(python(tmp_path))


async def test_a_log_and_a_device_may_be_open(tmp_path: Path, watch: Watch, grow: Grow) -> None:
    (tmp_path / "opens.py").write_text("log = open('log', 'a')\nnull = open('/dev/null')\n")
    (tmp_path / "s.py").write_text("import opens\nprint(opens.log.name)")
    it = await watch(python(tmp_path), await grow(python(tmp_path)))
    assert await it.line() == "log"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{folder}/tool", "'tool' is no Python script"),
        ("{python} no-such-script.py", "FileNotFoundError"),
        ("{python} -m no_such_module", "there is no module no_such_module that can be run"),
        ("{python} -m package", "there is no module package that can be run"),
        ("{folder}/python -m x", "not found"),
    ],
)
async def test_a_command_without_a_zygote_says_why(line: str, why: str, tmp_path: Path, grow: Grow) -> None:
    (tmp_path / "tool").write_text("#!/bin/sh\n")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    with pytest.raises(ZygoteError, match=why):
        await grow(python(tmp_path, line))


async def test_it_needs_pidfds(tmp_path: Path, grow: Grow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    with pytest.raises(ZygoteError, match="on Linux only"):
        await grow(echo(tmp_path))


async def test_imports_that_never_end_are_given_up(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text("import slow")
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(1000)")
    zygote = Zygote(python(tmp_path), (), [].append)
    with pytest.raises(ZygoteError, match=r"its imports took more than 0\.05 s"):
        await zygote.start(0.05)
    async with in_time():
        await zygote.stop(1000)  # it hears nothing, so there is nothing to wait for


async def test_the_last_words_of_a_zygote_may_come_behind_its_end(
    tmp_path: Path, grow: Grow, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    add_reader = loop.add_reader
    # The loop that looks at the socket last is this one, which never does.
    monkeypatch.setattr(loop, "add_reader", lambda fd, call: call.__name__ == "_hear" or add_reader(fd, call))
    with pytest.raises(ZygoteError, match="there is no module x"):
        await grow(python(tmp_path, "{python} -m x"))


async def test_modules_read_nothing_from_stdin(tmp_path: Path, watch: Watch, grow: Grow) -> None:
    (tmp_path / "reads.py").write_text("import sys\nfound = sys.stdin.read()")
    (tmp_path / "s.py").write_text("import reads, sys\nprint([reads.found, sys.stdin.readline()])")
    it = await watch(python(tmp_path), await grow(python(tmp_path)))
    it.child.write(b"for the child")
    assert await it.line() == r"['', 'for the child\n']"


async def test_no_descriptor_of_the_bridge_is_left(tmp_path: Path, watch: Watch) -> None:
    before = 0
    for _ in range(2):  # the first one may open what lives as long as the process
        before = psutil.Process().num_fds()
        zygote = Zygote(echo(tmp_path), (), [].append)
        await zygote.start(30)
        it = await watch(echo(tmp_path), zygote)
        os.kill(it.child.pid, signal.SIGKILL)
        await it.child.stop(1)
        await zygote.stop(1)
        with pytest.raises(ZygoteError):
            await zygote.fork()
    assert psutil.Process().num_fds() == before


async def test_a_child_that_a_hook_ends_is_refused(tmp_path: Path, grow: Grow) -> None:
    (tmp_path / "hooked.py").write_text("import os\nos.register_at_fork(after_in_child=lambda: os._exit(1))")
    (tmp_path / "s.py").write_text("import hooked")
    zygote = await grow(python(tmp_path))
    for _ in range(2):
        with pytest.raises(ZygoteError, match="did not come as far as its program"):
            await zygote.fork()
    assert psutil.Process(zygote.pid).children() == []


async def test_a_zygote_that_does_not_fork_in_time_is_ended(
    tmp_path: Path, grow: Grow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zygote_module, "FORK_PATIENCE", 0.05)
    zygote = await grow(echo(tmp_path))
    os.kill(zygote.pid, signal.SIGSTOP)
    with pytest.raises(ZygoteError, match=r"did not fork within 0\.05 s"):
        await zygote.fork()
    await zygote.ended.wait()
    assert not lives(zygote.pid)


async def test_a_frozen_zygote_keeps_no_exit_from_being_seen(
    tmp_path: Path, watch: Watch, grow: Grow, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = echo(tmp_path)
    zygote = await grow(command)
    it, other = await watch(command, zygote), await watch(command, zygote)
    os.kill(zygote.pid, signal.SIGSTOP)
    with monkeypatch.context() as patch:
        patch.setattr(zygote_module, "STATUS_PATIENCE", 0.05)
        it.child.kill()
        async with in_time():
            await asyncio.wait([it.child.exited])
    assert it.child.returncode is None
    os.kill(zygote.pid, signal.SIGCONT)
    other.child.kill()
    await other.ended.wait()
    assert other.child.returncode == -signal.SIGKILL  # and not the late answer for the first


async def test_a_child_that_nobody_waits_for_any_more_is_ended(tmp_path: Path, watch: Watch, grow: Grow) -> None:
    command = echo(tmp_path)
    zygote = await grow(command)
    os.kill(zygote.pid, signal.SIGSTOP)
    unwanted = asyncio.create_task(zygote.fork())
    await asyncio.sleep(0)
    unwanted.cancel()
    with pytest.raises(asyncio.CancelledError):
        await unwanted
    os.kill(zygote.pid, signal.SIGCONT)
    first = await watch(command, zygote)  # its answer comes behind that of the other
    second = await watch(command, zygote)  # and this one is forked when that has been reaped
    assert {child.pid for child in psutil.Process(zygote.pid).children()} == {first.child.pid, second.child.pid}


async def test_the_end_of_a_child_is_seen_although_no_descriptor_was_left_to_see_it_by(
    tmp_path: Path, watch: Watch, grow: Grow, monkeypatch: pytest.MonkeyPatch
) -> None:
    zygote = await grow(echo(tmp_path))
    monkeypatch.setattr(child, "open_pidfd", lambda _pid: None)
    it = await watch(echo(tmp_path), zygote)
    it.child.write(b"lives")
    assert await it.line() == "lives"
    async with in_time():
        await it.child.stop(0.5)
    assert it.child.returncode == 0
