"""HTTP to one remote server: its headers, its limits, its origin, and plain words for what goes wrong.

A failure tells what the server did, for the caller to say of whom: ``answered HTTP 503 Service Unavailable: busy``.
Nothing of the URL behind the host and no header value is in it, because both are where people put their keys; where the
server repeats one, it is blotted out.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import ipaddress
import os
import re
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any
from urllib.parse import quote, quote_plus
from urllib.request import getproxies, proxy_bypass

from yarl import URL

from bridge.protocol import jsontext
from bridge.protocol.errors import INTERNAL_ERROR
from bridge.protocol.framing import HEAD_BYTES, Oversized
from bridge.remote.certificates import aiohttp, trusted
from bridge.version import __version__

JSON_TYPE = "application/json"
SSE_TYPE = "text/event-stream"

#: Seconds for a connection to come about.
CONNECT_PATIENCE = 30.0
#: Seconds for which an unused connection is kept: below the five after which uvicorn, under most Python servers, closes
#: it, because a request on a connection that is just being closed is lost.
KEEP_ALIVE = 4.0
#: Redirects that are followed, all within the origin.
REDIRECTS = 5
#: Bytes of an error that are read, seconds that reading it may take, characters of it that are repeated.
ERROR_BYTES, ERROR_PATIENCE, SHOWN = 4096, 5.0, 200
#: Shorter words than this are not taken for secrets: blotting them out would only garble the text.
SECRET_LENGTH = 4
#: What may stand in a query as it is.
_SAFE = "/?:@!$'()*+,;="


class HttpFailure(Exception):
    """A message that could not be delivered, or got no answer. ``status`` is None where there was no HTTP answer."""

    def __init__(self, text: str, *, status: int | None = None, code: int = INTERNAL_ERROR) -> None:
        super().__init__(text)
        self.status = status
        self.code = code


class Gone(Exception):
    """What was agreed on with the server holds no longer: it has forgotten the session, or speaks another era now."""


class HttpClient:
    """All requests to one server. Must be made on the event loop; ``limit`` is the longest message in bytes."""

    def __init__(self, url: str, headers: Mapping[str, str], limit: int) -> None:
        self.url = URL(url)
        self.limit = limit
        self._secrets = set(_secrets(self.url, headers))
        trace = aiohttp.TraceConfig()
        trace.on_request_chunk_sent.append(_body_sent)
        self._no_way: HttpFailure | None = None
        proxy = None
        try:
            proxy = _proxy(self.url)
        except HttpFailure as failure:
            self._no_way = failure
        self._session = aiohttp.ClientSession(
            headers={"User-Agent": f"mcp-stdio-bridge/{__version__}", **headers},
            timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_PATIENCE),
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE, ssl=trusted()),
            proxy=proxy,
            trace_configs=[trace],
        )

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return str(self.url.origin())

    def keep_secret(self, word: str) -> None:
        """Blot this word out of what the server says."""
        if len(word) >= SECRET_LENGTH:
            self._secrets.add(word)

    @contextlib.asynccontextmanager
    async def open(
        self,
        method: str,
        headers: Mapping[str, str],
        *,
        url: URL | None = None,
        data: bytes | None = None,
        on_sent: Callable[[], None] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request; the response is open as long as the block runs.

        Raises :class:`HttpFailure`, also for what breaks while the block reads.
        """
        if self._no_way is not None:
            raise self._no_way
        target = url or self.url
        try:
            for _ in range(REDIRECTS):
                async with self._session.request(
                    method, target, headers=headers, data=data, allow_redirects=False, trace_request_ctx=on_sent
                ) as response:
                    location = response.headers.get("Location")
                    if location is None or response.status not in (301, 302, 303, 307, 308):
                        yield response
                        return
                    target = self.within(response.url, location, "redirects")
                    if method != "GET" and response.status not in (307, 308):
                        raise HttpFailure(
                            f'answered HTTP {response.status}, which would lose the message; give the final "url"',
                            status=response.status,
                        )
            raise HttpFailure("redirects in a circle")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise HttpFailure(self._words(error)) from None

    def within(self, base: URL, address: str, what: str) -> URL:
        """Resolve an address that the server gave. Raises :class:`HttpFailure` for one of another origin: our headers
        are for this one.
        """
        try:
            target = base.join(URL(address))
            origin = target.origin()
        except ValueError:
            raise HttpFailure(f"{what} to an address that is none") from None
        if target.user is not None or target.password is not None:
            raise HttpFailure(f"{what} to an address with a user; whom we are is said by our headers only")
        if origin != self.url.origin():
            raise HttpFailure(f'{what} to another origin, {origin}; if that is right, give its address as "url"')
        return target

    async def body(self, response: aiohttp.ClientResponse) -> bytes | Oversized:
        """Read a message. Of one that is too long, the rest is not read."""
        parts: list[bytes] = []
        size = 0
        async for chunk in response.content.iter_any():
            parts.append(chunk)
            size += len(chunk)
            if size > self.limit:
                return Oversized(b"".join(parts)[:HEAD_BYTES], max(size, response.content_length or 0))
        return b"".join(parts)

    async def failure(self, response: aiohttp.ClientResponse, body: bytes | None = None) -> HttpFailure:
        """Put an HTTP answer that carries no message into words; ``body`` is what has been read of it already."""
        status = response.status
        if 200 <= status < 300:
            kind = self._clean(response.content_type)
            return HttpFailure(f"answered HTTP {status} with {kind} where a JSON-RPC message belongs", status=status)
        text, code = await self._error(response, body)
        phrase = _PHRASES.get(status, "")
        words = f"answered HTTP {status} {phrase}".rstrip()
        if text:
            words += f": {self._clean(text)}"
        if status in (401, 403):
            words += '; set "headers" of this server to what it wants to see'
        if status == 407:
            words += "; give the proxy's user and password in its address"
        return HttpFailure(words, status=status, code=code)

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()

    async def _error(self, response: aiohttp.ClientResponse, body: bytes | None) -> tuple[str, int]:
        """What the server says of its error, and its code where that is JSON-RPC."""
        try:
            async with asyncio.timeout(ERROR_PATIENCE):
                raw = await response.content.read(ERROR_BYTES) if body is None else body
        except (aiohttp.ClientError, OSError, TimeoutError):
            return "", INTERNAL_ERROR
        said = jsontext.decode(raw)
        error = said.get("error") if isinstance(said, dict) else None
        if isinstance(error, dict) and isinstance(error.get("message"), str):
            code = error.get("code")
            return error["message"], code if isinstance(code, int) else INTERNAL_ERROR
        if response.content_type == "text/html":
            return "", INTERNAL_ERROR
        return raw.decode(errors="replace"), INTERNAL_ERROR

    def _clean(self, text: str) -> str:
        """One short line without secrets."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, "***")
        line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return line if len(line) <= SHOWN else f"{line[:SHOWN]}..."

    def _words(self, error: Exception) -> str:
        """What went wrong below HTTP. The library's own texts are not used: they hold the URL."""
        match error:
            case aiohttp.ClientConnectorDNSError():
                why = "its name is not known"
            case aiohttp.ClientConnectorCertificateError():
                why = f"its certificate is not accepted ({getattr(error.certificate_error, 'verify_message', 'TLS')})"
            case aiohttp.ClientConnectorSSLError():
                why = f"TLS failed ({error.os_error.strerror or type(error.os_error).__name__})"
            case aiohttp.ClientProxyConnectionError():
                why = "the proxy cannot be reached"
            case aiohttp.ClientHttpProxyError():
                why = f"the proxy does not let us through (HTTP {error.status} {_PHRASES.get(error.status, '')})"
            case aiohttp.ClientConnectorError():
                number = error.os_error.errno
                why = os.strerror(number).lower() if number else "no connection"
            case aiohttp.ServerTimeoutError() | TimeoutError():
                why = f"no connection within {CONNECT_PATIENCE:g} s"
            case aiohttp.ClientResponseError():
                return f"does not speak HTTP at {self.origin}"
            case _:
                return f"closed the connection before it answered ({self.origin})"
        return f"cannot be reached at {self.origin}: {why}"


