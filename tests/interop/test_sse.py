"""HTTP+SSE of 2024-11-05, ``/sse/{server_id}``, with the SSE clients of the official SDKs.

There the session is the connection: it needs no DELETE, and must end with its process when the stream ends.
"""

from __future__ import annotations

import psutil
import pytest

from tests.interop.conftest import PATIENCE, SDKS, Bridge, Gather, Reports, finish, run_all, send
from tests.interop.expected import DEMO_STEPS, check_everything, check_steps

pytestmark = [pytest.mark.slow, pytest.mark.timeout(4 * PATIENCE)]

SSE = {"transport": "sse"}


@pytest.fixture(scope="module")
def everything(served: Bridge) -> Reports:
    return run_all(served, "everything", "everything", options=lambda _: SSE, face="sse")


def test_everything(name: str, everything: Reports) -> None:
    seen = everything[name].result()
    assert "error" not in seen, seen
    check_everything(name, seen, one_stream=True)
    assert seen["wire"].count("GET 200") == 1
    assert set(seen["wire"]) <= {"GET 200", "POST 202", "POST 400"}


def test_a_session_ends_with_its_stream(served: Bridge, gather: Gather) -> None:
    clients = gather("together", dict.fromkeys(SDKS, f"{served.url}/sse/demo"), **SSE)
    sessions = served.sessions("demo")
    assert len(sessions) == len(SDKS)
    children = [psutil.Process(session["pid"]) for session in sessions]
    assert len(set(children)) == len(SDKS), "each session has a process of its own"
    killed = clients.pop("python-1")
    with killed:
        killed.kill()
    send(clients.values(), "go\n")
    for name, process in clients.items():
        seen = finish(process)
        assert "error" not in seen, (name, seen)
        assert (seen["first"], seen["second"]) == ("1", "2")
        assert seen["slow"]["text"] == "took 0.4 s"
        check_steps(name, seen["slow"]["steps"], DEMO_STEPS, one_stream=True)
        assert seen["greet"] == "Hello Ada Lovelace"
    _, alive = psutil.wait_procs(children, PATIENCE)
    assert alive == []
    assert served.sessions("demo") == []
