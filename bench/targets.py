"""What the bridge promises, as ratios of one run where it can be one; ``report`` sets each beside what was seen."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """One promise. ``key`` is what a case reports, ``wanted`` the limit in ``unit``; ``why`` is what is known of the
    reason where it is missed.
    """

    key: str
    text: str
    wanted: float
    unit: str = "x"
    at_most: bool = False
    why: str = ""

    def is_met(self, seen: float) -> bool:
        """Whether what was seen keeps the promise."""
        return seen <= self.wanted if self.at_most else seen >= self.wanted


def _most(key: str, text: str, wanted: float, unit: str) -> Target:
    return Target(key, text, wanted, unit, at_most=True)


TARGETS = (
    Target("hot.node", "64 in flight, 100 B, calls/s: against mcp-proxy for Node", 6),
    Target("hot.supergateway", "... against supergateway as it comes", 7),
    Target("hot.python", "... against mcp-proxy for Python on uvloop", 11),
    Target("hot.fastmcp", "... against FastMCP on uvloop", 30),
    Target("hot.bare", "... against aiohttp's low-level server answering the POST", 0.7),
    _most("hot.p99", "p99 at 64 in flight against the best peer", 1 / 3, "x"),
    Target(
        "sessions.50",
        "calls/s of 50 sessions with 50 children against 1 session",
        0.75,
        why="each call is then a write to a process of its own, which has to wake up, and a read, where one session "
        "has dozens of lines in each; a profile has 17 us of a call in the kernel then, and 7 with one session",
    ),
    _most("hot.added", "1 in flight: median added to aiohttp's own POST", 0.08, "ms"),
    Target(
        "events.best",
        "SSE answers, calls/s against the best peer",
        2.5,
        why="a stream costs nearly twice the processor time of a JSON answer; a profile shows no single cause "
        "(a second message to read and pass on, a token to replace, events to keep)",
    ),
    Target("payload.answer", "1 MB answer, calls/s against the best peer", 4),
    Target(
        "payload.request",
        "1 MB request, calls/s against the best peer",
        4,
        why="of the processor time, aiohttp alone has what its row says, and msgspec 0.5 ms, measured apart, for "
        "reading the body as JSON, so that what is none never passes",
    ),
    _most("big.time", "50 MB answer: time", 3, "s"),
    _most("big.memory", "50 MB answer: growth of resident memory, in sizes of the answer", 4, "x"),
    _most("big.others", "50 MB answer: p99 of another session meanwhile", 100, "ms"),
    Target(
        "churn.supergateway",
        "open-call-close cycles/s, own child each, against supergateway",
        4,
        why="each cycle starts and ends a process, which either bridge pays for; of ours a profile gives a quarter to "
        "starting it, during which all else stands still, and the rest to many small things",
    ),
    Target("start.zygote", "initialize of mcp-server-time from a zygote, times faster than cold", 10),
    Target("start.warm", "initialize of mcp-server-time on a warm child, times faster than cold", 200),
    _most("memory.50", "bridge memory with 50 sessions", 70, "MB"),
    _most("memory.live", "bridge memory per live session", 150, "KB"),
    _most("memory.kept", "bridge memory per kept idle session without a child", 15, "KB"),
    _most("memory.rest", "bridge memory at rest", 60, "MB"),
    Target(
        "import.time",
        "time to import the bridge",
        0.3,
        "s",
        at_most=True,
        why="the first lines of this page have how much of it is that of aiohttp, uvloop, msgspec and psutil",
    ),
    _most("sweep.time", "sweep of 10 000 sessions by the reaper: longest time for which nothing else runs", 10, "ms"),
)
