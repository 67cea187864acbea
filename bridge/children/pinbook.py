"""The file of the pins of all servers (``PINS_FILE``): read at the start, written behind the lists.

Only bridges write it, so whoever approves asks one. Several may have the same file, as workers do: what others have
written is taken over with each write, and servers in it that are not ours are left as they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path

from bridge.children.pinmerge import Row, merge
from bridge.children.pins import Pin, ServerPins
from bridge.config.errors import ConfigError
from bridge.config.files import PRIVATE, locked, mark, replace_file
from bridge.config.server import ServerConfig
from bridge.protocol.pins import Definition

log = logging.getLogger(__name__)

#: Seconds for which changes are collected before they are written.
DELAY = 1.0
#: Seconds between two tries to write: doubled up to this while they fail.
LAST_RETRY = 60.0
#: Seconds between two looks at whether the file is still there: without it, everything would be trusted again.
LOOK = 5.0
VERSION = 1
Sleep = Callable[[float], Awaitable[None]]


class PinBook:
    """The pins of all servers that want any. ``wall`` is the time of day in seconds.

    Raises :class:`ConfigError` for a file that cannot be understood: without it, everything would be trusted again.
    """

    def __init__(self, path: Path, wall: Callable[[], float] = time.time, sleep: Sleep = asyncio.sleep) -> None:
        self._path = path
        self._wall = wall
        self._sleep = sleep
        self._dirty = asyncio.Event()
        self._writing = threading.Lock()
        self._has_failed = False
        #: Of servers of before as well: they may come back.
        self._servers: dict[str, ServerPins] = {}
        self._active: set[str] = set()
        #: The rows that were read or written last.
        self._base = read_rows(path)
        #: Called with a server of which others have approved what was withheld here.
        self.on_approved: Callable[[str], object] = lambda _: None
        for server, row in self._base.items():
            _fill(self._new(server), row)

    def of(self, config: ServerConfig) -> ServerPins | None:
        """Return the pins of a server as it is configured now; None where it wants none."""
        if config.pin_tools == "off":
            self._active.discard(config.id)
            return None
        pins = self._servers.get(config.id) or self._new(config.id)
        pins.mode = config.pin_tools
        self._active.add(config.id)
        return pins

    def find(self, server: str) -> ServerPins | None:
        """The pins of a server, None where it has none."""
        return self._servers[server] if server in self._active else None

    def _new(self, server: str) -> ServerPins:
        pins = self._servers[server] = ServerPins(server, "report", self._dirty.set, self._wall)
        return pins

    async def run(self) -> None:
        """Write changes down, for ever, and all of it where the file was removed; what could not be written is tried
        again.
        """
        delay = DELAY
        while True:
            await self._wanted()
            await self._sleep(delay)
            await self._write()
            delay = min(2 * delay, LAST_RETRY) if self._has_failed else DELAY

    async def _wanted(self) -> None:
        while not self._dirty.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK):
                    await self._dirty.wait()
            if await asyncio.get_running_loop().run_in_executor(None, self._is_gone):
                log.warning("PINS_FILE: %s was removed while it is in use; it is written again", self._path)
                self._dirty.set()

    def _is_gone(self) -> bool:
        return bool(self._base) and mark(self._path) is None

    async def close(self) -> None:
        """Write what is not written, after :meth:`run` has ended, in the middle of a write too."""
        if self._dirty.is_set():
            await self._write()

    async def _write(self) -> None:
        self._dirty.clear()
        ours = {server: _row(self._servers[server]) for server in self._active}
        ours = {server: row for server, row in ours.items() if row["since"] is not None}
        try:
            written = await asyncio.get_running_loop().run_in_executor(None, self._replace, ours)
            if self._has_failed:
                log.info("PINS_FILE: %s is written again", self._path)
            self._has_failed = False
            for server, row in ours.items():
                self._learn(server, row, written[server])
        except (OSError, ConfigError) as error:
            self._dirty.set()
            if not self._has_failed:
                self._has_failed = True
                text = "PINS_FILE: %s cannot be written; it is tried again, and until then pins end with the bridge: %s"
                log.warning(text, self._path, error)
        except BaseException:  # the one who waits has ended, and nobody hears what becomes of it
            self._dirty.set()
            raise

    def _replace(self, ours: dict[str, Row]) -> dict[str, Row]:
        """Write these rows, and what others have made of them; return what was written."""
        with self._writing, locked(self._path):  # a write that was cancelled goes on in its thread
            is_there = self._path.exists()
            theirs = read_rows(self._path) if is_there else self._base
            rows = {server: merge(self._base.get(server), row, theirs.get(server)) for server, row in ours.items()}
            written = {**theirs, **rows}
            if written != theirs or (written and not is_there):
                text = json.dumps({"version": VERSION, "servers": written}, indent=1)
                replace_file(self._path, text.encode(), PRIVATE)
            self._base = written
            return written

    def _learn(self, server: str, ours: Row, written: Row) -> None:
        """Take over what others have found out; ``ours`` is what was known here when the write began."""
        pins = self._servers[server]
        news = pins.news
        _fill(pins, merge(ours, _row(pins), written))
        if news.keys() - pins.news.keys() and pins.blocks and server in self._active:
            self.on_approved(server)


def _row(pins: ServerPins) -> Row:
    tools = {
        name: {"pinned": pin.pinned and asdict(pin.pinned), "pending": pin.pending and asdict(pin.pending)}
        for name, pin in pins.tools.items()
    }
    return {"since": pins.since, "complete": pins.is_complete, "tools": tools}


def _fill(pins: ServerPins, row: Row) -> None:
    pins.since, pins.is_complete = row["since"], bool(row["complete"])
    pins.tools = {name: _pin(each) for name, each in row["tools"].items()}


def _pin(row: Row) -> Pin:
    pinned, pending = ((Definition(**row[key]) if row[key] is not None else None) for key in ("pinned", "pending"))
    return Pin(pinned, pending)


def read_rows(path: Path) -> dict[str, Row]:
    """Return the rows of all servers. Raises :class:`ConfigError` for a file in which something makes no sense."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise _bad(path, f"cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise _bad(path, f"is no JSON: {error}") from None
    servers = found.get("servers") if isinstance(found, dict) and found.get("version") == VERSION else None
    if not isinstance(servers, dict):
        raise _bad(path, f"is no file of pins of version {VERSION}")
    for server, row in servers.items():
        try:
            _fill(ServerPins(server, "report", _nothing, time.time), row)
        except (KeyError, TypeError, AttributeError) as error:
            raise _bad(path, f'the entry of "{server}" makes no sense ({type(error).__name__}: {error})') from None
    return servers


def _nothing() -> None:
    """There is nothing to write down."""


def _bad(path: Path, why: str) -> ConfigError:
    return ConfigError(f"PINS_FILE: {path} {why}; repair it, or remove it to trust every tool as it is now")
