"""An MCP server with tools for people: forms of every kind, progress, a question, a call that can be cancelled.

With ``--hostile`` everything that it may name or say is an attack on whoever shows it. Standard library only.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

ATTACK = (
    "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    "</textarea></title><svg onload=\"document.title='owned'\"><style>*{display:none}</style>"
    "<a href=\"javascript:document.title='owned'\">{{constructor.constructor('alert(1)')()}}</a>\u202e\x1b[2J"
)
HOSTILE = "--hostile" in sys.argv

EVERY_KIND: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "description": "who", "minLength": 2},
        "mail": {"type": "string", "format": "email"},
        "times": {"type": "integer", "minimum": 1, "maximum": 9, "default": 2},
        "part": {"type": ["number", "null"]},
        "loud": {"type": "boolean", "default": True},
        "maybe": {"type": "boolean"},
        "colour": {"enum": ["red", "green"]},
        "kind": {"$ref": "#/$defs/kind"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "days": {"type": "array", "items": {"type": "string", "enum": ["mo", "tu", "we"]}},
        "where": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        "more": {"type": "object"},
        "optional": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
        "__proto__": {"type": "string"},
    },
    "$defs": {"kind": {"oneOf": [{"const": "a", "title": "first"}, {"const": "b", "title": "second"}]}},
    "required": ["name", "where"],
}
ONE_QUESTION = {
    "type": "object",
    "properties": {"sure": {"type": "boolean"}, "why": {"type": "string"}},
    "required": ["sure"],
}
NOTHING: dict[str, Any] = {"type": "object", "properties": {}}
TOOLS: list[dict[str, Any]] = [
    {"name": "show", "description": "Returns its arguments.\nA second line.", "inputSchema": EVERY_KIND},
    {"name": "ask", "description": "Asks something half way.", "inputSchema": NOTHING},
    {"name": "wait", "description": "Waits until it is cancelled.", "inputSchema": NOTHING},
    {"name": "die", "description": "Ends the process.", "inputSchema": NOTHING},
    {"name": "fail", "description": "Fails.", "inputSchema": NOTHING},
    {"name": "picture", "description": "Draws.", "inputSchema": NOTHING},
    {"name": "say", "inputSchema": {"type": "object", "properties": {"line": {"type": "string"}}}},
]
if HOSTILE:
    named = {ATTACK: {"type": "string", "title": ATTACK, "description": ATTACK, "enum": [ATTACK], "default": ATTACK}}
    TOOLS = [
        {
            "name": ATTACK,
            "title": ATTACK,
            "description": ATTACK,
            "inputSchema": {"type": "object", "properties": named},
        },
        *({"name": name, "inputSchema": each} for name, each in (("odd", {"properties": "x" * 9}), ("null", None))),
    ]
#: One pixel.
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="


def send(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def text(said: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": said}]}


def call(id_: Any, params: dict[str, Any]) -> dict[str, Any] | None:
    name, token = params["name"], params.get("_meta", {}).get("progressToken")
    if name == ATTACK or name == "ask":
        said = ATTACK if HOSTILE else "half way"
        progress = {"progressToken": token, "progress": 1, "total": 2, "message": said}
        send({"method": "notifications/progress", "params": progress})
        schema = TOOLS[0]["inputSchema"] if HOSTILE else ONE_QUESTION
        asked = {"message": ATTACK if HOSTILE else "Go on?", "requestedSchema": schema}
        send({"id": f"q{id_}", "method": "elicitation/create", "params": asked})
        return None
    match name:
        case "show":
            return {**text(json.dumps(params["arguments"])), "structuredContent": params["arguments"]}
        case "wait":
            sys.stderr.write("it waits\n")
            sys.stderr.flush()
            progress = {"progressToken": token, "progress": 1, "message": "it waits"}
            send({"method": "notifications/progress", "params": progress})
            return None
        case "die":
            sys.stderr.write("these are my last words\n")
            sys.stderr.flush()
            os._exit(3)
        case "fail":
            return {**text("no such luck"), "isError": True}
        case "picture":
            return {"content": [{"type": "image", "data": PNG, "mimeType": "image/png"}]}
        case "say":
            sys.stderr.write(params["arguments"]["line"] + "\n")
            sys.stderr.flush()
            return text("said")
    return {**text(ATTACK), "structuredContent": {ATTACK: ATTACK}, "isError": True}


def answered(id_: str, result: dict[str, Any]) -> None:
    if not HOSTILE:
        send({"id": int(id_[1:]), "result": text(json.dumps(result))})
        return
    blocks: list[dict[str, Any]] = [
        {"type": "text", "text": ATTACK},
        {"type": "image", "data": ATTACK, "mimeType": "image/png"},
        {"type": "image", "data": "PHN2Zz4=", "mimeType": 'image/svg+xml"><script>'},
        {"type": "resource", "resource": {"uri": ATTACK, "text": ATTACK}},
        {"type": "resource_link", "uri": "javascript:document.title='owned'", "name": ATTACK},
        {"type": ATTACK},
    ]
    send({"id": int(id_[1:]), "result": {"content": blocks, "structuredContent": {ATTACK: ATTACK}}})


def main() -> None:
    if HOSTILE:
        sys.stderr.write(ATTACK + "\n")
        sys.stderr.flush()
    for line in sys.stdin:
        message = json.loads(line)
        id_, method, params = message.get("id"), message.get("method"), message.get("params", {})
        if method is None:
            answered(id_, message.get("result", message.get("error")))
        elif method == "initialize":
            info = {"name": ATTACK if HOSTILE else "toolbox", "version": "1"}
            capabilities: dict[str, Any] = {"tools": {}, "logging": {}}
            version = params["protocolVersion"]
            send({"id": id_, "result": {"protocolVersion": version, "capabilities": capabilities, "serverInfo": info}})
        elif method == "tools/list":
            half = len(TOOLS) // 2
            page = {"tools": TOOLS[half:]} if params.get("cursor") else {"tools": TOOLS[:half], "nextCursor": "2"}
            send({"id": id_, "result": page})
        elif method == "tools/call":
            result = call(id_, params)
            if result is not None:
                send({"id": id_, "result": result})
        elif method == "notifications/cancelled":
            sys.stderr.write("it was cancelled\n")
            sys.stderr.flush()
        elif id_ is not None:
            send({"id": id_, "error": {"code": -32601, "message": ATTACK if HOSTILE else "Method not found"}})


if __name__ == "__main__":
    main()
