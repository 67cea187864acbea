"""How often a caller may ask (``RATE_LIMIT``, ``rateLimit``), and guess tokens.

A caller is who its token says it is; where none is needed, or none is known yet, the address that it comes from.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Mapping

from aiohttp import web

from bridge.auth.principal import ANYONE, NOBODY
from bridge.config.values import Rate
from bridge.protocol.errors import Fault, Rejection
from bridge.web.bucket import Buckets, neighbourhood
from bridge.web.principal import principal_of
from bridge.web.proxy import address_of, client_of

#: Wrong tokens that one address may try. 256 bits are not guessed in this way, a short ACCESS_TOKEN is.
GUESSES = Rate(30, 60.0)


class Limits:
    """The rates that are set: ``every`` for all requests of a caller, ``servers`` for those to one server.

    Paths in ``exempt`` are answered all the same: who watches the bridge must not take it for dead.
    """

    def __init__(
        self,
        every: Rate | None,
        servers: Mapping[str, Rate],
        exempt: Container[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._exempt = exempt
        self._clock = clock
        self._every = None if every is None else Buckets(every, clock)
        self._servers: dict[str, Buckets] = {}
        self.adopt(servers)

    def adopt(self, servers: Mapping[str, Rate]) -> None:
        """Make these the rates of servers; what was counted for one that stays is not forgotten."""
        self._servers = {
            server: old if (old := self._servers.get(server)) and old.rate == rate else Buckets(rate, self._clock)
            for server, rate in servers.items()
        }
        self.is_set = self._every is not None or bool(self._servers)

    def check(self, request: web.BaseRequest) -> None:
        """Raise :class:`Rejection` (429) when its caller asks too often."""
        if self._every is None or not (wait := self._every.take(caller_of(request))):
            return
        if request.path not in self._exempt:
            raise _too_often(f"more than {self._every.rate}: RATE_LIMIT of the bridge", wait)

    def check_server(self, request: web.BaseRequest, server: str) -> None:
        """Raise :class:`Rejection` (429) when its caller asks this server too often."""
        buckets = self._servers.get(server)
        if buckets is not None and (wait := buckets.take(caller_of(request))):
            raise _too_often(f'more than {buckets.rate}: "rateLimit" of server "{server}"', wait)


def caller_of(request: web.BaseRequest) -> str:
    """Who asks, as it is counted: the name of a token, else an address."""
    principal = principal_of(request)
    return neighbourhood(client_of(request)) if principal is ANYONE or principal is NOBODY else principal.name


class Guesses:
    """Counts wrong tokens by address. Programs on this machine are not counted: one of them with an old token would
    shut out all others, and who runs programs here need not guess.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets = Buckets(GUESSES, clock)
        self._until = 0.0  # when the last one who has to wait need not any more
        self.have_begun = False  # before that nobody has to wait

    def count(self, request: web.BaseRequest) -> None:
        """The token of this request was wrong."""
        address = address_of(client := client_of(request))
        if address is None or not address.is_loopback:
            self.have_begun = True
            caller = neighbourhood(client)
            self._buckets.take(caller)
            self._until = max(self._until, self._clock() + self._buckets.wait(caller))

    def anybody_waits(self) -> bool:
        """Whether any caller may have to wait just now."""
        return self._clock() < self._until

    def wait(self, request: web.BaseRequest) -> float:
        """Return the seconds for which no token of this caller is good that may be a guess, or has to be verified."""
        return self._buckets.wait(neighbourhood(client_of(request)))


def too_many_guesses(wait: float) -> Rejection:
    """Return the refusal of whoever has sent too many wrong tokens."""
    why = f"too many wrong tokens came from this address; try again in {wait:.1f} s"
    return Rejection(Fault.TOO_MANY, why, retry_in=wait)


def _too_often(why: str, wait: float) -> Rejection:
    return Rejection(Fault.TOO_MANY, f"too many requests, {why}; try again in {wait:.1f} s", retry_in=wait)
