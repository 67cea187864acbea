"""The tools of servers as an OpenAPI 3.1 document, for code generators and model frontends that read such."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from bridge.protocol import jsontext
from bridge.protocol.arguments import ArgumentSchema
from bridge.protocol.jsontext import Raw
from bridge.protocol.schemas import moved
from bridge.sessions.catalogue import Tool, Tools
from bridge.version import __version__

ERROR = {
    "type": "object",
    "description": "A JSON-RPC error.",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {
                "code": {"type": "integer"},
                "message": {"type": "string"},
                "data": {
                    "type": "object",
                    "properties": {"path": {"type": "string", "description": "Where arguments are wrong (RFC 6901)."}},
                },
            },
        }
    },
}
SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
#: By status: what it means for every tool.
FAILURES = {
    "404": "There is no such tool.",
    "422": "The arguments are wrong; error.data.path says where.",
    "424": "The tool has failed; error.message is what it says.",
    "default": "The bridge refused the call, or the server could not serve it.",
}


@dataclass(frozen=True)
class Describing:
    """``url`` is what all paths are below; ``about`` describes the servers by id."""

    url: str
    about: Mapping[str, str]
    needs_token: bool

    def document(self, found: Mapping[str, Tools | str]) -> bytes:
        """Return the document as JSON. ``found`` are the tools of each server, or why there are none."""
        paths: dict[str, Any] = {}
        schemas: dict[str, Any] = {"Error": ERROR}
        names: set[str] = set()
        for server, tools in found.items():
            for tool in tools.values() if isinstance(tools, dict) else ():
                path = f"/api/v1/servers/{quote(server, safe='')}/tools/{quote(tool.name, safe='')}"
                paths[path] = {"post": _operation(server, tool, _unique(f"{server}_{tool.name}", names), schemas)}
        document: dict[str, Any] = {
            "openapi": "3.1.0",
            "info": {"title": "Tools of MCP servers", "version": __version__},
            "servers": [{"url": self.url}],
            "tags": [{"name": id_, **({"description": about} if about else {})} for id_, about in self.about.items()],
            "paths": paths,
            "components": {"schemas": schemas},
        }
        if self.needs_token:
            document["components"]["securitySchemes"] = SCHEMES
            document["security"] = [{name: []} for name in SCHEMES]
        if missing := {server: why for server, why in found.items() if isinstance(why, str)}:
            document["x-unavailable"] = missing
        return jsontext.encode(document)


def _operation(server: str, tool: Tool, name: str, schemas: dict[str, Any]) -> dict[str, Any]:
    title, about = (jsontext.string(jsontext.member(tool.definition, key)) for key in ("title", "description"))
    arguments = _placed(tool.input, f"{name}.input", schemas, {"type": "object"})
    result = _placed(tool.output, f"{name}.output", schemas, {})
    return {
        "operationId": name,
        "summary": title or tool.name,
        **({"description": about} if about else {}),
        "tags": [server],
        "requestBody": {"content": {"application/json": {"schema": arguments}}, "required": _is_needed(tool.input)},
        "responses": {
            "200": {"description": "What the tool returns.", "content": {"application/json": {"schema": result}}},
            **{status: _failure(why) for status, why in FAILURES.items()},
        },
    }


def _placed(
    schema: ArgumentSchema | None, name: str, schemas: dict[str, Any], default: dict[str, Any]
) -> dict[str, Any]:
    """Put a schema where all are, and return a reference to it; ``default`` where there is none that can be used."""
    if schema is None:
        return default
    place = f"#/components/schemas/{name}"
    own = {key: value for key, value in schema.schema.items() if key not in ("$schema", "$id")}
    schemas[name] = Raw(moved(jsontext.encode(own), place))
    return {"$ref": place}


def _is_needed(schema: ArgumentSchema | None) -> bool:
    """Whether a call without a body cannot be right."""
    return schema is not None and schema.fault({}) is not None


def _failure(why: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {"description": why, "content": content}


def _unique(name: str, taken: set[str]) -> str:
    """A name that generators can make a function of, and that no other tool has."""
    clean = re.sub(r"[^A-Za-z0-9_]", "_", name)
    found, number = clean, 1
    while found in taken:
        number += 1
        found = f"{clean}_{number}"
    taken.add(found)
    return found
