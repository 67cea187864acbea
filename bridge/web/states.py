"""``requestState`` of modern calls that names the node where it means something: ``<node>~<what it was>``.

A parked call, or a server that signs its state, is in one process, and a retry may come to any node. What was sealed
stays so: a client that changes the name only sends its retry where nobody knows it.
"""

from __future__ import annotations

import re

import msgspec

from bridge.cluster.ids import NODE
from bridge.cluster.members import Member
from bridge.cluster.node import Node
from bridge.protocol import jsontext
from bridge.protocol.messages import Request
from bridge.web.reply import plain_event

_NAMED = re.compile(rf"({NODE.pattern})~(.*)", re.ASCII | re.DOTALL)
_STATE = "requestState"
_SIGN = b'"requestState"'


class States:
    """Names this node in the states that go out, and takes the name off those that come back."""

    def __init__(self, node: Node) -> None:
        self._members = node.members

    def named(self, answer: bytes) -> bytes:
        """Return an answer whose state, if it has one, names this node."""
        if _SIGN not in answer:
            return answer
        result = jsontext.member(answer, "result")
        state = jsontext.string(jsontext.member(result, _STATE)) if result else None
        if state is None:
            return answer
        name = jsontext.encode(f"{self._members.own.node}~{state}")
        return jsontext.replaced(answer, "result", jsontext.replaced(result, _STATE, name))

    def event(self, message: bytes) -> bytes:
        """Do the same for a message that becomes an event."""
        return plain_event(self.named(message))

    def read(self, request: Request) -> tuple[Request, Member | None]:
        """Return a request as it was meant, and the node that it is for; None for this one, and for one that has gone:
        here it is refused with the reason.
        """
        state = jsontext.string(jsontext.member(request.params, _STATE)) if _SIGN in request.params else None
        found = None if state is None else _NAMED.fullmatch(state)
        if found is None:
            return request, None
        params = jsontext.replaced(request.params, _STATE, jsontext.encode(found[2]))
        member = None if found[1] == self._members.own.node else self._members.find(found[1])
        return msgspec.structs.replace(request, params=params), member
