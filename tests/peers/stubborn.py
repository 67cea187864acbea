"""An MCP server that nobody gets rid of: it ignores signals and the end of its input, and so does what it starts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

GRANDCHILD = "import signal, time; [signal.signal(n, signal.SIG_IGN) for n in (1, 2, 15)]; time.sleep(1000)"

for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
if "--fork" in sys.argv:  # a parent that has gone: the grandchild belongs to nobody
    if os.fork() == 0:
        os.setsid()
        subprocess.Popen([sys.executable, "-I", "-S", "-c", GRANDCHILD])
        os._exit(0)
    os.wait()
subprocess.Popen([sys.executable, "-I", "-S", "-c", GRANDCHILD], start_new_session=True)
subprocess.Popen([sys.executable, "-I", "-S", "-c", GRANDCHILD])
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
