"""Which duration holds: that of the server if ``servers.json`` has one, else that of the settings. All in seconds."""

from __future__ import annotations

from collections.abc import Mapping

from bridge.config.server import ServerConfig
from bridge.config.settings import Settings
from bridge.config.values import Unset

#: Idle time before a temporary session ends, where nobody says anything. That of a persistent one is for ever.
DEFAULT_TTL = 300.0
#: Seconds between two looks at what may be parked or has to be written, at most.
LONGEST_UPKEEP = 30.0
#: Seconds of silence after which a ``/bridge`` call ends, where no request timeout is configured.
BRIDGE_SILENCE = 300.0


class Timing:
    """Answers for one configuration. None means never."""

    def __init__(self, settings: Settings, servers: Mapping[str, ServerConfig]) -> None:
        self._servers = servers
        self.adopt(settings)

    def adopt(self, settings: Settings) -> None:
        """Answer by these settings from now on; intervals that have begun stay as they are."""
        self._settings = settings
        hours = settings.ttl_hours
        self._stream_ttl = hours if isinstance(settings.stream_ttl, Unset) else settings.stream_ttl
        self._bridge_ttl = hours if isinstance(settings.bridge_ttl, Unset) else settings.bridge_ttl

    @property
    def stream_pool_ttl(self) -> float | None:
        """Idle time of a temporary streamable session whose server says nothing."""
        return DEFAULT_TTL if isinstance(self._stream_ttl, Unset) else self._stream_ttl

    @property
    def bridge_pool_ttl(self) -> float | None:
        """Idle time of a bridge client whose server says nothing."""
        return DEFAULT_TTL if isinstance(self._bridge_ttl, Unset) else self._bridge_ttl

    def stream_ttl(self, server: str, *, persistent: bool = False) -> float | None:
        """Idle time of a streamable session that was opened without one of its own."""
        own = self._servers[server].session_ttl
        if not isinstance(own, Unset):
            return own
        return None if persistent and isinstance(self._stream_ttl, Unset) else self.stream_pool_ttl

    def bridge_ttl(self, server: str) -> float | None:
        """Idle time of a bridge client."""
        own = self._servers[server].bridge_ttl
        return self.bridge_pool_ttl if isinstance(own, Unset) else own

    def idle_stop(self, server: str) -> float | None:
        """Idle time after which a session loses its child."""
        return self._servers[server].idle_stop

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
        return self._interval([self.stream_pool_ttl, *map(self.stream_ttl, self._servers)])

    def bridge_interval(self) -> float | None:
        """Seconds between two sweeps of the bridge pool."""
        return self._interval([self.bridge_pool_ttl, *map(self.bridge_ttl, self._servers)])

    def upkeep_interval(self) -> float:
        """Seconds between two looks at what may be parked, or has to be written again: a third of the shortest."""
        kept = [self.stream_ttl(server, persistent=True) for server in self._servers]
        finite = [each for each in [*kept, *map(self.idle_stop, self._servers)] if each is not None]
        return min([*(each / 3 for each in finite), LONGEST_UPKEEP])

    def _interval(self, ttls: list[float | None]) -> float | None:
        if self._settings.cleanup_interval is not None:
            return self._settings.cleanup_interval
        finite = [ttl for ttl in ttls if ttl is not None]
        return min(finite) / 3 if finite else None
