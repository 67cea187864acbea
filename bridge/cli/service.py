"""``mcp-bridge service``: the bridge as a service of systemd, which starts it, restarts it and watches over it."""

from __future__ import annotations

import argparse
import getpass
import os
import shutil
import sys
from pathlib import Path

from bridge.cli.errors import CommandError
from bridge.config.settings import Settings

NAME = "mcp-bridge.service"
#: Seconds beyond SHUTDOWN_TIMEOUT_MS that children get to end.
GRACE = 20

UNIT = """\
[Unit]
Description=MCP bridge: stdio servers as HTTP services
Documentation=https://modelcontextprotocol.io
After=network-online.target
Wants=network-online.target

[Service]
# Ready when it listens; ended and started again when its event loop hangs.
Type=notify
NotifyAccess=main
WatchdogSec=30
ExecStart={program} serve
ExecReload=/bin/kill -HUP $MAINPID
WorkingDirectory={directory}
{user}Restart=always
RestartSec=2
# First the bridge, which ends its servers in order; what is left after that is killed with its group.
KillMode=mixed
TimeoutStopSec={stop}
# A connection is a descriptor, and each server has three more.
LimitNOFILE=65536
NoNewPrivileges=yes
PrivateTmp=yes
ProtectSystem=full

[Install]
WantedBy={target}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words after ``service``."""
    parser.add_argument(
        "action",
        choices=("show", "install", "remove"),
        help="print the unit; write it, and say how to start it; remove it",
    )
    parser.add_argument("--user", action="store_true", help="for the service manager of this user, not of the machine")
    parser.add_argument(
        "--directory", type=Path, default=Path(), help="where servers.json, .env and logs are (default: here)"
    )


def run(options: argparse.Namespace) -> int:
    """Do what the words say; return the exit code."""
    text = unit(program(), options.directory.resolve(), None if options.user else getpass.getuser())
    path = folder(user=options.user) / NAME
    control = "systemctl --user" if options.user else "systemctl"
    if options.action == "show":
        print(text, end="")
        return 0
    try:
        if options.action == "remove":
            path.unlink()
            print(f"{path} is removed; now: {control} disable --now {NAME}; {control} daemon-reload")
            return 0
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except FileNotFoundError:
        raise CommandError(f"{path} does not exist") from None
    except OSError as error:
        hint = "" if options.user else "; it needs root, or --user"
        raise CommandError(f"{path}: {error.strerror}{hint}") from None
    print(f"{path} is written; now: {control} daemon-reload && {control} enable --now {NAME}")
    return 0


def unit(command: str, directory: Path, user: str | None) -> str:
    """Return the unit. ``user`` is who it runs as, None for a unit of the user itself."""
    return UNIT.format(
        program=command,
        directory=str(directory).replace("%", "%%"),
        user="" if user is None else f"User={user}\n",
        stop=int(Settings().shutdown_timeout) + GRACE,
        target="default.target" if user is None else "multi-user.target",
    )


def folder(*, user: bool) -> Path:
    """Where units of the machine, or of the user, are."""
    if not user:
        return Path("/etc/systemd/system")
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd/user"


def program() -> str:
    """How this program is started again: by its script, else by its module; quoted as systemd wants it."""
    script = Path(sys.executable).parent / "mcp-bridge"
    found = str(script) if script.exists() else shutil.which("mcp-bridge")
    words = [found] if found else [sys.executable, "-m", "bridge"]
    return " ".join(f'"{word}"' if " " in word else word for word in words).replace("%", "%%")
