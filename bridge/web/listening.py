"""Where a bridge is reached: the sockets of its port, and a directory for those that are for others of this host."""

from __future__ import annotations

import errno
import os
import socket
import tempfile
from pathlib import Path

from bridge.config.errors import ConfigError

#: Connections that may wait to be taken.
BACKLOG = 1024
#: Characters that the path of a unix socket may have, less the name of one.
LONGEST_DIRECTORY = 70


def listen(host: str, port: int) -> list[socket.socket]:
    """Return sockets that listen on every address of a host. Raises :class:`ConfigError`."""
    found: list[socket.socket] = []
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(infos):
            wanted = (address[0], found[0].getsockname()[1] if found and port == 0 else port, *address[2:])
            found.append(socket.create_server(wanted, family=family, backlog=BACKLOG))
    except OSError as error:
        for each in found:
            each.close()
        raise ConfigError(_why(host, port, error)) from None
    return found


def _why(host: str, port: int, error: OSError) -> str:
    """What to do about an address that cannot be listened at. The words of asyncio and socket would repeat it."""
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        what = error.strerror if isinstance(error, socket.gaierror) else os.strerror(errno.EADDRNOTAVAIL)
        return f"HOST: cannot listen on {host}: {what}; this machine has no such address; choose another with --host"
    what = os.strerror(error.errno) if error.errno else str(error)
    running = " is a bridge running there already?" if error.errno == errno.EADDRINUSE else ""
    return f"PORT: cannot listen on {host}:{port}: {what};{running} choose another with --port"


def private_directory() -> Path:
    """Return a new directory for sockets, which only this user can enter."""
    found = tempfile.mkdtemp(prefix="mcp-bridge-")
    if len(found) <= LONGEST_DIRECTORY:
        return Path(found)
    Path(found).rmdir()
    return Path(tempfile.mkdtemp(prefix="mcp-bridge-", dir="/tmp"))
