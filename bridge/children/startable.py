"""Why the program of a server would not start, as far as the files of the system show."""

from __future__ import annotations

import os
from collections.abc import Iterable

from bridge.children.launcher import command_of
from bridge.config.server import ServerConfig
from bridge.process.spawn import missing_tools, program_file, whole_line


def unstartable(servers: Iterable[ServerConfig]) -> list[str]:
    """Return a line for each of these servers that would not start."""
    found = ((server.id, why_not(server)) for server in servers)
    return [f"server {server} will not start: {why}" for server, why in found if why]


def why_not(server: ServerConfig) -> str:
    """Why a server would not start; nothing when it would."""
    return unconfined(server) or absent(server)


def absent(server: ServerConfig) -> str:
    """Why the system would not start its program; nothing when it would."""
    if server.disabled or server.url is not None:
        return ""
    if server.cwd is not None and not server.cwd.is_dir():
        return f'"cwd" {str(server.cwd)!r} is no directory'
    program = server.argv[0]
    found = program_file(command_of(server))
    if found is None:
        return f"{not_found(program)}{whole_line(program)}"
    if not found.is_file():
        return f"command {program!r} is no program, but a directory"
    return "" if os.access(found, os.X_OK) else f"command {program!r} may not be executed; check its permissions"


def not_found(program: str) -> str:
    """Say of a command that its program is not there."""
    return f"command {program!r} not found{'' if '/' in program else ' on the PATH of its environment'}"


def unconfined(server: ServerConfig) -> str:
    """Why a server that is to be confined does not start; nothing when it does."""
    if server.disabled or server.url is not None:
        return ""
    command = command_of(server)
    return missing_tools(command.confinement, command.limits)
