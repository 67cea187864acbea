"""What was sent on the event streams of one session, so that a client that lost its connection can go on.

Each stream has a number and each event on it a number: ``3-17`` is event 17 of stream 3. A client that comes back with
the id of the last event it saw gets exactly what followed on that stream, whether a POST or a GET had opened it
(specification, Streamable HTTP, resumability and redelivery). The oldest events are forgotten over a count and a size.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from bridge.children.stream import Stream
from bridge.protocol.errors import Fault, Rejection

#: Events and bytes that are kept per session.
KEPT_EVENTS = 1000
KEPT_BYTES = 4 * 1024 * 1024


@dataclass(eq=False, slots=True)
class Track:
    """One event stream of a session: its messages, and the events that have been made of them."""

    number: int
    stream: Stream
    sent: int = 0  # number of its last event
    forgotten: int = 0  # number of its last event that is no longer kept
    events: deque[tuple[int, bytes]] = field(default_factory=deque)

    @property
    def last_id(self) -> str:
        """Id of its last event; of the beginning, while there is none."""
        return f"{self.number}-{self.sent}"


class Backlog:
    """The event streams of one session, bounded by ``events`` and ``size`` in bytes."""

    def __init__(self, events: int = KEPT_EVENTS, size: int = KEPT_BYTES) -> None:
        self._most_events = events
        self._most_bytes = size
        self._bytes = 0
        self._opened = 0
        self._tracks: dict[int, Track] = {}
        self._order: deque[Track] = deque()  # one item per kept event, oldest first

    def __len__(self) -> int:
        return len(self._order)

    def open(self, stream: Stream) -> Track:
        """Begin an event stream."""
        self._opened += 1
        track = self._tracks[self._opened] = Track(self._opened, stream)
        return track

    def record(self, track: Track, message: bytes) -> str:
        """Keep a message that is about to be sent; return the id of its event."""
        track.sent += 1
        track.events.append((track.sent, message))
        self._order.append(track)
        self._bytes += len(message)
        while len(self._order) > self._most_events or self._bytes > self._most_bytes:
            self._forget_oldest()
        return track.last_id

    def settle(self, track: Track) -> None:
        """Its stream has ended and nobody reads it: what still waits can be fetched as long as it is kept."""
        for message, _ in track.stream.take_waiting():
            self.record(track, message)

    def close(self, track: Track) -> None:
        """Its reader has gone; forget it unless there is something to come back for."""
        if track.stream.ended and not track.events:
            self._tracks.pop(track.number, None)

    def find(self, event_id: str) -> tuple[Track, list[tuple[str, bytes]]]:
        """Return the stream of an event and what followed that event on it.

        Raises :class:`Rejection` (400) for an id that was never given out, or whose successors are forgotten.
        """
        stream, _, event = event_id.partition("-")
        track = self._tracks.get(int(stream)) if stream.isdecimal() and len(stream) < 10 else None
        seen = int(event) if event.isdecimal() and len(event) < 10 else -1
        if track is None or not track.forgotten <= seen <= track.sent:
            raise Rejection(
                Fault.UNKNOWN_EVENT,
                f"Last-Event-ID {event_id[:40]!r} is not known, or too old to go on from; the session lives: "
                "open a stream without Last-Event-ID",
            )
        return track, [(f"{track.number}-{number}", message) for number, message in track.events if number > seen]

    def _forget_oldest(self) -> None:
        track = self._order.popleft()
        number, message = track.events.popleft()
        track.forgotten = number
        self._bytes -= len(message)
        self.close(track)
