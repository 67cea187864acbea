"""The REST API of a running bridge, found by the same settings that it runs with.

``urllib`` and not aiohttp: a verb asks one question, and importing aiohttp would take longer than the answer.
"""

from __future__ import annotations

import argparse
import http.client
import ipaddress
import json
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from email.message import Message
from pathlib import Path
from typing import Any

from bridge.cli.errors import CommandError, Misnamed, NotRunning, Refused, UsageError
from bridge.cli.options import client_settings_of
from bridge.cli.table import text
from bridge.config import values
from bridge.config.errors import ConfigError

#: Seconds that the bridge may be silent.
PATIENCE = 60.0
#: What OpenSSL says of a certificate that is trusted and is for another name, or another address (x509_vfy.h).
_OTHER_NAME = frozenset((62, 64))


class Reply:
    """An answer whose body has not been read. A ``with`` block closes it; what breaks is :class:`NotRunning`."""

    def __init__(self, response: http.client.HTTPResponse, url: str) -> None:
        self._response = response
        self._url = url

    def __enter__(self) -> Reply:
        return self

    def __exit__(self, *_: object) -> None:
        self._response.close()

    @property
    def headers(self) -> Message:
        """What stands before the body."""
        return self._response.headers

    def read(self) -> bytes:
        """Return the whole body."""
        try:
            return self._response.read()
        except (OSError, http.client.HTTPException) as error:
            raise _gone(self._url, error) from None

    def json(self) -> Any:
        """Return what the whole body says, None where it says nothing."""
        found = self.read()
        try:
            return json.loads(found) if found.strip() else None
        except ValueError:
            raise _other(self._url, "what is no JSON") from None

    def events(self) -> Iterator[str]:
        """Yield the data of each event, until the bridge ends the stream."""
        try:
            for line in self._response:
                if line.startswith(b"data:"):
                    yield line[len(b"data:") :].decode(errors="replace").removeprefix(" ").rstrip("\r\n")
        except (OSError, http.client.HTTPException) as error:
            raise _gone(self._url, error) from None


class Client:
    """Asks the bridge that the options of a verb lead to. It brings ``MCP_BRIDGE_TOKEN``, else ``ACCESS_TOKEN``."""

    def __init__(self, options: argparse.Namespace) -> None:
        settings, environ = client_settings_of(options)
        anywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - it is asked, not bound
        host = anywhere.get(settings.host, settings.host)
        scheme = "http" if settings.ssl_certfile is None else "https"
        #: Where it asks.
        self.host, self.port = host, settings.port
        self.url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{settings.port}"
        self._token = _token(environ) or settings.access_token
        # A proxy of the environment is for the world outside, and would be handed the token.
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
        if settings.ssl_certfile is not None:
            handlers.append(urllib.request.HTTPSHandler(context=_trusting(settings.ssl_certfile, host)))
        self._opener = urllib.request.build_opener(*handlers)

    def ask(self, method: str, path: str, body: Any = None, patience: float = PATIENCE) -> Any:
        """Return what the bridge answers, None where it answers nothing. It may be silent for ``patience`` seconds.

        Raises :class:`NotRunning`, :class:`Misnamed`, and :class:`Refused` for an error of the bridge.
        """
        with self.open(method, path, body, patience=patience) as reply:
            return reply.json()

    def open(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        patience: float = PATIENCE,
    ) -> Reply:
        """Send a request; return the answer as it begins. Raises what :meth:`ask` raises."""
        request = urllib.request.Request(  # noqa: S310 - a scheme of ours
            self.url + path, method=method, headers=dict(headers or {})
        )
        if body is not None:
            request.data = _sent(body)
            request.add_header("Content-Type", "application/json")
        if self._token is not None:
            # http.client takes text for Latin-1.
            request.add_header("Authorization", f"Bearer {self._token}".encode().decode("latin-1"))
        try:
            return Reply(self._opener.open(request, timeout=patience), self.url)
        except urllib.error.HTTPError as error:
            words = _words(error)
            if words is None:
                raise _other(self.url, f"{error.code} {error.reason}") from None
            if error.code == 401 and self._token is None:
                words = "the bridge needs a token; set MCP_BRIDGE_TOKEN to one of it"
            raise Refused(error.code, words) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, ssl.SSLCertVerificationError) and reason.verify_code in _OTHER_NAME:
                raise Misnamed(
                    f"the certificate of the bridge at {self.url} does not name {self.host}; make one that does, or "
                    "say by --host which of its names leads there"
                ) from None
            raise _gone(self.url, error) from None


def quoted(name: str) -> str:
    """A name as one segment of a path."""
    return urllib.parse.quote(name, safe="", errors="surrogateescape")  # which may hold bytes that are no UTF-8


def _token(environ: Mapping[str, str]) -> str | None:
    """The token that is for verbs only. Raises :class:`ConfigError`."""
    try:
        return values.token(environ["MCP_BRIDGE_TOKEN"]) if environ.get("MCP_BRIDGE_TOKEN") else None
    except values.Wanted as wanted:
        raise ConfigError(f"MCP_BRIDGE_TOKEN: is (hidden), must be {wanted}") from None


def _sent(body: Any) -> bytes:
    """A body as JSON. Raises :class:`UsageError` for what Python could read and JSON cannot hold."""
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        raise UsageError("what is to be sent holds half a character, or bytes that are no UTF-8") from None
    except ValueError:
        raise UsageError("what is to be sent holds a NaN or an Infinity, which no JSON can have") from None


def _trusting(certfile: Path, host: str) -> ssl.SSLContext:
    """Trust the certificate that the bridge shows, whoever has signed it. On this machine its names do not matter."""
    try:
        context = ssl.create_default_context(cafile=certfile)
    except OSError as error:
        raise CommandError(f"SSL_CERTFILE: {certfile} cannot be read: {error.strerror}") from None
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # it need not be signed by itself
    context.check_hostname = not _is_loopback(host)
    return context


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _gone(url: str, error: Exception) -> NotRunning:
    reason = getattr(error, "reason", error)
    why = text(str(getattr(reason, "strerror", None) or reason).strip())
    return NotRunning(f"no bridge answers at {url} ({why}); {_way_out(url, reason)}")


def _way_out(url: str, reason: object) -> str:
    """What to do about a bridge that does not answer."""
    if isinstance(reason, ssl.SSLCertVerificationError):
        return "set SSL_CERTFILE to the certificate that it shows, or to that of its authority"
    if isinstance(reason, ssl.SSLError):
        return "if it speaks http, leave SSL_CERTFILE unset"
    start = "start one with: mcp-bridge serve, or say where by --port"
    if isinstance(reason, http.client.RemoteDisconnected) and url.startswith("http:"):
        return f"if it speaks https, set SSL_CERTFILE to its certificate; else {start}"
    return start


def _other(url: str, what: str) -> NotRunning:
    return NotRunning(
        f"what listens at {url} is no bridge: it says {what}; start one elsewhere, or say where by --port"
    )


def _words(error: urllib.error.HTTPError) -> str | None:
    """What the bridge says of an error, None where it was no bridge that answered."""
    try:
        return str(json.loads(error.read())["error"]["message"]).replace("GET /servers", "mcp-bridge servers")
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return None
