"""The streams on which a session's client hears what belongs to no call, and what waits for one.

What is said while there is none waits for the next. A client that has lost a stream may come back to it, by the id of
the event that it saw last; meanwhile what would have come there goes elsewhere (specification, resumability).
"""

from __future__ import annotations

from bridge.children.stream import Kind, RequestStream, Stream
from bridge.sessions.backlog import Backlog, Track


class Streams:
    """Those of one session. ``backlog`` remembers what was sent on them."""

    def __init__(self, backlog: Backlog) -> None:
        self._backlog = backlog
        self._open: list[Stream] = []
        self._unheard = Stream()
        #: Those of calls that go on although their client lost the stream.
        self.left: dict[Stream, Track] = {}

    def __bool__(self) -> bool:
        return bool(self._open)

    @property
    def newest(self) -> Stream:
        """Where to say what belongs to no call."""
        return self._open[-1] if self._open else self._unheard

    @property
    def dropped(self) -> int:
        """How many notifications there was no room for while nobody listened."""
        return self._unheard.dropped

    def listen(self, stream: Stream, *, shown: bool) -> Track:
        """Open one; what has waited comes first. ``shown``: whether it begins with an event to come back with."""
        self._take(stream)
        return self._backlog.open(stream, shown=shown)

    def resume(self, event_id: str) -> tuple[Track, list[tuple[str, bytes]]]:
        """Go on with the stream of an event, on which comes too what has waited for a stream since; return it and what
        followed that event. Raises :class:`Rejection`.
        """
        track, missed = self._backlog.find(event_id)
        stream = track.stream
        if isinstance(stream, RequestStream):
            stream.read = True
            self.left.pop(stream, None)
            if not stream.ended:  # its call may wait for the answer to a question that nobody has heard
                for message, kind in self._unheard.take_waiting():
                    (stream if kind is Kind.QUESTION else self._unheard).put(message, kind)
        elif stream not in self._open:
            track.idle = False
            self._take(stream)
        return track, missed

    def lost(self, track: Track) -> None:
        """The client has lost a stream. It may come back for a call that goes on; other messages go elsewhere."""
        stream = track.stream
        if isinstance(stream, RequestStream):
            stream.read = False
            self.left[stream] = track
            self.settle(stream)
        elif stream in self._open:
            self._open.remove(stream)
            for message, kind in stream.take_waiting():
                self.newest.put(message, kind)
            self._backlog.leave(track)

    def hung_up(self, stream: RequestStream) -> None:
        """The client has gone before it saw an event id, so it cannot come back; its calls go on all the same
        (specification: a disconnect is no cancellation), and what they ask is asked elsewhere.
        """
        stream.read = False
        for message, kind in stream.take_waiting():
            if kind is Kind.QUESTION:
                self.newest.put(message, kind)

    def settle(self, stream: Stream) -> None:
        """What a stream that has ended still holds can be fetched later, if its client had lost it."""
        track = self.left.get(stream)
        if track is not None and stream.ended:
            del self.left[stream]
            self._backlog.settle(track)

    def take_all(self) -> list[Stream]:
        """Return those that are open, and have none any more."""
        streams, self._open = self._open, []
        return streams

    def _take(self, stream: Stream) -> None:
        for message, kind in self._unheard.take_waiting():
            stream.put(message, kind)
        self._open.append(stream)
