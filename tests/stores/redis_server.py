"""A real redis-server, as a process of its own: nothing is kept on disk, nothing runs in the background."""

from __future__ import annotations

import signal
import socket
import subprocess
from pathlib import Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class PortTaken(RuntimeError):
    """Somebody else was given the port before the server could take it."""


class RedisServer:
    """A server on a port of 127.0.0.1; ``options`` are those of redis.conf, as arguments. One that is to run elsewhere
    is told ``address`` and ``prefix``, which comes before its command, before it starts.
    """

    ready = "Ready to accept connections"

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.address = "127.0.0.1"
        self.prefix: tuple[str, ...] = ()
        self.options = options
        self.process: subprocess.Popen[str] | None = None
        self.used = False

    @property
    def where(self) -> str:
        return f"{self.address}:{self.port}"

    @property
    def url(self) -> str:
        return f"redis://{self.where}/0"

    def arguments(self) -> list[str]:
        return ["--port", str(self.port), "--save", "", "--appendonly", "no", "--dir", str(self.folder), *self.options]

    def start(self) -> None:
        """Start it, again on the same port, and wait until it answers."""
        for left in (2, 1, 0):
            try:
                return self._start()
            except PortTaken:
                if left == 0 or self.used:
                    raise
                self.port = free_port()
        return None

    def _start(self) -> None:
        try:
            self.process = subprocess.Popen(
                [*self.prefix, "redis-server", *self.arguments()], stdout=subprocess.PIPE, text=True, errors="replace"
            )
        except FileNotFoundError:
            raise RuntimeError("the tests need redis-server: .ci/redis says how to get it") from None
        assert self.process.stdout is not None
        said = []
        for line in self.process.stdout:
            said.append(line)
            if self.ready in line:
                self.used = True
                return
            if "Address already in use" in line:
                self.stop()
                raise PortTaken(line)
        raise RuntimeError(f"redis-server ended:\n{''.join(said)}")

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.communicate()
            self.process = None

    def cli(self, *arguments: str) -> str:
        """What redis-cli, the real client, prints."""
        return self.run_cli("-h", self.address, "-p", str(self.port), *arguments)

    @staticmethod
    def run_cli(*arguments: str) -> str:
        done = subprocess.run(
            ["redis-cli", "--no-auth-warning", *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()


class SentinelServer(RedisServer):
    """A sentinel that alone decides about one service, ``bridge``."""

    ready = "+monitor master"

    def __init__(self, folder: Path, master: int, *lines: str) -> None:
        super().__init__(folder)
        self.config = folder / "sentinel.conf"
        self.config.write_text(
            "\n".join(
                (
                    f"port {self.port}",
                    f"dir {folder}",
                    f"sentinel monitor bridge 127.0.0.1 {master} 1",
                    "sentinel down-after-milliseconds bridge 1000",
                    "sentinel failover-timeout bridge 5000",
                    *lines,
                    "",
                )
            )
        )

    def arguments(self) -> list[str]:
        return [str(self.config), "--sentinel"]
