"""``mcp-bridge serve``: the event loop, the signals, the way down.

SIGTERM and SIGINT end it in order: exit code 0, with no process left. A second signal kills the children at once.
SIGHUP reads the configuration again. SIGUSR1 drains: no new sessions, and the end when the open ones have ended or are
kept. SIGUSR2 has a new process take over, of which there is no gap to see (``restarting``).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable

from bridge.aio.first import any_of
from bridge.cli.alone import Alone, place_of
from bridge.cli.announce import announce
from bridge.cli.errors import EXIT_ERROR, CommandError, UsageError
from bridge.cli.inherited import check, inheritance, take_over
from bridge.cli.options import add_configuration, configuration_of, env_file_of
from bridge.cli.reload import Reloading, say_doubts
from bridge.cli.restarting import Restarting
from bridge.cli.worker import obey_parent, own_share, place, sockets_of
from bridge.cluster.board import name_of
from bridge.cluster.hosting import Inheritance, Place
from bridge.config.errors import ConfigError
from bridge.config.servers import Servers
from bridge.config.settings import Settings, load_environment
from bridge.observe.claim import claimed
from bridge.observe.logs import Logs
from bridge.process.memory import keep_heap
from bridge.process.systemd import Notifier
from bridge.process.watchdog import Watchdog, sweep
from bridge.web.app import Service

log = logging.getLogger(__name__)

#: New objects after which the collector looks for cycles (Python's own is 700).
GARBAGE = 10_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``serve``."""
    parser.usage = "mcp-bridge serve [options] [-- COMMAND ARG...]"
    parser.epilog = (
        "With a COMMAND after -- it alone is served, as /mcp/default, and servers.json is not read. "
        "Every setting can also stand in the environment or in .env: see .env.example."
    )
    add_configuration(parser)
    parser.add_argument(
        "--workers", metavar="N", help="processes that serve the port together, on one host (WORKERS, default 1)"
    )
    parser.add_argument("--watch", action="store_true", default=None, help="reload when servers.json changes (WATCH)")


def run(options: argparse.Namespace) -> int:
    """Run until a signal; return the exit code."""
    if "--" in options.typed and not options.command:
        raise UsageError("serve: no command follows the --; give one, or leave the -- out to serve servers.json")
    own, inherited = place(), inheritance()
    options.environ = dict(os.environ)  # as it was given: for whoever takes over, and for reading settings again
    settings, servers = _configuration(options, own)
    if inherited is not None:
        check(settings, inherited)
    if settings.wants_traces:  # OpenTelemetry reads nothing but the environment
        environ = load_environment(os.environ, options.env_file)
        os.environ.update({name: value for name, value in environ.items() if name.startswith("OTEL_")})
    try:
        if settings.workers > 1 and own is None:
            return _serve_with_workers(settings, servers, options, inherited)
        return serve(settings, servers, options, own, inherited)
    except ConfigError as error:  # what only shows when it is used, such as a port that is taken
        raise CommandError(str(error)) from None


def _configuration(options: argparse.Namespace, own: Place | None) -> tuple[Settings, Servers]:
    settings, servers = configuration_of(options)
    return settings if own is None else own_share(settings, own.index, own.workers), servers


def _serve_with_workers(
    settings: Settings, servers: Servers, options: argparse.Namespace, inherited: Inheritance | None
) -> int:
    """Run the parent of workers until a signal; return the exit code."""
    if sys.platform == "win32":
        raise ConfigError("WORKERS: several processes cannot share a port on Windows; leave it at 1")
    from bridge.cli.workers import Parent  # most bridges are one process

    async def run() -> tuple[int, Restarting]:
        parent = Parent(
            settings, options.typed, options.environ, inherited, functools.partial(announce, settings, servers)
        )
        return await parent.run(), parent.restarting

    with _logs(settings, "parent"), claimed(settings.log_dir, is_heir=inherited is not None):
        _say_problems(settings, servers)
        code, restarting = asyncio.run(run())
    return restarting.wait(code)


def _logs(settings: Settings, node: str | None) -> Logs:
    level, directory, layout = settings.log_level, settings.log_dir, settings.log_format
    return Logs(level, directory, layout, audits=settings.audit_log, node=node)


def _say_problems(settings: Settings, servers: Servers) -> None:
    for problem in servers.problems:
        log.log(logging.ERROR if problem.fatal else logging.WARNING, "%s", problem.text)
    say_doubts(settings, servers)


