"""nginx in front of three nodes, with the configuration that we hand out, and a log of who was asked for what."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from yarl import URL

from tests.web.test_reverse_proxies import MAIN

SITE = Path(__file__).parent.parent.parent / "deploy/cluster/nginx.conf"
LOG = "'$upstream_addr $request_method $status $http_mcp_session_id'"


class Passed(NamedTuple):
    """A request that a node has answered; ``port`` is that of the node."""

    port: int
    method: str
    status: int
    session_id: str


def nginx_command(folder: Path, port: int, urls: Sequence[str]) -> list[str]:
    """Return the command that runs nginx on ``port``. ``folder``, which is made, gets all that it writes."""
    nginx = shutil.which("nginx")
    assert nginx, "nginx is missing; make proxies installs it"
    folder.mkdir()
    site = SITE.read_text().replace("listen 80;", f"listen 127.0.0.1:{port}; access_log {folder}/passed passed;")
    for number, url in enumerate(urls, 1):
        assert f"bridge-{number}:3000" in site
        site = site.replace(f"bridge-{number}:3000", f"127.0.0.1:{URL(url).port}")
    (folder / "site.conf").write_text(f"log_format passed {LOG};\n{site}")
    (folder / "nginx.conf").write_text(MAIN.format(folder=folder))
    return [nginx, "-p", str(folder), "-c", str(folder / "nginx.conf")]


def passed(folder: Path) -> list[Passed]:
    """Return what has been answered so far, in order of the ends."""
    found = []
    for line in (folder / "passed").read_text().splitlines():
        *tried, method, status, session_id = line.split(" ")  # "HOST:PORT, HOST:PORT" where it was tried twice
        found.append(Passed(int(tried[-1].rpartition(":")[2]), method, int(status), session_id))
    return found
