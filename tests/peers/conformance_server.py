"""The server that the public conformance suite asks for, on the official SDK, with every tool and prompt it names.

Over stdio it is what the bridge serves; with ``--http PORT`` the SDK itself serves it, which is the control. A tool
that asks the client does so in the way of its era: a request of its own on a handshake connection, ``input_required``
on a modern one. Over stdio it speaks the era that it is spoken to first in; with ``--era`` it knows only one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import sys
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import mcp_types as types
from mcp.server import runner
from mcp.server.caching import CACHEABLE_METHODS, CacheHint
from mcp.server.lowlevel import NotificationOptions, Server
from mcp.server.models import InitializationOptions
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.stdio import stdio_server
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, PromptsListChanged, ToolsListChanged
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError
from mcp.shared.message import ServerMessageMetadata
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS

warnings.simplefilter("ignore", MCPDeprecationWarning)  # logging and sampling are what is tested here

Json = dict[str, Any]

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
WAV = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA="
RETRY_MS = 100
"""When a client of the control comes back after its stream was closed. The suite does not wait for it."""


def text(value: str) -> Json:
    return {"type": "text", "text": value}


def embedded(uri: str, mime_type: str, value: str) -> Json:
    return {"type": "resource", "resource": {"uri": uri, "mimeType": mime_type, "text": value}}


def schema(*required: str, **properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": list(required)}


IMAGE = {"type": "image", "data": PNG, "mimeType": "image/png"}
AUDIO = {"type": "audio", "data": WAV, "mimeType": "audio/wav"}
STRING = {"type": "string"}
NOTHING = {"type": "object", "properties": {}}

# --- asking the client ------------------------------------------------------------------------------------------------


def elicitation(message: str, requested: Json) -> Json:
    return {"method": "elicitation/create", "params": {"message": message, "requestedSchema": requested}}


def sampling(prompt: str) -> Json:
    message = {"role": "user", "content": text(prompt)}
    return {"method": "sampling/createMessage", "params": {"messages": [message], "maxTokens": 100}}


ROOTS = {"method": "roots/list"}
NAME_SCHEMA = schema("name", name=STRING)
NAME = elicitation("What is your name?", NAME_SCHEMA)
ASKS: dict[str, tuple[Any, Any]] = {
    "elicitation/create": (types.ElicitRequest, types.ElicitResult),
    "sampling/createMessage": (types.CreateMessageRequest, types.CreateMessageResult),
    "roots/list": (types.ListRootsRequest, types.ListRootsResult),
}


class InputRequired(Exception):
    """The result of this round is a question. Only a modern connection has rounds."""

    def __init__(self, questions: dict[str, Json], state: str | None) -> None:
        self.result = {"resultType": "input_required", "inputRequests": questions}
        if state is not None:
            self.result["requestState"] = state


async def ask(call: Call, questions: dict[str, Json], state: str | None = None) -> Json:
    """What the client answers to each question; on a modern connection ``state`` comes back with the answers."""
    given = call.params.input_responses or {}
    missing = {key: question for key, question in questions.items() if key not in given}
    if call.modern:
        if missing:
            raise InputRequired(missing, state)
        return {key: plain(given[key]) for key in questions}
    answers = await asyncio.gather(*(push(call, question) for question in questions.values()))
    return dict(zip(questions, answers, strict=True))


async def push(call: Call, question: Json) -> Json:
    request, result = ASKS[question["method"]]
    related = ServerMessageMetadata(related_request_id=call.context.request_id)
    return plain(await call.context.session.send_request(request.model_validate(question), result, metadata=related))


def plain(model: Any) -> Json:
    return dict(model.model_dump(by_alias=True, mode="json", exclude_none=True))


# --- tools ------------------------------------------------------------------------------------------------------------


class Call:
    """One ``tools/call``, or one ``prompts/get``."""

    def __init__(self, context: Any, params: Any) -> None:
        self.context = context
        self.params = params
        self.arguments: Json = params.arguments or {}
        self.modern = context.protocol_version in MODERN_PROTOCOL_VERSIONS

    async def log(self, message: str) -> None:
        await self.context.session.send_log_message("info", message, related_request_id=self.context.request_id)


Tool = Callable[[Call], Awaitable[list[Json]]]
tools: dict[str, tuple[Json, Tool]] = {}
#: What the trigger tools take out of the lists and put back.
hidden: set[str] = set()
bus = InMemorySubscriptionBus()


def tool(name: str, description: str, input_schema: Json = NOTHING) -> Callable[[Tool], Tool]:
    def register(function: Tool) -> Tool:
        tools[name] = ({"name": name, "description": description, "inputSchema": input_schema}, function)
        return function

    return register


def constant(name: str, description: str, *content: Json) -> None:
    """A tool that always answers the same."""

    async def function(_call: Call) -> list[Json]:
        return list(content)

    tool(name, description)(function)


constant("test_simple_text", "Answers with a text", text("This is a simple text response for testing."))
constant("test_image_content", "Answers with an image", IMAGE)
constant("test_audio_content", "Answers with a sound", AUDIO)
constant(
    "test_embedded_resource",
    "Answers with a resource",
    embedded("test://embedded-resource", "text/plain", "This is an embedded resource content."),
)
constant(
    "test_multiple_content_types",
    "Answers with a text, an image and a resource",
    text("Multiple content types test:"),
    IMAGE,
    embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
)


@tool("test_tool_with_logging", "Logs three times while it works")
async def with_logging(call: Call) -> list[Json]:
    await call.log("Tool execution started")
    await asyncio.sleep(0.05)  # the suite wants log lines that are apart in time
    await call.log("Tool processing data")
    await asyncio.sleep(0.05)
    await call.log("Tool execution completed")
    return [text("Tool with logging executed successfully")]


@tool("test_logging_tool", "Logs once, if the request lets it")
async def logs_once(call: Call) -> list[Json]:
    await call.log("test_logging_tool was called")
    return [text("logged")]


@tool("test_error_handling", "Always fails")
async def fails(_call: Call) -> list[Json]:
    raise RuntimeError("This tool intentionally returns an error for testing")


@tool("test_tool_with_progress", "Reports progress three times")
async def with_progress(call: Call) -> list[Json]:
    for done in (0, 50, 100):
        await call.context.session.report_progress(done, 100)
        await asyncio.sleep(0.05)  # the suite wants steps that are apart in time
    return [text("Tool with progress executed successfully")]


@tool("test_sampling", "Asks the client's model", schema("prompt", prompt=STRING))
async def samples(call: Call) -> list[Json]:
    answers = await ask(call, {"completion": sampling(str(call.arguments["prompt"]))})
    return [text(f"LLM response: {answers['completion']['content'].get('text')}")]


async def elicits(call: Call, message: str, requested: Json, said: str = "Elicitation completed") -> list[Json]:
    answer = (await ask(call, {"form": elicitation(message, requested)}))["form"]
    return [text(f"{said}: action={answer['action']}, content={json.dumps(answer.get('content', {}))}")]


@tool("test_elicitation", "Asks the user", schema("message", message=STRING))
async def elicits_a_user(call: Call) -> list[Json]:
    user = schema(
        "username",
        "email",
        username={"type": "string", "description": "User's response"},
        email={"type": "string", "description": "User's email address"},
    )
    return await elicits(call, str(call.arguments["message"]), user, said="User response")


@tool("test_elicitation_sep1034_defaults", "Asks with a default value of each primitive type")
async def elicits_with_defaults(call: Call) -> list[Json]:
    requested = schema(
        name={"type": "string", "default": "John Doe"},
        age={"type": "integer", "default": 30},
        score={"type": "number", "default": 95.5},
        status={"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        verified={"type": "boolean", "default": True},
    )
    return await elicits(call, "Please check your data", requested)


@tool("test_elicitation_sep1330_enums", "Asks with each form of an enumeration")
async def elicits_with_enums(call: Call) -> list[Json]:
    titled = [{"const": f"value{n}", "title": f"{word} choice"} for n, word in enumerate(("First", "Second"), 1)]
    options = ["option1", "option2", "option3"]
    requested = schema(
        untitledSingle={"type": "string", "enum": options},
        titledSingle={"type": "string", "oneOf": titled},
        legacyEnum={"type": "string", "enum": ["opt1", "opt2"], "enumNames": ["Option One", "Option Two"]},
        untitledMulti={"type": "array", "items": {"type": "string", "enum": options}},
        titledMulti={"type": "array", "items": {"anyOf": titled}},
    )
    return await elicits(call, "Please choose", requested)


@tool("test_streaming_elicitation", "Reports progress, then asks the user")
async def streams_and_elicits(call: Call) -> list[Json]:
    await call.context.session.report_progress(1, 2)
    return await elicits(call, "Go on?", schema("ok", ok={"type": "boolean"}))


@tool("test_reconnection", "Logs, then ends its response stream before it answers, where there is one to end")
async def ends_its_stream(call: Call) -> list[Json]:
    await call.log("This stream ends now")
    if call.context.close_sse_stream is not None:  # None over stdio, and for clients that cannot resume
        await call.context.close_sse_stream()
    return [text("Reconnection test completed")]


@tool("test_missing_capability", "Needs a client that samples")
async def needs_sampling(call: Call) -> list[Json]:
    if getattr(call.context.session.client_capabilities, "sampling", None) is None:
        raise MCPError(
            types.MISSING_REQUIRED_CLIENT_CAPABILITY,
            "This tool needs a client with sampling",
            {"requiredCapabilities": {"sampling": {}}},
        )
    return [text("The client can sample")]


@tool("test_trigger_tool_change", "Changes the list of tools")
async def changes_tools(call: Call) -> list[Json]:
    hidden.symmetric_difference_update({"test_sometimes_tool"})
    if call.modern:
        await bus.publish(ToolsListChanged())
    else:
        await call.context.session.send_tool_list_changed()
    return [text("changed")]


@tool("test_trigger_prompt_change", "Changes the list of prompts")
async def changes_prompts(call: Call) -> list[Json]:
    hidden.symmetric_difference_update({"test_sometimes_prompt"})
    if call.modern:
        await bus.publish(PromptsListChanged())
    else:
        await call.context.session.send_prompt_list_changed()
    return [text("changed")]


constant("test_sometimes_tool", "Comes and goes with test_trigger_tool_change", text("still here"))


@tool("test_input_required_result_elicitation", "Asks for a name")
async def asks_a_name(call: Call) -> list[Json]:
    answers = await ask(call, {"user_name": NAME})
    return [text(f"Hello, {answers['user_name'].get('content', {}).get('name')}!")]


@tool("test_input_required_result_sampling", "Asks the client's model for a capital")
async def asks_a_model(call: Call) -> list[Json]:
    answers = await ask(call, {"capital_question": sampling("What is the capital of France?")})
    return [text(f"LLM response: {answers['capital_question']['content'].get('text')}")]


@tool("test_input_required_result_list_roots", "Asks for the client's roots")
async def asks_roots(call: Call) -> list[Json]:
    answers = await ask(call, {"client_roots": ROOTS})
    return [text(f"Roots: {[root['uri'] for root in answers['client_roots']['roots']]}")]


@tool("test_input_required_result_multiple_inputs", "Asks three things at once")
async def asks_three_things(call: Call) -> list[Json]:
    questions = {"user_name": NAME, "greeting": sampling("Generate a greeting"), "client_roots": ROOTS}
    answers = await ask(call, questions, state="three")
    return [text(f"Answered: {sorted(answers)}")]


@tool("test_input_required_result_multi_round", "Asks twice, the second time with what it was told the first time")
async def asks_twice(call: Call) -> list[Json]:
    stage, _, name = (call.params.request_state or "").partition(":")
    if stage != "second":
        first = await ask(call, {"step1": elicitation("Step 1: What is your name?", NAME_SCHEMA)}, state="first:")
        name = str(first["step1"].get("content", {}).get("name"))
    colour = elicitation("Step 2: What is your favorite color?", schema("color", color=STRING))
    second = await ask(call, {"step2": colour}, state=f"second:{name}")
    return [text(f"{name} likes {second['step2'].get('content', {}).get('color')}")]


@tool("test_input_required_result_request_state", "Needs back the state it gave")
@tool("test_input_required_result_tampered_state", "Needs back the state it gave, unchanged")
async def needs_its_state(call: Call) -> list[Json]:
    await ask(call, {"confirm": elicitation("Please confirm", schema("ok", ok={"type": "boolean"}))}, state="mine")
    if call.modern and call.params.request_state != "mine":
        raise MCPError(types.INVALID_PARAMS, "requestState is missing")
    return [text("state-ok")]


@tool("test_input_required_result_capabilities", "Asks only what the client can answer")
async def asks_what_it_may(call: Call) -> list[Json]:
    can = call.context.session.client_capabilities
    questions = {}
    if getattr(can, "sampling", None) is not None:
        questions["model"] = sampling("Say something")
    if getattr(can, "elicitation", None) is not None:
        questions["user"] = NAME
    answers = await ask(call, questions) if questions else {}
    return [text(f"Answered: {sorted(answers)}")]


@tool(
    "test_custom_headers",
    "Has arguments that clients repeat in headers",
    {
        "type": "object",
        "properties": {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "limit": {"type": "integer", "x-mcp-header": "Limit"},
        },
        "required": ["region"],
    },
)
async def custom_headers(call: Call) -> list[Json]:
    return [text(json.dumps(call.arguments))]


@tool(
    "json_schema_2020_12_tool",
    "Has an input schema with keywords of JSON Schema 2020-12",
    {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "addressDef",
                "type": "object",
                "properties": {"street": STRING, "city": STRING},
            }
        },
        "properties": {
            "name": STRING,
            "address": {"$ref": "#/$defs/address"},
            "contactMethod": {"type": "string", "enum": ["phone", "email"]},
            "phone": STRING,
            "email": STRING,
        },
        "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
        "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
        "then": {"required": ["phone"]},
        "else": {"required": ["email"]},
        "additionalProperties": False,
    },
)
async def json_schema(call: Call) -> list[Json]:
    return [text(json.dumps(call.arguments))]


# --- prompts and resources --------------------------------------------------------------------------------------------

Prompt = Callable[[Call], Awaitable[list[Json]]]
prompts: dict[str, tuple[Json, Prompt]] = {}


def prompt(name: str, description: str, *required: str) -> Callable[[Prompt], Prompt]:
    arguments = [{"name": argument, "description": f"The {argument}", "required": True} for argument in required]

    def register(function: Prompt) -> Prompt:
        prompts[name] = ({"name": name, "description": description, "arguments": arguments}, function)
        return function

    return register


@prompt("test_simple_prompt", "Has no arguments")
@prompt("test_sometimes_prompt", "Comes and goes with test_trigger_prompt_change")
async def simple_prompt(_call: Call) -> list[Json]:
    return [text("This is a simple prompt for testing.")]


@prompt("test_prompt_with_arguments", "Repeats its arguments", "arg1", "arg2")
async def prompt_with_arguments(call: Call) -> list[Json]:
    return [text("Prompt with arguments: arg1='{arg1}', arg2='{arg2}'".format_map(call.arguments))]


@prompt("test_prompt_with_embedded_resource", "Holds a resource", "resourceUri")
async def prompt_with_resource(call: Call) -> list[Json]:
    resource = embedded(call.arguments["resourceUri"], "text/plain", "Embedded resource content for testing.")
    return [resource, text("Please process the embedded resource above.")]


@prompt("test_prompt_with_image", "Holds an image")
async def prompt_with_image(_call: Call) -> list[Json]:
    return [IMAGE, text("Please analyze the image above.")]


@prompt("test_input_required_result_prompt", "Asks the user before it answers")
async def prompt_that_asks(call: Call) -> list[Json]:
    question = elicitation("What context should the prompt use?", schema("context", context=STRING))
    answers = await ask(call, {"user_context": question})
    return [text(f"In this context: {answers['user_context'].get('content', {}).get('context')}")]


RESOURCES: dict[str, Json] = {
    "test://static-text": {"mimeType": "text/plain", "text": "This is the content of the static text resource."},
    "test://static-binary": {"mimeType": "image/png", "blob": PNG},
    "test://watched-resource": {"mimeType": "text/plain", "text": "Nothing has changed yet."},
}
BEFORE_ID, AFTER_ID = "test://template/", "/data"


def resource_contents(uri: str) -> Json | None:
    if uri in RESOURCES:
        return {"uri": uri, **RESOURCES[uri]}
    if uri.startswith(BEFORE_ID) and uri.endswith(AFTER_ID):
        id_ = uri.removeprefix(BEFORE_ID).removesuffix(AFTER_ID)
        value = json.dumps({"id": id_, "templateTest": True, "data": f"Data for ID: {id_}"})
        return {"uri": uri, "mimeType": "application/json", "text": value}
    return None


# --- the server -------------------------------------------------------------------------------------------------------


class ConformanceServer(Server[Any]):
    """Says over each transport that its lists can change; the SDK's HTTP would not."""

    def create_initialization_options(self, *_args: Any, **_kwargs: Any) -> InitializationOptions:
        return super().create_initialization_options(NotificationOptions(prompts_changed=True, tools_changed=True))


