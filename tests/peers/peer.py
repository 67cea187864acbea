"""An MCP server of the handshake era whose tools misbehave on demand. Standard library only, so that it starts at once.

Nothing in it waits by the clock: ``wait`` answers when ``release`` is called with the same key, and what ``begin`` has
begun, a task, works until ``finish`` is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

ANSWERED_LATER = object()
CAPABILITIES: dict[str, object] = {"tools": {}}
if "--changes" in sys.argv:
    CAPABILITIES = {"tools": {"listChanged": True}, "resources": {"subscribe": True}}
if "--logging" in sys.argv:
    CAPABILITIES["logging"] = {}
if "--tasks" in sys.argv:
    CAPABILITIES["tasks"] = {"list": {}, "cancel": {}}

waiting: dict[str, tuple[object, object]] = {}
tasks: dict[str, dict[str, object]] = {}
asked: dict[str, object] = {}
cancelled: list[object] = []
subscriptions: list[object] = []
levels: list[object] = []
questions = 0
calls = 0


def send(message: dict[str, object]) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def ask(method: str, params: dict[str, object], on_behalf_of: object) -> None:
    global questions
    questions += 1
    asked[f"q{questions}"] = on_behalf_of
    send({"id": f"q{questions}", "method": method, "params": params})


def grandchild(new_session: bool) -> int:
    """Start a process that holds our stdout and outlives us if nobody ends it."""
    return subprocess.Popen(["sleep", "1000"], start_new_session=new_session).pid


def call(id_: object, name: str, arguments: dict[str, object], meta: dict[str, object]) -> object:
    global calls
    calls += 1
    match name:
        case "echo":
            return arguments
        case "count":
            return {"count": calls}
        case "pid":
            return {"pid": os.getpid()}
        case "work":  # for so many seconds of the processor
            until = time.process_time() + float(str(arguments["seconds"]))
            while time.process_time() < until:
                pass
            return {}
        case "seen":
            return {"subscriptions": subscriptions, "levels": levels}
        case "updated":
            send({"method": "notifications/resources/updated", "params": {"uri": arguments["uri"]}})
            return {}
        case "environment":
            return dict(os.environ)
        case "progress":
            for step in range(int(str(arguments["steps"]))):
                send(
                    {
                        "method": "notifications/progress",
                        "params": {"progressToken": meta.get("progressToken"), "progress": step + 1},
                    }
                )
            return {"seen": meta}
        case "log":
            send({"method": "notifications/message", "params": {"level": "info", "data": arguments["text"]}})
            return {}
        case "log_late":  # about a call that has its answer
            send({"id": id_, "result": {}})
            send({"method": "notifications/message", "params": {"level": "info", "data": arguments["text"]}})
            return ANSWERED_LATER
        case "list_changed":
            send({"method": "notifications/tools/list_changed"})
            return {}
        case "ask":
            ask("elicitation/create", {"message": "what?", "requestedSchema": {"type": "object"}, **arguments}, id_)
            return ANSWERED_LATER
        case "ask_later":  # a question that belongs to no request
            ask("roots/list", {}, None)
            return {}
        case "withdraw":
            send({"method": "notifications/cancelled", "params": {"requestId": f"q{questions}"}})
            return {}
        case "wait":
            waiting[str(arguments["key"])] = (id_, meta.get("progressToken"))
            send({"method": "notifications/message", "params": {"level": "info", "data": f"waits {arguments['key']}"}})
            return ANSWERED_LATER
        case "release":
            send({"id": waiting.pop(str(arguments["key"]))[0], "result": {"released": arguments["key"]}})
            return {}
        case "begin":  # a task, whatever its request says, with so many steps at once
            waiting[str(arguments["key"])] = (None, meta.get("progressToken"))
            tasks[str(arguments["key"])] = {
                "taskId": arguments["key"],
                "status": "working",
                "ttl": arguments.get("ttl"),
            }
            send({"id": id_, "result": {"task": tasks[str(arguments["key"])]}})
            for step in range(int(str(arguments.get("steps", 0)))):
                call(None, "say", {"key": arguments["key"], "progress": step + 1}, {})
            return ANSWERED_LATER
        case "finish":
            tasks[str(arguments["key"])]["status"] = arguments.get("status", "completed")
            if not arguments.get("quietly"):
                send({"method": "notifications/tasks/status", "params": tasks[str(arguments["key"])]})
            return {}
        case "forget":
            del tasks[str(arguments["key"])]
            return {}
        case "say":  # progress of a call that waits, or of a task
            token = waiting[str(arguments["key"])][1]
            send(
                {
                    "method": "notifications/progress",
                    "params": {"progressToken": token, "progress": arguments["progress"]},
                }
            )
            return {}
        case "cancelled":
            return {"cancelled": cancelled}
        case "never":
            return ANSWERED_LATER
        case "die":
            sys.stderr.write("these are my last words\n")
            sys.stderr.flush()
            os._exit(int(str(arguments.get("code", 1))))
        case "babble":
            sys.stdout.write("Server listening...\n\n{broken\n[]\n")
            sys.stdout.write('{"jsonrpc":"2.0","id":999999,"result":{"whose":"nobody"}}\n')
            sys.stdout.flush()
            return {}
        case "big":
            return {"text": "x" * int(str(arguments["size"]))}
        case "grandchild":
            return {"pid": grandchild(bool(arguments.get("new_session")))}
        case "die_with_grandchild":
            grandchild(new_session=False)
            os._exit(7)
        case "close_stdout":
            os.close(1)
            return ANSWERED_LATER
    raise KeyError(name)


def request(id_: object, method: str, params: dict[str, object]) -> None:
    match method:
        case "initialize":
            result: object = {
                "protocolVersion": params["protocolVersion"],
                "capabilities": CAPABILITIES,
                "serverInfo": {"name": "peer", "version": "1"},
                "saw": params,
            }
        case "ping":
            result = {}
        case "resources/subscribe" | "resources/unsubscribe":
            if "refuse" in str(params["uri"]):
                send({"id": id_, "error": {"code": -32002, "message": "no such resource"}})
                return
            if "never" in str(params["uri"]):
                return
            subscriptions.append((method.rpartition("/")[2], params["uri"]))
            result = {}
        case "logging/setLevel":
            levels.append(params["level"])
            result = {}
        case "tasks/list":
            result = {"tasks": [*tasks.values()]}
        case "tasks/get" | "tasks/cancel" | "tasks/result":
            task = tasks.get(str(params["taskId"]))
            if task is None:
                send({"id": id_, "error": {"code": -32602, "message": "no such task"}})
                return
            if method == "tasks/cancel":
                task["status"] = "cancelled"
            result = {"content": []} if method == "tasks/result" else task
        case "tools/list":
            named = (
                {"name": "echo", "inputSchema": {"type": "object"}},
                {"name": "ask", "inputSchema": {"type": "object"}},
            )
            result = {"tools": named if "--tools" in sys.argv else []}
        case "tools/call":
            try:
                result = call(
                    id_,
                    str(params["name"]),
                    params.get("arguments", {}),  # type: ignore[arg-type]
                    params.get("_meta", {}),  # type: ignore[arg-type]
                )
            except KeyError as error:
                send({"id": id_, "error": {"code": -32602, "message": f"no tool {error}"}})
                return
            if result is ANSWERED_LATER:
                return
        case _:
            send({"id": id_, "error": {"code": -32601, "message": "Method not found"}})
            return
    send({"id": id_, "result": result})


def main() -> None:
    for line in sys.stdin:
        message = json.loads(line)
        if "method" not in message:
            owner = asked.pop(message["id"], None)
            if owner is not None:
                send({"id": owner, "result": {"answer": message.get("result", message.get("error"))}})
        elif "id" in message:
            request(message["id"], message["method"], message.get("params", {}))
        elif message["method"] == "notifications/cancelled":
            cancelled.append(message["params"])
        elif message["method"] == "notifications/ask":  # a question of a call that waits, and then answers
            ask("roots/list", {}, waiting.pop(message["params"]["key"])[0])


if __name__ == "__main__":
    main()
