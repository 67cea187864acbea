"""A new configuration for a running bridge: only what has changed is touched, and no running call is lost.

* A server that is new can be called at once; one that has gone is 404 at once, its sessions end after their calls.
* Where another program would be started (:attr:`ServerConfig.digest`), sessions end after their calls; their clients
  initialize again: what they were told at ``initialize`` need not hold. So do they where ``headerEnv`` has changed,
  which is read at ``initialize`` only.
* Where the same program is started in another way (environment, limits, sharing), sessions lose their child after their
  calls and go on with another, as after ``idleStopMs``.
* What only says how long something takes, or how many there may be, holds from now on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import asdict, dataclass

from bridge.children.registry import Registry
from bridge.config.server import ServerConfig
from bridge.protocol import messages
from bridge.protocol.mux import Undirected
from bridge.protocol.states import SessionState
from bridge.protocol.subscriptions import LIST_CHANGED
from bridge.sessions.bridge import BridgeClient
from bridge.sessions.directory import SessionDirectory
from bridge.sessions.modern import ModernCalls
from bridge.sessions.pool import Entry, SessionPool
from bridge.sessions.room import SessionEntry

log = logging.getLogger(__name__)

#: Seconds between two looks at whether the last call of something that has to go has ended.
LOOK = 0.05

REMOVED = "its server is not configured any longer"
REPLACED = "the configuration of its server has changed"


@dataclass(frozen=True, slots=True)
class Changes:
    """Ids of servers, and names of settings. ``adjusted`` servers go on with their children; ``settings`` hold from now
    on, those in ``needs_restart`` when the bridge has been restarted.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    restarted: tuple[str, ...] = ()
    adjusted: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()

    def __str__(self) -> str:
        found = [f"{what.replace('_', ' ')} {', '.join(names)}" for what, names in asdict(self).items() if names]
        return "; ".join(found) or "nothing has changed"


def changes(old: Mapping[str, ServerConfig], new: Mapping[str, ServerConfig]) -> Changes:
    """Compare two configurations; a disabled server is one that is not there."""
    before = {server for server, config in old.items() if not config.disabled}
    after = {server for server, config in new.items() if not config.disabled}
    both = [server for server in new if server in before & after and old[server] != new[server]]
    return Changes(
        added=tuple(server for server in new if server in after - before),
        removed=tuple(server for server in old if server in before - after),
        restarted=tuple(server for server in both if old[server].started_as != new[server].started_as),
        adjusted=tuple(server for server in both if old[server].started_as == new[server].started_as),
    )


class Reload:
    """Takes in new configurations; what has to wait for running calls is done in the background."""

    def __init__(
        self,
        registry: Registry,
        sessions: SessionDirectory,
        clients: SessionPool[BridgeClient],
        calls: ModernCalls,
    ) -> None:
        self._registry = registry
        self._sessions = sessions
        self._clients = clients
        self._calls = calls
        self._tasks: set[asyncio.Task[None]] = set()

    def apply(self, new: Mapping[str, ServerConfig]) -> Changes:
        """Make this the configuration, and say what has changed."""
        old = dict(self._registry.entries)
        found = changes(old, new)
        gone = (*found.removed, *found.restarted)
        for server in gone:
            self._calls.finish_listens(server)
        self._registry.replace(new, restarted=frozenset(gone))
        for server in gone:
            for client in [entry for entry in self._clients.entries() if entry.session.server == server]:
                self._retire(client)
        for server in found.removed:
            self._end(server, REMOVED)
        for server in found.restarted:
            before, after = old[server], new[server]
            if before.digest != after.digest or before.header_env != after.header_env or after.restore == "refuse":
                self._end(server, REPLACED)
            else:
                self._each(server, self._reseat)
        return found

    async def close(self) -> None:
        """Leave undone what still waits: the bridge is shutting down."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _end(self, server: str, why: str) -> None:
        self._each(server, lambda entry: self._sessions.end(entry, why))

    def _each(self, server: str, act: Callable[[SessionEntry], object]) -> None:
        entries = [entry for entry in self._sessions.pool.entries() if entry.session.server == server]
        self._later(self._when_idle(entries, act), f"reload {server}")

    async def _when_idle(self, entries: Iterable[SessionEntry], act: Callable[[SessionEntry], object]) -> None:
        """Do something with each session when its calls and tasks have ended, and it is not just getting a child."""
        pool = self._sessions.pool
        left = list(entries)
        while left:
            waiting = []
            for entry in left:
                if pool.find(entry.key) is not entry:
                    continue
                if entry.session.is_busy or entry.session.works or entry.state is SessionState.OPENING:
                    waiting.append(entry)
                else:
                    act(entry)
            left = waiting
            if left:
                await asyncio.sleep(LOOK)

    def _reseat(self, entry: SessionEntry) -> None:
        """Go on with a child of the new configuration; somebody who listens finds it at once."""
        session, seating = entry.session, self._sessions.seating
        if entry.state is SessionState.DORMANT:
            return  # it has no child, and the one that it gets will be of the new configuration
        if not seating.may_park(entry):
            self._sessions.end(entry, REPLACED)
            return
        seating.park(entry, REPLACED)
        for method in sorted(LIST_CHANGED):
            session.announce(Undirected(method, messages.notification_line(method)))
        if session.is_heard:
            self._later(seating.wake(entry), f"wake {session.label}")

    def _retire(self, entry: Entry[BridgeClient]) -> None:
        """No new call finds it; its children are given back when the last one has ended."""
        if self._clients.take(entry):
            self._later(self._release(entry), f"retire {entry.session.label}")

    async def _release(self, entry: Entry[BridgeClient]) -> None:
        try:
            while entry.in_use:  # noqa: ASYNC110 - a call ends in many places, and this is rare
                await asyncio.sleep(LOOK)
        finally:
            entry.session.release()

    def _later(self, work: Coroutine[None, None, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
