"""Every token that is known now: ``ACCESS_TOKEN``, and those of the tokens file, read again when it has changed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from bridge.auth import tokens
from bridge.auth.principal import ADMIN, Principal
from bridge.auth.tokens import BadTokens
from bridge.config.files import Mark, mark

log = logging.getLogger(__name__)

#: Seconds between two looks at whether the file has changed: so long a token that was removed may still be good.
LOOK = 1.0
#: Headers that are known without a look at the token in them.
MOST_MET = 1000
#: Characters from which on an ACCESS_TOKEN is not found by trying.
LONG = 20


class Keyring:
    """Token to principal. Raises :class:`BadTokens` when the file is not there, or makes no sense.

    Later a file that makes no sense is an error in the log, and the tokens of the last good one stay; a file that was
    deleted has no tokens. ``clock`` is monotonic, ``wall`` the seconds of the epoch.
    """

    def __init__(
        self,
        access_token: str | None,
        path: Path | None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._clock = clock
        self._wall = wall
        self._static: dict[bytes, Principal] = {}
        if access_token is not None:
            self._static[tokens.hashed(access_token.encode())] = Principal("ACCESS_TOKEN", [ADMIN])
        self._guessable = None if len(access_token or "") >= LONG else next(iter(self._static.values()), None)
        self._known = self._static
        self._met: dict[str, Principal] = {}  # whose token was good, by the whole text that it came in
        self._mark: Mark = None
        self._looked = clock()
        if path is not None:
            self._mark = mark(path)
            if self._mark is None:
                raise BadTokens(f"{path} does not exist; make its first token with: mcp-bridge token add NAME")
            self._known = self._static | _principals(path)

    @property
    def is_needed(self) -> bool:
        """Whether callers need a token at all."""
        return self._path is not None or bool(self._static)

    def is_guessable(self, principal: Principal) -> bool:
        """Whether its token may be found by trying: a short ACCESS_TOKEN. Those of the file have 256 bits."""
        return principal is self._guessable

    def recall(self, sent: str) -> Principal | None:
        """Return whose token came in this text before, as :meth:`find` was told; None when it is not known any more.

        So most requests cost neither a hash nor a look at the header. What lies in memory for it is what the requests
        themselves bring, for as long as the tokens stay what they are.
        """
        if self._path is not None and self._clock() - self._looked >= LOOK:
            self._look(self._path)
        # A table tells by its time no more than whether a text is in it: its own hash is keyed with random bits.
        principal = self._met.get(sent)
        if principal is None or (principal.expires is not None and principal.has_expired(self._wall())):
            return None
        return principal

    def find(self, token: bytes, sent: str = "") -> Principal | None:
        """Return whose token it is, None when it is not known or has expired; remember it by the text ``sent``."""
        if self._path is not None and self._clock() - self._looked >= LOOK:
            self._look(self._path)
        principal = self._known.get(tokens.hashed(token))
        if principal is None or principal.has_expired(self._wall()):
            return None
        if sent:
            if len(self._met) >= MOST_MET:
                self._met.clear()
            self._met[sent] = principal
        return principal

    def _look(self, path: Path) -> None:
        self._looked = self._clock()
        now = mark(path)
        if now == self._mark:
            return
        self._mark = now
        try:
            found = {} if now is None else _principals(path)
        except FileNotFoundError:  # deleted between the two looks; the next one says so
            self._mark = None
            found = {}
        except BadTokens as error:
            log.error("TOKENS_FILE: %s; the tokens of before stay", error)
            return
        self._known = self._static | found
        self._met.clear()
        log.info("TOKENS_FILE: %s has changed: %d token(s)", path, len(found))


def _principals(path: Path) -> dict[bytes, Principal]:
    return {bytes.fromhex(token.hash.partition(":")[2]): token.principal() for token in tokens.read(path)}
