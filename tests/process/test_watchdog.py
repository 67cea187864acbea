"""What a starting bridge takes for left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from bridge.process.foreign.watchdog import mark_of
from bridge.process.watchdog import mark, mark_of_child, marked, orphans
from tests.conftest import PATIENCE

#: A bridge's child whose bridge has ended, or waits for the end of its input like one that lives.
BRIDGE = """
import os, subprocess, sys
from bridge.process.watchdog import mark_of_child, marked
env, quiet = marked(os.environ, mark_of_child()), subprocess.DEVNULL
child = subprocess.Popen(["sleep", "60"], env=env, stdin=quiet, stdout=quiet)
print("up", child.pid, flush=True)
if sys.argv[1] == "lives":
    sys.stdin.read()
    child.kill()
"""
CONTAINER = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child")


def begin(*before: str, state: str) -> subprocess.Popen[bytes]:
    argv = (*before, sys.executable, "-c", BRIDGE, state)
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(os.environ))


def child_of(process: subprocess.Popen[bytes]) -> int:
    """The child's number, as its bridge says it."""
    assert process.stdout is not None
    word, pid = process.stdout.readline().split()
    assert word == b"up"
    return int(pid)


@pytest.fixture
def container() -> Iterator[subprocess.Popen[bytes]]:
    """A bridge with PID namespace of its own, under the same user as this process."""
    if subprocess.run((*CONTAINER, "true"), capture_output=True, check=False).returncode:
        pytest.skip("no namespaces may be made here")
    process = begin(*CONTAINER, state="lives")
    yield process
    process.communicate(timeout=PATIENCE)


def test_the_children_of_a_bridge_in_a_container_are_left_alone(container: subprocess.Popen[bytes]) -> None:
    child_of(container)
    below = {each.pid for each in psutil.Process(container.pid).children(recursive=True)}
    while not any(mark_of(pid) for pid in below):  # they are seen from here, as soon as they have an environment
        pass
    assert not orphans() & below


@pytest.mark.parametrize("state", ["lives", "has ended"])
def test_the_children_of_a_bridge_are_orphans_when_it_has_ended(state: str) -> None:
    process = begin(state=state)
    if state == "has ended":
        process.wait(PATIENCE)
    pid = child_of(process)
    while mark_of(pid) is None:  # a program that is just being started has no environment yet
        pass
    try:
        assert (pid in orphans()) == (state == "has ended")
    finally:
        if state == "has ended":
            os.kill(pid, 9)
        process.communicate(timeout=PATIENCE)


def test_what_carries_our_own_mark_is_no_orphan() -> None:
    program, env = ["sh", "-c", "echo up; read end"], marked(os.environ, mark_of_child())
    with subprocess.Popen(program, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"up\n"  # before that it may have no environment yet
            found = mark_of(child.pid)
            assert found is not None
            assert found.startswith(f"{mark()}.")
            assert child.pid not in orphans()
        finally:
            child.kill()
