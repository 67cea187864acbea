"""The way to Redis: connections, time limits, and errors that say why without saying a password.

A call ends within :data:`TIMEOUT`. It is tried again once, at once, for the sake of a connection that died while it was
idle; when to come back to a server that is gone is for the caller to say.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from bridge.config.redis_address import RedisAddress
from bridge.stores.record import StoreUnavailable

#: Seconds for a whole call, for one answer, and for making a connection.
TIMEOUT = 5.0
ANSWER_TIMEOUT = 3.0
CONNECT_TIMEOUT = 2.0
#: A connection that was idle for so many seconds is asked whether it still lives before it is used.
HEALTH_CHECK = 15
#: Calls that are under way at a time, each on a connection of its own; more wait.
CONNECTIONS = 8
#: Characters of an error of Redis that are passed on.
SHOWN_ERROR = 300
#: How Redis says that a key holds something of another type. Older versions have the name of the script before it.
_WRONG_TYPE = "WRONGTYPE"


class WrongType(StoreUnavailable):
    """A key holds something else than we keep there. Redis works: whoever asks for other keys gets them."""


class RedisLink:
    """A client of one address. ``patience``: seconds for a call and each part of it, where that is less than usual."""

    def __init__(self, address: RedisAddress, patience: float = math.inf) -> None:
        self.address = address
        self._patience = patience
        self._client: Redis | None = None
        self._sentinel: Sentinel | None = None
        self._turn = asyncio.Semaphore(CONNECTIONS)

    def __repr__(self) -> str:
        return f"{self.address}, {'closed' if self._client is None else 'open'}"

    def open(self) -> None:
        """Make the client; it connects when it is used."""
        if self._client is None:
            try:
                self._client = self._make()
            except (OSError, ValueError) as error:
                raise StoreUnavailable(f"{self.address}: {self._why(error)}") from None

    async def close(self) -> None:
        """Close every connection."""
        client, self._client = self._client, None
        sentinel, self._sentinel = self._sentinel, None
        for each in (client, *(sentinel.sentinels if sentinel else ())):
            if each is not None:
                with contextlib.suppress(RedisError, OSError):
                    async with asyncio.timeout(CONNECT_TIMEOUT):
                        await each.aclose()

    async def ask(self, call: Callable[[Redis], Awaitable[Any]]) -> Any:
        """Return what a call of the client returns. Raises :class:`StoreUnavailable`."""
        client = self._client
        if client is None:
            raise StoreUnavailable(f"{self.address} is not open")
        try:
            async with asyncio.timeout(self._within(TIMEOUT)), self._turn:
                return await call(client)
        except TimeoutError:
            raise StoreUnavailable(f"{self.address}: no answer within {self._within(TIMEOUT):g} s") from None
        except (RedisError, OSError, ValueError) as error:
            kind = WrongType if _WRONG_TYPE in str(error) else StoreUnavailable
            raise kind(f"{self.address}: {self._why(error)}") from None

    def _within(self, seconds: float) -> float:
        return min(seconds, self._patience)

    def _why(self, error: Exception) -> str:
        text = str(error) or type(error).__name__
        for secret in self.address.secrets():
            text = text.replace(secret, "***")
        return text[:SHOWN_ERROR]

    def _make(self) -> Redis:
        address = self.address
        options: dict[str, Any] = {
            "socket_timeout": self._within(ANSWER_TIMEOUT),
            "socket_connect_timeout": self._within(CONNECT_TIMEOUT),
            "health_check_interval": HEALTH_CHECK,
            "retry": Retry(NoBackoff(), 1),
            "protocol": 2,  # spoken by every version, without a greeting that asks for notifications
        }
        if address.tls:
            options |= {"ssl": True, **dict(address.ssl)}
        ours: dict[str, Any] = {
            "username": address.username,
            "password": address.password,
            "db": address.database,
        }
        if address.service is not None:
            theirs = {"username": address.sentinel_username, "password": address.sentinel_password}
            self._sentinel = Sentinel(address.hosts, sentinel_kwargs={**options, **theirs}, **options)  # type: ignore[no-untyped-call]
            client: Redis = self._sentinel.master_for(address.service, **ours)
            return client
        if address.socket is not None:
            return Redis(unix_socket_path=address.socket, **ours, **options)
        [(host, port)] = address.hosts
        return Redis(host=host, port=port, **ours, **options)
