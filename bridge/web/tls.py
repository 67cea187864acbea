"""The certificate that the bridge shows, read again when its files change: who renews it need not restart anything."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path

from bridge.config.errors import ConfigError
from bridge.config.files import Mark, mark

log = logging.getLogger(__name__)

#: Seconds between two looks at the files. Nothing announces a change that works on every file system.
LOOK = 3.0


class BadCertificate(Exception):
    """Certificate and key cannot be used; the text says which, and why."""


class Certificate:
    """A certificate and its key; ``context`` is what a server listens with: TLS 1.2 or later.

    Raises :class:`ConfigError` when they cannot be used. Later that is an error in the log, and the old pair stays.
    """

    def __init__(self, certfile: Path, keyfile: Path) -> None:
        self._files = certfile, keyfile
        self._used = self._seen = self._marks()
        try:
            self.context = load(certfile, keyfile)
        except BadCertificate as error:
            raise ConfigError(str(error)) from None

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(LOOK)
            self.look()

    def look(self) -> None:
        """Take a new pair, once its files have been the same at two looks: they are written one after the other."""
        marks = self._marks()
        has_settled = marks == self._seen
        self._seen = marks
        if not has_settled or marks == self._used:
            return
        self._used = marks
        try:
            load(*self._files)  # elsewhere first: a context that fails to load a pair has lost the one of before
            self.context.load_cert_chain(*self._files)
        except (BadCertificate, OSError) as error:
            log.error("%s; the certificate of before stays in use", error)
        else:
            log.info("SSL_CERTFILE: %s has changed and is in use", self._files[0])

    def _marks(self) -> tuple[Mark, ...]:
        return tuple(mark(path) for path in self._files)


def load(certfile: Path, keyfile: Path) -> ssl.SSLContext:
    """Return a context for a server. Raises :class:`BadCertificate` that names the setting and the file."""
    for name, path, what in (
        ("SSL_CERTFILE", certfile, "CERTIFICATE-----"),
        ("SSL_KEYFILE", keyfile, "PRIVATE KEY-----"),
    ):
        try:
            text = path.read_bytes()
        except OSError as error:
            raise BadCertificate(f"{name}: {path} cannot be read: {error.strerror}") from None
        if what.encode() not in text:
            raise BadCertificate(f"{name}: {path} holds no {what.strip('-').lower()} in the PEM format")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    asked: list[bool] = []

    def no_password() -> str:  # without this, OpenSSL would ask at the terminal
        asked.append(True)
        return ""

    try:
        context.load_cert_chain(certfile, keyfile, no_password)
    except (ssl.SSLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error)
        if asked:
            why = f"SSL_KEYFILE: {keyfile} is encrypted; the bridge has nobody to ask for its password"
        elif "KEY_VALUES_MISMATCH" in reason:
            why = f"SSL_KEYFILE: {keyfile} is not the key of the certificate in SSL_CERTFILE, {certfile}"
        else:
            why = f"SSL_CERTFILE: {certfile} and SSL_KEYFILE: {keyfile} cannot be used: {reason}"
        raise BadCertificate(why) from None
    return context
