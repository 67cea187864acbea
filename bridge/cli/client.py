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
from pathlib import Path
from typing import Any

from bridge.cli.errors import CommandError, NotRunning, Refused
from bridge.cli.options import settings_of

#: Seconds that the bridge may take to answer.
PATIENCE = 30.0


class Client:
    """Asks the bridge that the options of a verb lead to. It brings ``MCP_BRIDGE_TOKEN``, else ``ACCESS_TOKEN``."""

    def __init__(self, options: argparse.Namespace) -> None:
        settings, environ = settings_of(options)
        anywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - it is asked, not bound
        host = anywhere.get(settings.host, settings.host)
        scheme = "http" if settings.ssl_certfile is None else "https"
        self.url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{settings.port}"
        self._token = environ.get("MCP_BRIDGE_TOKEN") or settings.access_token
        # A proxy of the environment is for the world outside, and would be handed the token.
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
        if settings.ssl_certfile is not None:
            handlers.append(urllib.request.HTTPSHandler(context=_trusting(settings.ssl_certfile, host)))
        self._opener = urllib.request.build_opener(*handlers)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Return what the bridge answers, None where it answers nothing.

        Raises :class:`NotRunning`, and :class:`Refused` for an error of the bridge.
        """
        request = urllib.request.Request(self.url + path, method=method)  # noqa: S310 - a scheme of ours
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        if self._token is not None:
            request.add_header("Authorization", f"Bearer {self._token}")
        try:
            with self._opener.open(request, timeout=PATIENCE) as response:
                text = response.read()
        except urllib.error.HTTPError as error:
            raise Refused(error.code, _words(error)) from None
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "reason", error)
            raise NotRunning(
                f"no bridge answers at {self.url} ({why}); start one with: mcp-bridge serve, or say where by --port"
            ) from None
        return json.loads(text) if text.strip() else None


def quoted(name: str) -> str:
    """A name as one segment of a path."""
    return urllib.parse.quote(name, safe="")


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


def _words(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read())["error"]["message"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"{error.code} {error.reason}"
