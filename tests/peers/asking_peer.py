"""An MCP server of one era, ``handshake`` or ``modern``, that asks twice in one call. Standard library only, so that
many of it start at once.

``introduce`` asks for a name and then for a color, and says both; its argument ``n`` is the total of its progress.
"""

from __future__ import annotations

import json
import sys
from typing import Any

PREFIX = "io.modelcontextprotocol/"
MODERN = sys.argv[1] == "modern"
#: By the id of a question: the call that waits for the answer, and what it knows.
waiting: dict[str, tuple[object, dict[str, Any], dict[str, Any]]] = {}
questions = 0


def send(**message: object) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def introduce(id_: object, params: dict[str, Any], known: dict[str, Any]) -> None:
    """Go on with a call: ask for what is not known, or answer."""
    global questions
    step, n = len(known) + 1, params["arguments"]["n"]
    if "progressToken" in params.get("_meta", {}) and step < 3:
        token = params["_meta"]["progressToken"]
        send(method="notifications/progress", params={"progressToken": token, "progress": step, "total": n})
    if step == 3:
        text = f"{known['name']} likes {known['color']} {n}"
        send(id=id_, result={"resultType": "complete", "content": [{"type": "text", "text": text}]})
        return
    wanted = ("name", "color")[step - 1]
    schema = {"type": "object", "properties": {wanted: {"type": "string"}}, "required": [wanted]}
    question = {"method": "elicitation/create", "params": {"message": wanted, "requestedSchema": schema}}
    if MODERN:
        state = json.dumps(known)
        result = {"resultType": "input_required", "inputRequests": {wanted: question}, "requestState": state}
        send(id=id_, result=result)
    else:
        questions += 1
        waiting[f"q{questions}"] = id_, params, known
        send(id=f"q{questions}", **question)


def greeting(params: dict[str, Any]) -> dict[str, Any]:
    about = {"name": "asking", "version": "1"}
    if MODERN:
        result = {"resultType": "complete", "supportedVersions": ["2026-07-28"], "ttlMs": 0, "cacheScope": "private"}
        return {**result, "capabilities": {"tools": {}}, "_meta": {PREFIX + "serverInfo": about}}
    return {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": about}


def request(id_: object, method: str, params: dict[str, Any]) -> None:
    if method == ("server/discover" if MODERN else "initialize"):
        send(id=id_, result=greeting(params))
    elif method == "tools/list":
        schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
        tools = [{"name": "introduce", "inputSchema": schema}]
        send(id=id_, result={"resultType": "complete", "tools": tools, "ttlMs": 0, "cacheScope": "private"})
    elif method == "tools/call":
        known = json.loads(params.get("requestState", "{}"))
        for answer in params.get("inputResponses", {}).values():
            known |= answer["content"]
        introduce(id_, params, known)
    else:
        send(id=id_, error={"code": -32601, "message": "Method not found"})


def main() -> None:
    for line in sys.stdin:
        message = json.loads(line)
        if "method" not in message:
            id_, params, known = waiting.pop(message["id"])
            if "result" in message:
                introduce(id_, params, known | message["result"]["content"])
            else:
                send(id=id_, error={"code": -32603, "message": message["error"]["message"]})
        elif "id" in message:
            request(message["id"], message["method"], message.get("params", {}))


if __name__ == "__main__":
    main()
