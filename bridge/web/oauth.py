"""OAuth at the door: verdicts on tokens as HTTP, and where clients learn which authorization server to ask.

A client that comes without a token gets 401 with the address of the metadata of what it asked for (RFC 9728), finds the
authorization server there, and comes back with a token of it (MCP, authorization).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from aiohttp import web

from bridge.auth.fetched import PAUSE, Fetched
from bridge.auth.grant import BadToken, Grant, LacksScope, NoVerdict
from bridge.auth.principal import Principal
from bridge.auth.resource import FACES, Resource
from bridge.config.settings import Settings
from bridge.protocol.errors import Fault, Rejection
from bridge.web.address import base_url, below, is_known
from bridge.web.principal import Challenge
from bridge.web.reply import json_answer

if TYPE_CHECKING:
    from bridge.auth.oauth import OAuth

#: Where the metadata of the authorization server is, if the resource is that itself (2025-03-26, authorization).
ISSUER_WELL_KNOWN = "/.well-known/oauth-authorization-server"
#: Where the metadata of a resource is: this, and the path of the resource (RFC 9728, 3.1).
WELL_KNOWN = "/.well-known/oauth-protected-resource"
#: How the paths begin that need no token.
PUBLIC = (WELL_KNOWN, ISSUER_WELL_KNOWN)
_RESOURCE = re.compile(rf"/(?P<face>{'|'.join(FACES)}|messages)/(?P<server>[A-Za-z0-9._-]{{1,64}})")


class Door:
    """What the guards ask about tokens that are not in the keyring. ``hosts`` are those of ``ALLOWED_HOSTS``."""

    def __init__(self, oauth: OAuth, base: str, hosts: Iterable[str]) -> None:
        self._oauth = oauth
        self._base = base
        self._hosts = frozenset(host.lower() for host in hosts)

    def find(self, token: bytes, request: web.BaseRequest) -> Principal | None:
        """Return who brings a token, None when it has to be verified first. Raises :class:`Challenge`."""
        grant = self._oauth.find(token)
        return None if grant is None else self._principal(grant, request)

    async def verify(self, token: bytes, request: web.BaseRequest) -> Principal:
        """Return who brings a token that has not been seen. Raises :class:`Challenge` for a bad one, and
        :class:`Rejection` (503) when the authorization server would have to say it and does not.
        """
        try:
            grant = await self._oauth.verify(token)
        except BadToken as why:
            raise Challenge(Fault.UNAUTHORIZED, str(why), "invalid_token") from None
        except NoVerdict as why:
            raise Rejection(Fault.UNAVAILABLE, str(why), retry_in=why.retry_in) from None
        return self._principal(grant, request)

    def point(self, challenge: Challenge, request: web.BaseRequest) -> None:
        """Add to a challenge where its client finds out which token would do, and with which scopes."""
        of_a_server = _RESOURCE.fullmatch(below(request.path, self._base))
        path = ""
        if of_a_server is not None:
            face = of_a_server["face"].replace("messages", "sse")
            path = f"/{face}/{of_a_server['server']}"
        challenge.metadata = f"{base_url(request, WELL_KNOWN + self._base)}{path}"
        challenge.scopes |= self._oauth.resource.scopes  # a new token must have these as well

    def _principal(self, grant: Grant, request: web.BaseRequest) -> Principal:
        resource: Resource = self._oauth.resource
        try:
            return resource.principal(grant, "" if resource.is_named else self._called(request))
        except BadToken as why:
            raise Challenge(Fault.UNAUTHORIZED, str(why), "invalid_token") from None
        except LacksScope as why:
            raise Challenge(Fault.FORBIDDEN, str(why), "insufficient_scope") from None

    def _called(self, request: web.BaseRequest) -> str:
        """The address that the client has called, which is what its token must be for. Raises :class:`BadToken` where
        that may be the address of another program: who chooses the Host would choose what the token is for.
        """
        called = base_url(request, self._base)
        if not is_known(request, self._hosts):
            raise BadToken(
                f"{called[:100]!r} is not known to be this bridge, so no token is for it (aud); set OAUTH_AUDIENCE to "
                "the address that clients call, or add its host to ALLOWED_HOSTS"
            )
        return called


class MetadataFace:
    """The handlers below ``/.well-known``, for everyone; without OAuth there is nothing there.

    They answer for every id that a server could have, so that nobody learns which there are.
    """

    def __init__(self, oauth: OAuth | None, base: str) -> None:
        self._oauth = oauth
        self._base = base

    def routes(self) -> list[web.RouteDef]:
        """Return what it answers. The path of a resource comes behind the well-known one, ``BASE_PATH`` too."""
        routes = [web.get(path, self.of_the_issuer) for path in {ISSUER_WELL_KNOWN, ISSUER_WELL_KNOWN + self._base}]
        return routes + [
            route
            for base in {WELL_KNOWN, WELL_KNOWN + self._base}
            for route in (
                web.get(base, self.of_the_bridge),
                *(web.get(f"{base}/{face}/{{resource}}", self.of_a_server) for face in FACES),
            )
        ]

    async def of_the_bridge(self, request: web.Request) -> web.Response:
        """Describe the bridge as a whole."""
        return self._document(request, "")

    async def of_a_server(self, request: web.Request) -> web.Response:
        """Describe one server, at the face of this path."""
        path = below(below(request.path, self._base).removeprefix(WELL_KNOWN), self._base)
        if _RESOURCE.fullmatch(path) is None:
            raise Rejection(Fault.UNKNOWN_PATH, "there is no such resource")
        return self._document(request, path)

    async def of_the_issuer(self, _: web.Request) -> web.Response:
        """Repeat what the authorization server says of itself: clients of 2025-03-26 look for it here only."""
        described = self._configured().described
        if not described.is_fresh:
            await described.refresh()
        if described.value is None:
            raise Rejection(Fault.UNAVAILABLE, "the authorization server cannot be asked now", retry_in=PAUSE)
        return json_answer(described.value)

    def _configured(self) -> OAuth:
        if self._oauth is None:
            raise Rejection(Fault.UNKNOWN_PATH, "no authorization server is configured (OAUTH_ISSUER)")
        return self._oauth

    def _document(self, request: web.Request, path: str) -> web.Response:
        oauth = self._configured()
        body: dict[str, Any] = {
            "resource": f"{base_url(request, self._base)}{path}",
            "authorization_servers": [oauth.issuer],
            "bearer_methods_supported": ["header"],
        }
        if oauth.resource.scopes:
            body["scopes_supported"] = sorted(oauth.resource.scopes)
        return json_answer(body)


def oauth_of(settings: Settings) -> OAuth | None:
    """Return what knows the tokens of ``OAUTH_ISSUER``, None when there is none. Its library must be installed."""
    issuer = settings.oauth_issuer
    if issuer is None:
        return None
    from bridge.auth.introspection import Introspection
    from bridge.auth.keys import KeySet
    from bridge.auth.oauth import OAuth
    from bridge.web.authorization_server import AuthorizationServer

    credentials = (settings.oauth_client_id or "", settings.oauth_client_secret or "")
    server = AuthorizationServer(issuer, settings.oauth_jwks_url, settings.oauth_introspection_url, credentials)
    asks = settings.oauth_introspection_url is not None
    return OAuth(
        issuer,
        Resource(settings.oauth_audience, settings.oauth_scopes),
        KeySet(server.keys),
        Fetched("metadata", server.metadata),
        Introspection(server.introspect, issuer) if asks else None,
    )
