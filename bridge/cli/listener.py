"""Which bridge of this user listens at an address of this machine: for a verb that gets no answer from it."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from pathlib import PurePath

import psutil


def bridge_at(host: str, port: int) -> int | None:
    """Return its process id: that of the parent where it has workers. None where nobody could tell which it is."""
    if sys.platform == "win32" or not _is_of_this_machine(host):
        return None
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.uids().real == os.getuid() and _serves(process.cmdline()) and _listens(process, port):
                found[process.pid] = process
    with contextlib.suppress(psutil.Error):
        firsts = [pid for pid, process in found.items() if process.ppid() not in found]
        return firsts[0] if len(firsts) == 1 else None
    return None


def _is_of_this_machine(host: str) -> bool:
    try:
        family, kind, number, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, number) as probe:
            probe.bind(address)
    except OSError:
        return False
    return True


def _serves(command: list[str]) -> bool:
    return "serve" in command and any("bridge" in PurePath(word).name for word in command)


def _listens(process: psutil.Process, port: int) -> bool:
    return any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in process.net_connections("tcp"))
