"""What is signed between nodes, each purpose with a key of its own made from ``CLUSTER_KEY``."""

from __future__ import annotations

import base64
import hashlib
import hmac

#: Bytes of a seal: 128 bits, which nobody finds by trying.
SEAL = 16


class Sealer:
    """Seals texts for one ``purpose``, so that what was sealed for one is worth nothing for another."""

    def __init__(self, key: bytes, purpose: str) -> None:
        self._key = hmac.digest(key, purpose.encode(), "sha256")

    def seal(self, text: str) -> str:
        """Return the seal of a text: 22 characters that may stand in an URL."""
        # Halves of characters are what a header has for bytes that are no UTF-8; they must not make two texts alike.
        sealed = hmac.digest(self._key, text.encode(errors="surrogatepass"), hashlib.sha256)[:SEAL]
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def is_good(self, text: str, seal: str) -> bool:
        """Whether this seal was made here, or by another node with the same key."""
        return hmac.compare_digest(self.seal(text).encode(), seal.encode(errors="replace"))
