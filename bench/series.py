"""What is measured again and again, and what may be said of it: medians, their spread, ratios of neighbours."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Round:
    """One round of one contender: calls per second, latencies in milliseconds, processor time per call in us."""

    rate: float
    p50: float
    p99: float
    cpu: float
    loader_cpu: float


@dataclass
class Series:
    """All rounds of one contender; ``failure`` says why there are no more of them."""

    name: str
    rounds: list[Round] = field(default_factory=list)
    failure: str | None = None

    def values(self, of: Callable[[Round], float]) -> list[float]:
        """One number of each round."""
        return [of(each) for each in self.rounds]

    def median(self, of: Callable[[Round], float]) -> float:
        """The middle of one number."""
        return statistics.median(self.values(of))


def rate(each: Round) -> float:
    """Calls per second of a round."""
    return each.rate


def p50(each: Round) -> float:
    """Median latency of a round."""
    return each.p50


def p99(each: Round) -> float:
    """99th percentile of the latencies of a round."""
    return each.p99


def cpu(each: Round) -> float:
    """Processor time per call."""
    return each.cpu


def loader_cpu(each: Round) -> float:
    """Processor time that the load generator needs per call."""
    return each.loader_cpu


def ratio(ours: Series, theirs: Series, of: Callable[[Round], float]) -> float:
    """How many times ``theirs`` ``ours`` is: the median over rounds, each beside the round that ran next to it.

    The machine may be slower in one minute than in another; two rounds that ran one after the other met the same.
    """
    pairs = zip(ours.values(of), theirs.values(of), strict=False)  # one of them may have failed on its way
    return statistics.median(mine / other for mine, other in pairs)


def difference(ours: Series, theirs: Series, of: Callable[[Round], float]) -> float:
    """How much ``ours`` is above ``theirs``: the median over rounds."""
    pairs = zip(ours.values(of), theirs.values(of), strict=False)
    return statistics.median(mine - other for mine, other in pairs)


def spread(values: Sequence[float]) -> str:
    """The lowest and the highest, in words."""
    return f"{number(min(values))}-{number(max(values))}"


def number(value: float) -> str:
    """A number with as many digits as mean something."""
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    if abs(value) >= 100:
        return f"{value:.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 0.1 or value == 0 else f"{value:.3f}"
