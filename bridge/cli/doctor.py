"""``mcp-bridge doctor``: everything that can be wrong is tried once, and each finding says how to repair it."""

from __future__ import annotations

import argparse
import asyncio
import errno
import json
import os
import resource
import socket
import stat
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from bridge.auth import tokens
from bridge.auth.tokens import BadTokens
from bridge.children.pinbook import read_rows
from bridge.cli.client import Client
from bridge.cli.errors import EXIT_ERROR, CommandError, Misnamed, UsageError
from bridge.cli.findings import Finding, show
from bridge.cli.options import add_configuration, count_of, servers_of, settings_of, unusable
from bridge.config.advice import advice
from bridge.config.errors import ConfigError, NoServersFile
from bridge.config.server import ServerConfig
from bridge.config.servers import Servers
from bridge.config.settings import Settings

#: Seconds for one server.
SERVER_SECONDS = 60.0
#: Descriptors that a child and its session need, and those of the bridge itself.
FILES_PER_CHILD, FILES_OF_OURS = 6, 200
#: Bytes that are written to try a folder: a few pages of a file system.
TRIED_BYTES = 16 * 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words after ``doctor``."""
    parser.usage = "mcp-bridge doctor [options] [SERVER...] [-- COMMAND ARG...]"
    add_configuration(parser)
    parser.add_argument("servers", nargs="*", metavar="SERVER", help="only these (default: all that are enabled)")
    parser.add_argument("--no-start", action="store_true", help="look, and start no server")
    parser.add_argument("--timeout", type=_seconds, default=SERVER_SECONDS, metavar="SECONDS", help="for one server")
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(options: argparse.Namespace) -> int:
    """Try, tell, and return 1 when something is broken. Raises what :func:`servers_of` raises."""
    settings, servers, missing = _configuration(options)
    wanted = {server.id: server for server in servers.entries.values() if not server.disabled}
    for name in options.servers:
        if name not in servers.entries and name not in servers.mistaken:
            raise UsageError(unusable(name, servers))
    disabled = [_disabled(name, servers) for name in options.servers if name in servers.entries.keys() - wanted.keys()]
    if options.servers:
        wanted = {name: config for name, config in wanted.items() if name in options.servers}
    if options.no_start:
        wanted = {}
    found: list[Finding] = []

    def say(findings: list[Finding]) -> None:
        found.extend(findings)
        if not options.json:
            show(findings)

    say(missing or _of_the_configuration(settings, servers))
    say([_port(options, settings), *folders(settings), _files(settings), *disabled])
    from bridge.process.watchdog import Watchdog  # here and below: --help waits for none of them

    with Watchdog():
        asyncio.run(_ask(settings, wanted, options.timeout, _failures(options) if wanted else {}, say))
    if options.json:
        print(json.dumps([asdict(finding) for finding in found], indent=2))
    errors = sum(1 for finding in found if finding.level == "error")
    warnings = sum(1 for finding in found if finding.level == "warning")
    if not options.json:
        print(f"{errors} error(s), {warnings} warning(s)")
    return EXIT_ERROR if errors else 0


def _configuration(options: argparse.Namespace) -> tuple[Settings, Servers, list[Finding]]:
    """The settings and the servers, and what to say where there is no file of servers: all else can be tried."""
    settings, environ = settings_of(options)
    try:
        return settings, servers_of(options, settings, environ), []
    except NoServersFile as missing:
        if options.servers:
            raise
        fix = "make it: mcp-bridge add; to try one command: mcp-bridge doctor -- COMMAND"
        what = str(missing).partition(";")[0]
        return settings, Servers(str(settings.servers_file), {}), [Finding("error", "bridge", what, fix)]


async def _ask(
    settings: Settings,
    wanted: Mapping[str, ServerConfig],
    seconds: float,
    failures: Mapping[str, str],
    say: Callable[[list[Finding]], None],
) -> None:
    """What has to be waited for."""
    if settings.store == "redis":
        from bridge.cli.redis_trial import try_redis

        say([await try_redis(settings)])
    if wanted:
        from bridge.cli.checkup import examine

        await examine(wanted, settings, seconds, lambda findings: say(_beside(findings, failures)))


def _of_the_configuration(settings: Settings, servers: Servers) -> list[Finding]:
    findings = [Finding("ok", "bridge", f"{servers.source} has {count_of(servers)}")]
    findings += [
        Finding(
            "error" if problem.fatal else "warning",
            problem.server,
            problem.text,
            f"change it in {problem.text.partition(': ')[0]}",
        )
        for problem in servers.problems
    ]
    findings += [Finding("warning", "bridge", line) for line in advice(settings, servers.entries)]
    return findings


def _disabled(name: str, servers: Servers) -> Finding:
    return Finding("warning", name, "it is disabled, and was not tried", f'set "disabled": false in {servers.source}')


def _failures(options: argparse.Namespace) -> dict[str, str]:
    """What went wrong last at each server that a running bridge has no process of, as ``ps`` shows it."""
    try:
        rows = Client(options).ask("GET", "/api/v1/servers")
    except CommandError:  # none runs, or it tells nothing to who has no token
        return {}
    return {row["id"]: row["last_error"] for row in rows if row.get("last_error") and row["state"] != "running"}


def _beside(findings: list[Finding], failures: Mapping[str, str]) -> list[Finding]:
    """What was found at one server, and how it fails in the bridge that runs where it works here."""
    about = findings[-1].about
    if about not in failures or any(finding.level == "error" for finding in findings):
        return findings
    fix = "it works here: compare PATH, variables and user of the bridge with yours"
    return [*findings, Finding("warning", about, f"in the bridge that runs: {failures[about]}", fix)]


def _port(options: argparse.Namespace, settings: Settings) -> Finding:
    """Whether the address is free, or ours already."""
    where = f"{settings.host}:{settings.port}"
    answer = None
    try:
        answer = Client(options).ask("GET", "/health")
    except Misnamed:
        what = f"a bridge runs at {where}, and its certificate does not name {settings.host}"
        fix = f"make one that names it: clients refuse this one at {settings.host}"
        return Finding("warning", "bridge", what, fix)
    except (CommandError, ValueError):
        pass  # it is none
    if isinstance(answer, dict) and answer.get("status") == "ok":
        return Finding("ok", "bridge", f"a bridge runs at {where}")
    if isinstance(answer, dict) and answer.get("status") == "degraded":
        why = "; ".join(map(str, answer.get("reasons", []))) or "it tells why to who has the token"
        return Finding("warning", "bridge", f"the bridge at {where} is degraded: {why}", "see mcp-bridge ps")
    try:
        family, kind, number, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, number) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            what = f"another program listens on {where}"
            return Finding("error", "bridge", what, "end it, or choose another PORT (--port)")
        if error.errno == errno.EACCES:
            return Finding("error", "bridge", f"this user may not listen on {where}", "choose a PORT from 1024 on")
        what = f"cannot listen on {where}: {error.strerror or error}"
        return Finding("error", "bridge", what, "HOST must be an address of this machine")
    return Finding("ok", "bridge", f"{where} is free")


def folders(settings: Settings) -> list[Finding]:
    """Whether the bridge can write and read what is its own."""
    findings = [_folder("LOG_DIR", settings.log_dir, "logs would go to the console only")]
    if settings.store == "file":
        findings.append(_folder("SESSION_DIR", settings.session_dir, "sessions could not be kept"))
    if settings.tokens_file is not None:
        findings.append(_tokens(settings.tokens_file))
    return findings + _pins(settings.pins_path)


def _folder(name: str, path: Path, otherwise: str) -> Finding:
    """Whether a folder can be written, or made: that is tried, because root may write where nothing can be written, and
    a disk that is full can be written as well, by its permissions.
    """
    there = path if path.exists() else next((each for each in path.absolute().parents if each.exists()), Path("/"))
    if not there.is_dir():
        what = f"{name} {path}: {there} is no directory; {otherwise}"
        return Finding("error", "bridge", what, f"choose another {name}")
    try:
        with tempfile.TemporaryFile(dir=there) as file:  # which has no name, or none for long
            file.write(bytes(TRIED_BYTES))
            file.flush()
            os.fsync(file.fileno())  # some systems count only then
    except OSError as error:
        what = f"{name} {path} cannot be written: {error.strerror}; {otherwise}"
        make = "free space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "let this user write"
        return Finding("error", "bridge", what, f"{make} in {there}, or choose another {name}")
    return Finding("ok", "bridge", f"{name} {path} can be written")


def _tokens(path: Path) -> Finding:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        tokens.read(path)
    except OSError as error:
        what = f"TOKENS_FILE {path}: {error.strerror}"
        return Finding("error", "bridge", what, "make its first token: mcp-bridge token add NAME")
    except BadTokens as error:
        fix = "correct it; or move it away, and make new tokens: mcp-bridge token add NAME"
        return Finding("error", "bridge", f"TOKENS_FILE: {error}", fix)
    if mode & 0o077:
        return Finding("warning", "bridge", f"TOKENS_FILE {path} can be read by others", f"chmod 600 {path}")
    return Finding("ok", "bridge", f"TOKENS_FILE {path} is for this user only")


def _pins(path: Path) -> list[Finding]:
    """Why the bridge could not start with the file of pins; nothing where it could."""
    try:
        read_rows(path)
    except ConfigError as error:
        what, _, fix = str(error).rpartition("; ")
        return [Finding("error", "bridge", what, fix)]
    return []


def _files(settings: Settings) -> Finding:
    """Whether there are descriptors enough for as many children as are allowed."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = settings.max_children * FILES_PER_CHILD + FILES_OF_OURS
    if limit != resource.RLIM_INFINITY and limit < needed:
        what = f"{limit} files may be open; {settings.max_children} children (MAX_CHILDREN) need about {needed}"
        fix = f"ulimit -n {max(65536, needed)} (systemd: LimitNOFILE=), or lower MAX_CHILDREN"
        return Finding("warning", "bridge", what, fix)
    return Finding("ok", "bridge", f"{'any number of' if limit == resource.RLIM_INFINITY else limit} files may be open")


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return number
