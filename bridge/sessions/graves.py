"""Why the last sessions ended, for clients that come back to one; and whether too many of them come too late."""

from __future__ import annotations

import logging
from collections import OrderedDict, deque

from bridge.sessions.pool import Clock

log = logging.getLogger(__name__)

#: Ended sessions whose reason is remembered.
REMEMBERED = 1000
#: So many clients that come back to an expired session within so many seconds mean that the TTL is too short.
LATE_COMERS = 5
LATE_WINDOW = 600.0


class Graves:
    """The newest ends. ``setting`` names what decides how long a session may be idle."""

    def __init__(self, clock: Clock, setting: str) -> None:
        self._clock = clock
        self._setting = setting
        self._reasons: OrderedDict[str, tuple[str, bool]] = OrderedDict()
        self._late: deque[float] = deque()

    def bury(self, session_id: str, why: str, *, expired: bool) -> None:
        """Remember an end. ``expired``: it was idle for too long."""
        self._reasons[session_id] = why, expired
        while len(self._reasons) > REMEMBERED:
            self._reasons.popitem(last=False)

    def forget(self, session_id: str) -> None:
        """Remember nothing of a session: it has not ended, but is elsewhere."""
        self._reasons.pop(session_id, None)

    def reason(self, session_id: str) -> str | None:
        """Why a session ended that a client asks for; None when there was none, or it is forgotten.

        Logs a warning when many ask for sessions that were idle for too long: their TTL is too short for them.
        """
        found = self._reasons.get(session_id)
        if found is None:
            return None
        why, expired = found
        if expired:
            self._reasons[session_id] = why, False  # one client counts once
            self._count()
        return why

    def _count(self) -> None:
        now = self._clock()
        self._late.append(now)
        while self._late[0] <= now - LATE_WINDOW:
            self._late.popleft()
        if len(self._late) >= LATE_COMERS:
            log.warning(
                "%d clients came back to an expired session within %.0f min; raise %s, or sessionTtlMs of the server",
                len(self._late),
                LATE_WINDOW / 60,
                self._setting,
            )
            self._late.clear()
