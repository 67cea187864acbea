"""What ends a verb: one line for the user, and an exit code."""

from __future__ import annotations

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_NOT_RUNNING = 3
EXIT_NOT_READY = 4
#: What a shell says of a command that Ctrl-C has ended.
EXIT_INTERRUPTED = 130


class CommandError(Exception):
    """The verb cannot be done; the text says why."""

    exit_code = EXIT_ERROR


class UsageError(CommandError):
    """What was typed makes no sense."""

    exit_code = EXIT_USAGE


class NotRunning(CommandError):
    """No bridge answers at the address of the settings."""

    exit_code = EXIT_NOT_RUNNING


class Misnamed(CommandError):
    """The bridge runs, and its certificate does not name the host that it was asked at."""


class NotReady(CommandError):
    """The server cannot be used just now: it is stopped, or waits after failures."""

    exit_code = EXIT_NOT_READY


class Refused(CommandError):
    """The bridge answered with an error: ``status`` of HTTP, and its own words."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        if status == 503:  # it rests, starts, drains or is full: the same may work later
            self.exit_code = EXIT_NOT_READY
