"""What many servers have, told as if it were one: lists, what stands in them, and who has what. Pure.

Tools and prompts are named with their server (:mod:`bridge.protocol.prefix`). A resource keeps its URI, which a client
may know from elsewhere; where two servers list the same one, it stays with the server that is configured first, and the
other's gets one that says whose it is. Every other byte of what a server lists stays as it was written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

from bridge.protocol import jsontext, messages
from bridge.protocol.errors import INVALID_PARAMS, METHOD_NOT_FOUND, Rejection
from bridge.protocol.jsontext import Raw
from bridge.protocol.messages import Request
from bridge.protocol.mux import swap_token
from bridge.protocol.prefix import Prefixes, public_uri, split_uri
from bridge.protocol.subscriptions import CHANGED, UPDATED

COMPLETE = "completion/complete"
#: What the endpoint can do, whatever its servers can: lists may be empty, and one that comes later may fill them.
CAPABILITIES: dict[str, dict[str, bool]] = {
    "tools": {"listChanged": True},
    "prompts": {"listChanged": True},
    "resources": {"listChanged": True, "subscribe": True},
    "completions": {},
    "logging": {},
}
#: What only one server could be meant by: nothing in a task's id says whose it is.
_UNSHARED = frozenset({"tasks"})


@dataclass(frozen=True, slots=True)
class Listing:
    """One kind of list: who has such things declares the capability ``group``. ``key`` names them."""

    method: str
    member: str
    key: str
    group: str
    changed: str


TOOLS = Listing("tools/list", "tools", "name", "tools", CHANGED["toolsListChanged"])
PROMPTS = Listing("prompts/list", "prompts", "name", "prompts", CHANGED["promptsListChanged"])
RESOURCES = Listing("resources/list", "resources", "uri", "resources", CHANGED["resourcesListChanged"])
TEMPLATES = Listing(
    "resources/templates/list", "resourceTemplates", "uriTemplate", "resources", CHANGED["resourcesListChanged"]
)
LISTINGS = {each.method: each for each in (TOOLS, PROMPTS, RESOURCES, TEMPLATES)}
#: Requests about one thing, and the list that it stands in.
SUBJECTS = {
    "tools/call": TOOLS,
    "prompts/get": PROMPTS,
    "resources/read": RESOURCES,
    "resources/subscribe": RESOURCES,
    "resources/unsubscribe": RESOURCES,
}

#: A server, and what it calls a thing.
Origin = tuple[str, str]


class Index:
    """Who has what, by the names that clients see, as far as it has been listed."""

    def __init__(self) -> None:
        self._origins: dict[Listing, dict[str, Origin]] = {each: {} for each in LISTINGS.values()}
        self._templates: list[tuple[list[str], str]] = []  # the most specific first
        #: Lists that may have changed since they were read, or never were.
        self.stale = set(LISTINGS.values())

    def learn(self, listing: Listing, found: Mapping[str, Iterable[bytes]], prefixes: Prefixes) -> list[Raw]:
        """Take in what servers list, in the order in which they are configured; return it as clients get to see it.

        What is known of other servers stays known: they may be silent for now.
        """
        old, new = self._origins[listing], dict[str, Origin]()
        shown = []
        for server, items in found.items():
            own = set()
            for item in items:
                name = jsontext.string(jsontext.member(item, listing.key))
                if name is None or name in own:
                    continue
                own.add(name)
                public = next((each for each in _spellings(listing, server, name, prefixes) if each not in new), None)
                if public is None:
                    continue
                new[public] = server, name
                shown.append(_named(item, listing.key, name, public))
        for public, origin in old.items():
            if origin[0] not in found:
                new.setdefault(public, origin)
        self._origins[listing] = new
        if listing is TEMPLATES:
            templates = [(_literals(template), server) for server, template in new.values()]
            self._templates = sorted(templates, key=lambda each: -sum(map(len, each[0])))
        return shown

    def origin(self, listing: Listing, public: str) -> Origin | None:
        """Return what is listed under a name."""
        return self._origins[listing].get(public)

    def told(self, listing: Listing, public: str, prefixes: Prefixes) -> Origin | None:
        """Return what a name stands for, as far as that can be told without asking anybody."""
        if listing.key == "name":
            return prefixes.split(public) or self.origin(listing, public)
        return self.origin(listing, public) or self.origin(TEMPLATES, public) or split_uri(public)

    def fitting(self, uri: str) -> Origin | None:
        """Return who may have a resource that nobody lists, because a template fits."""
        return next(((server, uri) for literals, server in self._templates if _fits(literals, uri)), None)

    def likely(self, uri: str) -> Origin | None:
        """Return who may have a resource for which there is no template either, because it has others of its scheme."""
        scheme = uri.partition(":")[0] + ":"
        for listing in (RESOURCES, TEMPLATES):
            for server, known in self._origins[listing].values():
                if known.startswith(scheme):
                    return server, uri
        return None

    def public_of(self, server: str, uri: str) -> str:
        """Return how clients know a resource of a server."""
        if self._origins[RESOURCES].get(uri, (server, uri)) == (server, uri):
            return uri
        return public_uri(server, uri)


def _spellings(listing: Listing, server: str, name: str, prefixes: Prefixes) -> Iterator[str]:
    if listing.key == "name":
        return (prefixes.public(server, name, salt) for salt in count())
    return iter((name, public_uri(server, name)))


def _named(item: bytes, key: str, name: str, public: str) -> Raw:
    return Raw(item if public == name else jsontext.replaced(item, key, jsontext.encode(public)))


def _literals(template: str) -> list[str]:
    """What stands around the expressions of a URI template (RFC 6570)."""
    return re.split(r"\{[^{}]*\}", template)


def _fits(literals: list[str], uri: str) -> bool:
    """Whether a URI may come from a template. Not by a pattern: a server could write one that takes for ever."""
    first, *middle, last = literals if len(literals) > 1 else [*literals, ""]
    at, end = len(first), len(uri) - len(last)
    if not (uri.startswith(first) and uri.endswith(last)) or (len(literals) == 1 and uri != first):
        return False
    for each in middle:
        at = uri.find(each, at)
        if at < 0:
            return False
        at += len(each)
    return at <= end


def subject(request: Request) -> tuple[Listing, str] | None:
    """Return what a request is about: the list that it stands in, and its name; None for one about nothing listed."""
    if request.method == COMPLETE:
        ref = jsontext.fields(jsontext.member(request.params, "ref"))
        kind = jsontext.string(bytes(ref.get("type", b"")))
        listing = {"ref/prompt": PROMPTS, "ref/resource": RESOURCES}.get(kind or "")
        found = None if listing is None else jsontext.string(bytes(ref.get(listing.key, b"")))
        return None if listing is None or found is None else (listing, found)
    listing = SUBJECTS.get(request.method)
    name = None if listing is None else jsontext.string(jsontext.member(request.params, listing.key))
    return None if listing is None or name is None else (listing, name)


def about(request: Request, listing: Listing, name: str) -> Request:
    """Return the same request about what its server calls by this name."""
    params, value = request.params, jsontext.encode(name)
    if request.method == COMPLETE:
        ref = jsontext.replaced(jsontext.member(params, "ref"), listing.key, value)
        return Request(request.id, request.method, jsontext.replaced(params, "ref", ref))
    return Request(request.id, request.method, jsontext.replaced(params, listing.key, value))


#: Until 2025-11-25, the code of a resource that is not there.
NO_RESOURCE = -32002
NO_CURSOR = {"code": INVALID_PARAMS, "message": "no such cursor: this list comes in one page"}


def has_cursor(request: Request) -> bool:
    """Whether a request is for another page than the only one that there is: :data:`NO_CURSOR`."""
    return jsontext.member(request.params, "cursor") not in (b"", b"null")


def refusal(request: Request, no_resource: int) -> dict[str, Any]:
    """Return the error for a request that is for none of the servers."""
    found = subject(request)
    if found is not None:
        listing, public = found
        code = no_resource if listing is RESOURCES else INVALID_PARAMS
        return {"code": code, "message": f"Unknown {listing.member.removesuffix('s')}: {public[:200]}"}
    if request.method == COMPLETE or request.method in SUBJECTS:
        return {"code": INVALID_PARAMS, "message": f"params of {request.method} must name what it is about"}
    text = f"method {request.method[:80]} is not for all servers at once; use /mcp/<id>"
    return {"code": METHOD_NOT_FOUND, "message": text}


def updated(line: bytes, respelled: Callable[[str], str]) -> bytes:
    """Return ``notifications/resources/updated`` with the URI that clients know."""
    params = jsontext.member(line, "params")
    uri = jsontext.string(jsontext.member(params, "uri"))
    if uri is None or (public := respelled(uri)) == uri:
        return line
    return messages.notification_line(UPDATED, jsontext.replaced(params, "uri", jsontext.encode(public)))


def question(line: bytes, number: int) -> tuple[bytes, Raw | None]:
    """Return a question of a server that is known by a number, and its progress token, None where it wants no progress.

    The number takes the place of the token: two servers may use the same one.
    """
    try:
        asked = messages.parse(line)
    except Rejection:  # nested too deeply to be read from here
        return line, None
    if not isinstance(asked, Request) or not asked.meta:
        return line, None
    params, token = swap_token(asked, b"%d" % number)
    return messages.request_line(asked.id, asked.method, params), token


def capabilities(greetings: Iterable[bytes]) -> dict[str, Any]:
    """Return what the endpoint can do, with what its servers declare beyond that."""
    found: dict[str, Any] = {}
    for greeting in greetings:
        for group, declared in jsontext.fields(jsontext.member(greeting, "capabilities")).items():
            if group not in CAPABILITIES and group not in _UNSHARED:
                found[group] = {**found.get(group, {}), **jsontext.fields(bytes(declared))}
    return {**CAPABILITIES, **found}


def instructions(greetings: Mapping[str, bytes], separator: str) -> str:
    """Return what servers want models to know, each under its id; empty where none says anything."""
    texts = ((server, jsontext.string(jsontext.member(each, "instructions"))) for server, each in greetings.items())
    parts = [f"# {server}\n{text.strip()}" for server, text in texts if text and text.strip()]
    if not parts:
        return ""
    return "\n\n".join([f"Names begin with the id of their server: <id>{separator}<name>.", *parts])
