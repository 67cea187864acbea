"""What a confined program may do, in real sandboxes, and that the bridge can end one like any other child."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import psutil
import pytest

from bridge.process.limits import Limits
from bridge.process.sandbox import Confinement, Sandbox, confined
from bridge.process.spawn import Command, SpawnError, spawn
from tests.cli.conftest import Serve, below_of, http, initialize, run, serve  # noqa: F401 - fixtures
from tests.conftest import PATIENCE, PEERS, peer
from tests.faults.test_kill import STUBBORN, living, marked
from tests.process.watched import Watched

ROOT = str(PEERS.parent.parent)
#: What the tests need may lie in a place that sandboxes hide.
SEES = tuple(dict.fromkeys(("/", ROOT, sys.prefix, sys.base_prefix)))
#: Enough of it for Python, and no /etc.
PARTS = tuple(path for path in ("/usr", "/bin", "/lib", "/lib64", *SEES[1:]) if Path(path).exists())
needs_bwrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
needs_setpriv = pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv (util-linux) is not installed")
ENV = {"PATH": os.environ["PATH"]}

Start = Callable[..., Awaitable[Watched]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    started: list[Watched] = []

    async def begin(script: str, confinement: Confinement, cwd: Path | None = None, **limits: int) -> Watched:
        argv = (sys.executable, "-I", "-S", "-c", script)
        watched = Watched(Command(argv, ENV, cwd, limits=Limits(**limits), confinement=confinement), limit=100_000)
        started.append(watched)
        await watched.child.start()
        return watched

    yield begin
    for watched in started:
        await watched.child.stop(0.01)


LOOK = """
import json, os, socket
def can(what):
    try:
        what()
        return True
    except OSError:
        return False
def connects():
    socket.create_connection(("127.0.0.1", {port}), timeout=5).close()