_PHRASES = {status.value: status.phrase for status in http.HTTPStatus}


async def _body_sent(_session: aiohttp.ClientSession, context: Any, _params: Any) -> None:
    if context.trace_request_ctx is not None:
        context.trace_request_ctx()


def _secrets(url: URL, headers: Mapping[str, str]) -> list[str]:
    """What must not be repeated: header values and their words, what stands in the query, long parts of the path."""
    words = [*headers.values(), *(word for value in headers.values() for word in value.split())]
    words += [*url.query.values(), *(part for part in url.parts if len(part) >= 4 * SECRET_LENGTH)]
    # A server may repeat them as they were sent, or with other escapes.
    words += [spelled(word, safe) for word in words for spelled in (quote, quote_plus) for safe in ("", "/", _SAFE)]
    words += re.split("[&=]", url.raw_query_string)
    return [word for word in words if len(word) >= SECRET_LENGTH]


def _proxy(url: URL) -> str | None:
    """The proxy of our environment, never for this machine itself. Raises :class:`HttpFailure` for one that is none.

    Not aiohttp's ``trust_env``: that would also send what is in ``~/.netrc``.
    """
    host = url.host or ""
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            return None
    if host == "localhost" or proxy_bypass(host) or proxy_bypass(f"{host}:{url.port}"):
        return None
    known = getproxies()
    proxy = known.get(url.scheme) or known.get("all")
    if proxy is None:
        return None
    address = proxy if "://" in proxy else f"http://{proxy}"
    if not address.lower().startswith(("http://", "https://")):
        scheme = address.partition("://")[0]
        raise HttpFailure(f"was not asked: the environment names a proxy of {scheme}://, which must be one of http://")
    return address
