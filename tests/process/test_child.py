"""One real process: its lines, its exit, the stop ladder, and what it leaves behind."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import resource
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from bridge.process import child, tree
from bridge.process.limits import Limits
from bridge.process.pipes import USUAL, WIDE, Room
from bridge.process.spawn import Command, SpawnError, spawn
from bridge.process.tree import ProcessTree
from bridge.process.usage import UsageMeter
from bridge.protocol.framing import Oversized
from bridge.protocol.transport import BACKLOG, Stalled
from tests.conftest import in_time
from tests.process.watched import Watched, lives

Start = Callable[..., Awaitable[Watched]]

KERNEL_TELLS = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").exists() and [
    int(number) for number in re.findall(r"\d+", os.uname().release)[:2]
] >= [6, 9]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start a shell script, or a Python one."""
    started: list[Watched] = []

    async def begin(script: str, python: bool = False) -> Watched:
        argv = (sys.executable, "-I", "-S", "-c", script) if python else ("sh", "-c", script)
        watched = Watched(Command(argv, dict(os.environ)))
        started.append(watched)
        await watched.child.start()
        return watched

    yield begin
    for watched in started:
        await watched.child.stop(0.01)


@pytest.fixture(params=["kernel tells", "kernel does not tell", "no pidfd", "no waitid"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the kernel tells what is below a process (CONFIG_PROC_CHILDREN) and in a group (Linux 6.9), or refuses
    descriptors of processes altogether, as gVisor and the seccomp profiles of older containers do; macOS has neither
    those, nor waitid in Python before 3.13.
    """
    if request.param == "no waitid":
        monkeypatch.delattr(os, "waitid")
    if request.param in ("no pidfd", "no waitid"):

        def refuse(_pid: int) -> int:
            raise PermissionError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "pidfd_open", refuse)
    if request.param == "kernel does not tell":
        monkeypatch.setattr(child, "may_have_children", lambda _pid: True)
        monkeypatch.setattr(tree, "_TO_GROUP", 1 << 10)  # no kernel knows that, and each refuses it


async def test_lines_go_in_and_come_out(start: Start) -> None:
    it = await start("cat")
    it.child.write(b"one")
    it.child.write(b"two")
    assert await it.lines.get() == b"one"
    assert await it.lines.get() == b"two"


async def test_large_lines_go_in_between_the_others(start: Start) -> None:
    it = await start("while read -r line; do echo ${#line}; done")
    for line in (b"a" * 70_001, b"b", b"cc", b"d" * 70_002, (b"e", b"f" * USUAL, b"g"), b"hhh", b"iiii"):  # in one turn
        it.child.write(line)
    lengths = [70_001, 1, 2, 70_002, USUAL + 2, 3, 4]
    assert [int(await it.line()) for _ in lengths] == lengths


async def test_the_first_line_tells_that_it_has_started(start: Start) -> None:
    it = await start("read line; echo one; echo two; cat")
    assert it.ups == 0
    it.child.write(b"go")
    assert [await it.line(), await it.line()] == ["one", "two"]
    assert it.ups == 1


async def test_stderr_is_drained_and_its_end_is_remembered(start: Start) -> None:
    it = await start("seq 1 100 >&2; exit 3")
    await it.ended.wait()
    assert it.child.returncode == 3
    assert it.child.last_words == " | ".join(str(number) for number in range(71, 101))


async def test_lines_of_stderr_stay_as_they_were_written(start: Start) -> None:
    it = await start("printf 'a:\\n  - 1  \\r\\n\\tb\\n' >&2")
    await it.ended.wait()
    assert it.errors == ["a:", "  - 1", "\tb"]


FRAMES = "\n".join(f"{number:2}: 0x195e476 [npm exec server]" for number in range(1, 19))


@pytest.mark.parametrize(
    ("said", "last"),
    [
        ("retrying\nno config\n\n", "no config"),
        ("Error: old: one\nno config", "no config"),
        ("FATAL ERROR: out of memory\n----- Native stack trace -----\n\n" + FRAMES, "FATAL ERROR: out of memory"),
        (
            "x.js:1\n^\n\nTypeError: no config\n    at x.js:1:7\n    at y.js:2:1\n\nNode.js v24.1.0",
            "TypeError: no config",
        ),
        (
            "Error: Cannot find module 'x'\nRequire stack:\n- s.js\n    at f (s.js:1) {\n  code: 'X'\n}\n\nNode.js v24",
            "Error: Cannot find module 'x'",
        ),
        ("  throw new ERR_X();\nError [ERR_X]: no\n    at x {\n  code: 'ERR_X'\n}", "Error [ERR_X]: no"),
        ("[Error: ENOENT: gone] {\n  errno: -2\n}\n\nNode.js v24.1.0", "[Error: ENOENT: gone] {"),
        ('UnhandledPromiseRejection: This error is "x".\n    at x:1', 'UnhandledPromiseRejection: This error is "x".'),
        ("1: x.js:1:9\n2: y.js:1:9", "2: y.js:1:9"),
        (
            "[12:35:33] INFO  Starting server 'x' with   x.py:241\n                 transport 'stdio'\n",
            "[12:35:33] INFO  Starting server 'x' with   x.py:241",
        ),
        ("docker: no daemon\n\nRun 'docker run --help' for more information", "docker: no daemon"),
        ("ls: unrecognized option '--x'\nTry 'ls --help' for more information.", "ls: unrecognized option '--x'"),
        (
            "error: unexpected argument '--x' found\n\nUsage: uvx [OPTIONS]\n\nFor more information, try '--help'.",
            "error: unexpected argument '--x' found",
        ),
        ("Run it with --help", "Run it with --help"),
        (
            "error: No solution found\n  cause: Because x was not found.\n\nhint: The network is disabled.",
            "error: No solution found: Because x was not found.",
        ),
        (
            "error: Failed to fetch: x\n  Caused by: no answer\n  Caused by: invalid peer certificate",
            "error: Failed to fetch: x: invalid peer certificate",
        ),
        ("  cause: x", "cause: x"),
        ("no config\nhint: make one", "no config"),
        (
            "npm error code E404\nnpm error 404 Not Found - GET /x\nnpm error 404\nnpm error 404  no 'x'\n"
            "npm error A complete log of this run can be found in: x.log",
            "npm error 404 Not Found - GET /x",
        ),
        (
            "npm warn x\nnpm ERR! code ECONNREFUSED\nnpm ERR! errno -1\nnpm ERR! FetchError: no x\nnpm ERR!   at x:1\n"
            "npm ERR!   errno: -1\nnpm ERR! }\nnpm ERR!\nnpm ERR! A complete log can be found",
            "npm ERR! FetchError: no x",
        ),
        ("npm error code E1\n", "npm error code E1"),
        (
            "begins\n  + Exception Group Traceback (most recent call last):\n  |   File 'x'\n  | ExceptionGroup: x\n"
            "  +-+---------------- 1 ----------------\n    | Traceback (most recent call last):\n    |   File 'y'\n"
            "    | ValueError: no config\n    +------------------------------------\n",
            "ValueError: no config",
        ),
        ("| a | table |\n+---+", "+---+"),
        ("╭───╮\n│ no config │\n│ ▄▀ █│\n╰───╯\n", "no config"),
        ("  only this", "only this"),
    ],
)
async def test_the_last_words_are_the_error_and_not_its_stack(start: Start, said: str, last: str) -> None:
    it = await start(f"import sys; sys.stderr.write({said!r}); sys.exit(3)", python=True)
    await it.ended.wait()
    assert it.child.obituary == f"it exited with code 3; last words: {last}"


async def test_an_exit_that_was_asked_for_has_no_last_words(start: Start) -> None:
    it = await start("echo ready >&2; read line; exit 0")
    assert await it.stderr.get() == b"ready"
    await it.child.stop(60)
    assert it.child.obituary == "it exited with code 0"


async def test_a_stop_after_its_end_takes_no_words_back(start: Start) -> None:
    it = await start("echo no config >&2; exit 3")
    await it.ended.wait()
    await it.child.stop(60)
    assert it.child.obituary == "it exited with code 3; last words: no config"


async def test_what_a_child_writes_last_still_arrives(start: Start) -> None:
    it = await start("seq 1 5000; exit 0")
    await it.ended.wait()
    assert it.lines.qsize() == 5000


@pytest.mark.usefixtures("kernel")
async def test_an_exit_is_seen_while_a_grandchild_holds_the_pipes(start: Start) -> None:
    it = await start("sleep 1000 & echo $!; exit 4")
    grandchild = int(await it.lines.get())
    async with in_time():
        await it.ended.wait()
    assert it.child.returncode == 4
    await it.child.stop(0.01)
    assert not lives(grandchild)


@pytest.mark.usefixtures("kernel")
async def test_a_polite_child_ends_at_end_of_file(start: Start) -> None:
    it = await start("cat; exit 0")
    await it.child.stop(60)
    assert it.child.returncode == 0


async def test_a_child_that_ignores_end_of_file_gets_sigterm(start: Start) -> None:
    it = await start("exec sleep 1000")
    await it.child.stop(0.01)
    assert it.child.returncode == -signal.SIGTERM


@pytest.mark.usefixtures("kernel")
async def test_a_child_that_ignores_sigterm_is_killed(start: Start) -> None:
    it = await start(
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); "
        "time.sleep(1000)",
        python=True,
    )
    assert await it.lines.get() == b"deaf"
    await it.child.stop(0.01)
    assert it.child.returncode == -signal.SIGKILL


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("new_session", [False, True])
async def test_the_grandchildren_of_a_stopped_child_end_too(start: Start, new_session: bool) -> None:
    it = await start(
        f"import subprocess, sys; p = subprocess.Popen(['sleep', '1000'], start_new_session={new_session}); "
        "print(p.pid, flush=True); sys.stdin.read()",
        python=True,
    )
    grandchild = int(await it.lines.get())
    await it.child.stop(5)
    assert it.child.returncode == 0
    assert not lives(grandchild)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("new_session", [False, True])
async def test_a_grandchild_that_ignores_sigterm_is_gone_when_the_stop_is_over(start: Start, new_session: bool) -> None:
    it = await start(
        "import signal, subprocess, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        f"p = subprocess.Popen(['sleep', '1000'], start_new_session={new_session}); "
        "print(p.pid, flush=True); sys.stdin.read()",
        python=True,
    )
    grandchild = int(await it.line())
    await it.child.stop(0.05)
    assert not lives(grandchild)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody tells the environment of a process")
@pytest.mark.usefixtures("kernel")
async def test_what_a_child_that_has_ended_by_itself_had_started_elsewhere_ends_too(start: Start) -> None:
    program = (
        "import subprocess, sys; p = subprocess.Popen(['sleep', '1000'], start_new_session=True); "
        "print(p.pid, flush=True); sys.stdin.readline(); sys.exit(7)"
    )
    it, other = await start(program, python=True), await start(program, python=True)
    left, others = int(await it.line()), int(await other.line())
    it.child.write(b"end")
    await it.ended.wait()
    assert lives(left)
    await it.child.stop(5)
    assert it.child.returncode == 7
    assert not lives(left)
    assert lives(others)


@pytest.mark.usefixtures("kernel")
async def test_a_grandchild_that_a_thread_has_started_ends_too(start: Start) -> None:
    it = await start(
        "import subprocess, sys, threading\n"
        "def work():\n"
        "    p = subprocess.Popen(['sleep', '1000'], start_new_session=True)\n"
        "    print(p.pid, flush=True)\n"
        "    p.wait()\n"
        "threading.Thread(target=work, daemon=True).start()\n"
        "sys.stdin.read()",
        python=True,
    )
    grandchild = int(await it.line())
    await it.child.stop(5)
    assert not lives(grandchild)


@pytest.mark.skipif(not KERNEL_TELLS, reason="this kernel does not tell what is below a process, and in its group")
async def test_a_child_that_has_started_nothing_is_stopped_without_a_look_at_other_processes(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = await start("exec cat")
    for name in ("look", "look_for", "refresh"):
        monkeypatch.setattr(ProcessTree, name, lambda _tree: pytest.fail("it was looked for what is not there"))
    await it.child.stop(60)
    assert it.child.returncode == 0


async def test_a_frozen_child_is_killed(start: Start) -> None:
    it = await start("cat")
    os.kill(it.child.pid, signal.SIGSTOP)
    await it.child.stop(0.01)
    assert it.child.returncode == -signal.SIGKILL


async def test_stopping_twice_is_once(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    it = await start("cat")
    await it.child.stop(5)
    signalled: list[int] = []
    monkeypatch.setattr(os, "killpg", lambda group, _number: signalled.append(group))
    await it.child.stop(5)
    assert it.child.pid not in signalled, "its number may be another's by now"


async def test_no_zombie_stays(start: Start) -> None:
    it = await start("exit 0")
    await it.ended.wait()
    await it.child.stop(0.01)
    assert not psutil.pid_exists(it.child.pid)


async def test_a_child_that_does_not_read_is_refused_more(start: Start) -> None:
    it = await start("exec sleep 1000")
    it.child.write(b"x" * (BACKLOG + 1024 * 1024))
    with pytest.raises(Stalled):
        it.child.write(b"one more")


def pipe_size(it: Watched, number: int = 0) -> int:
    """Bytes that fit into the pipe of its stdin, or of another stream."""
    with Path(f"/proc/{it.child.pid}/fd/{number}").open("wb" if number else "rb", buffering=0) as end:
        return fcntl.fcntl(end, fcntl.F_GETPIPE_SZ)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has pipes whose size is known and can change")
async def test_the_pipe_of_a_large_line_is_made_wide_where_not_too_many_are(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.process.pipes.MOST_WIDE", Room.taken + 1)
    first, second = await start("exec sleep 1000"), await start("exec sleep 1000")
    usual = pipe_size(first)
    first.child.write(b"x" * USUAL)
    assert pipe_size(first) == usual < WIDE
    for it in (first, second):
        it.child.write(b"x" * (USUAL + 1))
    assert (pipe_size(first), pipe_size(second)) == (WIDE, usual)
    await first.child.stop(0.01)  # so that there may be another one
    second.child.write(b"x" * (USUAL + 1))
    assert pipe_size(second) == WIDE


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has pipes whose size is known and can change")
async def test_the_pipe_of_a_large_answer_is_made_wide_too(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Room.taken
    monkeypatch.setattr("bridge.process.pipes.MOST_WIDE", before + 1)
    first, second = [
        await start("echo small; read x; head -c 300000 /dev/zero | tr '\\0' x; echo; exec sleep 1000") for _ in "ab"
    ]
    for it, size in ((first, WIDE), (second, USUAL)):
        assert await it.lines.get() == b"small"
        assert pipe_size(it, 1) == USUAL
        it.child.write(b"go on")
        assert isinstance(await it.lines.get(), Oversized)
        assert pipe_size(it, 1) == size
    await first.child.stop(0.01)
    assert Room.taken == before


async def test_a_line_over_the_limit_is_told_and_the_next_one_is_whole(start: Start) -> None:
    it = await start("head -c 5000 /dev/zero | tr '\\0' x; echo; echo next")
    first = await it.lines.get()
    assert isinstance(first, Oversized)
    assert first.size == 5000
    assert await it.lines.get() == b"next"


@pytest.mark.parametrize(
    ("argv", "cwd", "words"),
    [
        (("/no/such/program",), None, "not found"),
        (("no-such-program",), None, "not found"),
        (("/",), None, "may not be executed"),
        (("sh",), Path("/no/such/folder"), "working directory"),
        (("sh", "a\0b"), None, "null byte"),
    ],
)
def test_a_program_that_cannot_start_is_explained(argv: tuple[str, ...], cwd: Path | None, words: str) -> None:
    with pytest.raises(SpawnError, match=words):
        spawn(Command(argv, {"PATH": "/usr/bin:/bin"}, cwd))


def test_a_file_that_is_no_program_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"\x00\x01")
    path.chmod(0o755)
    with pytest.raises(SpawnError, match="is no program"):
        spawn(Command((str(path),), {}))


def test_the_environment_of_a_command_is_never_shown() -> None:
    assert "hush" not in repr(Command(("a",), {"TOKEN": "hush"}))


def test_usage_is_measured_for_those_who_live() -> None:
    found = UsageMeter().measure([os.getpid(), 2**22 + 1])
    assert list(found) == [os.getpid()]
    assert found[os.getpid()].resident_bytes > 1_000_000


async def test_a_child_is_stopped_although_there_is_no_descriptor_left_to_look_at_processes(start: Start) -> None:
    it = await start("exec sleep 1000")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        await it.child.stop(0.01)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert it.child.returncode == -signal.SIGTERM


async def test_a_child_whose_limits_cannot_be_set_is_ended_and_that_is_explained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:  # as the kernel does for a program that runs as another user
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(resource, "prlimit", refuse)
    it = Watched(Command(("sleep", "1000"), dict(os.environ), limits=Limits(open_files=64)))
    with pytest.raises(SpawnError, match=r"cannot be set on 'sleep': Operation not permitted"):
        await it.child.start()
    async with in_time():
        await it.child.stop(60)
    assert it.child.returncode == -signal.SIGKILL
    assert not psutil.pid_exists(it.child.pid)


async def test_limits_where_there_are_none_are_refused_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(resource, "prlimit")  # as on macOS
    it = Watched(Command(("sleep", "1000"), dict(os.environ), limits=Limits(open_files=64)))
    with pytest.raises(SpawnError, match="need Linux"):
        await it.child.start()
    assert it.child.pid is None
    async with in_time():
        await it.child.stop(60)
    other = Watched(Command(("cat",), dict(os.environ)))
    await other.child.start()
    await other.child.stop(60)
    assert other.child.returncode == 0


async def test_a_child_is_stopped_although_the_system_keeps_no_exit_codes(start: Start) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # as whoever starts the bridge may have left it
    try:
        it = await start("cat")
        async with in_time():
            await it.child.stop(60)
        assert it.child.exited.done()
        assert it.child.returncode is None
    finally:
        signal.signal(signal.SIGCHLD, before)


async def test_a_child_is_stopped_although_no_descriptor_was_left_for_its_pipes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def exhausted(_fd: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    it = Watched(Command(("cat",), dict(os.environ)))
    with monkeypatch.context() as patch:
        patch.setattr(os, "dup", exhausted)
        with pytest.raises(OSError, match="Too many open files"):
            await it.child.start()
    async with in_time():
        await it.child.stop(0.01)
    assert not psutil.pid_exists(it.child.pid)
