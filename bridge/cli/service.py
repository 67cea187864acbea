"""``mcp-bridge service``: the bridge as a service of systemd, which starts it, restarts it and watches over it."""

from __future__ import annotations

import argparse
import getpass
import os
import shlex
import shutil
import sys
from pathlib import Path

import psutil

from bridge.cli.errors import CommandError
from bridge.config.settings import Settings

NAME = "mcp-bridge.service"
AS_ROOT = (
    "WARNING: this unit runs the bridge as root, and so every server, also what npx and uvx download; say this as "
    "another user (by sudo is fine, but not with --user), or put another name behind User="
)
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
{user}# Where npx, uvx and the like are found: the PATH of who made this unit.
Environment="PATH={path}"
Restart=always
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
    path = folder(user=options.user) / NAME
    control = "systemctl --user" if options.user else "systemctl"
    owner = getpass.getuser() if options.user else runs_as()
    text = unit(program(), options.directory.resolve(), None if options.user else owner, search_path())
    if owner == "root" and options.action != "remove":
        print(f"mcp-bridge: {AS_ROOT}", file=sys.stderr)
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
        again = shlex.join([*program(), "service", options.action])
        hint = "" if options.user else f"; it needs root: sudo {again}, or --user"
        raise CommandError(f"{path}: {error.strerror}{hint}") from None
    start = f"{control} daemon-reload && {control} enable --now {NAME}"
    print(f"{path} is written, and runs the bridge as {owner}; now: {start}")
    return 0


def unit(command: list[str], directory: Path, user: str | None, path: str) -> str:
    """Return the unit. ``user`` is who it runs as, None for a unit of the user itself; ``path`` is its PATH."""
    return UNIT.format(
        program=" ".join(f'"{word}"' if " " in word else word for word in command).replace("%", "%%"),
        directory=str(directory).replace("%", "%%"),
        user="" if user is None else f"User={user}\n",
        path=path.replace("\\", r"\\").replace('"', r"\"").replace("%", "%%"),
        stop=int(Settings().shutdown_timeout) + GRACE,
        target="default.target" if user is None else "multi-user.target",
    )


def runs_as() -> str:
    """Who a service of the machine runs as: who said sudo, else who calls."""
    return _sudoer() or getpass.getuser()


def search_path() -> str:
    """Return the PATH of the user, under which the servers have worked so far.

    sudo puts another one in its place, which has neither the npx of nvm nor the uvx in ~/.local/bin. But sudo
    itself was started with what the user had.
    """
    found = os.environ.get("PATH", os.defpath)
    if _sudoer():
        try:
            environs = (process.environ() for process in psutil.Process().parents())
            found = next((environ["PATH"] for environ in environs if "SUDO_USER" not in environ), found)
        except (psutil.Error, KeyError):
            pass  # then it is that of sudo
    folders = (folder for folder in found.split(":") if folder.startswith("/") and folder.isprintable())
    return ":".join(dict.fromkeys(folders))


def _sudoer() -> str | None:
    """Who has become root by sudo, if somebody has."""
    return os.environ.get("SUDO_USER") if os.geteuid() == 0 else None


def folder(*, user: bool) -> Path:
    """Where units of the machine, or of the user, are."""
    if not user:
        return Path("/etc/systemd/system")
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd/user"


def program() -> list[str]:
    """How this program is started again: by its script, else by its module."""
    script = Path(sys.executable).parent / "mcp-bridge"
    found = str(script) if script.exists() else shutil.which("mcp-bridge")
    return [found] if found else [sys.executable, "-m", "bridge"]
