"""The authorization server whose tokens are taken: where its keys are, and what it says of an opaque token.

Its addresses come from its metadata (RFC 8414, or OpenID Connect Discovery), which must be that of the issuer itself.
Everything it says has a limit in size and time.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit

from yarl import URL

from bridge.auth.fetched import Away
from bridge.config.values import is_secure
from bridge.protocol import jsontext
from bridge.protocol.framing import Oversized
from bridge.remote.http import JSON_TYPE, HttpClient, HttpFailure

#: Bytes of an answer, seconds for all that one question takes.
MOST_BYTES, PATIENCE = 256 * 1024, 10.0


class AuthorizationServer:
    """``credentials`` are id and secret, with which it is asked about tokens. All methods raise
    :class:`bridge.auth.fetched.Away` when it does not say what it should.
    """

    def __init__(
        self,
        issuer: str,
        jwks_url: str | None = None,
        introspection_url: str | None = None,
        credentials: tuple[str, str] | None = None,
    ) -> None:
        self._issuer = issuer
        self._jwks_url = jwks_url
        self._introspection_url = introspection_url
        self._credentials = credentials

    async def keys(self) -> Any:
        """Fetch its key set."""
        async with _patience():
            url = self._jwks_url
            if url is None:
                url = (await self._discover()).get("jwks_uri")
                if not isinstance(url, str) or not is_secure(url):
                    raise Away(f"the metadata of {self._issuer} has no jwks_uri that is https; set OAUTH_JWKS_URL")
            return await _fetch(url)

    async def metadata(self) -> dict[str, Any]:
        """Fetch what it says of itself."""
        async with _patience():
            return await self._discover()

    async def introspect(self, token: str) -> Any:
        """Ask about a token."""
        assert self._introspection_url is not None
        assert self._credentials is not None
        # RFC 6749, 2.3.1: both are encoded as in a form before they are joined.
        pair = ":".join(quote_plus(each) for each in self._credentials)
        headers = {
            "Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        body = urlencode({"token": token, "token_type_hint": "access_token"}).encode()
        async with _patience():
            return await _fetch(self._introspection_url, headers, body)

    async def _discover(self) -> dict[str, Any]:
        for url in _places(self._issuer):
            found = await _fetch(url)
            if isinstance(found, dict):
                break
        else:
            raise Away(f"{self._issuer} has no metadata; set OAUTH_JWKS_URL, or correct OAUTH_ISSUER")
        named = found.get("issuer")
        if named != self._issuer:  # RFC 8414, 3.3: it must not be used
            shown = repr(str(named)[:100])
            raise Away(f"OAUTH_ISSUER is {self._issuer!r}, but the server there calls itself {shown}")
        return found


def _places(issuer: str) -> list[str]:
    """Where its metadata may be, in the order of the MCP specification (authorization server metadata discovery)."""
    parts = urlsplit(issuer)
    origin, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
    inserted = [f"{origin}/.well-known/{name}{path}" for name in ("oauth-authorization-server", "openid-configuration")]
    return [*inserted, f"{origin}{path}/.well-known/openid-configuration"] if path else inserted


@contextlib.asynccontextmanager
async def _patience() -> AsyncIterator[None]:
    """Limit the time of a block. Raises :class:`Away`."""
    try:
        async with asyncio.timeout(PATIENCE):
            yield
    except TimeoutError:
        raise Away(f"the authorization server did not answer within {PATIENCE:g} s") from None


async def _fetch(url: str, headers: dict[str, str] | None = None, data: bytes | None = None) -> Any:
    """Return the JSON value at an address, None when there is none."""
    http = HttpClient(url, headers or {}, MOST_BYTES)
    try:
        method = "GET" if data is None else "POST"
        async with http.open(method, {"Accept": JSON_TYPE}, url=URL(url, encoded=True), data=data) as response:
            if response.status in (401, 403) and data is not None:
                raise Away(f"{http.origin} refuses OAUTH_CLIENT_ID and OAUTH_CLIENT_SECRET (HTTP {response.status})")
            if 400 <= response.status < 500 and data is None:  # some refuse what they do not have
                return None
            if response.status != 200:
                raise Away(f"{http.origin} answered HTTP {response.status}")
            body = await http.body(response)
    except HttpFailure as failure:
        raise Away(f"the authorization server {failure}") from None
    finally:
        await http.close()
    if isinstance(body, Oversized):
        raise Away(f"what {http.origin} answered is larger than {MOST_BYTES} bytes")
    return jsontext.decode(body)
