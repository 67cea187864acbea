"""Processor and memory of child processes, for those who look."""

from __future__ import annotations

import time
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class Usage:
    """``cpu_percent`` of one core since the last look, or since its start at the first; ``resident_bytes`` now."""

    cpu_percent: float
    resident_bytes: int


class UsageMeter:
    """Remembers processes between looks, because a share of the processor needs two points in time."""

    def __init__(self) -> None:
        self._seen: dict[int, psutil.Process] = {}

    def measure(self, pids: list[int]) -> dict[int, Usage]:
        """Return the usage of those that live. Reads /proc: call it off the event loop."""
        self._seen = {pid: process for pid, process in self._seen.items() if pid in pids}
        return {pid: usage for pid in pids if (usage := self._measure(pid)) is not None}

    def _measure(self, pid: int) -> Usage | None:
        try:
            process = self._seen.get(pid)
            if process is not None:
                with process.oneshot():
                    return Usage(process.cpu_percent(), process.memory_info().rss)
            process = self._seen[pid] = psutil.Process(pid)
            with process.oneshot():
                process.cpu_percent()  # marks the point from which the next look measures
                spent = process.cpu_times()
                age = max(time.time() - process.create_time(), 0.01)
                percent = 100 * (spent.user + spent.system) / age
                return Usage(round(percent, 1), process.memory_info().rss)
        except psutil.Error:
            return None
