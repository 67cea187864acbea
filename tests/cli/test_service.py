"""The bridge as a service: its unit, and what it tells the manager that starts it."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import socket
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from bridge.cli.main import main
from bridge.cli.service import unit
from bridge.process.systemd import Notifier
from tests.cli.conftest import Serve
from tests.conftest import peer

DEPLOY = Path(__file__).parent.parent.parent / "deploy"


def test_the_unit_that_is_shipped_is_the_one_that_is_written() -> None:
    command = ["/srv/mcp-bridge/.venv/bin/mcp-bridge"]
    written = unit(command, Path("/srv/mcp-bridge"), "mcp-bridge", "/usr/local/bin:/usr/bin:/bin")
    assert (DEPLOY / "mcp-bridge.service").read_text() == written


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed here")
def test_systemd_understands_the_unit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", '/usr/bin:/mnt/c/Program "Files"\\x:/50%n', prepend=":")
    assert main(["service", "show", "--directory", str(tmp_path)]) == 0
    (tmp_path / "mcp-bridge.service").write_text(capsys.readouterr().out)
    verify = ["systemd-analyze", "verify", str(tmp_path / "mcp-bridge.service")]
    done = subprocess.run(verify, capture_output=True, text=True, timeout=30, check=False)
    assert [line for line in done.stderr.splitlines() if "mcp-bridge.service" in line] == []


def test_it_is_installed_and_removed_for_one_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    path = tmp_path / "systemd/user/mcp-bridge.service"
    assert main(["service", "install", "--user", "--directory", str(tmp_path)]) == 0
    assert f"systemctl --user enable --now {path.name}" in capsys.readouterr().out
    text = path.read_text()
    assert f"WorkingDirectory={tmp_path}\n" in text
    assert "User=" not in text
    assert "WantedBy=default.target" in text
    assert main(["service", "remove", "--user"]) == 0
    assert not path.exists()
    assert main(["service", "remove", "--user"]) == 1
    assert f"mcp-bridge: {path} does not exist" in capsys.readouterr().err


def test_where_it_may_not_be_written_the_whole_command_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("bridge.cli.service.folder", lambda *, user: tmp_path / "file/system")
    monkeypatch.setattr("bridge.cli.service.program", lambda: ["/home/ann/my tools/mcp-bridge"])
    assert main(["service", "install"]) == 1
    assert "it needs root: sudo '/home/ann/my tools/mcp-bridge' service install, or --user" in capsys.readouterr().err


def as_sudo_starts_it(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Say this as root in a process that, as sudo does, another one with the environment of the user has started."""
    code = f"import os, sys; os.geteuid = lambda: 0; from bridge.cli.main import main; sys.exit(main({words!r}))"
    replaced = " ".join(f"{name}={value}" for name, value in environ.items())
    return subprocess.run(
        ["/bin/sh", "-c", f'{replaced} "$0" -c "$1"; exit $?', sys.executable, code],
        env={"PATH": "/home/ann/.nvm/bin:relative::/usr/bin:/usr/bin", "PYTHONPATH": str(DEPLOY.parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's")
def test_by_sudo_it_runs_as_the_user_and_finds_what_the_user_finds() -> None:
    said = as_sudo_starts_it("service", "show", PATH="/usr/sbin", USER="root", LOGNAME="root", SUDO_USER="ann")
    assert "\nUser=ann\n" in said.stdout
    assert '\nEnvironment="PATH=/home/ann/.nvm/bin:/usr/bin"\n' in said.stdout
    assert said.stderr == ""


@pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's")
@pytest.mark.parametrize("words", [("service", "show"), ("service", "show", "--user")])
def test_a_unit_that_would_run_as_root_says_so(words: tuple[str, ...]) -> None:
    said = as_sudo_starts_it(*words, PATH="/usr/sbin:/sbin", USER="root", LOGNAME="root")
    assert '\nEnvironment="PATH=/usr/sbin:/sbin"\n' in said.stdout
    assert "WARNING: this unit runs the bridge as root" in said.stderr


async def test_the_manager_hears_of_start_life_and_end(tmp_path: Path, serve: Serve) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        loop = asyncio.get_running_loop()
        bridge = await serve(servers={"peer": peer()}, NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="200000")
        assert await loop.sock_recv(manager, 1000) == f"READY=1\nSTATUS=listens on {bridge.url}".encode()
        for _ in range(3):
            assert await loop.sock_recv(manager, 1000) == b"WATCHDOG=1"
        bridge.process.terminate()
        heard = await loop.sock_recv(manager, 1000)
        while heard == b"WATCHDOG=1":
            heard = await loop.sock_recv(manager, 1000)
        assert heard == b"STOPPING=1"
        assert await bridge.process.wait() == 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="who has sent a datagram is told by Linux")
async def test_the_manager_hears_of_workers_from_their_parent_alone(tmp_path: Path, serve: Serve) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        manager.setblocking(False)
        told = asyncio.Queue[tuple[int, bytes]]()

        def hear() -> None:
            text, credentials, _, _ = manager.recvmsg(1000, socket.CMSG_SPACE(12))
            told.put_nowait((struct.unpack("3i", credentials[0][2])[0], text))

        asyncio.get_running_loop().add_reader(manager, hear)
        where = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
        bridge = await serve("--workers", "2", servers={"peer": peer()}, **where)
        heard = [await told.get()]
        while b"READY=1" not in heard[-1][1]:
            heard.append(await told.get())
        assert heard[-1][1] == f"READY=1\nSTATUS=listens on {bridge.url}, 2 workers".encode()
        heard += [await told.get() for _ in range(3)]
        bridge.process.terminate()
        while heard[-1][1] != b"STOPPING=1":
            heard.append(await told.get())
        assert await bridge.process.wait() == 0
        while not told.empty():
            heard.append(told.get_nowait())
        asyncio.get_running_loop().remove_reader(manager)
    assert {pid for pid, _ in heard} == {bridge.process.pid}
    texts = Counter(text for _, text in heard)
    assert texts.pop(b"WATCHDOG=1") >= 3
    assert set(texts.values()) == {1}
    assert len(texts) == 2


@pytest.mark.parametrize(
    ("environ", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None),  # meant for the process that started us
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
    ],
)
def test_how_often_a_sign_of_life_is_wanted(environ: dict[str, str], interval: float | None) -> None:
    assert Notifier(environ, pid=7).interval == interval


@pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets are Linux's")
def test_an_abstract_socket_is_reached_and_an_absent_one_is_no_error(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + str(tmp_path))
        assert Notifier({"NOTIFY_SOCKET": "@" + str(tmp_path)}).say("A=1", "B=2")
        assert manager.recv(100) == b"A=1\nB=2"
    assert not Notifier({"NOTIFY_SOCKET": str(tmp_path / "absent")}).say("A=1")
    assert not Notifier({}).say("A=1")


def test_a_manager_that_does_not_read_holds_nothing_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        said = list(itertools.takewhile(bool, (notifier.say("WATCHDOG=1", patience=0) for _ in range(100_000))))
        assert 0 < len(said) < 100_000  # as many as the system keeps, and then none
        manager.recv(100)
        assert notifier.say("STOPPING=1")
