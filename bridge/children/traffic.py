"""What children are asked, and how long they take: sums, so that whoever looks twice knows what was between."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import TypeVar

K = TypeVar("K")

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
    """``calls`` counts requests. Those that have ended are in three tables: ``results`` by method, ``errors`` by method
    and code, and what was ``lost`` because its child has not answered by method and fault.

    A greeting and a subscription are calls, and nothing else: one waits for a program to start, the other for as long
    as anyone wants it.
    """

    calls: int = 0
    results: dict[str, Durations] = field(default_factory=dict)
    errors: dict[tuple[str, str], Durations] = field(default_factory=dict)
    lost: dict[tuple[str, str], Durations] = field(default_factory=dict)

    @property
    def answered(self) -> int:
        """How many requests have got an answer of their child."""
        return sum(sum(each.counts) for each in self._answers())

    @property
    def seconds(self) -> float:
        """How long those took together."""
        return sum(each.seconds for each in self._answers())

    def result(self, method: str, seconds: float) -> None:
        """Count a result."""
        found = self.results.get(method)
        if found is None:
            found = self.results.setdefault(_named(method), Durations())
        found.take(seconds)

    def error(self, method: str, code: str, seconds: float) -> None:
        """Count an error that the child has answered with."""
        self.errors.setdefault((_named(method), code), Durations()).take(seconds)

    def loss(self, method: str, fault: str, seconds: float) -> None:
        """Count a request that has ended without an answer of the child."""
        self.lost.setdefault((_named(method), fault), Durations()).take(seconds)

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(
            self.calls + other.calls,
            _sum(self.results, other.results),
            _sum(self.errors, other.errors),
            _sum(self.lost, other.lost),
        )

    def _answers(self) -> Iterator[Durations]:
        return chain(self.results.values(), self.errors.values())


def _sum(some: Mapping[K, Durations], others: Mapping[K, Durations]) -> dict[K, Durations]:
    total: dict[K, Durations] = {}
    for key, durations in chain(some.items(), others.items()):
        total.setdefault(key, Durations()).add(durations)
    return total


def _named(method: str) -> str:
    return method if method in METHODS else OTHER
