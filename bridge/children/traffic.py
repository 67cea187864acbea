"""What children are asked, and how long they take: sums, so that whoever looks twice knows what was between."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Traffic:
    """``calls`` counts requests; those ``answered`` have taken ``seconds`` together.

    A greeting and a subscription are calls, and are not among the answered: one waits for a program to start, the other
    for as long as anyone wants it.
    """

    calls: int = 0
    answered: int = 0
    seconds: float = 0.0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(self.calls + other.calls, self.answered + other.answered, self.seconds + other.seconds)