def finished(**fields: Any) -> Json:
    """A result. Handshake versions know no ``resultType``, and the SDK takes it out for them."""
    return {"resultType": "complete", **fields}


async def list_tools(_context: Any, _params: Any) -> Json:
    return finished(tools=[tool for name, (tool, _) in tools.items() if name not in hidden])


async def call_tool(context: Any, params: types.CallToolRequestParams) -> Json:
    if params.name not in tools:
        raise MCPError(types.INVALID_PARAMS, f"Unknown tool: {params.name}")
    try:
        return finished(content=await tools[params.name][1](Call(context, params)))
    except InputRequired as question:
        return question.result
    except (MCPError, asyncio.CancelledError):
        raise
    except Exception as error:
        return finished(content=[text(str(error))], isError=True)


async def list_prompts(_context: Any, _params: Any) -> Json:
    return finished(prompts=[prompt for name, (prompt, _) in prompts.items() if name not in hidden])


async def get_prompt(context: Any, params: types.GetPromptRequestParams) -> Json:
    if params.name not in prompts:
        raise MCPError(types.INVALID_PARAMS, f"Unknown prompt: {params.name}")
    try:
        contents = await prompts[params.name][1](Call(context, params))
    except InputRequired as question:
        return question.result
    return finished(messages=[{"role": "user", "content": content} for content in contents])


