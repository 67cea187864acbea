"""Modern requests to all servers at once: each goes to the server that its name says, as one to ``/mcp/{server_id}``.

Requests of this era know no session, so who has what is remembered for each principal and what it sees.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from bridge.children.registry import Registry
from bridge.children.stream import StreamEnded
from bridge.protocol import jsontext, merged
from bridge.protocol.errors import INVALID_PARAMS, METHOD_NOT_FOUND, BridgeError
from bridge.protocol.jsontext import Raw
from bridge.protocol.merged import LISTINGS, RESOURCES, Index, Listing
from bridge.protocol.messages import Request
from bridge.protocol.modern import DISCOVER, NAMED, SERVER_INFO, ModernRequest
from bridge.protocol.tools import MOST_PAGES, next_cursor
from bridge.protocol.versions import MODERN_VERSION
from bridge.sessions.aggregate_listen import AggregateListen
from bridge.sessions.down import Answered
from bridge.sessions.gathering import Gathering
from bridge.sessions.modern import Headers, ModernAnswer, ModernCalls, check_listens
from bridge.sessions.roster import Roster, View
from bridge.version import __version__

log = logging.getLogger(__name__)

#: Principals, and what they see, whose names are known at once.
MOST_REMEMBERED = 1024

#: Seconds that instructions are waited for: the Python SDK takes who is silent for 10 for a server of the older era.
DISCOVER_PATIENCE = 5.0

_OURS = Raw(jsontext.encode({SERVER_INFO: {"name": "mcp-bridge", "version": __version__}}))


class AggregateCalls:
    """``calls`` serves what is for one server."""

    def __init__(self, registry: Registry, roster: Roster, calls: ModernCalls) -> None:
        self.roster = roster
        self._calls = calls
        self._indexes: dict[tuple[str, tuple[str, ...]], Index] = {}
        self._gathering = Gathering(roster)
        self._listens: dict[AggregateListen, None] = {}
        registry.on_change.append(self._change)

    async def routed(
        self, view: View, asked: ModernRequest, headers: Headers, principal: str
    ) -> tuple[str, ModernRequest] | None:
        """Return the server that a request is for, and how that gets it; None where it is for all, or for none."""
        subject = merged.subject(asked.request)
        if subject is None:
            return None

        async def read(listing: Listing) -> None:
            await self._read(listing, view, asked, headers, principal)

        listing, public = subject
        origin = await self.roster.find(self._index(view, principal), listing, public, view, read)
        if origin is None:
            return None
        server, name = origin
        return server, _with(asked, merged.about(asked.request, listing, name), name)

    async def answer(self, view: View, asked: ModernRequest, headers: Headers, principal: str) -> ModernAnswer:
        """Answer a request that is for all servers, or for none."""
        answered = Answered(asked.request.id)
        listing = LISTINGS.get(asked.method)
        if asked.method == DISCOVER:
            answered.result(await self._discover(view, asked, headers, principal))
        elif listing is None:
            answered.error(jsontext.encode(merged.refusal(asked.request, INVALID_PARAMS)))
        elif merged.has_cursor(asked.request):
            answered.error(jsontext.encode(merged.NO_CURSOR))
        else:
            items = await self._read(listing, view, asked, headers, principal)
            answered.result(jsontext.encode({**_CACHED, listing.member: items}))
        return ModernAnswer(answered, _nothing)

    async def listen(self, view: View, asked: ModernRequest, headers: Headers, principal: str) -> ModernAnswer:
        """Open a subscription at all servers. Raises :class:`Rejection` where there are too many."""
        check_listens(len(self._listens))
        index = self._index(view, principal)
        uris: dict[str, dict[str, str]] = {}  # by server: what it calls them, and what the client does
        wanted = jsontext.member(jsontext.member(asked.request.params, "notifications"), "resourceSubscriptions")

        found: set[Listing] = set()

        async def read(listing: Listing) -> None:
            if listing not in found:  # once for all of them
                found.add(listing)
                await self._read(listing, view, asked, headers, principal)

        for uri in filter(None, map(jsontext.string, map(bytes, jsontext.items(wanted)))):
            origin = await self.roster.find(index, RESOURCES, uri, view, read)
            if origin is not None:
                uris.setdefault(origin[0], {})[origin[1]] = uri

        def opened(server: str, request: Request) -> Any:
            return self._calls.answer(server, _with(asked, request, None), headers, principal)

        listen = AggregateListen(
            asked,
            uris,
            lambda: self.roster.servers(view),
            opened,
            index.public_of,
            lambda: self._listens.pop(listen, None),
        )
        self._listens[listen] = None
        try:
            await listen.open(self.roster.patience, self.roster.late)
        except BaseException:
            listen.close()
            raise
        return ModernAnswer(listen, listen.close)

    def finish_listens(self) -> None:
        """End all subscriptions in good order."""
        for listen in list(self._listens):
            listen.finish()

    async def close(self) -> None:
        """Ask nobody anything more."""
        await self._gathering.close()

    def _index(self, view: View, principal: str) -> Index:
        key = principal, tuple(self.roster.servers(view))
        index = self._indexes.get(key)
        if index is None:
            if len(self._indexes) >= MOST_REMEMBERED:
                self._indexes.clear()
            index = self._indexes[key] = Index()
        return index

    async def _discover(self, view: View, asked: ModernRequest, headers: Headers, principal: str) -> bytes:
        asking = {server: self._greeting(server, asked, headers, principal) for server in self.roster.servers(view)}
        greetings = await self._gathering.all(asking, self._came_late, DISCOVER_PATIENCE)
        result = {
            **_CACHED,
            "supportedVersions": [MODERN_VERSION],
            "capabilities": merged.capabilities(greetings.values()),
        }
        if text := merged.instructions(greetings, self.roster.separator):
            result["instructions"] = text
        return jsontext.encode(result)

    async def _greeting(self, server: str, asked: ModernRequest, headers: Headers, principal: str) -> bytes | None:
        answer = await self._asked(server, asked, headers, principal)
        return None if answer is None else bytes(answer.get("result", b"")) or None

    async def _read(
        self, listing: Listing, view: View, asked: ModernRequest, headers: Headers, principal: str
    ) -> list[Raw]:
        """Ask every server for a list, and learn from it."""
        index = self._index(view, principal)
        index.stale.discard(listing)  # before: what is announced meanwhile counts
        servers = self.roster.servers(view)
        reading = {server: self._items(server, listing, asked, headers, principal) for server in servers}
        found = await self._gathering.lists(reading, self._came_late)
        return index.learn(listing, found, self.roster.prefixes)

    async def _items(
        self, server: str, listing: Listing, asked: ModernRequest, headers: Headers, principal: str
    ) -> list[bytes] | None:
        """What one server lists; None when it cannot be had."""
        found: list[bytes] = []
        params: dict[str, object] = {"_meta": Raw(asked.request.meta)}
        cursor: str | None = None
        for _ in range(MOST_PAGES):
            page = _with(asked, Request(asked.request.id, listing.method, jsontext.encode(params)), None)
            answer = await self._asked(server, page, headers, principal)
            if answer is None:
                return None
            if "error" in answer:
                if jsontext.decode(jsontext.member(bytes(answer["error"]), "code")) == METHOD_NOT_FOUND:
                    return found
                why = jsontext.string(jsontext.member(bytes(answer["error"]), "message"))
                log.warning("server %s is not in %s of all servers: %s", server, listing.method, why)
                return None
            result = bytes(answer.get("result", b""))
            found += map(bytes, jsontext.items(jsontext.member(result, listing.member)))
            cursor = next_cursor(result, cursor)
            if cursor is None:
                break
            params["cursor"] = cursor
        return found

    async def _asked(
        self, server: str, asked: ModernRequest, headers: Headers, principal: str
    ) -> Mapping[str, Raw] | None:
        """The answer of one server; None when there is none."""
        try:
            answer = await self._calls.answer(server, asked, headers, principal)
        except BridgeError as error:
            log.warning("server %s is not among all servers: %s", server, error)
            return None
        line = b""
        try:
            while True:
                line = await answer.stream.receive()
        except StreamEnded:
            return jsontext.fields(line)
        finally:
            if not answer.stream.ended:
                answer.cancel()

    def _came_late(self) -> None:
        for index in self._indexes.values():
            index.stale.update(LISTINGS.values())
        for listen in list(self._listens):
            listen.announce()

    def _change(self, concerned: frozenset[str], _: frozenset[str]) -> None:
        for index in self._indexes.values():
            index.stale.update(LISTINGS.values())
        for listen in list(self._listens):
            listen.change(concerned)


_CACHED: dict[str, Any] = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private", "_meta": _OURS}


def _with(asked: ModernRequest, request: Request, name: str | None) -> ModernRequest:
    """Return another request of the same client."""
    named = name if request.method in NAMED else None
    return ModernRequest(request, asked.capabilities, asked.client_info, asked.log_level, named)


def _nothing() -> None:
    """Nothing runs that could be cancelled."""
