"""A network of its own: hosts, each a network namespace of the kernel, and a switch between them in this process, which
can be told to lose packets and to take its time.

What hosts say to each other is real TCP, with its own patience. The kernel's own ways to lose and to delay (``tc``,
``iptables``) are modules that many machines do not have; a TUN device and the right to make namespaces are all of this.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import heapq
import os
import selectors
import shutil
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

_NEW_NETWORK = 0x4000_0000  # CLONE_NEWNET
_SET_INTERFACE = 0x4004_54CA  # TUNSETIFF
_TUN, _NO_HEADER = 0x0001, 0x1000
_TUN_DEVICE = Path("/dev/net/tun")
_OWN = Path("/proc/thread-self/ns/net")
#: Bytes of a packet at most.
_LARGEST = 65536
_LIBC = ctypes.CDLL(None, use_errno=True)


def problem() -> str | None:
    """Why there can be no such network on this machine."""
    if os.geteuid() != 0:
        return "network namespaces are made by root only"
    missing = [name for name in ("ip", "nsenter") if shutil.which(name) is None]
    if missing:
        return f"{missing[0]} is missing"
    try:
        os.close(os.open(_TUN_DEVICE, os.O_RDWR))
        with _home():
            _done(_LIBC.unshare(_NEW_NETWORK))
    except OSError as error:
        return f"{_TUN_DEVICE} or a namespace cannot be had: {error.strerror}"
    return None


class Host(NamedTuple):
    """A host: programs that are started with ``prefix`` before them run there."""

    address: str
    prefix: tuple[str, ...]


class Network:
    """Hosts by their names. The thread that makes it is on the host ``client`` for as long as it is open."""

    def __init__(self) -> None:
        self.hosts: dict[str, Host] = {}
        #: Seconds that each packet takes.
        self.delay = 0.0
        self._cut: frozenset[tuple[bytes, bytes]] = frozenset()
        self._devices: dict[bytes, int] = {}
        self._namespaces: list[int] = []
        self._late: list[tuple[float, int, bytes, bytes]] = []
        self._selector = selectors.DefaultSelector()
        self._woken, self._wake = os.pipe()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._home = contextlib.ExitStack()
        self._thread = threading.Thread(target=self._run, name="switch")

    def __enter__(self) -> Network:
        self._home.enter_context(_home())
        self._add("client")
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        os.write(self._wake, b"x")
        self._thread.join()
        self._home.close()
        self._selector.close()
        for each in (*self._devices.values(), *self._namespaces, self._woken, self._wake):
            os.close(each)

    def host(self, name: str) -> Host:
        """Return a host, a new one where there is none of this name."""
        if name not in self.hosts:
            with _home():
                self._add(name)
        return self.hosts[name]

    def cut(self, one: str, *others: str) -> None:
        """Lose every packet between a host and others, both ways, until they are joined again."""
        ends = [self._packed(self.hosts[name].address) for name in (one, *others)]
        self._cut |= {pair for other in ends[1:] for pair in ((ends[0], other), (other, ends[0]))}

    def join(self) -> None:
        """Lose nothing any longer."""
        self._cut = frozenset()

    def _add(self, name: str) -> None:
        """Make a host; this thread is there afterwards."""
        address = f"10.77.0.{len(self.hosts) + 1}"
        _done(_LIBC.unshare(_NEW_NETWORK))
        namespace = os.open(_OWN, os.O_RDONLY)
        self._namespaces.append(namespace)
        device = os.open(_TUN_DEVICE, os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(device, _SET_INTERFACE, struct.pack("16sH22x", b"net0", _TUN | _NO_HEADER))
        lines = ("link set lo up", f"addr add {address}/24 dev net0", "link set net0 up")
        subprocess.run(["ip", "-batch", "-"], input="\n".join(lines), text=True, check=True)
        self._devices[self._packed(address)] = device
        self._selector.register(device, selectors.EVENT_READ)
        self.hosts[name] = Host(address, ("nsenter", f"--net=/proc/{os.getpid()}/fd/{namespace}"))

    @staticmethod
    def _packed(address: str) -> bytes:
        return bytes(map(int, address.split(".")))

    def _run(self) -> None:
        while True:
            patience = max(0.0, self._late[0][0] - time.monotonic()) if self._late else None
            for key, _ in self._selector.select(patience):
                if key.fd == self._woken:
                    return
                self._take(key.fd)
            while self._late and self._late[0][0] <= time.monotonic():
                _, _, target, packet = heapq.heappop(self._late)
                self._give(target, packet)

    def _take(self, device: int) -> None:
        with contextlib.suppress(BlockingIOError):
            packet = os.read(device, _LARGEST)
            source, target = packet[12:16], packet[16:20]
            if packet[0] >> 4 != 4 or target not in self._devices or (source, target) in self._cut:
                return
            if self.delay:
                heapq.heappush(self._late, (time.monotonic() + self.delay, time.monotonic_ns(), target, packet))
            else:
                self._give(target, packet)

    def _give(self, target: bytes, packet: bytes) -> None:
        with contextlib.suppress(OSError):  # its queue is full: it is lost, as packets are
            os.write(self._devices[target], packet)


@contextlib.contextmanager
def _home() -> Iterator[None]:
    """Return to the network that this thread is in, whatever it enters meanwhile."""
    home = os.open(_OWN, os.O_RDONLY)
    try:
        yield
    finally:
        _done(_LIBC.setns(home, _NEW_NETWORK))
        os.close(home)


def _done(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
