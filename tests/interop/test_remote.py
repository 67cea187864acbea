"""Servers elsewhere, on the HTTP of the official SDKs and behind another bridge, used by SDK clients of both eras."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.interop.conftest import ALL_SDKS, ASKING, CLIENTS, NODE, PATIENCE, Bridge, Reports, run_all
from tests.interop.expected import check_course, check_inputs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(8 * PATIENCE)]

#: The servers, and the clients that use each. The one on the TypeScript SDK refuses everything before 2026-07-28, the
#: one on the Python SDK has sessions too, and behind the other bridge there is one of either era alone.
USED = {
    "typescript-modern": list(ALL_SDKS),
    "python-both": list(ALL_SDKS),
    "bridge-handshake": ["python-2-auto", "typescript-1"],
    "bridge-modern": ["python-1", "typescript-2-auto"],
}


@contextmanager
def listening(*command: str) -> Iterator[str]:
    """Run a server that says where it listens."""
    process = subprocess.Popen(
        command, cwd=CLIENTS, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=dict(os.environ)
    )
    with process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert "http://" in line, line + process.stdout.read()
            yield line.split()[-1]
        finally:
            process.kill()


@pytest.fixture(scope="module")
def bridge(served: Bridge, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    python = listening(sys.executable, str(ASKING), "--http", "0")
    with listening(NODE, "modern.mjs", "modern") as typescript_modern, python as python_both:
        entries: dict[str, Any] = {
            "typescript-modern": {"url": typescript_modern},
            "python-both": {"url": python_both},
            **{f"bridge-{era}": {"url": f"{served.url}/mcp/asking-{era}"} for era in ("handshake", "modern")},
        }
        with Bridge.running(tmp_path_factory.mktemp("remote"), entries) as bridge:
            yield bridge


@pytest.fixture(scope="module")
def asked(bridge: Bridge) -> dict[str, Reports]:
    # One after the other: what changes for one client of such a server has changed for all.
    options = {"root": "file:///some/where"}
    return {
        server: run_all(bridge, server, "inputs", names=names, options=lambda _: options, at_once=1)
        for server, names in USED.items()
    }


@pytest.mark.parametrize(("server", "name"), [(server, name) for server, names in USED.items() for name in names])
def test_a_remote_server_asks_and_announces_across_the_eras(
    server: str, name: str, asked: dict[str, Reports], bridge: Bridge
) -> None:
    seen = asked[server][name].result()
    check_course(name, seen, bridge)
    check_inputs(seen)
    assert seen["server"] == ("remote" if server == "typescript-modern" else "conformance-server")


def test_no_session_is_left_at_the_other_bridge(asked: dict[str, Reports], bridge: Bridge, served: Bridge) -> None:
    for reports in asked.values():
        for report in reports.values():
            report.result()
    assert served.sessions("asking-handshake") == served.sessions("asking-modern") == []
