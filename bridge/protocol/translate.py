"""Between the eras, pure. *Down*: what a modern client says to a handshake child, and the answers back up.
*Up*: what a handshake client says to a modern child, and the answers back down.

What both eras can say comes back unchanged; what only one can say is added with the value that promises least, or taken
away (docs/architecture.md has the table).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from bridge.protocol import jsontext
from bridge.protocol.errors import MISSING_CLIENT_CAPABILITY, Rejection
from bridge.protocol.jsontext import Raw
from bridge.protocol.messages import Request
from bridge.protocol.modern import (
    CACHED,
    CAPABILITIES,
    CLIENT_INFO,
    DISCOVER,
    LOG_LEVEL,
    PREFIX,
    SERVER_INFO,
    VERSION,
    with_meta,
)
from bridge.protocol.schemas import moved
from bridge.protocol.versions import LATEST_HANDSHAKE, MODERN_VERSION, is_handshake

COMPLETE = Raw(b'"complete"')
INPUT_REQUIRED = Raw(b'"input_required"')
URL_REQUIRED = -32042
_ELICIT = Raw(b'"elicitation/create"')
#: Severity of log levels (RFC 5424), least first.
LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
WRONG_LEVEL = f"level must be one of {', '.join(LEVELS)}"


# A modern client on a handshake child


def discovered(initialized: bytes) -> bytes:
    """Return the DiscoverResult of a child that answered ``initialize`` with this."""
    members = jsontext.fields(initialized)
    capabilities = jsontext.fields(bytes(members.get("capabilities", b"{}")))
    capabilities.pop("tasks", None)
    result: dict[str, Any] = {
        "resultType": COMPLETE,
        "supportedVersions": [MODERN_VERSION],
        "capabilities": capabilities,
        "ttlMs": 0,
        "cacheScope": "private",
    }
    if "instructions" in members:
        result["instructions"] = members["instructions"]
    meta = jsontext.fields(bytes(members.get("_meta", b"")))
    if meta:
        result["_meta"] = meta
    return with_server_info(jsontext.encode(result), bytes(members.get("serverInfo", b"")))


def params_down(params: bytes) -> bytes:
    """Return params for a handshake child: without the envelope, and without what answers a question."""
    members = jsontext.fields(params)
    for name in ("inputResponses", "requestState"):
        members.pop(name, None)
    meta = {
        key: value
        for key, value in jsontext.fields(bytes(members.pop("_meta", Raw(b"")))).items()
        if not key.startswith(PREFIX)
    }
    if meta:
        members["_meta"] = Raw(jsontext.encode(meta))
    return jsontext.encode(members) if members else b""


def result_up(method: str, result: bytes, server_info: bytes) -> bytes:
    """Return the result of a handshake child as a modern client wants it."""
    members = jsontext.fields(result)
    members["resultType"] = COMPLETE
    if method in CACHED:
        members.setdefault("ttlMs", Raw(b"0"))
        members.setdefault("cacheScope", Raw(b'"private"'))
    if method == "tools/call":
        members.setdefault("content", Raw(b"[]"))
    if method == "tools/list":
        _without_task_support(members)
    return with_server_info(jsontext.encode(members), server_info)


def with_server_info(result: bytes, server_info: bytes) -> bytes:
    """Return a result whose ``_meta`` names the server."""
    return with_meta(result, {SERVER_INFO: server_info}) if server_info else result


def error_up(error: bytes) -> bytes:
    """Return the error of a handshake child as a modern client wants it: -32002 does not exist any more."""
    members = jsontext.fields(error)
    if members.get("code") != Raw(b"-32002"):
        return error
    members["code"] = Raw(b"-32602")
    return jsontext.encode(members)


def urls_wanted(error: bytes) -> dict[str, bytes]:
    """Return the questions in a -32042 error (URL elicitation required) by key; empty for any other error."""
    members = jsontext.fields(error)
    if jsontext.decode(bytes(members.get("code", b"0"))) != URL_REQUIRED:
        return {}
    asked = jsontext.fields(bytes(members.get("data", b""))).get("elicitations", b"")
    return {
        f"r{number}": jsontext.encode({"method": _ELICIT, "params": {**_asked_up(bytes(each)), "mode": "url"}})
        for number, each in enumerate(jsontext.items(bytes(asked)))
        if jsontext.is_object(each)
    }


def urls_not_offered(error: bytes) -> bytes:
    """Return a -32042 error for a client that did not offer to open URLs, which it has no other way to hear of."""
    members = jsontext.fields(error)
    data = jsontext.fields(bytes(members.get("data", b"")))
    data["requiredCapabilities"] = Raw(b'{"elicitation":{"url":{}}}')
    changed = {"code": MISSING_CLIENT_CAPABILITY, "data": Raw(jsontext.encode(data))}
    return jsontext.encode({**members, **changed})


def input_required(questions: Mapping[str, bytes], state: str, server_info: bytes) -> bytes:
    """Return the result that asks a modern client. ``questions`` are ``{"method", "params"}`` by key."""
    result = {
        "resultType": INPUT_REQUIRED,
        "inputRequests": {key: Raw(question) for key, question in questions.items()},
        "requestState": state,
    }
    return with_server_info(jsontext.encode(result), server_info)


def question_of(line: bytes) -> bytes:
    """Return ``{"method", "params"}`` of a request that a child sent, as a modern client wants them."""
    members = jsontext.fields(line)
    question: dict[str, Any] = {name: members[name] for name in ("method", "params") if name in members}
    params = members.get("params", Raw(b""))
    if members.get("method") == _ELICIT and jsontext.is_object(params):
        question["params"] = _asked_up(bytes(params))
    return jsontext.encode(question)


def _asked_up(params: bytes) -> dict[str, Raw]:
    """What a handshake child asks its user, without the id by which it would say that a page is done with."""
    members = jsontext.fields(params)
    members.pop("elicitationId", None)
    return members


def level_in(params: bytes) -> str | None:
    """Return what ``logging/setLevel`` asks for, None where there is no such level."""
    level = jsontext.string(jsontext.member(params, "level"))
    return level if level in LEVELS else None


def is_heard(notification: bytes, wanted: str | None) -> bool:
    """Whether a log message is of a level that a request asked for by ``logLevel``."""
    if wanted not in LEVELS:
        return False
    params = jsontext.fields(jsontext.member(notification, "params"))
    level = jsontext.string(bytes(params.get("level", b"")))
    return level not in LEVELS or LEVELS.index(level) >= LEVELS.index(wanted)


# A handshake client on a modern child


def initialized(discovered: bytes, asked: str) -> bytes:
    """Return the InitializeResult for a child that answered ``server/discover`` with this."""
    members = jsontext.fields(discovered)
    meta = jsontext.fields(bytes(members.get("_meta", b"")))
    capabilities = jsontext.fields(bytes(members.get("capabilities", b"{}")))
    capabilities.pop("extensions", None)
    result: dict[str, Any] = {
        "protocolVersion": asked if is_handshake(asked) else LATEST_HANDSHAKE,
        "capabilities": capabilities,
        "serverInfo": meta.pop(SERVER_INFO, Raw(b'{"name":"server","version":"0"}')),
    }
    if "instructions" in members:
        result["instructions"] = members["instructions"]
    if meta:
        result["_meta"] = meta
    return jsontext.encode(result)


def discover_request() -> Request:
    """Return the first request to a child that may be modern."""
    return Request(b"0", DISCOVER, params_up(b"", b"{}", b"", None))


def params_up(params: bytes, capabilities: bytes, client_info: bytes, log_level: str | None) -> bytes:
    """Return params with the envelope of a client that said all this at ``initialize``."""
    return with_meta(
        params,
        {
            VERSION: jsontext.encode(MODERN_VERSION),
            CAPABILITIES: capabilities or b"{}",
            CLIENT_INFO: client_info,
            LOG_LEVEL: jsontext.encode(log_level) if log_level else b"",
        },
    )


def result_down(method: str, result: bytes) -> bytes:
    """Return the result of a modern child as a handshake client knows it."""
    members = jsontext.fields(result)
    for name in ("resultType", "ttlMs", "cacheScope"):
        members.pop(name, None)
    plain = with_meta(jsontext.encode(members), {SERVER_INFO: b""})
    if method == "tools/list":
        return _schemas_down(plain)
    if method == "tools/call":
        return _structured_down(plain)
    return plain


def result_type(result: bytes) -> str:
    """``resultType`` of a modern result; ``complete`` where a loose server leaves it out."""
    return jsontext.string(jsontext.member(result, "resultType", b'"complete"')) or ""


def questions_in(result: bytes) -> tuple[dict[str, bytes], Raw | None]:
    """Return the questions of an ``input_required`` result by key, and its ``requestState``."""
    members = jsontext.fields(result)
    asked = jsontext.fields(bytes(members.get("inputRequests", b"")))
    return {key: bytes(value) for key, value in asked.items()}, members.get("requestState")


def question_params(params: bytes, number: int) -> bytes:
    """Return the params of a question for a handshake client: one by URL needs an id there."""
    members = jsontext.fields(params)
    if members.get("mode") == Raw(b'"url"') and "elicitationId" not in members:
        members["elicitationId"] = Raw(jsontext.encode(f"e{number}"))
        return jsontext.encode(members)
    return params


def retried(request: Request, answers: Mapping[str, bytes], state: Raw | None) -> Request:
    """Return the request that answers an ``input_required``: the same, with what the client said."""
    members = jsontext.fields(request.params)
    if answers:
        members["inputResponses"] = Raw(jsontext.encode({key: Raw(value) for key, value in answers.items()}))
    if state is not None:
        members["requestState"] = state
    return Request(request.id, request.method, jsontext.encode(members))


def _without_task_support(members: dict[str, Raw]) -> None:
    if "tools" not in members:
        return

    def plain(tool: Raw) -> Raw:
        parts = jsontext.fields(bytes(tool))
        return tool if parts.pop("execution", None) is None else Raw(jsontext.encode(parts))

    members["tools"] = _each(members["tools"], plain)


def _schemas_down(result: bytes) -> bytes:
    """Wrap output schemas that are no objects: older clients take only objects as structured content."""
    members = jsontext.fields(result)
    if "tools" in members:
        members["tools"] = _each(members["tools"], _schema_down)
    return jsontext.encode(members)


def _schema_down(tool: Raw) -> Raw:
    parts = jsontext.fields(bytes(tool))
    schema = jsontext.fields(bytes(parts.get("outputSchema", b"")))
    kind = jsontext.decode(bytes(schema.get("type", b"")))
    if not jsontext.is_object(parts.get("outputSchema", Raw(b""))) or kind == "object":
        return tool
    # Its value may be an object, which goes unwrapped, or it is too deep to be moved: then promise nothing.
    del parts["outputSchema"]
    if isinstance(kind, str):
        with contextlib.suppress(RecursionError, Rejection):
            parts["outputSchema"] = Raw(jsontext.encode(_wrapped(schema)))
    return Raw(jsontext.encode(parts))


def _each(array: Raw, change: Callable[[Raw], Raw]) -> Raw:
    """The array with each item changed; itself when nothing changes, or it is none."""
    items = jsontext.items(bytes(array))
    changed = [change(item) for item in items]
    return array if all(new is old for new, old in zip(changed, items, strict=True)) else Raw(jsontext.encode(changed))


def _wrapped(schema: dict[str, Raw]) -> dict[str, Any]:
    inner = Raw(moved(jsontext.encode(schema), "#/properties/result"))
    return {"type": "object", "properties": {"result": inner}, "required": ["result"]}


def _structured_down(result: bytes) -> bytes:
    members = jsontext.fields(result)
    structured = bytes(members.get("structuredContent", b"{"))
    if structured[:1] != b"{":
        members["structuredContent"] = Raw(jsontext.encode({"result": Raw(structured)}))
        return jsontext.encode(members)
    return result