async def list_resources(_context: Any, _params: Any) -> Json:
    about = {"description": "For tests"}
    return finished(
        resources=[
            {"uri": uri, "name": uri.removeprefix("test://"), "mimeType": value["mimeType"], **about}
            for uri, value in RESOURCES.items()
        ]
    )


async def list_templates(_context: Any, _params: Any) -> Json:
    template = {"uriTemplate": BEFORE_ID + "{id}" + AFTER_ID, "name": "template", "mimeType": "application/json"}
    return finished(resourceTemplates=[template])


async def read_resource(context: Any, params: types.ReadResourceRequestParams) -> Json:
    contents = resource_contents(params.uri)
    if contents is None:
        modern = context.protocol_version in MODERN_PROTOCOL_VERSIONS
        raise MCPError(types.INVALID_PARAMS if modern else -32002, "Resource not found", {"uri": params.uri})
    return finished(contents=[contents])


async def complete(_context: Any, params: types.CompleteRequestParams) -> Json:
    values = [value for value in ("paris", "park", "party", "test") if value.startswith(params.argument.value)]
    return finished(completion={"values": values, "total": len(values), "hasMore": False})


async def accept(_context: Any, _params: Any) -> Json:
    """For requests whose whole answer is that they were received."""
    return {}


def make_server() -> ConformanceServer:
    server = ConformanceServer(
        "conformance-server",
        version="1",
        cache_hints=dict.fromkeys(CACHEABLE_METHODS, CacheHint()),
        get_tool_input_schema=lambda name: tools[name][0]["inputSchema"] if name in tools else None,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_prompts=list_prompts,
        on_get_prompt=get_prompt,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
        on_subscribe_resource=accept,
        on_unsubscribe_resource=accept,
        on_subscriptions_listen=ListenHandler(bus),
        on_completion=complete,
        on_set_logging_level=accept,
    )
    server.middleware.append(RequestStateBoundary(RequestStateSecurity.ephemeral(), default_audience=server.name))
    return server


