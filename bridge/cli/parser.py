"""The parser of a verb: options may stand anywhere, and behind ``--`` nothing is an option."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn


class _Options(argparse.ArgumentParser):
    """Knows options only."""

    def error(self, message: str) -> NoReturn:
        """Leave it to the whole parser to say that, with its usage."""
        raise argparse.ArgumentError(None, message)


class Parser(argparse.ArgumentParser):
    """Takes options before, between and after words.

    argparse gives all words that may be left out their values at the first word, and then knows none that follows an
    option; its own remedy (``parse_intermixed_args``) takes no subparsers and, in Python 3.11, no ``--``.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        self._options = _Options(add_help=False)
        super().__init__(*arguments, **settings)

    def add_argument(self, *names: Any, **settings: Any) -> argparse.Action:
        """Add it, to the options as well when it is one."""
        if names[0].startswith("-") and settings.get("action") != "help":
            self._options.add_argument(*names, **settings)
        return super().add_argument(*names, **settings)

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Read the options first, and then what is left as words."""
        given = [*(args or ())]
        if self._subparsers is not None:
            return super().parse_known_args(given, namespace)
        at = given.index("--") if "--" in given else len(given)
        try:
            found, words = self._options.parse_known_args(given[:at], namespace)
        except argparse.ArgumentError as error:
            self.error(str(error))
        if any(word.startswith("-") and word != "-" for word in words):  # --help, or an option that there is not
            return super().parse_known_args(words, found)
        words += given[at + 1 :]
        found, unknown = super().parse_known_args(["--", *words] if words else [], found)
        return found, [word for word in unknown if word != "--"]
