"""What all tests share: a real bridge on a real port with real children, and a client of plain HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import hypothesis
import pytest

from bridge.config.servers import parse_servers
from bridge.config.settings import read_settings
from bridge.web.app import Service

PEERS = Path(__file__).parent / "peers"
#: Seconds for what happens soon: only a test that fails waits so long, and a busy machine takes some of it.
PATIENCE = 20.0
ACCEPT = "application/json, text/event-stream"
INITIALIZE = {
    "protocolVersion": "2025-06-18",
    "capabilities": {"elicitation": {}, "roots": {}, "sampling": {}},
    "clientInfo": {"name": "test", "version": "1"},
}

# How long an example takes is no property of what it shows.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So it is below nohup, and in the background of a script; children would inherit that, and not hear of Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def in_time() -> asyncio.Timeout:
    """A limit for what would else never happen, so that a test says where it waited."""
    return asyncio.timeout(PATIENCE)


def peer(**entry: Any) -> dict[str, Any]:
    """A ``servers.json`` entry of tests/peers/peer.py."""
    return {"command": sys.executable, "args": ["-I", "-S", str(PEERS / "peer.py")], **entry}


def message(method: str, id_: Any = None, **params: Any) -> dict[str, Any]:
    """A request, or a notification when it has no id."""
    named = {"jsonrpc": "2.0", "method": method, "params": params}
    return named if id_ is None else {**named, "id": id_}


def tool(name: str, id_: Any = 1, token: Any = None, **arguments: Any) -> dict[str, Any]:
    """A ``tools/call`` request."""
    meta = {} if token is None else {"_meta": {"progressToken": token}}
    return message("tools/call", id_, name=name, arguments=arguments, **meta)


async def events(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    """The JSON-RPC messages of an SSE response, or the one of a JSON response."""
    if response.content_type == "application/json":
        yield await response.json()
        return
    assert response.content_type == "text/event-stream", response.content_type
    async for line in response.content:
        if line.startswith(b"data: ") and line != b"data: \n":
            yield json.loads(line[6:])


async def last(response: aiohttp.ClientResponse) -> dict[str, Any]:
    """The final message of a response."""
    return [event async for event in events(response)][-1]


async def sse(response: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, Any]]:
    """The events of a stream: id and message, None for an event without data."""
    assert response.content_type == "text/event-stream", response.content_type
    fields: dict[str, str] = {}
    async for line in response.content:
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name and not line.startswith(b":"):
            fields[name] = value
        elif fields:
            yield fields.get("id", ""), json.loads(fields["data"]) if fields["data"] else None
            fields = {}


@dataclass
class Session:
    """One ``Mcp-Session-Id`` as a client sees it."""

    http: aiohttp.ClientSession
    url: str
    id: str
    greeting: dict[str, Any]

    def post(self, body: dict[str, Any], **headers: str) -> Any:
        return self.http.post(
            self.url, json=body, headers={"Accept": ACCEPT, "Mcp-Session-Id": self.id, **_dashed(headers)}
        )

    def get(self, last_event_id: str | None = None) -> Any:
        headers = {"Accept": "text/event-stream", "Mcp-Session-Id": self.id}
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        return self.http.get(self.url, headers=headers)

    def delete(self) -> Any:
        return self.http.delete(self.url, headers={"Mcp-Session-Id": self.id})

    async def ask(self, method: str, id_: Any = 1, **params: Any) -> dict[str, Any]:
        """Send any request; return the final message."""
        async with self.post(message(method, id_, **params)) as response:
            assert response.status == 200, await response.text()
            return await last(response)

    async def call(self, name: str, id_: Any = 1, token: Any = None, **arguments: Any) -> dict[str, Any]:
        """Call a tool; return the final message."""
        async with self.post(tool(name, id_, token, **arguments)) as response:
            assert response.status == 200, await response.text()
            return await last(response)


def _dashed(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


@dataclass
class Running:
    """A bridge that listens."""

    service: Service
    http: aiohttp.ClientSession

    @property
    def url(self) -> str:
        return self.service.url

    def post(self, path: str, body: Any, **headers: str) -> Any:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"Content-Type": "application/json", "Accept": ACCEPT, **_dashed(headers)}
        return self.http.post(self.url + path, data=data, headers=given)

    async def get(self, path: str) -> Any:
        async with self.http.get(self.url + path) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def session(self, server: str = "peer", **params: Any) -> Session:
        """Initialize, as every client does."""
        return await self.session_at(f"/mcp/{server}", **params)

    async def session_at(self, path: str, **params: Any) -> Session:
        """Do the same at any path: ``/mcp`` is all servers."""
        async with self.post(path, message("initialize", 0, **{**INITIALIZE, **params})) as response:
            assert response.status == 200, await response.text()
            session = Session(self.http, self.url + path, response.headers["Mcp-Session-Id"], await last(response))
        async with session.post(message("notifications/initialized")) as response:
            assert response.status == 202
        return session

    async def bridge_call(self, server: str, method: str, **params: Any) -> dict[str, Any]:
        async with self.post(f"/bridge/{server}", {"method": method, "params": params}) as response:
            return dict(await response.json())


StartBridge = Callable[..., Awaitable[Running]]
#: Makes, for a server, what takes the lines that its children write to stderr.
Sink = Callable[[str], Callable[[bytes], None]]


def _deaf(_server: str) -> Callable[[bytes], None]:
    return lambda _line: None


@contextlib.asynccontextmanager
async def bridges(folder: Path) -> AsyncIterator[StartBridge]:
    """Start bridges with their files in ``folder``; at the end they are stopped, and none may have a child left."""
    running: list[Running] = []

    async def start(servers: dict[str, Any] | None = None, sink: Sink = _deaf, **settings: Any) -> Running:
        environ = {
            "PORT": "0",
            "PINS_FILE": str(folder / "pins.json"),
            **{name: str(value) for name, value in settings.items()},
        }
        entries = parse_servers(json.dumps({"peer": peer()} if servers is None else servers), "servers.json", {})
        service = Service(read_settings(environ), entries, sink)
        await service.start()
        running.append(Running(service, aiohttp.ClientSession()))
        return running[-1]

    yield start
    for each in running:
        await each.http.close()
        await each.service.stop()
        assert each.service.core.registry.children() == []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test has logged may hold halves of characters, which xdist cannot send from one process to another."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture
async def start_bridge(tmp_path: Path) -> AsyncIterator[StartBridge]:
    """Start bridges; after the test they are stopped, and none may have a child left."""
    async with bridges(tmp_path) as start:
        yield start


@pytest.fixture
async def bridge(start_bridge: StartBridge) -> Running:
    """A bridge with one server, ``peer``, and default settings."""
    return await start_bridge()