def offer_at_most(newest: str) -> None:
    """Make ``newest`` the version that ``initialize`` ends with. The SDK has no setting for it.

    The suite's client always asks for the newest handshake version, and takes the older one that it is offered.
    """
    versions = HANDSHAKE_PROTOCOL_VERSIONS[: HANDSHAKE_PROTOCOL_VERSIONS.index(newest) + 1]
    runner.HANDSHAKE_PROTOCOL_VERSIONS = versions  # type: ignore[misc]
    runner.LATEST_HANDSHAKE_VERSION = newest  # type: ignore[misc]


# --- the transports ---------------------------------------------------------------------------------------------------


class Events(EventStore):
    """What the control has sent, so that a client can resume."""

    def __init__(self) -> None:
        self._events: list[tuple[str, types.JSONRPCMessage | None]] = []

    async def store_event(self, stream_id: str, message: types.JSONRPCMessage | None) -> str:
        self._events.append((stream_id, message))
        return str(len(self._events))

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        last = int(last_event_id)
        if not 0 < last <= len(self._events):
            return None
        stream = self._events[last - 1][0]
        for number, (owner, message) in enumerate(self._events[last:], last + 1):
            if owner == stream and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream


async def serve_stdio(server: ConformanceServer, era: str | None) -> None:
    """Serve in the era of the first request, or in the only one it knows: ``handshake`` or ``modern``."""
    options = server.create_initialization_options()
    async with stdio_server() as (read, write), server.lifespan(server) as state:
        if era == "handshake":
            await runner.serve_loop(server, read, write, lifespan_state=state, init_options=options)
        elif era == "modern":  # a part of the SDK's dual-era loop; it has none that is modern alone
            await runner._serve_modern_stream(server, read, write, lifespan_state=state, raise_exceptions=False)
        else:
            await runner.serve_dual_era_loop(server, read, write, lifespan_state=state, init_options=options)


def serve_http(server: ConformanceServer, port: int) -> None:
    import uvicorn

    listener = socket.create_server(("127.0.0.1", port))  # clients may connect from here on
    print(f"listens on http://127.0.0.1:{listener.getsockname()[1]}/mcp", file=sys.stderr, flush=True)
    app = server.streamable_http_app(event_store=Events(), retry_interval=RETRY_MS)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--http", type=int, metavar="PORT", help="serve HTTP by the SDK alone, 0 for any free port")
    parser.add_argument("--era", choices=("handshake", "modern"), help="over stdio, know this one only")
    parser.add_argument("--newest", choices=HANDSHAKE_PROTOCOL_VERSIONS, default=HANDSHAKE_PROTOCOL_VERSIONS[-1])
    arguments = parser.parse_args()
    offer_at_most(arguments.newest)
    server = make_server()
    if arguments.http is None:
        asyncio.run(serve_stdio(server, arguments.era))
    else:
        serve_http(server, arguments.http)


if __name__ == "__main__":
    main()
