"""What the first process of a restarted bridge does with signals, whichever bridge ends meanwhile."""

from __future__ import annotations

import signal
import subprocess
import sys

import psutil

from tests.conftest import PATIENCE

#: Waits for one child and then for the one that was named after it, which ends with 7 once it hears SIGUSR2.
WAITS = """
import os, signal, sys
from bridge.process.foreign.waiter import PASSED, wait
signal.pthread_sigmask(signal.SIG_BLOCK, PASSED)
told, tell = os.pipe()
children = []
for _ in range(2):
    if (pid := os.fork()) == 0:
        signal.sigwait({signal.SIGUSR2})
        os._exit(7)
    children.append(pid)
os.write(tell, b"%d\\n" % children[1])
print(children[0], flush=True)
sys.exit(wait(children[0], told))
"""


def test_a_signal_that_comes_when_a_bridge_has_just_ended_is_for_the_next() -> None:
    with subprocess.Popen([sys.executable, "-c", WAITS], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        first = psutil.Process(int(process.stdout.readline()))
        below = psutil.Process(process.pid).children()
        try:
            process.send_signal(signal.SIGSTOP)
            while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
                pass
            first.kill()
            while first.status() != psutil.STATUS_ZOMBIE:
                pass
            process.send_signal(signal.SIGUSR2)  # which it is told of before the end of a child
            process.send_signal(signal.SIGCONT)
            assert process.wait(PATIENCE) == 7
        finally:
            process.kill()
            for each in below:
                if each.is_running():
                    each.kill()
