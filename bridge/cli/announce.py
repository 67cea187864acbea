"""What the log says first when a bridge takes requests: its address, and that of each server."""

from __future__ import annotations

import logging

from bridge.config.servers import Servers
from bridge.config.settings import Settings
from bridge.version import __version__

log = logging.getLogger(__name__)


def announce(settings: Settings, servers: Servers, url: str) -> None:
    """Say where everything is."""
    workers = f" with {settings.workers} workers" if settings.workers > 1 else ""
    log.info("mcp-bridge %s%s listens on %s", __version__, workers, url)
    log.info("see what runs: %s/", url)
    if not settings.is_loopback and not settings.needs_token:
        log.warning("everyone who reaches %s may call every server (ALLOW_UNAUTHENTICATED)", url)
    served = [server for server in servers.entries.values() if not server.disabled]
    for server in served:
        log.info("  %s", f"{url}/mcp/{server.id}  {server.description}".rstrip())
    if len(served) > 1:
        log.info("  %s/mcp  all of them", url)
