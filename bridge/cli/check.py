"""``mcp-bridge check``: the configuration as the bridge understands it, and what is wrong with it."""

from __future__ import annotations

import argparse

from bridge.children.launcher import command_of
from bridge.children.startable import absent, unconfined
from bridge.cli.doctor import folders
from bridge.cli.errors import EXIT_ERROR, EXIT_USAGE
from bridge.cli.options import add_configuration, configuration_of, count_of
from bridge.config.advice import advice
from bridge.config.extras import check_extras
from bridge.config.server import ServerConfig
from bridge.config.servers import Servers
from bridge.config.settings import Settings
from bridge.observe.secrets import masked
from bridge.process.program import python_program
from bridge.process.python import NotPython
from bridge.web.tls import BadCertificate, load


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``check``: those of ``serve``."""
    parser.usage = "mcp-bridge check [options] [-- COMMAND ARG...]"
    add_configuration(parser)


def run(options: argparse.Namespace) -> int:
    """Print what would run; return the exit code."""
    settings, servers = configuration_of(options)
    check_extras(settings)
    return check(settings, servers)


def check(settings: Settings, servers: Servers) -> int:
    """Print what would run; return 0, 1 when something of it would fail, or 2 when an entry is unusable."""
    listening = "this machine only" if settings.is_loopback else "every machine that reaches it"
    print(f"listens on {settings.host}:{settings.port}, open to {listening}, {_who(settings)}")
    tls = _tls(settings)
    if tls:
        print(tls)
    print(f"persistent sessions are kept in {_kept(settings)}")
    wrong = [found.what for found in folders(settings) if found.level == "error"]
    for what in wrong:
        print(f"error: {what}")
    for line in advice(settings, servers.entries):
        print(f"note: {line}")
    print(f"{servers.source}: {count_of(servers)}")
    for server in servers.entries.values():
        print(f"  {server.id}: {state_of(server)}")
        for note in (*server.notes, *_preload(server)):
            print(f"    note: {note}")
    for problem in servers.problems:
        print(f"{'error' if problem.fatal else 'warning'}: {problem.text}")
    unusable = tls.startswith("error") or any(problem.fatal for problem in servers.problems)
    if unusable or any(map(unconfined, servers.entries.values())):
        return EXIT_USAGE
    return EXIT_ERROR if wrong or any(map(absent, servers.entries.values())) else 0


def _who(settings: Settings) -> str:
    if not settings.needs_token:
        return "no token needed"
    return "token needed" if settings.oauth_issuer is None else f"token needed, of {settings.oauth_issuer} too"


def _tls(settings: Settings) -> str:
    if settings.ssl_certfile is None or settings.ssl_keyfile is None:
        return ""
    try:
        load(settings.ssl_certfile, settings.ssl_keyfile)
    except BadCertificate as error:
        return f"error: {error}"
    return f"speaks https with {settings.ssl_certfile}"


def _kept(settings: Settings) -> str:
    match settings.store:
        case "redis":
            return f"{settings.redis_url} under {settings.redis_prefix}"
        case "file":
            return f"the directory {settings.session_dir}"
    return "memory, like all others: they end when they idle, and with the bridge"


def state_of(server: ServerConfig) -> str:
    """Say in a few words what would run, or why it would not."""
    if server.disabled:
        return "disabled"
    if server.url is not None:
        names = f", with headers {', '.join(server.headers)}" if server.headers else ""
        return f"ok, remote, {_shown(server.url)}{names}"
    if why := unconfined(server):
        return f"error: {why}"
    if why := absent(server):
        return f"warning: {why}"
    return f"ok, {' '.join(masked(server.argv))[:100]}{_confinement(server)}"


def _confinement(server: ServerConfig) -> str:
    if server.sandbox is None:
        return ", without new privileges" if server.no_new_privs else ""
    changes = ", ".join(server.sandbox.write) or "nothing"
    sees = "" if "/" in server.sandbox.read else f"sees {', '.join(server.sandbox.read) or 'nothing'}, "
    return f", in a sandbox: {sees}may change {changes}, {'with' if server.sandbox.network else 'without'} network"


def _preload(server: ServerConfig) -> tuple[str, ...]:
    if server.preload is None or server.disabled:
        return ()
    try:
        python_program(command_of(server))
    except NotPython as why:
        return (f'"preload" does nothing: {why}',)
    return ()


def _shown(url: str) -> str:
    """Without the query, where keys are."""
    address, question_mark, _ = url.partition("?")
    return f"{address[:100]}{'?...' if question_mark else ''}"
