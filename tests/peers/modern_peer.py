"""An MCP server of the modern era only (2026-07-28). Standard library only, so that it starts at once.

Nothing in it waits by the clock: ``wait`` answers when ``release`` is called with the same key.
"""

from __future__ import annotations

import json
import os
import sys

PREFIX = "io.modelcontextprotocol/"
ANSWERED_LATER = object()
waiting: dict[str, object] = {}
listens: dict[object, dict[str, object]] = {}
cancelled: list[object] = []
levels: list[object] = []


def send(message: dict[str, object]) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def complete(**result: object) -> dict[str, object]:
    return {
        "resultType": "complete",
        **result,
        "_meta": {PREFIX + "serverInfo": {"name": "modern peer", "version": "1"}},
    }


def publish(method: str, params: dict[str, object], key: str) -> None:
    for id_, wanted in listens.items():
        if wanted.get(key) is True or params.get("uri") in wanted.get("resourceSubscriptions", []):  # type: ignore[operator]
            send({"method": method, "params": {**params, "_meta": {PREFIX + "subscriptionId": id_}}})


def call(id_: object, params: dict[str, object]) -> object:
    arguments: dict[str, object] = params.get("arguments", {})  # type: ignore[assignment]
    meta: dict[str, object] = params["_meta"]  # type: ignore[assignment]
    match params["name"]:
        case "echo":
            return complete(content=[], structuredContent=arguments)
        case "number":
            return complete(content=[], structuredContent=5)
        case "meta":
            return complete(content=[], structuredContent=meta)
        case "pid":
            return complete(content=[], structuredContent={"pid": os.getpid()})
        case "listens":
            return complete(content=[], structuredContent={"wanted": list(listens.values())})
        case "cancelled":
            return complete(content=[], structuredContent={"cancelled": cancelled})
        case "progress":
            for step in range(int(str(arguments["steps"]))):
                params = {"progressToken": meta.get("progressToken"), "progress": step + 1}
                send({"method": "notifications/progress", "params": params})
            return complete(content=[])
        case "log":
            if PREFIX + "logLevel" in meta:
                send({"method": "notifications/message", "params": {"level": "info", "data": arguments["text"]}})
            return complete(content=[])
        case "log_late":
            send({"id": id_, "result": complete(content=[])})
            send({"method": "notifications/message", "params": {"level": "info", "data": arguments["text"]}})
            return ANSWERED_LATER
        case "ask":  # two questions at once, then one more
            answers: dict[str, object] = params.get("inputResponses", {})  # type: ignore[assignment]
            if params.get("requestState") == "second":
                return complete(content=[], structuredContent={"answers": answers})
            if params.get("requestState") == "first":
                question = {"method": "elicitation/create", "params": {"message": f"and {len(answers)}?"}}
                return {"resultType": "input_required", "inputRequests": {"c": question}, "requestState": "second"}
            questions = {
                "a": {"method": "elicitation/create", "params": {"message": "a?", "requestedSchema": {}}},
                "b": {"method": "sampling/createMessage", "params": {"messages": [], "maxTokens": 1}},
            }
            return {"resultType": "input_required", "inputRequests": questions, "requestState": "first"}
        case "needs_sampling":
            if "sampling" not in meta[PREFIX + "clientCapabilities"]:  # type: ignore[operator]
                raise PermissionError
            return complete(content=[])
        case "strange":
            return {"resultType": "something/else"}
        case "wait":
            waiting[str(arguments["key"])] = id_
            send(
                {"method": "notifications/progress", "params": {"progressToken": meta["progressToken"], "progress": 1}}
            )
            return ANSWERED_LATER
        case "release":
            send({"id": waiting.pop(str(arguments["key"])), "result": complete(content=[])})
            return complete(content=[])
        case "changed":
            publish("notifications/tools/list_changed", {}, "toolsListChanged")
            return complete(content=[])
        case "updated":
            publish("notifications/resources/updated", {"uri": arguments["uri"]}, "")
            return complete(content=[])
        case "die":
            os._exit(3)
    raise KeyError(params["name"])


def request(id_: object, method: str, params: dict[str, object]) -> None:
    if PREFIX + "protocolVersion" not in params.get("_meta", {}):  # type: ignore[operator]
        data = {"supported": ["2026-07-28"], "requested": params.get("protocolVersion")}
        send({"id": id_, "error": {"code": -32022, "message": "unsupported protocol version", "data": data}})
        return
    match method:
        case "server/discover":
            capabilities = {"tools": {"listChanged": True}, "resources": {"subscribe": True}, "logging": {}}
            result: object = complete(
                supportedVersions=["2026-07-28"],
                capabilities=capabilities,
                instructions="be modern",
                ttlMs=0,
                cacheScope="private",
            )
        case "tools/list":
            headed = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}
            tools = [
                {"name": "echo", "inputSchema": headed},
                {"name": "number", "inputSchema": {"type": "object"}, "outputSchema": {"type": "integer"}},
            ]
            result = complete(tools=tools, ttlMs=5000, cacheScope="public")
        case "tools/call":
            try:
                result = call(id_, params)
            except KeyError as error:
                send({"id": id_, "error": {"code": -32602, "message": f"no tool {error}"}})
                return
            except PermissionError:
                data = {"requiredCapabilities": {"sampling": {}}}
                send({"id": id_, "error": {"code": -32021, "message": "needs sampling", "data": data}})
                return
            if result is ANSWERED_LATER:
                return
        case "subscriptions/listen":
            wanted: dict[str, object] = params["notifications"]  # type: ignore[assignment]
            uris: list[str] = wanted.pop("resourceSubscriptions", [])  # type: ignore[assignment]
            if uris:
                wanted["resourceSubscriptions"] = [uri for uri in uris if "refuse" not in uri]
            listens[id_] = wanted
            meta = {PREFIX + "subscriptionId": id_}
            acknowledged = {"notifications": wanted, "_meta": meta}
            send({"method": "notifications/subscriptions/acknowledged", "params": acknowledged})
            return
        case _:
            send({"id": id_, "error": {"code": -32601, "message": "Method not found"}})
            return
    send({"id": id_, "result": result})


def main() -> None:
    for line in sys.stdin:
        message = json.loads(line)
        if "id" in message:
            request(message["id"], message["method"], message.get("params", {}))
        elif message["method"] == "notifications/cancelled":
            cancelled.append(message["params"])
            listens.pop(message["params"]["requestId"], None)


if __name__ == "__main__":
    main()