def serve(
    settings: Settings,
    servers: Servers,
    options: argparse.Namespace,
    own: Place | None = None,
    inherited: Inheritance | None = None,
) -> int:
    """Run until a signal; return the exit code. Raises :class:`bridge.config.errors.ConfigError`.

    ``options`` are what the configuration was read by, and will be again. ``own`` is the place of a worker,
    ``inherited`` what another bridge has left to this one.
    """
    with _logs(settings, None if own is None else name_of(own.index)) as logs:
        if own is None:
            _say_problems(settings, servers)
        keep_heap()
        left = sweep()
        if left:
            log.warning("ended %d process(es) that an earlier bridge had left behind", left)
        # The parent of workers has done it for them.
        folder = contextlib.nullcontext() if own else claimed(settings.log_dir, is_heir=inherited is not None)
        with folder, Watchdog(), asyncio.Runner(loop_factory=_loop_factory()) as runner:
            code, restarting = runner.run(_run(settings, servers, options, logs, own, inherited))
    return code if restarting is None else restarting.wait(code)


async def _run(
    settings: Settings,
    servers: Servers,
    options: argparse.Namespace,
    logs: Logs,
    own: Place | None,
    inherited: Inheritance | None,
) -> tuple[int, Restarting | None]:
    stop, hurry = asyncio.Event(), asyncio.Event()

    def end(why: str) -> None:
        if stop.is_set():
            hurry.set()
        else:
            log.info("%s: shutting down; once more to kill", why)
            stop.set()

    members = None if own is None else own.members()
    node = None if own is None or members is None else own.node(members)
    comes = place_of(inherited) if own is None or node is None else own.between(node)
    service = Service(settings, servers, logs.stderr_sink, node, comes)
    reloading = Reloading(service, logs, settings, servers, lambda: _configuration(options, own), env_file_of(options))
    service.on_reload = reloading.reload
    service.refused = lambda: reloading.problem
    notifier = Notifier(os.environ)
    restarting = None
    if own is None:
        alone = Alone(service, end)
        restarting = Restarting(settings, options.typed, options.environ, notifier, inherited, alone)
        service.on_restart = restarting.restart
    _hear_signals(service, reloading, restarting, end)
    stopped = service.core.registry.keep_stopped
    await stopped(own.stopped if own is not None else () if inherited is None else inherited.stopped)
    await service.start([] if own is None or comes is not None else sockets_of(own.listening))
    if own is not None and members is not None:
        await obey_parent(service, own, members, stop, lambda: end("the parent of the workers has ended"))
    elif inherited is not None and comes is not None:
        await stopped(await take_over(inherited, comes.own))
        await service.listen(sockets_of(inherited.listening))
    notifier.say("READY=1", f"STATUS=listens on {service.url}")
    watched = asyncio.create_task(notifier.keep_watched())
    watching = asyncio.create_task(reloading.watch()) if settings.watch else None
    if own is None:
        announce(settings, servers, service.url)
    # What lives now lives as long as the bridge: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    # What a call leaves behind is gone without the collector, which would look at all calls in flight every few calls.
    gc.set_threshold(GARBAGE)
    await any_of(stop.wait(), service.drained.wait())
    if watching is not None:
        watching.cancel()
    stop.set()  # after draining too, a signal means to hurry
    notifier.say("STOPPING=1")
    try:
        return await _stop(service, hurry), restarting
    finally:
        watched.cancel()
        if restarting is not None:
            restarting.close()


def _hear_signals(
    service: Service, reloading: Reloading, restarting: Restarting | None, end: Callable[[str], None]
) -> None:
    """Do what signals ask for. Where another bridge has taken over, they are for that one, and the end is for both."""
    loop = asyncio.get_running_loop()

    def hear(number: signal.Signals, do: Callable[[], object], *, by_both: bool = False) -> None:
        def heard() -> None:
            has_passed = restarting is not None and restarting.pass_on(number)
            if by_both or not has_passed:
                do()

        loop.add_signal_handler(number, heard)

    for number in (signal.SIGTERM, signal.SIGINT):
        hear(number, functools.partial(end, number.name), by_both=True)
    hear(signal.SIGUSR1, service.drain)
    hear(signal.SIGHUP, reloading.try_reload)
    if restarting is not None:
        hear(signal.SIGUSR2, restarting.ask)
    else:
        loop.add_signal_handler(signal.SIGUSR2, _say_whom_to_ask)


def _say_whom_to_ask() -> None:
    log.warning("SIGUSR2 is for the parent of the workers, which restarts them all")


async def _stop(service: Service, hurry: asyncio.Event) -> int:
    stopping = asyncio.create_task(service.stop())
    hurrying = asyncio.create_task(hurry.wait())
    await asyncio.wait([stopping, hurrying], return_when=asyncio.FIRST_COMPLETED)
    if not stopping.done():
        log.warning("killed by a second signal")
        service.kill()
        stopping.cancel()
        return EXIT_ERROR
    hurrying.cancel()
    stopping.result()
    log.info("stopped")
    return 0


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
