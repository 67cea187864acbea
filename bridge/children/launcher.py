"""How the processes of one server are started: a few at a time, or forked from a zygote that has the imports behind it.

A server that preloads and cannot is started plainly, and its log says once why. A zygote that dies is replaced by the
next start, a few times; its children go on without it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import asdict, replace

from bridge.children.starts import Slot, Starts
from bridge.children.variables import OwnVariables
from bridge.config.server import ServerConfig
from bridge.observe import audit
from bridge.observe.secrets import masked
from bridge.process.limits import Limits
from bridge.process.sandbox import FREE, Confinement, Sandbox
from bridge.process.spawn import Command, Process, spawn
from bridge.process.zygote import Zygote, ZygoteError

log = logging.getLogger(__name__)

#: Zygotes of one server that may die before there will be no more.
DEATHS = 3
#: Seconds on each rung of a zygote's stop ladder.
PATIENCE = 2.0


class Launcher:
    """Starts the processes of one server. ``on_print`` gets what they print, by line."""

    def __init__(self, config: ServerConfig, starts: Starts, on_print: Callable[[bytes], None]) -> None:
        self._config = config
        self._starts = starts
        self.patience = 0.0  # seconds for the imports of a zygote
        self._on_print = on_print
        # Resolves to None when there will be none.
        self._zygote: asyncio.Future[Zygote | None] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._deaths = 0

    @property
    def command(self) -> Command:
        """What is started."""
        return command_of(self._config)

    def prepare(self) -> None:
        """Begin to preload, if that is wanted and has not begun."""
        if self._config.preload is not None and self._keeper is None and self._deaths < DEATHS:
            self._zygote = asyncio.get_running_loop().create_future()
            self._keeper = asyncio.create_task(self._keep(self._zygote), name=f"zygote {self._config.id}")

    async def launch(
        self, is_urgent: Callable[[], bool], variables: OwnVariables | None = None
    ) -> tuple[Process, Slot | None]:
        """Start a process. Raises :class:`bridge.process.spawn.SpawnError`.

        The slot is to be left when the process has started; one that was forked needs none, its imports are done.
        With ``variables`` it is never forked: what a zygote has imported has read another environment.
        """
        command = self.command
        if variables is None:
            self.prepare()
        else:
            command = replace(command, env={**command.env, **variables.values})
        zygote = None if self._zygote is None or variables is not None else await asyncio.shield(self._zygote)
        if zygote is not None:
            try:
                return await zygote.fork(), None
            except ZygoteError as error:
                log.warning("server %s: zygote pid=%d does not fork: %s", self._config.id, zygote.pid, error)
        slot = await self._starts.enter(self._config.id, is_urgent)
        try:
            return spawn(command), slot
        except BaseException:
            slot.leave()
            raise

    def hurry(self) -> None:
        """Somebody waits now for what nobody did."""
        self._starts.fill()

    async def close(self) -> None:
        """End the zygote, and with it what is left of its children."""
        self._deaths = DEATHS
        if self._keeper is not None:
            if self._zygote is not None:  # else it ends already
                self._keeper.cancel()
            await asyncio.wait([self._keeper])

    async def _keep(self, ready: asyncio.Future[Zygote | None]) -> None:
        """Own one zygote, from its start to its end."""
        assert self._config.preload is not None
        zygote = Zygote(self.command, self._config.preload, self._on_print)
        try:
            await self._start(zygote)
            ready.set_result(zygote)
            await zygote.ended.wait()
            self._deaths += 1
            log.warning("server %s: zygote pid=%d ended: %s", self._config.id, zygote.pid, zygote.obituary)
        except ZygoteError as error:
            self._deaths = DEATHS
            log.warning("server %s: cannot preload, is started plainly: %s", self._config.id, error)
        finally:
            self._zygote = None
            if not ready.done():
                ready.set_result(None)
            await zygote.stop(PATIENCE)
            if zygote.pid:
                audit.record("exit", server=self._config.id, pid=zygote.pid, why=zygote.obituary)
            self._keeper = None

    async def _start(self, zygote: Zygote) -> None:
        slot = await self._starts.enter(self._config.id)
        try:
            await zygote.start(self.patience)
        finally:
            slot.leave()
        argv = masked(self._config.argv)
        audit.record("spawn", server=self._config.id, pid=zygote.pid, argv=argv, why="preload")
        log.info(
            "server %s: zygote pid=%d has imported %d modules in %.2f s",
            self._config.id,
            zygote.pid,
            zygote.imported,
            zygote.seconds,
        )


def command_of(config: ServerConfig) -> Command:
    """What is started for a server."""
    sandbox = None if config.sandbox is None else Sandbox(**asdict(config.sandbox))
    return Command(
        config.argv,
        config.env,
        config.cwd,
        limits=Limits(**config.limits),
        confinement=Confinement(sandbox, config.no_new_privs) if sandbox or config.no_new_privs else FREE,
    )
