"""tools/call through the bridge against aiohttp alone answering the same POST, interleaved, as a ratio.

Run it by ``make bench``. Ratios of one run mean something, calls per second depend on the machine.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import psutil

from bench.load import Result, load, request

HERE = Path(__file__).parent
CALL: dict[str, object] = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {"name": "echo", "arguments": {"text": "hello"}},
}

#: The same in the modern era: an envelope, and headers that repeat it.
MODERN_CALL: dict[str, object] = {
    **CALL,
    "params": {
        "name": "echo",
        "arguments": {"text": "hello"},
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        },
    },
}
MODERN_HEADERS = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "echo"}


class Server:
    """A server process and what a POST to it looks like."""

    def __init__(self, name: str, argv: list[str], path: str, cwd: str, call: dict[str, object] | None = None) -> None:
        self.name = name
        self._call = call or CALL
        self.path = path
        self._process = subprocess.Popen(argv, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.port = self._wait_listening()
        self._usage = psutil.Process(self._process.pid)
        self.headers: dict[str, str] = {}
        self.rates: list[float] = []
        self.costs: list[float] = []
        self.last = Result(0, 0, 0)

    def _wait_listening(self) -> int:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            found = re.search(r"listens on http://\S+:(\d+)", line)
            if found:
                return int(found[1])
        raise RuntimeError("the server ended before it listened")

    def open_session(self) -> None:
        """Initialize, for paths that want a session."""
        body = {
            **CALL,
            "method": "initialize",
            "params": {
                "protocolVersion": "2025-06-18",
                "capabilities": {},
                "clientInfo": {"name": "b", "version": "1"},
            },
        }
        asked = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{self.path}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"},
        )
        with urllib.request.urlopen(asked) as response:
            self.headers = {"Mcp-Session-Id": response.headers["Mcp-Session-Id"]}

    def measure(self, in_flight: int, seconds: float) -> None:
        """One round: calls per second, and processor time of the server process per call."""
        before = self._usage.cpu_times()
        self.last = load(self.port, [request(self.path, self._call, self.headers)] * in_flight, seconds)
        after = self._usage.cpu_times()
        spent = after.user + after.system - before.user - before.system
        self.rates.append(self.last.calls_per_second)
        self.costs.append(spent / (self.last.calls_per_second * seconds) * 1e6)

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "servers.json").write_text(
            json.dumps({"bench": {"command": sys.executable, "args": ["-I", "-S", str(HERE / "child.py")]}})
        )
        bridge = [sys.executable, "-m", "bridge", "serve", "--port", "0"]
        servers = [
            Server("aiohttp alone", [sys.executable, str(HERE / "bare.py")], "/mcp/bench", folder),
            Server("bridge /mcp", bridge, "/mcp/bench", folder),
            Server("bridge modern", bridge, "/mcp/bench", folder, MODERN_CALL),
            Server("bridge /bridge", bridge, "/bridge/bench", folder),
        ]
        try:
            servers[1].open_session()
            servers[2].headers = MODERN_HEADERS
            for server in servers:
                server.measure(options.in_flight, 0.5)  # warm
                server.rates.clear()
                server.costs.clear()
            for _ in range(options.rounds):
                for server in servers:
                    server.measure(options.in_flight, options.seconds)
        finally:
            for server in servers:
                server.stop()
    _print(servers)


def _print(servers: list[Server]) -> None:
    base = statistics.median(servers[0].rates)
    print(f"{'':16}{'calls/s':>10}{'ratio':>8}{'us/call':>9}{'p50 ms':>8}{'p99 ms':>8}  spread of calls/s")
    for server in servers:
        rate = statistics.median(server.rates)
        print(
            f"{server.name:16}{rate:10.0f}{rate / base:8.2f}{statistics.median(server.costs):9.1f}"
            f"{server.last.p50:8.2f}{server.last.p99:8.2f}  {min(server.rates):.0f}-{max(server.rates):.0f}"
        )


if __name__ == "__main__":
    main()
