"""An MCP server that nobody gets rid of: it ignores signals and the end of its input, and so does what it starts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

READY, SAY = os.pipe()
GRANDCHILD = (
    "import os, signal, time; [signal.signal(n, signal.SIG_IGN) for n in (1, 2, 15)]; "
    f"os.write({SAY}, b'.'); time.sleep(1000)"
)
COMMAND = [sys.executable, "-I", "-S", "-c", GRANDCHILD]

for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
if "--fork" in sys.argv:  # a parent that has gone: the grandchild belongs to nobody
    if os.fork() == 0:
        os.setsid()
        subprocess.Popen(COMMAND, pass_fds=[SAY])
        os._exit(0)
    os.wait()
subprocess.Popen(COMMAND, pass_fds=[SAY], start_new_session=True)
subprocess.Popen(COMMAND, pass_fds=[SAY])
for _ in range(2 + ("--fork" in sys.argv)):  # they are there, and stubborn, before it answers
    os.read(READY, 1)
for line in sys.stdin:
    message = json.loads(line)
    if message.get("method") == "initialize":
        result = {
            "protocolVersion": message["params"]["protocolVersion"],
            "capabilities": {},
            "serverInfo": {"name": "stubborn", "version": "1"},
        }
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
time.sleep(1000)
