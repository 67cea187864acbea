"""Children that are kept ready are greeted before their client comes, with what the clients before it have said.

A client that opens a session waits for what the server does with ``initialize``. Nearly all clients of a server greet
it with the same bytes. So once two in succession have, a child that waits hears them ahead, and a client that says them
again gets the answer that is there. A client that says anything else gets a child that has heard nothing: no server
need take two greetings, so one of those kept ready never hears any (docs/decisions/112).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bridge.children.connection import ChildConnection
from bridge.children.exchange import Exchange
from bridge.protocol import messages
from bridge.protocol.messages import Request, Response
from bridge.protocol.mux import Undirected

#: Bytes of params that are remembered.
MOST = 4 * 1024
#: Messages of a child that wait for its client, and their bytes; questions behind them are refused.
EARLY, MOST_EARLY = 100, 256 * 1024


def words_of(request: Request) -> bytes:
    """Return the params of an ``initialize`` that somebody else may say too; empty where they are about it alone."""
    return b"" if request.meta or len(request.params) > MOST else request.params


class Expected:
    """What the next client will say. ``words`` are params of ``initialize``, empty where nobody knows."""

    def __init__(self) -> None:
        self.words = self._last = b""

    def hear(self, words: bytes) -> None:
        """A client has said this."""
        if words == self._last:
            self.words = words
        self._last = words

    def missing(self, waiting: Sequence[bytes], warm: int) -> list[bytes]:
        """Return what those should hear ahead that have to be started until ``warm`` wait, of which ``waiting`` have
        heard this or nothing. One always hears nothing: it is for whoever says anything else.
        """
        wanted = max(warm - len(waiting), 0)
        greeted = max(min(wanted, warm - 1 - sum(map(bool, waiting))), 0) if self.words else 0
        return [b""] * (wanted - greeted) + [self.words] * greeted  # there may not be room for all

    def forget(self) -> None:
        """They were no good."""
        self.words = self._last = b""


class Ahead:
    """The greeting of a child for a client that is still to come; ``on_failure`` is called when it comes to nothing
    before that. Within ``seconds`` it has to be answered.

    Raises what :meth:`ChildConnection.exchange` raises.
    """

    def __init__(
        self, connection: ChildConnection, words: bytes, seconds: float, on_failure: Callable[[], object]
    ) -> None:
        self._connection = connection
        self._on_failure = on_failure
        self._early: list[Undirected] = []
        self._size = 0
        self._before = 0  # how many of them came before the answer
        self._client: Exchange | None = None
        self._listener: Callable[[Undirected], None] | None = None
        self._own = Exchange(Request(b"0", "initialize", words), self._ended)
        connection.on_undirected = self._hear
        connection.exchange(self._own, seconds)

    @property
    def is_answered(self) -> bool:
        """Whether its client would not have to wait."""
        return self._own.ended

    def listen(self, listener: Callable[[Undirected], None]) -> None:
        """Hear what the child says once its client has greeted it."""
        self._listener = listener
        if self._client is not None:
            self._connection.on_undirected = listener

    def answer(self, exchange: Exchange) -> None:
        """Its client greets: it hears what the child has said to it so far, the answer in its place."""
        self._client = exchange
        self._connection.on_undirected = self._listener
        early, self._early = self._early, []
        if not self._own.ended:
            self._tell(early)
            return
        self._tell(early[: self._before])
        self._pass_on(exchange)
        self._tell(early[self._before :])

    def _tell(self, early: Sequence[Undirected]) -> None:
        if self._listener is not None:
            for message in early:
                self._listener(message)

    def _hear(self, message: Undirected) -> None:
        self._size += len(message.message)
        if len(self._early) < EARLY and self._size <= MOST_EARLY:
            self._early.append(message)
        elif message.question is not None:
            self._connection.refuse(message.question, f"no client here answers {message.method} yet")

    def _ended(self, own: Exchange) -> None:
        self._before = len(self._early)
        if self._client is not None:
            self._pass_on(self._client)
        elif own.failure is not None:
            self._on_failure()

    def _pass_on(self, client: Exchange) -> None:
        if self._own.failure is not None:
            client.fail(self._own.failure)
            return
        answer = messages.parse(self._own.answer)
        assert isinstance(answer, Response)
        client.finish(messages.response_line(answer, client.request.id))
