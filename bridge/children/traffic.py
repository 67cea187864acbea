"""What children are asked, and how long they take: sums, so that whoever looks twice knows what was between."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

#: Upper bounds of the classes of durations, in seconds (OpenTelemetry, semantic conventions for MCP).
BOUNDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
#: Methods that are told apart. A client may send any name, and each that is counted is kept for ever.
METHODS = frozenset(
    (
        *("completion/complete", "logging/setLevel", "ping", "prompts/get", "prompts/list", "resources/list"),
        *("resources/read", "resources/subscribe", "resources/templates/list", "resources/unsubscribe"),
        *("server/discover", "tasks/cancel", "tasks/get", "tasks/list", "tasks/result", "tools/call", "tools/list"),
    )
)
OTHER = "_OTHER"


class Durations:
    """How many requests took how long: ``counts`` by the classes of :data:`BOUNDS`, with one beyond the last."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0

    def take(self, seconds: float) -> None:
        """Count one more."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds

    def add(self, other: Durations) -> None:
        """Count all of another."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.seconds += other.seconds


@dataclass(slots=True)
class Traffic:
    """``calls`` counts requests; ``answered`` those that have got an answer, in ``seconds`` together.

    ``durations`` are by method, ``failures`` by method and what came instead of a result: the code of an error, or the
    name of a fault. A greeting and a subscription are calls, and nothing else: one waits for a program to start, the
    other for as long as anyone wants it.
    """

    calls: int = 0
    answered: int = 0
    seconds: float = 0.0
    durations: dict[str, Durations] = field(default_factory=dict)
    failures: dict[tuple[str, str], Durations] = field(default_factory=dict)

    def answer(self, method: str, seconds: float) -> None:
        """Count a result."""
        self.answered += 1
        self.seconds += seconds
        found = self.durations.get(method)
        if found is None:
            found = self.durations.setdefault(_named(method), Durations())
        found.take(seconds)

    def failure(self, method: str, kind: str, seconds: float, *, answered: bool) -> None:
        """Count a request that got no result; ``answered`` when its child has said so itself."""
        if answered:
            self.answered += 1
            self.seconds += seconds
        self.failures.setdefault((_named(method), kind), Durations()).take(seconds)

    def __add__(self, other: Traffic) -> Traffic:
        total = Traffic(self.calls + other.calls, self.answered + other.answered, self.seconds + other.seconds)
        for each in (self, other):
            for method, durations in each.durations.items():
                total.durations.setdefault(method, Durations()).add(durations)
            for key, durations in each.failures.items():
                total.failures.setdefault(key, Durations()).add(durations)
        return total


def _named(method: str) -> str:
    return method if method in METHODS else OTHER
