"""What was sent on the event streams of one session, so that a client that lost its connection can go on.

Each stream has a number and each event on it a number: ``3-17`` is event 17 of stream 3. A client that comes back with
the id of the last event it saw gets exactly what followed on that stream, whether a POST or a GET had opened it
(specification, Streamable HTTP, resumability and redelivery). The oldest events are forgotten over a count and a size.
"""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from bridge.children.stream import RequestStream, Stream
from bridge.protocol import jsontext, messages
from bridge.protocol.errors import INTERNAL_ERROR, Fault, Rejection
from bridge.protocol.messages import Response

log = logging.getLogger(__name__)

#: Events and bytes that are kept per session.
KEPT_EVENTS = 1000
KEPT_BYTES = 4 * 1024 * 1024
#: GET streams of a session that a client may come back to although nothing was ever sent on them, or is kept of it.
KEPT_EMPTY = 16
#: Event 0 of a GET stream, which answers no request.
_NONE = b"[]"
#: An id as it is given out, and in no other spelling.
_EVENT_ID = re.compile(r"([1-9][0-9]{0,8})-(0|[1-9][0-9]{0,8})")


@dataclass(eq=False, slots=True)
class Track:
    """One event stream of a session: its messages, and the events that have been made of them."""

    number: int
    stream: Stream
    sent: int = 0  # number of its last event
    forgotten: int = 0  # number of its last event that is no longer kept
    asked: Sequence[bytes] = ()  # in a restored one: the requests that it answers
    told: bool = True  # whether event 0 has been handed on; of a GET stream whose client knows no id it waits
    idle: bool = False  # whether it is a GET stream that nobody reads
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
        self.opened = 0  # number of the newest stream
        #: Called with each event, so that it can be kept elsewhere too; event 0 lists the requests that are answered.
        self.on_event: Callable[[Track, bytes], None] | None = None
        self._tracks: dict[int, Track] = {}
        self._order: deque[Track] = deque()  # one item per kept event, oldest first

    def __len__(self) -> int:
        return len(self._order)

    def open(self, stream: Stream, asked: Sequence[bytes] = (), *, shown: bool = True) -> Track:
        """Begin an event stream. ``asked``: ids of the requests that it answers, none for a GET stream. ``shown``:
        whether its client gets an id to come back with before the first event.
        """
        self.opened += 1
        track = self._tracks[self.opened] = Track(self.opened, stream, told=shown)
        if shown and self.on_event is not None:
            self.on_event(track, b"[%b]" % b",".join(asked))
        return track

    def record(self, track: Track, message: bytes) -> str:
        """Keep a message that is about to be sent; return the id of its event."""
        track.sent += 1
        track.events.append((track.sent, message))
        self._order.append(track)
        self._bytes += len(message)
        if self.on_event is not None:
            if not track.told and track.sent == 1:
                track.told, track.sent = True, 0
                self.on_event(track, _NONE)
                track.sent = 1
            self.on_event(track, message)
        while len(self._order) > self._most_events or self._bytes > self._most_bytes:
            self._forget_oldest()
        return track.last_id

    def restore(self, opened: int, events: Iterable[tuple[int, int, bytes]]) -> None:
        """Take in what :attr:`on_event` was given in an earlier process: number of the stream, of the event, message.

        A request that had no answer by then gets an error: the process that worked on it is gone. An event that is
        damaged is left out.
        """
        self.opened = opened
        answered: dict[int, list[bytes]] = {}
        damaged = 0
        for number, event, message in events:
            asked: list[bytes] = []
            try:
                if event == 0:
                    asked = [bytes(each) for each in jsontext.items(message)]
                elif isinstance(parsed := messages.parse(message), Response):
                    answered.setdefault(number, []).append(parsed.id)
                is_good = bool(event or asked or message == _NONE)
            except Rejection:
                is_good = False
            if not is_good:
                damaged += 1
                self.opened = max(self.opened, number)
                if number in self._tracks:
                    self._tracks[number].sent = event
                continue
            track = self._tracks.get(number)
            if track is None:
                self.opened = max(self.opened, number)
                stream = RequestStream() if asked or event else Stream()
                track = self._tracks[number] = Track(number, stream, forgotten=max(0, event - 1))
                track.idle = not isinstance(stream, RequestStream)
            track.asked = asked or track.asked
            if event:
                track.sent = event
                track.events.append((event, message))
                self._order.append(track)
                self._bytes += len(message)
        if damaged:
            log.warning("%d event(s) of a kept session are damaged and left out", damaged)
        for track in self._tracks.values():
            if isinstance(track.stream, RequestStream):
                self._end_restored(track, answered.get(track.number, []))

    def _end_restored(self, track: Track, answered: Sequence[bytes]) -> None:
        for request in track.asked:
            if not any(messages.same_id(request, each) for each in answered):
                why = "the bridge was restarted before the answer came; send the request again if that is safe"
                self.record(track, messages.error_line(request, INTERNAL_ERROR, why))
        track.stream.end()

    def settle(self, track: Track) -> None:
        """Its stream has ended and nobody reads it: what still waits can be fetched as long as it is kept."""
        for message, _ in track.stream.take_waiting():
            self.record(track, message)

    def close(self, track: Track) -> None:
        """Its reader has gone; forget it unless there is something to come back for."""
        if track.stream.ended and not track.events:
            self._tracks.pop(track.number, None)

    def leave(self, track: Track) -> None:
        """The client has lost a GET stream; forget it if it has no id to come back with, and the one that was left
        longest ago when there are many of which nothing is kept.
        """
        if self._tracks.pop(track.number, None) is None or not (track.told or track.sent):
            return
        track.idle = True
        self._tracks[track.number] = track  # the last
        empty = [each for each in self._tracks.values() if each.idle and not each.events]
        for each in empty[:-KEPT_EMPTY]:
            del self._tracks[each.number]

    def find(self, event_id: str) -> tuple[Track, list[tuple[str, bytes]]]:
        """Return the stream of an event and what followed that event on it.

        Raises :class:`Rejection` (400) for an id that was never given out, or whose successors are forgotten.
        """
        named = _EVENT_ID.fullmatch(event_id)
        track = self._tracks.get(int(named[1])) if named else None
        seen = int(named[2]) if named else -1
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
