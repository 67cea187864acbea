"""Which tools of a server its clients get to see and may call: lists without the others, and the name in a call.

Pure; what stays in a list stays the bytes it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from bridge.protocol import jsontext, messages
from bridge.protocol.messages import Request, Response

LIST = "tools/list"
CALL = "tools/call"
#: Pages of one list that are read: there are servers whose lists never end.
MOST_PAGES = 1000


@dataclass(frozen=True, slots=True)
class ToolNames:
    """Globs of names. ``allowed`` None allows all; what is ``disabled`` is not there, allowed or not."""

    allowed: tuple[str, ...] | None = None
    disabled: tuple[str, ...] = ()

    def permit(self, name: str) -> bool:
        """Whether clients get to see a tool."""
        if any(fnmatchcase(name, glob) for glob in self.disabled):
            return False
        return self.allowed is None or any(fnmatchcase(name, glob) for glob in self.allowed)


#: Every tool.
ALL_TOOLS = ToolNames()


def tools_in(line: bytes) -> list[tuple[str, bytes]] | None:
    """Return name and definition of each tool in an answer to ``tools/list``, '' for one whose name is no text; None
    where the answer is an error.
    """
    result = jsontext.member(line, "result")
    if not result:
        return None
    found = jsontext.items(jsontext.member(result, "tools"))
    return [(jsontext.string(jsontext.member(bytes(tool), "name")) or "", bytes(tool)) for tool in found]


def without(line: bytes, tools: list[tuple[str, bytes]], shown: Callable[[str, bytes], bool]) -> bytes:
    """Return an answer to ``tools/list`` with those of its ``tools`` that are ``shown``; itself where all are."""
    kept = [definition for name, definition in tools if shown(name, definition)]
    if len(kept) == len(tools):
        return line
    members = jsontext.fields(line)
    result = jsontext.replaced(bytes(members["result"]), "tools", b"[%b]" % b",".join(kept))
    return messages.response_line(Response(bytes(members["id"]), result))


def is_last_page(line: bytes) -> bool:
    """Whether no page follows an answer to ``tools/list``."""
    return jsontext.string(jsontext.member(jsontext.member(line, "result"), "nextCursor")) is None


def next_cursor(result: bytes, asked: str | None) -> str | None:
    """Return what to ask the next page with, None behind the last one. One that names the page that was ``asked`` for
    would come for ever.
    """
    cursor = jsontext.string(jsontext.member(result, "nextCursor"))
    return None if cursor == asked else cursor


def called(request: Request) -> tuple[str, Request] | None:
    """Return the tool that a ``tools/call`` names, and the request in the only way to read it: each member once.

    None where it names none, or where servers could read another name than we do (``Name``, to those written in Go).
    """
    members = jsontext.fields(request.params)
    name = jsontext.string(bytes(members.get("name", b"")))
    if name is None or sum(1 for key in members if key.casefold() == "name") != 1:
        return None
    return name, Request(request.id, request.method, jsontext.encode(members))


def is_call(line: bytes) -> bool:
    """Whether a line of ours is a notification that some servers would take for a call."""
    return line.startswith(_CALL_NOTE)


_CALL_NOTE = messages.notification_line(CALL)[:-1]
