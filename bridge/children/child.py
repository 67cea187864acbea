"""One child of a pool: its connection, its state, and who holds it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from bridge.children.ahead import Ahead
from bridge.children.connection import ChildConnection
from bridge.children.crowd import Crowd
from bridge.children.policy import Sharing
from bridge.protocol.states import CHILD_TRANSITIONS, ChildEvent, ChildState, advance


@dataclass(eq=False, slots=True)
class Child:
    """One child of the pool and who holds it."""

    server: str
    sharing: Sharing
    connection: ChildConnection
    crowd: Crowd | None  # where it may have many holders
    started: float
    ready: asyncio.Future[None]
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    is_stopping: bool = False  # somebody has asked for its end
    on_stop: Callable[[], None] | None = None  # tells its owner, as long as that waits for anything else
    state: ChildState = ChildState.STARTING
    holders: int = 0
    used: bool = False
    ends_by_itself: bool = True  # until someone asks for its end
    leave_at: asyncio.TimerHandle | None = None
    greeting: bytes = b""  # InitializeResult, where the bridge greeted
    ahead: Ahead | None = None  # its client's own greeting, where it has been said already
    is_no_good: bool = False  # that came to nothing
    owner: asyncio.Task[None] | None = None

    def move(self, event: ChildEvent) -> None:
        """Change state, as the table allows."""
        self.state = advance(CHILD_TRANSITIONS, self.state, event)

    def stop(self) -> None:
        """Ask for its end; its owner task does the rest."""
        self.ends_by_itself = self.connection.closed and not self.is_stopping
        self.is_stopping = True
        on_stop, self.on_stop = self.on_stop, None
        if on_stop is not None:
            on_stop()

    @property
    def lives(self) -> bool:
        """Whether it has not begun to end."""
        alive = self.state in (ChildState.STARTING, ChildState.GREETING, ChildState.READY)
        return alive and not self.connection.closed and not self.is_stopping

    @property
    def is_free(self) -> bool:
        """Whether nobody holds it and somebody may."""
        return self.holders == 0 and self.takes_holders

    @property
    def takes_holders(self) -> bool:
        """Whether one more may hold it."""
        if not self.lives or (self.used and self.sharing.is_private):
            return False
        return self.sharing.holders is None or self.holders < self.sharing.holders

    def suits(self, words: bytes) -> bool:
        """Whether whoever greets it with these words may: it has heard none yet, or the same."""
        return self.sharing.words in (b"", words)

    @property
    def refutes(self) -> bool:
        """Whether what it was greeted with ahead is nothing to greet the next one with: it ended of it."""
        return self.is_no_good or (self.ahead is not None and self.ends_by_itself and not self.used)

    @property
    def has_answered(self) -> bool:
        """Whether it has answered its client's greeting already."""
        return self.ahead is not None and self.ahead.is_answered

    @property
    def pid(self) -> int | None:
        """Process id; None before the program runs, and for what is no process here."""
        return self.connection.transport.pid
