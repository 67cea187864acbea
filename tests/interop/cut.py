"""A TCP relay that cuts one connection in the middle of an answer, as networks do."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType


class Cut:
    """In front of ``port``: whoever is first to be sent ``marker`` loses the connection right behind it."""

    def __init__(self, port: int, marker: bytes) -> None:
        self._port = port
        self._marker = marker
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.cuts = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Cut:
        self._start(self._accept)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._end(self._listener)
        for each in self._sockets:
            self._end(each)
        for thread in self._threads:
            thread.join()
        for each in (self._listener, *self._sockets):
            each.close()

    def _start(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:  # the end
                return
            far = socket.create_connection(("127.0.0.1", self._port))
            self._sockets += [near, far]
            self._start(self._relay, near, far, None)
            self._start(self._relay, far, near, self._marker)

    def _relay(self, source: socket.socket, target: socket.socket, marker: bytes | None) -> None:
        sent = b""
        try:
            while data := source.recv(65536):
                sent += data
                target.sendall(data)
                if marker is not None and marker in sent and not self.cuts:
                    self.cuts += 1
                    break
        except OSError:  # the other direction has ended
            pass
        self._end(source)
        self._end(target)

    @staticmethod
    def _end(each: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it has ended already
            each.shutdown(socket.SHUT_RDWR)
