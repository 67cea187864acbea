"""Names of many servers in one list: ``<server><separator><name>``, no two alike, and the same after every restart.

Clients hand names to models, whose interfaces take :data:`LONGEST` characters. A name that would be longer, or that
another server's prefix begins, is cut and gets a hash of what it stands for. What a name becomes depends on the ids in
``servers.json`` and on nothing that happens, so a client may keep it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

#: Characters of a name that the interfaces of models take.
LONGEST = 64
#: How the URI begins that names a resource together with its server.
SCHEME = "bridge://"
_HASHED = re.compile(r"_[0-9a-f]{8}$")


class Prefixes:
    """The names of servers with these ids, in the order in which they are configured."""

    def __init__(self, servers: Iterable[str], separator: str) -> None:
        self._separator = separator
        # The longest first: of "a" and "a__b", it is the second that "a__b__x" belongs to.
        self._prefixes = sorted(((server + separator, server) for server in servers), key=lambda each: -len(each[0]))

    def public(self, server: str, name: str, salt: int = 0) -> str:
        """Return the name that clients see. With ``salt`` another one, for where the first is taken."""
        full = f"{server}{self._separator}{name}"
        if not salt and len(full) <= LONGEST and not _HASHED.search(full) and self._owner(full) == server:
            return full
        digest = hashlib.sha256(f"{salt or ''}{server}\n{name}".encode(errors="surrogatepass")).hexdigest()[:8]
        return f"{full[: LONGEST - 9]}_{digest}"

    def split(self, public: str) -> tuple[str, str] | None:
        """Return server and name of a name that says both; None for one that has to be looked up."""
        server = None if _HASHED.search(public) else self._owner(public)
        return None if server is None else (server, public[len(server) + len(self._separator) :])

    def _owner(self, full: str) -> str | None:
        return next((server for prefix, server in self._prefixes if full.startswith(prefix)), None)


def public_uri(server: str, uri: str) -> str:
    """Return the URI of a resource that says which server has it, for where another one has the same."""
    return f"{SCHEME}{server}/{uri}"


def split_uri(public: str) -> tuple[str, str] | None:
    """Return server and URI of one that :func:`public_uri` has made; None for any other."""
    server, slash, uri = public.removeprefix(SCHEME).partition("/")
    return (server, uri) if slash and public.startswith(SCHEME) else None
