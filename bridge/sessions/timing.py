"""Which duration holds: that of the server if ``servers.json`` has one, else that of the settings. All in seconds."""

from __future__ import annotations

from collections.abc import Mapping

from bridge.config.server import ServerConfig, Unset
from bridge.config.settings import Settings

#: Seconds of silence after which a ``/bridge`` call ends, where no request timeout is configured.
BRIDGE_SILENCE = 300.0


class Timing:
    """Answers for one configuration. None means never."""

    def __init__(self, settings: Settings, servers: Mapping[str, ServerConfig]) -> None:
        self._settings = settings
        self._servers = servers

    def stream_ttl(self, server: str) -> float | None:
        """Idle time of a streamable session."""
        own = self._servers[server].session_ttl
        return self._settings.stream_ttl if isinstance(own, Unset) else own

    def bridge_ttl(self, server: str) -> float | None:
        """Idle time of a bridge client."""
        own = self._servers[server].bridge_ttl
        return self._settings.bridge_ttl if isinstance(own, Unset) else own

    def silence(self, server: str) -> float | None:
        """How long a request may stay without answer or progress."""
        own = self._servers[server].request_timeout
        return self._settings.request_timeout if isinstance(own, Unset) else own

    def bridge_silence(self, server: str) -> float:
        """The same for a ``/bridge`` call, which always has a limit: nobody could cancel it."""
        return self.silence(server) or BRIDGE_SILENCE

    def start(self, server: str) -> float:
        """How long a child may take to answer ``initialize``."""
        return self._servers[server].start_timeout or self._settings.start_timeout

    def stream_interval(self) -> float | None:
        """Seconds between two sweeps of the streamable pool: a third of the shortest TTL."""
        return self._interval([self._settings.stream_ttl, *map(self.stream_ttl, self._servers)])

    def bridge_interval(self) -> float | None:
        """Seconds between two sweeps of the bridge pool."""
        return self._interval([self._settings.bridge_ttl, *map(self.bridge_ttl, self._servers)])

    def _interval(self, ttls: list[float | None]) -> float | None:
        finite = [ttl for ttl in ttls if ttl is not None]
        if not finite:
            return None
        return self._settings.cleanup_interval or min(finite) / 3
