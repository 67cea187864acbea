"""Everything below the faces, wired: servers with their processes, the pools, and what keeps, ends and frees sessions.

Knows nothing of HTTP. Whoever has it calls :meth:`Core.start`, runs what :meth:`Core.chores` gives, and takes the steps
to the end in their order: :meth:`Core.rest`, :meth:`Core.end`, :meth:`Core.write`, :meth:`Core.close`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from bridge.children.owner import ChildLimits
from bridge.children.pinbook import PinBook
from bridge.children.registry import Registry
from bridge.config.servers import Servers
from bridge.config.settings import Settings
from bridge.process import pressure
from bridge.process.memory import Heap, Trimmer
from bridge.sessions.aggregate_modern import AggregateCalls
from bridge.sessions.aggregates import Aggregates
from bridge.sessions.berths import Berths
from bridge.sessions.bridge import BridgeClient, BridgeClients
from bridge.sessions.directory import SessionDirectory
from bridge.sessions.keeper import Keeper
from bridge.sessions.kept import Kept
from bridge.sessions.modern import ModernCalls
from bridge.sessions.parking import Parking
from bridge.sessions.pool import SessionPool
from bridge.sessions.reaper import BRIDGE_WORDS, STREAM_WORDS, Reaper
from bridge.sessions.relief import Relief, Resource
from bridge.sessions.reload import Changes, Reload
from bridge.sessions.room import Room
from bridge.sessions.roster import Roster
from bridge.sessions.streamable import StreamableSession
from bridge.sessions.timing import Timing
from bridge.sessions.upkeep import Upkeep
from bridge.stores.record import Event, SessionRecord, SessionStore


class Core:
    """``mint`` makes session ids, ``store`` keeps persistent sessions, ``release`` gives one up for other nodes;
    ``store_after`` is set when the store may be opened, where another bridge still has it.

    Must be made on the event loop that it runs on.
    """

    def __init__(
        self,
        settings: Settings,
        servers: Servers,
        stderr_sink: Callable[[str], Callable[[bytes], None]],
        mint: Callable[[], str],
        store: SessionStore,
        release: Callable[[str], object] | None = None,
        store_after: asyncio.Event | None = None,
    ) -> None:
        self._settings = settings
        limits = ChildLimits(settings.max_message_bytes, settings.start_timeout)
        #: What tools were when they were first seen.
        self.pins = PinBook(settings.pins_path)
        self.registry = Registry(servers.entries, limits, settings.max_children, stderr_sink, self.pins)
        self.registry.mistaken = servers.mistaken
        self.timing = Timing(settings, self.registry.known)
        self.bridge_pool: SessionPool[BridgeClient] = SessionPool("bridge", time.monotonic, settings.max_sessions)
        self.stream_pool: SessionPool[StreamableSession] = SessionPool(
            "streamable", time.monotonic, settings.max_sessions
        )
        self.clients = BridgeClients(self.registry, self.bridge_pool, self.timing.bridge_ttl)
        room = Room(
            self.stream_pool,
            per_user=settings.max_sessions_per_user,
            per_server=lambda server: self.registry.known[server].max_sessions,
        )
        self._keeper = Keeper(
            store,
            self._adopt,
            lambda: self.kept.save_all(),
            after=store_after,
        )
        required = settings.persistence_required
        self.kept = Kept(self._keeper, self.registry, self.stream_pool, required=required, release=release)
        self.sessions = SessionDirectory(self.registry, self.stream_pool, self.timing, room, self.kept, mint)
        self.registry.on_full = Berths(room, self.sessions.seating, self.clients).free
        self.upkeep = Upkeep(self.stream_pool, self.sessions.seating, self.kept, self.timing)
        self._relief = Relief(
            self.stream_pool,
            self.sessions.seating,
            (
                Resource(pressure.memory, high=0.95, low=0.9, sheds=True),
                Resource(pressure.descriptors, high=0.85, low=0.75, sheds=True),
                Resource(self.registry.children_in_use, high=0.9, low=0.8, sheds=False),
            ),
            self.sessions.end,
        )
        self._reapers: tuple[Reaper[BridgeClient], Reaper[StreamableSession]] = (
            Reaper(
                self.bridge_pool,
                BRIDGE_WORDS,
                ttl=self.timing.bridge_pool_ttl,
                interval=self.timing.bridge_interval(),
                enabled=not settings.disable_bridge_cleanup,
                fixed=settings.cleanup_interval is not None,
            ),
            Reaper(
                self.stream_pool,
                STREAM_WORDS,
                ttl=self.timing.stream_pool_ttl,
                interval=self.timing.stream_interval(),
                enabled=not settings.disable_stream_cleanup,
                fixed=settings.cleanup_interval is not None,
            ),
        )
        self.parking = Parking()
        self.modern = ModernCalls(self.registry, self.clients, self.timing, self.parking)
        self._reload = Reload(self.registry, self.sessions, self.bridge_pool, self.modern)
        roster = Roster(self.registry, settings.aggregate_separator, settings.aggregate_patience)
        self.aggregates = Aggregates(self.registry, self.sessions, self.timing, roster)
        self.aggregate_calls = AggregateCalls(self.registry, roster, self.modern)

    def _adopt(self, record: SessionRecord, events: list[Event]) -> None:
        if self.stream_pool.find(record.id) is None:
            self.sessions.adopt(record, events)

    async def read_again(self) -> None:
        """Take in what is in the store and not here: a bridge that had it has gone."""
        await self._keeper.close()
        await self._keeper.reopen()

    @property
    def pools(self) -> tuple[SessionPool[BridgeClient], SessionPool[StreamableSession]]:
        """The bridge pool and the streamable session pool."""
        return self.bridge_pool, self.stream_pool

    async def start(self) -> None:
        """Read the sessions that are kept, so that they are known before the first request."""
        await self._keeper.start()

    def chores(self) -> Iterator[tuple[str, Coroutine[Any, Any, None]]]:
        """Yield what has to run for as long as it lives, each with its name."""
        yield "upkeep", self.upkeep.run()
        yield "brief sessions", self.upkeep.hurry()
        yield "pins", self.pins.run()
        yield "memory", Trimmer(Heap()).run()
        if not self._settings.disable_stream_cleanup:
            yield "relief", self._relief.run()
        for reaper in self._reapers:
            reaper.announce()
            yield "reaper", reaper.run()

    def troubles(self) -> list[str]:
        """What keeps it from being all that it should be."""
        away = [] if self.kept.problem is None else [self.kept.problem]
        return [*(f"{text} in use" for text in self._relief.reasons), *away, *self.registry.troubles()]

    def reload(self, servers: Servers) -> Changes:
        """Serve these servers from now on: only what has changed is touched, and no running call is lost."""
        self.registry.mistaken = servers.mistaken
        found = self._reload.apply(servers.entries)
        self.registry.keep_warm()
        return found

    def has_left(self) -> bool:
        """Whether every session has ended, or is kept."""
        return all(entry.session.is_kept for entry in self.stream_pool.entries())

    def finish_listens(self) -> None:
        """End every subscription of modern clients in good order."""
        self.aggregate_calls.finish_listens()
        self.modern.finish_listens()

    async def rest(self) -> None:
        """Begin nothing more by itself."""
        self.parking.close()
        await self._reload.close()
        await self.aggregate_calls.close()

    async def end(self, why: str) -> None:
        """End every session, or put it to sleep where it is kept."""
        await asyncio.gather(self.sessions.close(why), self.clients.close(why))

    async def write(self) -> None:
        """Write what is owed to the store, and close that."""
        await self._keeper.close()

    async def close(self) -> None:
        """Stop every child."""
        await self.registry.close()
        await self.pins.close()
