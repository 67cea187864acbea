"""How far a call is: a bar at the terminal, on stderr, so that stdout holds the result alone."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bridge.cli.table import text

if TYPE_CHECKING:
    import rich.progress

Message = dict[str, Any]


class Progress:
    """The bar of one call, for the length of a ``with`` block. Where stderr is no terminal there is none."""

    def __init__(self) -> None:
        self._bar: rich.progress.Progress | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, params: Message) -> None:
        """Take the params of ``notifications/progress``; the first makes the bar."""
        done, total = _number(params.get("progress")), _number(params.get("total"))
        if done is None or not sys.stderr.isatty():
            return
        if self._bar is None:
            self._bar = _bar()
            self._bar.add_task("", total=None, amount="", words="")
            self._bar.start()
        amount = f"{done:g}" if total is None else f"{done:g}/{total:g}"
        words = text(params["message"]) if params.get("message") is not None else ""
        self._bar.update(self._bar.task_ids[0], completed=done, total=total, amount=amount, words=words)
        self._bar.refresh()

    def pausing(self, ask: Callable[[Message], Message]) -> Callable[[Message], Message]:
        """Return ``ask`` with the bar out of its way."""

        def asking(params: Message) -> Message:
            if self._bar is not None:
                self._bar.stop()
                self._bar = None
            return ask(params)

        return asking


def _bar() -> rich.progress.Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        BarColumn(),
        TextColumn("{task.fields[amount]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("{task.fields[words]}", markup=False),
        console=Console(stderr=True, highlight=False),
        auto_refresh=False,
    )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
