"""When a server may be started again that keeps ending: at once, later, or not before an operator says so.

Children start when somebody needs one, so a crash loop turns as fast as clients call. A start fails when its child
never gets ready, or ends by itself soon after. After a few failures in a row starts wait (BACKOFF), each time twice as
long, and then one start at a time shows whether the server works again. After ``most`` of them it is FATAL.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from bridge.protocol.errors import Resting
from bridge.protocol.states import START_TRANSITIONS, StartEvent, StartState, advance
from bridge.protocol.transport import LAST_WORDS

#: Failures in a row before starts have to wait.
FREE_FAILURES = 5
#: Seconds that a child has to live for its start to count as a success.
PROVEN = 10.0
#: Seconds of the first wait, where the server says nothing, and of the longest one.
FIRST_DELAY = 1.0
LONGEST_DELAY = 30.0


class Attempt:
    """One start. ``known`` is how many failures were known when it began."""

    __slots__ = ("_known", "_restarts")

    def __init__(self, restarts: Restarts, known: int) -> None:
        self._restarts = restarts
        self._known = known

    def proven(self) -> None:
        """The child has lived long enough."""
        self._restarts._proven()

    def undecided(self) -> None:
        """The child was stopped before anyone could tell."""
        self._restarts._undecided()

    def failed(self, why: str, *, has_served: bool = False) -> None:
        """The child did not get ready, or ended by itself soon after. Where it has served anyone, its last words may be
        about that.
        """
        self._restarts.tell(why, why.partition(LAST_WORDS)[0] if has_served else why)
        self._restarts._failed(self._known)


class Restarts:
    """The starts of one server. ``most`` failures in a row are FATAL, None for never; ``first`` is in seconds.

    ``clock`` is monotonic; ``jitter`` gives a number from 0 to 1.
    """

    def __init__(
        self,
        server: str,
        most: int | None = None,
        first: float = FIRST_DELAY,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._server = server
        self._most = most
        self._first = first
        self._clock = clock
        self._jitter = jitter
        self._failures = 0
        self._until = 0.0
        self._probing = False
        self.state = StartState.ALLOWED
        self.last_error = ""
        self.public_error = ""  # what of it is for whoever may use the server
        self.total = 0  # starts after a failure

    def tell(self, error: str, public: str) -> None:
        """What is wrong with it, for operators and for whoever may use it."""
        self.last_error, self.public_error = error, public

    def adjust(self, most: int | None, first: float) -> None:
        """Go by other limits from now on. What was given up by the old one may be tried again."""
        self._most, self._first = most, first
        if self.state is StartState.FATAL and (most is None or self._failures < most):
            self._move(StartEvent.FORGIVEN)

    @property
    def retry_in(self) -> float:
        """Seconds until a start is allowed again; 0 when it is, or when only an operator can allow it."""
        return max(0.0, self._until - self._clock()) if self.state is StartState.BACKOFF else 0.0

    def begin(self) -> Attempt:
        """A child is about to be started; return what wants to know how that went.

        Raises :class:`Resting` when it has to wait.
        """
        if self.state is StartState.STOPPED:
            raise Resting(self._server, f"it was stopped; to start it: mcp-bridge servers start {self._server}")
        if self.state is StartState.FATAL:
            raise Resting(
                self._server,
                f"it failed {self._failures} times in a row and is not started any more (maxRestarts); when it is "
                f"repaired: mcp-bridge servers start {self._server}. The last time: {self.public_error}",
            )
        if self.state is StartState.BACKOFF:
            if self.retry_in > 0 or self._probing:
                raise Resting(
                    self._server,
                    f"it failed {self._failures} times in a row; the next start waits. Last time: {self.public_error}",
                    retry_in=max(1.0, self.retry_in),
                )
            self._probing = True
        if self._failures:
            self.total += 1
        return Attempt(self, self._failures)

    def _proven(self) -> None:
        self._failures = 0
        self._probing = False
        if self.state is StartState.BACKOFF:
            self._move(StartEvent.PROVEN)

    def _undecided(self) -> None:
        self._probing = False

    def _failed(self, known: int) -> None:
        self._probing = False
        if self.state is StartState.FATAL or self.state is StartState.STOPPED:
            return  # nothing is counted before an operator allows the next one
        if known < self._failures:
            return  # it was started before the last failure: a hundred that fail together are one
        self._failures += 1
        if self._most is not None and self._failures >= self._most:
            self._move(StartEvent.GAVE_UP)
        elif self._failures >= FREE_FAILURES:
            doublings = min(self._failures - FREE_FAILURES, 16)
            delay = min(self._first * 2**doublings, LONGEST_DELAY)
            # At least half of it, so that it is a wait; not all of them at once, so that servers do not retry in step.
            self._until = self._clock() + delay * (0.5 + self._jitter() / 2)
            self._move(StartEvent.FAILED)

    def stop(self) -> None:
        """An operator wants no start before :meth:`forgive`."""
        self._move(StartEvent.STOP)

    def forgive(self) -> None:
        """An operator allows the next start at once."""
        self._failures = 0
        self._probing = False
        self._move(StartEvent.FORGIVEN)

    def _move(self, event: StartEvent) -> None:
        self.state = advance(START_TRANSITIONS, self.state, event)
