"""The certificates that remote servers are checked against: read when there is one, and not by each start.

aiohttp reads them twice when it is imported, which is a quarter of the time that the whole bridge takes for that. So it
is imported here, before anyone else does, while there are none to be read; what it makes of that trusts nobody. Every
connection of ours is told what to trust.
"""

from __future__ import annotations

import contextlib
import functools
import ssl
from collections.abc import Iterator


@contextlib.contextmanager
def _none_to_read() -> Iterator[None]:
    """For the length of the block, contexts of :mod:`ssl` know no authority unless they are told one."""
    # The method belongs to a class below this one, so that what is set here hides it, and only has to be taken away.
    ssl.SSLContext.set_default_verify_paths = lambda _: None  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        del ssl.SSLContext.set_default_verify_paths


with _none_to_read():
    import aiohttp

__all__ = ["aiohttp", "trusted"]


@functools.cache
def trusted() -> ssl.SSLContext:
    """Return what checks a server against the authorities of this system (or ``SSL_CERT_FILE``), as aiohttp would."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(("http/1.1",))
    return context
