"""Reads the configuration of a running bridge again: on SIGHUP, ``POST /api/v1/reload``, and when a file has changed.

What cannot be read changes nothing: the old configuration stays, of everything for a broken file, of one server for a
broken entry.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

from bridge.children.startable import unstartable
from bridge.config.advice import advice
from bridge.config.errors import ConfigError
from bridge.config.files import Mark, mark
from bridge.config.servers import Servers
from bridge.config.settings import Settings
from bridge.observe.logs import Logs
from bridge.sessions.reaper import Sleep
from bridge.sessions.reload import Changes
from bridge.web.app import Service

log = logging.getLogger(__name__)

#: Seconds between two looks at the files, and how long they must have stayed as they are before they are read.
LOOK, SETTLED = 1.0, 0.25
#: Settings that hold at once when they have changed.
AT_ONCE = frozenset(
    {"LOG_LEVEL", "REQUEST_TIMEOUT_MS", "STREAM_SESSION_TTL_MS", "BRIDGE_SESSION_TTL_MS", "SESSION_TTL_HOURS"}
)
#: Settings that are only read here, or again each time.
_ELSEWHERE = frozenset({"SERVERS_FILE", "MCP_SERVERS", "WATCH"})

Read = Callable[[], tuple[Settings, Servers]]


class Reloading:
    """Keeps what is configured and what runs the same. ``read`` raises :class:`ConfigError`; the file of settings is
    ``env_file``, whether there is one or not.
    """

    def __init__(
        self,
        service: Service,
        logs: Logs,
        settings: Settings,
        servers: Servers,
        read: Read,
        env_file: Path,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._service = service
        self._logs = logs
        self._settings = settings
        self._servers = servers
        self._read = read
        self._env_file = env_file
        self._sleep = sleep
        self._seen = self._marks()
        #: Why what is on disk is not what is served; None while it is.
        self.problem: str | None = None

    def reload(self) -> Changes:
        """Read everything again, and say what has changed. Raises :class:`ConfigError`."""
        self._seen = self._marks()  # before it is read, so that a change meanwhile is seen
        try:
            settings, servers = self._read()
        except ConfigError as error:
            self.problem = f"configuration on disk is refused: {error}; the old one is served"
            raise
        self.problem = None
        kept = {server: config for server, config in self._servers.entries.items() if server in servers.mistaken}
        servers = Servers(servers.source, {**servers.entries, **kept}, servers.problems, servers.files)
        for problem in servers.problems:
            stays = "; the server stays as it was" if problem.server in kept else ""
            log.log(logging.ERROR if problem.fatal else logging.WARNING, "%s%s", problem.text, stays)
        say_doubts(settings, servers)
        now, late = self._adopt(settings)
        before, self._servers = self._servers, servers
        if servers.files != before.files:
            self._seen = self._marks()
        found = replace(self._service.reload(servers), settings=now, needs_restart=late)
        level = logging.WARNING if late else logging.INFO
        log.log(level, "configuration read again: %s", found)
        return found

    def try_reload(self) -> None:
        """Do the same where nobody waits for an answer: what is wrong is logged."""
        try:
            self.reload()
        except ConfigError as error:
            log.error("configuration not taken, the old one stays: %s", error)

    async def watch(self) -> None:
        """Reload whenever one of the files has changed, until cancelled."""
        while True:
            await self._sleep(LOOK)
            if self._marks() != self._seen:
                await self._settled()
                self.try_reload()

    async def _settled(self) -> None:
        """Return when nobody writes the files any more: what is saved in place is empty first, and then half there."""
        before = None
        while (now := self._marks()) != before:
            before = now
            await self._sleep(SETTLED)

    def _marks(self) -> dict[Path, Mark]:
        return {path: mark(path) for path in (self._env_file, *self._servers.files)}

    def _adopt(self, settings: Settings) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Take over what may change while the bridge runs: ``self._settings`` stay those that hold.

        Return the names of those that have changed: which hold from now on, and which need a restart.
        """
        names = {each.metadata["name"]: each.name for each in fields(Settings)}
        changed = {name for name, field in names.items() if getattr(self._settings, field) != getattr(settings, field)}
        now = tuple(sorted(changed & AT_ONCE))
        if now:
            self._settings = replace(self._settings, **{names[name]: getattr(settings, names[name]) for name in now})
            self._logs.set_level(settings.log_level)
            self._service.adopt(settings)
        return now, tuple(sorted(changed - AT_ONCE - _ELSEWHERE))


def say_doubts(settings: Settings, servers: Servers) -> None:
    """Log what can be served, and may not be what was meant."""
    for line in (*advice(settings, servers.entries), *unstartable(servers.entries.values())):
        log.warning("%s", line)
