"""``mcp-bridge call``: one call of a tool. The result goes to stdout; how far it is, and questions, to the terminal."""

from __future__ import annotations

import argparse
import base64
import binascii
import json
import sys
from typing import Any

from bridge.cli.asking import ask, decline
from bridge.cli.client import Client
from bridge.cli.errors import EXIT_ERROR, UsageError
from bridge.cli.mcp import Message, Session
from bridge.cli.options import add_address
from bridge.cli.progress import Progress
from bridge.cli.table import amount


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words after ``call``."""
    add_address(parser)
    parser.add_argument("server", metavar="SERVER", help="one of: mcp-bridge servers")
    parser.add_argument("tool", metavar="TOOL", help="one of: mcp-bridge tools SERVER")
    parser.add_argument(
        "arguments",
        nargs="*",
        default=[],
        metavar="ARGUMENTS",
        help="a JSON object, - to read one from stdin, or key=value pairs, whose types the tool's schema says",
    )
    parser.add_argument("--json", action="store_true", help="the whole result, as JSON")


def run(options: argparse.Namespace) -> int:
    """Call, and print what comes back; 1 when the tool says that it failed. Raises what :class:`Session` raises."""
    arguments = _object(options.arguments)
    with (
        Progress() as progress,
        Session(Client(options), options.server, progress.pausing(_asker(options)), progress.show) as session,
    ):
        if arguments is None:
            arguments = _typed(options.arguments, _schema(session, options.tool))
        token = {"_meta": {"progressToken": 1}}
        result = session.request("tools/call", {"name": options.tool, "arguments": arguments, **token})
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        for line in _lines(result):
            print(line)
    return EXIT_ERROR if result.get("isError") else 0


def _asker(options: argparse.Namespace) -> Any:
    return ask if sys.stdin.isatty() and options.arguments != ["-"] else decline


def _object(words: list[str]) -> Message | None:
    """The arguments where they are one object, None where they are pairs."""
    if not words:
        return {}
    text = words[0]
    if text == "-":
        try:
            text = sys.stdin.read()
        except UnicodeDecodeError as error:
            raise UsageError(f"the arguments are not UTF-8: {error.reason}") from None
    elif not text.lstrip().startswith("{"):
        return None
    if len(words) > 1:
        raise UsageError("give one JSON object, or key=value pairs, not both")
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UsageError(f"the arguments are no JSON: {error}") from None
    if not isinstance(found, dict):
        raise UsageError('the arguments must be a JSON object, such as \'{"key": "value"}\'')
    return found


def _schema(session: Session, name: str) -> Message:
    tools = session.pages("tools/list", "tools")
    for tool in tools:
        if tool.get("name") == name:
            schema = tool.get("inputSchema")
            return schema if isinstance(schema, dict) else {}
    return {}  # the server will say what it thinks of that name


def _typed(pairs: list[str], schema: Message) -> Message:
    """Pairs as an object: JSON where it can be read as such, text where the schema says so or it cannot."""
    found: Message = {}
    properties = schema.get("properties")
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"{pair!r} is no key=value, and no JSON object")
        wanted = properties.get(key) if isinstance(properties, dict) else None
        found[key] = text if isinstance(wanted, dict) and wanted.get("type") == "string" else _value(text)
    return found


def _value(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_json)
    except ValueError:
        return text


def _no_json(name: str) -> Any:
    raise ValueError(name)


def _lines(result: Message) -> list[str]:
    """What a person reads of a result: texts whole, everything else by its kind and size."""
    content = result.get("content")
    items = [item for item in content if isinstance(item, dict)] if isinstance(content, list) else []
    if not items:
        rest = result.get("structuredContent", {key: value for key, value in result.items() if key != "_meta"})
        return [json.dumps(rest, indent=2, ensure_ascii=False)]
    return [_harmless(_item(item)) for item in items]


def _item(item: Message) -> str:
    match item.get("type"):
        case "text":
            return str(item.get("text", ""))
        case "image" | "audio" as kind:
            return f"[{kind} {item.get('mimeType', '')}, {_size(item.get('data'))}; --json has it]"
        case "resource_link":
            return f"[resource {item.get('uri', '')} {item.get('name', '')}]"
        case "resource":
            resource = item.get("resource")
            resource = resource if isinstance(resource, dict) else {}
            if "text" in resource:
                return str(resource["text"])
            about = f"{resource.get('uri', '')} {resource.get('mimeType', '')}"
            return f"[resource {about}, {_size(resource.get('blob'))}; --json has it]"
        case kind:
            return f"[{kind}; --json has it]"


def _size(data: Any) -> str:
    try:
        return amount(len(base64.b64decode(str(data)))) or ""
    except (binascii.Error, ValueError):
        return "which is no base64"


def _harmless(text: str) -> str:
    """At a terminal nothing that a server says may move the cursor; a file gets it as it is."""
    if not sys.stdout.isatty():
        return text
    return "".join(char if char.isprintable() or char in "\n\t" else "?" for char in text)