print(json.dumps({{
    "cwd": os.getcwd(),
    "writes_cwd": can(lambda: open("new", "w").close()),
    "writes_listed": can(lambda: open("{listed}/new", "w").close()),
    "writes_root": can(lambda: open("/etc/new", "w").close()),
    "writes_tmp": can(lambda: open("/tmp/new-of-a-sandbox", "w").close()),
    "tmp": os.environ.get("TMPDIR"),
    "run": os.listdir("/run"),
    "reads": can(lambda: open("/etc/passwd").close()),
    "connects": can(connects),
    "pids": [int(name) for name in os.listdir("/proc") if name.isdigit()],
    "privileges": [line.split()[1] for line in open("/proc/self/status") if line.startswith(("NoNewPrivs", "CapEff"))],
}}))
"""


@needs_bwrap
@pytest.mark.parametrize("network", [False, True])
async def test_a_sandbox_shows_little_and_lets_less_be_changed(start: Start, tmp_path: Path, network: bool) -> None:
    listed, cwd = tmp_path / "listed", tmp_path / "cwd"
    listed.mkdir()
    cwd.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        script = LOOK.format(port=listening.getsockname()[1], listed=listed)
        it = await start(script, Confinement(Sandbox(SEES, (str(listed),), network)), cwd)
        found = json.loads(await it.line())
    assert found.pop("run") == [] or network
    assert max(found.pop("pids")) < 10  # those of the sandbox only
    assert found == {
        "cwd": str(cwd),
        "writes_cwd": False,
        "writes_listed": True,
        "writes_root": False,
        "writes_tmp": True,
        "tmp": "/tmp",
        "reads": True,
        "connects": network,
        "privileges": ["0000000000000000", "1"],
    }
    assert (listed / "new").exists()
    assert not Path("/tmp/new-of-a-sandbox").exists()  # noqa: ASYNC240


@needs_bwrap
async def test_it_may_see_parts_only(start: Start) -> None:
    it = await start("import os; print(os.path.exists('/etc/passwd'))", Confinement(Sandbox(PARTS)))
    assert await it.line() == "False"


@needs_bwrap
async def test_exit_codes_and_limits_pass_the_sandbox(start: Start) -> None:
    script = "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE)); raise SystemExit(7)"
    it = await start(script, Confinement(Sandbox(SEES)), open_files=50)
    assert await it.line() == "(50, 50)"
    await it.ended.wait()
    assert it.child.obituary.startswith("it exited with code 7")


@needs_bwrap
async def test_the_stop_ladder_leaves_nothing_of_a_sandbox(start: Start) -> None:
    grandchildren = f"exec(open({str(PEERS / 'stubborn.py')!r}).read())"
    it = await start(f"print('up', flush=True); {grandchildren}", Confinement(Sandbox(SEES)))
    assert await it.line() == "up"
    assert it.child.pid is not None
    everything = [psutil.Process(it.child.pid), *psutil.Process(it.child.pid).children(recursive=True)]
    while len(everything) < 5:  # bwrap twice, the program, and two that it starts
        await asyncio.sleep(0)
        everything = [psutil.Process(it.child.pid), *psutil.Process(it.child.pid).children(recursive=True)]
    await it.child.stop(0.2)
    assert living(everything) == []


@needs_bwrap
async def test_kill_9_of_the_bridge_leaves_no_sandbox(serve: Serve, http: aiohttp.ClientSession) -> None:  # noqa: F811
    sandbox = {"sandbox": {"read": list(SEES)}}
    served = await serve(servers={name: {**entry, **sandbox} for name, entry in STUBBORN.items()})
    for server in STUBBORN:
        await initialize(http, f"{served.url}/mcp/{server}")
    everything = marked(served.process.pid)
    assert len(everything) > 8
    served.process.send_signal(signal.SIGKILL)
    await served.process.wait()
    _, left = await asyncio.to_thread(psutil.wait_procs, everything, PATIENCE)
    assert living(left) == []
    assert marked(served.process.pid) == []


@needs_bwrap
async def test_a_server_in_a_sandbox_is_stopped_with_the_bridge(serve: Serve, http: aiohttp.ClientSession) -> None:  # noqa: F811
    served = await serve(servers={"peer": peer(sandbox={"read": list(SEES)}, limits={"openFiles": 60})})
    await initialize(http, f"{served.url}/mcp/peer")
    everything = marked(served.process.pid)
    assert len(everything) == 3
    assert await served.stop() == 0
    assert living(everything) == []
    assert "exited with code 0" in "".join(served.lines)  # end-of-file was enough


@needs_setpriv
async def test_no_new_privileges_without_a_sandbox(start: Start) -> None:
    script = "print([line.split()[1] for line in open('/proc/self/status') if line.startswith('NoNewPrivs')])"
    it = await start(script, Confinement(no_new_privs=True))
    assert await it.line() == "['1']"
    it = await start(script, Confinement())
    assert await it.line() == "['0']"


@pytest.mark.parametrize(
    ("confinement", "limits", "words"),
    [
        (Confinement(Sandbox()), Limits(), '"sandbox" needs the program bwrap.*bubblewrap'),
        (Confinement(Sandbox(), no_new_privs=True), Limits(open_files=9), '"sandbox" needs the program prlimit'),
        (Confinement(no_new_privs=True), Limits(open_files=9), '"noNewPrivs" needs the program setpriv.*util-linux'),
    ],
)
def test_without_its_means_nothing_is_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, confinement: Confinement, limits: Limits, words: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SpawnError, match=words):
        spawn(Command((sys.executable, "-c", "1"), ENV, limits=limits, confinement=confinement))


@needs_bwrap
@needs_setpriv
@pytest.mark.parametrize("confinement", [Confinement(Sandbox()), Confinement(no_new_privs=True)])
@pytest.mark.parametrize(
    ("argv", "cwd", "words"),
    [
        (("no-such-program",), None, "command 'no-such-program' not found"),
        (("/no/such/program",), None, "command '/no/such/program' not found"),
        (("sh",), Path("/no/such/folder"), "working directory '/no/such/folder' does not exist"),
    ],
)
def test_what_cannot_start_is_explained_as_ever(
    argv: tuple[str, ...], cwd: Path | None, words: str, confinement: Confinement
) -> None:
    with pytest.raises(SpawnError, match=words):
        spawn(Command(argv, ENV, cwd, confinement=confinement))


@needs_bwrap
def test_a_path_that_does_not_exist_is_named() -> None:
    with pytest.raises(SpawnError, match='"sandbox": /no/such/place does not exist'):
        spawn(Command(("sh",), ENV, confinement=Confinement(Sandbox(write=("/no/such/place",)))))


@needs_bwrap
async def test_check_tells_how_a_server_is_confined(tmp_path: Path) -> None:
    servers = {
        "tight": peer(sandbox={"read": ["/usr"], "write": "/var/tmp", "network": True}),
        "true": peer(sandbox=True, preload=True),
        "privs": peer(noNewPrivs=True),
    }
    (tmp_path / "servers.json").write_text(json.dumps(servers))
    code, out, _ = await run(tmp_path, "check")
    assert code == 0
    assert "in a sandbox: sees /usr, may change /var/tmp, with network" in out
    assert "in a sandbox: may change nothing, without network" in out
    assert '"preload" is not used with "sandbox"' in out
    assert "without new privileges" in out
    code, out, _ = await run(tmp_path, "check", PATH="/nowhere")
    assert code == 2
    assert 'tight: error: "sandbox" needs the program bwrap' in out


def test_the_last_mount_is_what_may_be_written() -> None:
    argv = confined(("x", "y"), Path("/srv"), Confinement(Sandbox(write=("/srv/data",))), ("--nofile=9",))
    assert argv[:3] == ("prlimit", "--nofile=9", "bwrap")
    assert argv[-3:] == ("--", "x", "y")
    words = " ".join(argv)
    assert words.index("--ro-bind / /") < words.index("--tmpfs /run") < words.index("--ro-bind /srv /srv")
    assert words.index("--ro-bind /srv /srv") < words.index("--bind /srv/data /srv/data")


@needs_setpriv
async def test_forked_children_get_no_new_privileges_either(serve: Serve, http: aiohttp.ClientSession) -> None:  # noqa: F811
    served = await serve(servers={"peer": peer(preload=["json"], noNewPrivs=True)})
    await initialize(http, f"{served.url}/mcp/peer")
    below = below_of(served)
    assert len(below) == 2  # the zygote and its child
    for process in below:
        status = await asyncio.to_thread(Path(f"/proc/{process.pid}/status").read_text)
        assert "NoNewPrivs:\t1" in status
