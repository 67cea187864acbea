"""What a client said it can be asked (specification, capabilities: a server must not ask for more), and what a server
said it does.
"""

from __future__ import annotations

from bridge.protocol import jsontext

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
    members = jsontext.fields(question)
    wanted = WANTED.get(jsontext.string(bytes(members.get("method", b""))) or "")
    if wanted is None:
        return True
    offered = jsontext.fields(capabilities)
    if wanted not in offered:
        return False
    asked = jsontext.fields(bytes(members.get("params", b"")))
    means = jsontext.fields(bytes(offered[wanted]))
    if wanted == "sampling":
        return "tools" in means or all(bytes(asked.get(name, b"null")) == b"null" for name in ("tools", "toolChoice"))
    if wanted == "elicitation":
        mode = jsontext.string(bytes(asked.get("mode", b""))) or "form"
        return mode in means or (mode == "form" and "url" not in means)  # {} is from when there were forms only
    return True


def has(greeting: bytes, group: str) -> bool:
    """Whether a server's InitializeResult or DiscoverResult declares a capability."""
    return group in jsontext.fields(jsontext.member(greeting, "capabilities"))


def declares(greeting: bytes, group: str, flag: str) -> bool:
    """Whether a server's InitializeResult or DiscoverResult has a flag set, as ``listChanged`` of ``tools``."""
    declared = jsontext.fields(jsontext.member(greeting, "capabilities"))
    return jsontext.member(bytes(declared.get(group, b"")), flag) == b"true"


def without(greeting: bytes, group: str, flag: str | None = None) -> bytes:
    """Return a server's InitializeResult without a capability, or without a ``flag`` of it, where it declares that."""
    declared = jsontext.fields(jsontext.member(greeting, "capabilities"))
    whole = declared.pop(group, None)
    if whole is None:
        return greeting
    if flag is not None:
        flags = jsontext.fields(bytes(whole))
        if flags.pop(flag, None) is None:
            return greeting
        declared[group] = jsontext.Raw(jsontext.encode(flags))
    return jsontext.replaced(greeting, "capabilities", jsontext.encode(declared))
