"""The tokens file: who may come in besides ``ACCESS_TOKEN``, and with which scopes. It holds hashes, never a token.

Tokens are 256 random bits, so one round of SHA-256 is as good as a slow hash would be, and a request costs a lookup.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bridge.auth.principal import BadScope, Principal, check_scope
from bridge.config.files import PRIVATE, replace_file

#: What tokens of ours begin with: scanners for leaked secrets can find them.
PREFIX = "mcpb_"
_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")
_HASH = re.compile(r"sha256:[0-9a-f]{64}")
_MEMBERS = frozenset({"name", "hash", "scopes", "created", "expires"})


class BadTokens(Exception):
    """The tokens file, or a change to it, makes no sense; the text says where and why."""


@dataclass(frozen=True, slots=True)
class Token:
    """One row of the file. Times are ISO 8601 with an offset; ``expires`` None means never."""

    name: str
    hash: str
    scopes: tuple[str, ...]
    created: str
    expires: str | None = None

    @property
    def expires_at(self) -> float | None:
        """Seconds of the epoch, None for never."""
        return None if self.expires is None else datetime.fromisoformat(self.expires).timestamp()

    def principal(self) -> Principal:
        """Who brings this token."""
        return Principal(f"token:{self.name}", self.scopes, self.expires_at)


def hashed(token: bytes) -> bytes:
    """What is looked up in place of a token. Comparing hashes takes no time that tells anything about the token."""
    return hashlib.sha256(token).digest()


def mint(name: str, scopes: Sequence[str], expires: datetime | None, now: datetime) -> tuple[str, Token]:
    """Return a new token, which is shown once, and its row. Raises :class:`BadTokens`."""
    token = PREFIX + secrets.token_urlsafe(32)
    row = {
        "name": name,
        "hash": "sha256:" + hashed(token.encode()).hex(),
        "scopes": list(scopes),
        "created": _iso(now),
        "expires": None if expires is None else _iso(expires),
    }
    return token, _row(row, "the new token")


def read(path: Path) -> list[Token]:
    """Return the rows of the file. Raises :class:`BadTokens`; a file that is not there raises FileNotFoundError."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise
    except OSError as error:
        raise BadTokens(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise BadTokens(f"{path} is no JSON: {error}") from None
    rows = found.get("tokens") if isinstance(found, dict) else None
    if not isinstance(rows, list):
        raise BadTokens(f'{path}: must be {{"tokens": [...]}}, as mcp-bridge token add writes it')
    tokens = [_row(row, f"{path}: token {at}") for at, row in enumerate(rows, 1)]
    names = [token.name for token in tokens]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise BadTokens(f'{path}: there are two tokens "{twice}"; a name belongs to one')
    return tokens


def write(path: Path, tokens: Sequence[Token]) -> None:
    """Replace the file, readable for its owner only. Raises :class:`BadTokens`."""
    text = json.dumps({"tokens": [asdict(token) for token in tokens]}, indent=2) + "\n"
    try:
        replace_file(path, text.encode(), PRIVATE)
    except OSError as error:
        raise BadTokens(f"{path} cannot be written: {error.strerror}") from None


def _row(row: Any, where: str) -> Token:
    if not isinstance(row, dict) or not row.keys() <= _MEMBERS:
        raise BadTokens(f"{where}: must be an object with {', '.join(sorted(_MEMBERS))}")
    name, hash_, scopes = row.get("name"), row.get("hash"), row.get("scopes")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise BadTokens(f"{where}: name must be 1 to 64 of A-Z a-z 0-9 . _ @ -")
    where = f'{where} "{name}"'
    if not isinstance(hash_, str) or not _HASH.fullmatch(hash_):
        raise BadTokens(f"{where}: hash must be sha256: and 64 hexadecimal digits")
    if not isinstance(scopes, list) or not all(isinstance(scope, str) for scope in scopes):
        raise BadTokens(f"{where}: scopes must be a list of texts")
    try:
        wanted = tuple(check_scope(scope) for scope in scopes)
    except BadScope as error:
        raise BadTokens(f"{where}: {error}") from None
    times = {member: _time(row.get(member), f"{where}: {member}") for member in ("created", "expires")}
    return Token(name, hash_, wanted, times["created"] or "", times["expires"])


def _time(value: Any, where: str) -> str | None:
    if value is None:
        return None
    try:
        if datetime.fromisoformat(value).tzinfo is not None:
            return str(value)
    except (TypeError, ValueError):
        pass
    raise BadTokens(f"{where} must be a time with an offset, such as 2026-11-21T10:00:00+00:00, or null")


def _iso(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="seconds")
