"""``mcp-bridge serve``: the event loop, the signals, the way down.

SIGTERM and SIGINT end it in order: exit code 0, with no process left. A second signal kills the children at once.
SIGHUP reads the configuration again. SIGUSR1 drains: no new sessions, and the end when the open ones have ended or are
kept.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable

from bridge.cli.errors import EXIT_ERROR, CommandError
from bridge.cli.options import add_configuration, configuration_of, env_file_of
from bridge.cli.reload import Reloading
from bridge.cli.worker import follow_parent, own_share, place, sockets_of, tell_ready
from bridge.cluster.board import name_of
from bridge.cluster.hosting import Place
from bridge.config.advice import advice
from bridge.config.errors import ConfigError
from bridge.config.servers import Servers
from bridge.config.settings import Settings, load_environment
from bridge.observe.logs import Logs
from bridge.process.memory import keep_heap
from bridge.process.systemd import Notifier
from bridge.process.watchdog import Watchdog, sweep
from bridge.version import __version__
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
    own = place()
    settings, servers = _configuration(options, own)
    if settings.wants_traces:  # OpenTelemetry reads nothing but the environment
        environ = load_environment(os.environ, options.env_file)
        os.environ.update({name: value for name, value in environ.items() if name.startswith("OTEL_")})
    try:
        if settings.workers > 1 and own is None:
            return _serve_with_workers(settings, servers, options)
        return serve(settings, servers, options, own)
    except ConfigError as error:  # what only shows when it is used, such as a port that is taken
        raise CommandError(str(error)) from None


def _configuration(options: argparse.Namespace, own: Place | None) -> tuple[Settings, Servers]:
    settings, servers = configuration_of(options)
    return settings if own is None else own_share(settings, own.index, own.workers), servers


def _serve_with_workers(settings: Settings, servers: Servers, options: argparse.Namespace) -> int:
    """Run the parent of workers until a signal; return the exit code."""
    if sys.platform == "win32":
        raise ConfigError("WORKERS: several processes cannot share a port on Windows; leave it at 1")
    from bridge.cli.workers import Parent  # most bridges are one process

    async def run() -> int:
        return await Parent(settings, options.typed).run()

    with _logs(settings, "parent"):
        _say_problems(settings, servers)
        return asyncio.run(run())


def _logs(settings: Settings, node: str | None) -> Logs:
    return Logs(settings.log_level, settings.log_dir, settings.log_format, audits=settings.audit_log, node=node)


def _say_problems(settings: Settings, servers: Servers) -> None:
    for problem in servers.problems:
        log.log(logging.ERROR if problem.fatal else logging.WARNING, "%s", problem.text)
    for line in advice(settings, servers.entries):
        log.warning("%s", line)


def serve(settings: Settings, servers: Servers, options: argparse.Namespace, own: Place | None = None) -> int:
    """Run until a signal; return the exit code. Raises :class:`bridge.config.errors.ConfigError`.

    ``options`` are what the configuration was read by, and will be again. ``own`` is the place of a worker.
    """
    with _logs(settings, None if own is None else name_of(own.index)) as logs:
        if own is None:
            _say_problems(settings, servers)
        keep_heap()
        left = sweep()
        if left:
            log.warning("ended %d process(es) that an earlier bridge had left behind", left)
        with Watchdog(), asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_run(settings, servers, options, logs, own))


async def _run(settings: Settings, servers: Servers, options: argparse.Namespace, logs: Logs, own: Place | None) -> int:
    stop, hurry = asyncio.Event(), asyncio.Event()

    def on_signal(name: str) -> None:
        if stop.is_set():
            hurry.set()
        else:
            log.info("%s: shutting down; once more to kill", name)
            stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number.name)
    members = None if own is None else own.members()
    node = None if own is None or members is None else own.node(members)
    service = Service(settings, servers, logs.stderr_sink, node)
    loop.add_signal_handler(signal.SIGUSR1, service.drain)
    reloading = Reloading(service, logs, settings, servers, lambda: _configuration(options, own), env_file_of(options))
    service.on_reload = reloading.reload
    loop.add_signal_handler(signal.SIGHUP, reloading.try_reload)
    await service.start([] if own is None else sockets_of(own))
    if members is not None:
        follow_parent(loop, lambda: on_signal("the parent of the workers has ended"))
        tell_ready(members)
    notifier = Notifier(os.environ)
    notifier.say("READY=1", f"STATUS=listens on {service.url}")
    watched = asyncio.create_task(notifier.keep_watched())
    watching = asyncio.create_task(reloading.watch()) if settings.watch else None
    if own is None:
        _announce(settings, servers, service)
    # What lives now lives as long as the bridge: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    # What a call leaves behind is gone without the collector, which would look at all calls in flight every few calls.
    gc.set_threshold(GARBAGE)
    waits = [asyncio.create_task(event.wait()) for event in (stop, service.drained)]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    if watching is not None:
        watching.cancel()
    stop.set()  # after draining too, a signal means to hurry
    notifier.say("STOPPING=1")
    try:
        return await _stop(service, hurry)
    finally:
        watched.cancel()


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


def _announce(settings: Settings, servers: Servers, service: Service) -> None:
    log.info("mcp-bridge %s listens on %s", __version__, service.url)
    log.info("see what runs: %s/", service.url)
    if not settings.is_loopback and not settings.needs_token:
        log.warning("everyone who reaches %s may call every server (ALLOW_UNAUTHENTICATED)", service.url)
    for server in servers.entries.values():
        if not server.disabled:
            log.info("  %s/mcp/%s  %s", service.url, server.id, server.description)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
