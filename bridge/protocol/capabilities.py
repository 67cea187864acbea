"""What a client said it can be asked (specification, capabilities: a server must not ask for more), and what a server
said it does.
"""

from __future__ import annotations

from bridge.protocol import messages

#: The capability that each question wants.
WANTED = {
    "sampling/createMessage": "sampling",
    "elicitation/create": "elicitation",
    "roots/list": "roots",
}


def may_ask(capabilities: bytes, question: bytes) -> bool:
    """Whether a client of these capabilities may be asked a question, both as JSON text.

    A question of a kind that is not known here may be: the client will say what it thinks of it.
    """
    members = messages.fields(question)
    wanted = WANTED.get(messages.string(bytes(members.get("method", b""))) or "")
    if wanted is None:
        return True
    offered = messages.fields(capabilities)
    if wanted not in offered:
        return False
    mode = messages.string(messages.member(bytes(members.get("params", b"")), "mode"))
    return mode is None or mode == "form" or mode in messages.fields(bytes(offered[wanted]))


def declares(greeting: bytes, group: str, flag: str) -> bool:
    """Whether a server's InitializeResult or DiscoverResult has a flag set, as ``listChanged`` of ``tools``."""
    declared = messages.fields(messages.member(greeting, "capabilities"))
    return messages.member(bytes(declared.get(group, b"")), flag) == b"true"
