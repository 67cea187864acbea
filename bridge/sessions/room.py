"""How many sessions there may be: in all, of one user, of one server. At a limit somebody's idle one may have to go.

The one that goes is temporary, idle, and the longest idle of the same user; one whose process works at a task is last.
Where the whole bridge is full, sessions that others have left behind make room too, so that nobody's abandoned sessions
lock out anybody else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial

from bridge.protocol.errors import BridgeError, ChildUnavailable, Fault, Rejection
from bridge.protocol.states import SessionState
from bridge.sessions.pool import Entry, SessionPool
from bridge.sessions.streamable import StreamableSession

#: Seconds after which an idle session counts as abandoned.
ABANDONED = 60.0
#: Seconds after which a client that found no room may come back.
RETRY_IN = 5.0

SessionEntry = Entry[StreamableSession]


class Room:
    """Counts sessions against their limits. ``per_server`` gives ``maxSessions`` of a server, None for no limit."""

    def __init__(
        self, pool: SessionPool[StreamableSession], *, per_user: int, per_server: Callable[[str], int | None]
    ) -> None:
        self._pool = pool
        self._per_user = per_user
        self._per_server = per_server
        self._total = 0
        self._users: Counter[str] = Counter()
        self._servers: Counter[str] = Counter()

    def take(self, server: str, owner: str, end: Callable[[SessionEntry, str], object]) -> None:
        """Count one more session, and ``end`` those that have to make room for it.

        Raises :class:`ChildUnavailable` (503), or :class:`Rejection` (429) where the user has too many.
        """
        busy = partial(ChildUnavailable, server, retry_in=RETRY_IN)
        too_many = partial(Rejection, Fault.TOO_MANY, retry_in=RETRY_IN)
        most = self._per_server(server)
        if most is not None and self._servers[server] >= most:
            text = f"all {most} of its sessions are in use"
            its_own = "maxSessions of its server"
            self._make(lambda entry: entry.session.server == server, owner, its_own, end, busy, text)
        if self._users[owner] >= self._per_user:
            text = f"you have {self._per_user} sessions in use (MAX_SESSIONS_PER_USER); end some by DELETE"
            self._make(lambda _: True, owner, "MAX_SESSIONS_PER_USER", end, too_many, text)
        if self._total >= self._pool.limit:
            text = f"all {self._pool.limit} sessions are in use (MAX_SESSIONS)"
            self._make(lambda _: True, owner, "MAX_SESSIONS", end, busy, text, others=True)
        self.count(server, owner)

    def count(self, server: str, owner: str) -> None:
        """Count one more, over the limit or not: it was there before this bridge."""
        self._total += 1
        self._users[owner] += 1
        self._servers[server] += 1

    def give_back(self, server: str, owner: str) -> None:
        """Count one less."""
        self._total -= 1
        for counter, key in ((self._users, owner), (self._servers, server)):
            counter[key] -= 1
            if not counter[key]:
                del counter[key]

    def idle(self, owner: str, *, others: bool) -> list[SessionEntry]:
        """Sessions that could make room for one of ``owner``, the best choice first: its own before those of others."""
        found = [
            entry
            for entry in self._pool.entries()
            if (entry.state is SessionState.IDLE or entry.state is SessionState.DORMANT) and not entry.in_use
        ]
        found.sort(key=lambda entry: (entry.session.works, entry.last_used))
        own = [entry for entry in found if entry.session.owner == owner]
        if not others:
            return own
        return own + [
            entry for entry in found if entry.session.owner != owner and self._pool.idle_for(entry) >= ABANDONED
        ]

    def _make(
        self,
        fits: Callable[[SessionEntry], bool],
        owner: str,
        limit: str,
        end: Callable[[SessionEntry, str], object],
        refusal: Callable[[str], BridgeError],
        text: str,
        *,
        others: bool = False,
    ) -> None:
        """Have somebody make room. Raises what ``refusal`` makes of ``text`` where nobody can."""
        idle = [entry for entry in self.idle(owner, others=others) if fits(entry)]
        victim = _first(entry for entry in idle if is_temporary(entry))
        if victim is None:
            raise refusal(text + _hint(len(idle)))
        self._pool.reaped["limit"] += 1
        end(victim, f"it was idle for {self._pool.idle_for(victim):.0f} s and made room ({limit})")


def is_temporary(entry: SessionEntry) -> bool:
    """Whether nobody asked for it to be kept."""
    return not entry.session.is_kept


def _hint(kept: int) -> str:
    """What to do about sessions that idle and are persistent."""
    return f"; {kept} only idle, but are persistent: give such a time to live (sessionTtlMs)" if kept else ""


def _first(entries: Iterable[SessionEntry]) -> SessionEntry | None:
    return next(iter(entries), None)
