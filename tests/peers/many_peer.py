"""An MCP server of the handshake era whose tools, prompts, resources and templates are what its first argument says, as
JSON: ``{"tools": [...], "prompts": [...], "resources": [...], "templates": [...], "instructions": "..."}``, names and
URIs only, each list in pages of two; ``"again"`` is a cursor that the last page names, as servers do that know no end.
An answer says who has got what. Standard library only, so that it starts at once.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

HAS: dict[str, Any] = json.loads(sys.argv[1])
LISTS = {
    "tools/list": ("tools", "tools", lambda name: {"name": name, "inputSchema": {"type": "object"}}),
    "prompts/list": ("prompts", "prompts", lambda name: {"name": name}),
    "resources/list": ("resources", "resources", lambda uri: {"name": "r", "uri": uri}),
    "resources/templates/list": (
        "templates",
        "resourceTemplates",
        lambda uri: {"name": "t", "uriTemplate": uri},
    ),
}
asked: dict[str, Any] = {}
heard: list[Any] = []


def send(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def request(id_: Any, method: str, params: dict[str, Any]) -> None:
    said: Any = {"server": HAS["id"], "method": method, "params": params, "pid": os.getpid()}
    if method == "initialize":
        groups: dict[str, Any] = {"completions": {}, **({} if HAS.get("silent") else {"logging": {}})}
        groups |= {group: {"listChanged": True} for group in ("tools", "prompts") if group in HAS}
        if "resources" in HAS or "templates" in HAS:
            groups["resources"] = {"subscribe": True}
        said = {
            "protocolVersion": params["protocolVersion"],
            "capabilities": groups,
            "serverInfo": {"name": HAS["id"], "version": "1"},
            "instructions": HAS.get("instructions", ""),
        }
    elif method in LISTS:
        key, member, made = LISTS[method]
        at = int(params.get("cursor") or 0)
        said = {member: [made(name) for name in HAS.get(key, [])[at : at + 2]]}
        if at + 2 < len(HAS.get(key, [])):
            said["nextCursor"] = str(at + 2)
        elif "again" in HAS:
            said["nextCursor"] = HAS["again"]
    elif method == "tools/call":
        name = params["name"]
        if name == "die":
            os._exit(3)
        if name == "changes":
            HAS["tools"].append(f"new{len(HAS['tools'])}")
            send({"method": "notifications/tools/list_changed"})
        if name == "adds":  # and says nothing of it
            HAS[params["arguments"]["to"]].append(params["arguments"]["what"])
        if name == "updates":
            send({"method": "notifications/resources/updated", "params": params["arguments"]})
        if name == "heard":
            said["heard"] = heard
        if name == "progress":
            token = params["_meta"]["progressToken"]
            send({"method": "notifications/progress", "params": {"progressToken": token, "progress": 1}})
        if name == "asks":
            asked["q1"] = id_
            given = {key: value for key, value in params["arguments"].items() if key == "_meta"}
            send({"id": "q1", "method": params["arguments"]["method"], "params": {"message": HAS["id"], **given}})
            return
        if name == "waits":
            asked["waits"] = id_
            send({"method": "notifications/message", "params": {"level": "info", "data": "it waits"}})
            return
        said = {"content": [], "structuredContent": said}
    elif method == "logging/setLevel" and HAS.get("silent"):  # as servers do that know only what they offer
        heard.append([method, params])
        return
    elif method in ("resources/subscribe", "resources/unsubscribe", "logging/setLevel"):
        heard.append([method, params])
        said = {}
    send({"id": id_, "result": said})


for line in sys.stdin:
    message = json.loads(line)
    if "method" not in message:
        said = {"server": HAS["id"], "answer": message.get("result", message.get("error"))}
        send({"id": asked.pop(message["id"]), "result": {"content": [], "structuredContent": said}})
    elif "id" in message:
        request(message["id"], message["method"], message.get("params", {}))
    else:
        heard.append([message["method"], message.get("params")])
