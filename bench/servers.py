"""Starts the servers that are compared, each as a process of its own, and reads what it costs from the system."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from bench.mcp import Headers, open_session
from bench.programs import HERE, program
from bridge.config.settings import setting_names

#: Seconds that a server may take until it answers.
START = 60.0


class ServerFailed(Exception):
    """A server did not start, or does not answer."""


class Server:
    """A running server under test. ``path`` is where its MCP endpoint is."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], port: int, path: str, log: Path) -> None:
        self.name = name
        self.port = port
        self.path = path
        self._process = process
        self._usage = psutil.Process(process.pid)
        self._log = log

    def cpu(self) -> float:
        """Processor time in seconds that it has used so far, without its children."""
        used = self._usage.cpu_times()
        return float(used.user + used.system)

    def rss(self) -> int:
        """Resident bytes, without its children."""
        return int(self._usage.memory_info().rss)

    def forget_peak(self) -> None:
        """Let :meth:`peak` begin anew."""
        Path(f"/proc/{self._process.pid}/clear_refs").write_text("5")

    def peak(self) -> int:
        """The most resident bytes since :meth:`forget_peak`."""
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self._process.pid}/status").read_text())
        assert found is not None
        return int(found[1]) * 1024

    def children(self, recursive: bool = False) -> list[psutil.Process]:
        """Its children, ``recursive`` with those of theirs."""
        return list(self._usage.children(recursive))

    def listed(self) -> list[dict[str, Any]]:
        """What the bridge itself says of its children (``GET /children``)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=START)
        try:
            connection.request("GET", "/children")
            return list(json.load(connection.getresponse()))
        finally:
            connection.close()

    def session(self, path: str | None = None, headers: Headers | None = None) -> dict[str, str]:
        """Open a session; return the headers of its requests. Raises :class:`ServerFailed`."""
        try:
            return open_session(self.port, path or self.path, headers)
        except OSError as error:
            raise ServerFailed(f"{error}; {self.last_words()}") from None

    def last_words(self) -> str:
        """The end of what it has written."""
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return " | ".join(lines[-3:])[-400:]

    def wait_ready(self, initialize: bool) -> None:
        """Return when it accepts connections, and sessions where it has any."""
        give_up = time.monotonic() + START
        while True:
            if self._process.poll() is not None:
                raise ServerFailed(f"it ended with code {self._process.returncode}: {self.last_words()}")
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                if initialize:
                    open_session(self.port, self.path)
                return
            except OSError as error:
                if time.monotonic() > give_up:
                    raise ServerFailed(f"not ready within {START:g} s: {error}; {self.last_words()}") from None
                time.sleep(0.01)

    def stop(self) -> None:
        """End it and its children."""
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        with contextlib.suppress(ProcessLookupError):  # what it left behind
            os.killpg(self._process.pid, signal.SIGKILL)


@contextlib.contextmanager
def serving(
    name: str,
    argv: list[str],
    port: int,
    path: str,
    *,
    env: Mapping[str, str] | None = None,
    files: Mapping[str, str] | None = None,
    initialize: bool = True,
) -> Iterator[Server]:
    """Run a server in an empty folder with these files. Raises :class:`ServerFailed`."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for file, text in (files or {}).items():
            Path(folder, file).write_text(text)
        # The settings of whoever runs this are for another bridge.
        inherited = {name: value for name, value in os.environ.items() if name not in setting_names()}
        log = Path(folder, "output.log")
        with log.open("wb") as output:
            process = subprocess.Popen(
                argv,
                cwd=folder,
                env={**inherited, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        server = Server(name, process, port, path, log)
        try:
            server.wait_ready(initialize)
            yield server
        finally:
            server.stop()


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def entry(**keys: Any) -> dict[str, Any]:
    """A server of ``servers.json`` whose program is the child of this suite."""
    command, *args = program("child")
    return {"command": command, "args": args, **keys}


@contextlib.contextmanager
def bridge(
    name: str = "bridge", servers: Mapping[str, Any] | None = None, env: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Run the bridge, with one server ``bench`` unless told otherwise."""
    port = free_port()
    files = {"servers.json": json.dumps(servers or {"bench": entry()})}
    argv = [sys.executable, "-m", "bridge", "serve", "--port", str(port)]
    with serving(name, argv, port, "/mcp/bench", env=env, files=files, initialize=False) as server:
        yield server


@contextlib.contextmanager
def bare(kind: str, name: str) -> Iterator[Server]:
    """Run aiohttp alone (``bare.py``)."""
    port = free_port()
    argv = [sys.executable, str(HERE / "bare.py"), kind, str(port)]
    with serving(name, argv, port, "/mcp/bench", initialize=False) as server:
        yield server
