"""Calls of modern clients that wait for their user: kept here, behind a token that only we can make.

``requestState`` is hostile input (specification 2026-07-28, multi-round requests): the token is a random number and an
HMAC over it, the principal, the server, and what the call was, so a tampered, foreign or replayed one is refused. A
parked call holds a child, so there is a deadline and a cap.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
import secrets
from dataclasses import dataclass
from typing import Protocol

from bridge.protocol import jsontext
from bridge.protocol.errors import ChildUnavailable, Fault, Rejection
from bridge.protocol.messages import Request

log = logging.getLogger(__name__)

#: Seconds that a call waits for its user.
PATIENCE = 600.0
#: Seconds that a call may wait for its user even if others want its child.
LEAST_STAY = 60.0
#: Most calls that wait at once, of one server and one principal.
MOST = 100
#: What a ``requestState`` of any run of the bridge looks like.
_OURS = re.compile(r"([0-9a-f]{16})-[\w-]{32}\.[0-9a-f]{64}", re.ASCII)


class Parkable(Protocol):
    """A call that waits for its client to come back."""

    server: str

    def expire(self) -> None:
        """Nobody came back: end it on the child."""
        ...


@dataclass(slots=True)
class _Place:
    call: Parkable
    principal: str
    since: float
    timer: asyncio.TimerHandle


class Parking:
    """All parked calls: each for ``PATIENCE`` seconds, at most ``MOST`` of one server and principal."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._run = secrets.token_hex(8)
        self._places: dict[str, _Place] = {}

    def __len__(self) -> int:
        return len(self._places)

    def count(self, server: str) -> int:
        """How many calls of a server wait."""
        return sum(1 for place in self._places.values() if place.call.server == server)

    def park(self, call: Parkable, request: Request, principal: str) -> str:
        """Keep a call; return the ``requestState`` that brings it back once.

        Raises :class:`ChildUnavailable` when too many wait already.
        """
        alike = sum(
            1 for each in self._places.values() if each.call.server == call.server and each.principal == principal
        )
        if alike >= MOST:
            raise ChildUnavailable(call.server, f"{alike} calls of it wait for their users already", retry_in=30)
        name = f"{self._run}-{secrets.token_urlsafe(24)}"
        loop = asyncio.get_running_loop()
        timer = loop.call_later(PATIENCE, self._expired, name)
        self._places[name] = _Place(call, principal, loop.time(), timer)
        return f"{name}.{self._seal(name, principal, call.server, digest(request))}"

    def holds(self, state: str) -> bool:
        """Whether a call waits under this ``requestState``, whoever may bring it back."""
        return state.partition(".")[0] in self._places

    def take(self, state: str, request: Request, principal: str, server: str) -> Parkable:
        """Return the call that a ``requestState`` brings back. Raises :class:`Rejection` for any that is not right."""
        name, _, seal = state.partition(".")
        good = hmac.compare_digest(seal.encode(), self._seal(name, principal, server, digest(request)).encode())
        place = self._places.pop(name, None) if good else None
        if place is None:
            raise self._unknown(state)
        place.timer.cancel()
        return place.call

    def _unknown(self, state: str) -> Rejection:
        run = _OURS.fullmatch(state)
        restarted = run is not None and run[1] != self._run
        why = "it was used before, has expired, or belongs to another request"
        if restarted:
            why = "the bridge was restarted meanwhile, and such calls do not outlive it"
        text = f"requestState is not known: {why}; call again"
        return Rejection(Fault.BAD_PARAMS, text, data={"restarted": restarted})

    def make_room(self, server: str, children: int) -> None:
        """End the oldest parked call of a server when its parked calls hold as many as ``children``.

        Most of those whose users never come back would else keep everyone waiting; one that is asked for a short time
        only stays.
        """
        waiting = [(name, place) for name, place in self._places.items() if place.call.server == server]
        if len(waiting) >= children:
            name, oldest = waiting[0]
            if asyncio.get_running_loop().time() - oldest.since >= LEAST_STAY:
                self._expired(name)

    def close(self) -> None:
        """End all that wait."""
        for name in list(self._places):
            self._expired(name)

    def _expired(self, name: str) -> None:
        place = self._places.pop(name, None)
        if place is not None:
            place.timer.cancel()
            log.info("server %s: a call whose user did not come back has ended", place.call.server)
            place.call.expire()

    def _seal(self, name: str, principal: str, server: str, content: bytes) -> str:
        text = b"\0".join((name.encode(), principal.encode(), server.encode(), content))
        return hmac.new(self._key, text, hashlib.sha256).hexdigest()


def digest(request: Request) -> bytes:
    """What makes a retry the same request: its method, name or uri, and arguments, however they are spelled."""
    members = jsontext.fields(request.params)
    kept = {key: jsontext.canonical(bytes(members[key])) for key in ("name", "uri", "arguments") if key in members}
    return hashlib.sha256(jsontext.encode([request.method, kept])).digest()
