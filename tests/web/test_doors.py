"""Every route, for every kind of caller and page: nothing answers that should not (threats 1 to 4 of SECURITY.md)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from bridge.auth import tokens
from tests.conftest import ACCEPT, INITIALIZE, Running, StartBridge, message, peer, tool

NOW = datetime.now(UTC)
ALL = "servers:*"

LOCAL = "http://localhost:5173"


@dataclass(frozen=True)
class Route:
    """``{session}`` in path, headers or body is a session of the caller called ``right``.

    ``right`` is the status that its owner gets, ``other`` that of another user with the same scopes.
    """

    method: str
    path: str
    right: int
    other: int
    body: Any = None
    session: bool = False
    names_server: bool = False

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


CALL = tool("echo", 5, text="hello")
ROUTES = [
    Route("POST", "/mcp/peer", 200, 404, CALL, session=True, names_server=True),
    Route("POST", "/mcp/peer", 200, 200, message("initialize", 1, **INITIALIZE), names_server=True),
    Route("POST", "/mcp/peer?x=1", 200, 404, CALL, session=True, names_server=True),
    Route("POST", "/mcp/p%65er", 200, 404, CALL, session=True, names_server=True),
    Route("GET", "/mcp/peer", 200, 404, session=True, names_server=True),
    Route("DELETE", "/mcp/peer", 204, 404, session=True, names_server=True),
    Route("POST", "/mcp", 200, 200, message("initialize", 1, **INITIALIZE)),
    Route("POST", "/mcp", 404, 404, CALL, session=True),
    Route("POST", "/mcp?servers=peer", 200, 200, message("initialize", 1, **INITIALIZE), names_server=True),
    Route("GET", "/mcp", 404, 404, session=True),
    Route("DELETE", "/mcp", 404, 404, session=True),
    Route("GET", "/sse/peer", 200, 200, names_server=True),
    Route("POST", "/messages/peer?session_id={session}", 404, 404, CALL, names_server=True),
    Route("POST", "/bridge/peer", 200, 200, {"method": "tools/list"}, names_server=True),
    Route("POST", "/bridge", 200, 200, {"method": "tools/list", "server": "peer"}, names_server=True),
    Route("GET", "/api/v1/servers/peer/tools", 200, 200, names_server=True),
    Route("POST", "/api/v1/servers/peer/tools/echo", 404, 404, {}, names_server=True),
    Route("GET", "/openapi.json", 200, 200),
    Route("GET", "/openapi.json?server=peer", 200, 200, names_server=True),
    Route("GET", "/servers", 200, 200),
    Route("GET", "/metrics", 200, 200),
    Route("GET", "/api/v1/servers", 200, 200),
    Route("GET", "/children", 200, 200),
    Route("GET", "/api/v1/children", 200, 200),
    Route("GET", "/sessions", 200, 200),
    Route("GET", "/api/v1/sessions", 200, 200),
    Route("GET", "/api/v1/events", 200, 200),
    Route("GET", "/api/v1/sessions/stats", 200, 200),
    Route("POST", "/api/v1/sessions", 201, 201, {"server": "peer"}, names_server=True),
    Route("GET", "/api/v1/sessions/{session}", 200, 404),
    Route("PATCH", "/api/v1/sessions/{session}", 200, 404, {"ttl_ms": 60000}),
    Route("POST", "/api/v1/sessions/{session}/touch", 200, 404),
    Route("DELETE", "/api/v1/sessions/{session}", 204, 404),
    Route("POST", "/api/v1/servers/peer/stop", 403, 403, names_server=True),
    Route("POST", "/api/v1/servers/peer/start", 403, 403, names_server=True),
    Route("POST", "/api/v1/servers/peer/restart", 403, 403, names_server=True),
    Route("GET", "/api/v1/servers/peer/logs", 403, 403, names_server=True),
    Route("GET", "/api/v1/servers/peer/logs?follow=true", 403, 403, names_server=True),
    Route("GET", "/api/v1/logs", 403, 403),
    Route("POST", "/api/v1/drain", 403, 403),
    Route("POST", "/api/v1/reload", 403, 403),
    Route("POST", "/api/v1/restart", 403, 403),
    Route("GET", "/api/v1/pins", 403, 403),
    Route("POST", "/api/v1/servers/peer/pins/approve", 403, 403, {}, names_server=True),
]
PROBES = [Route("GET", path, 200, 200) for path in ("/health", "/livez", "/readyz")]
#: For everyone, and not there as long as there is no authorization server; tests/auth has what they say where there is.
PUBLIC = [
    Route("GET", f"/.well-known/{path}", 404, 404)
    for path in (
        *(f"oauth-protected-resource{resource}" for resource in ("", "/mcp/peer", "/sse/peer", "/bridge/peer")),
        "oauth-authorization-server",
    )
]
PAGE = [Route("GET", "/", 200, 200), Route("GET", "/page/{file}", 200, 200)]
NOWHERE = [
    Route("GET", "/absent", 404, 404),
    Route("GET", "/page/absent.js", 404, 404),
    Route("GET", "/../etc/passwd", 404, 404),
    Route("PUT", "/mcp/peer", 405, 405),
]


class Doors:
    """A bridge with tokens, and a session of ``right``."""

    def __init__(self, bridge: Running, secrets: dict[str, str]) -> None:
        self.bridge = bridge
        self.secrets = secrets
        self.session = ""

    async def ask(self, route: Route, token: str | None, **more: str) -> tuple[int, str, Any]:
        """Return status, ``WWW-Authenticate``, and what the first piece of the body says."""
        headers = {"Accept": ACCEPT if route.method == "POST" else "text/event-stream, application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        if route.session:
            headers["Mcp-Session-Id"] = self.session
        headers |= {name.replace("_", "-"): value for name, value in more.items()}
        url = URL(self.bridge.url + route.path.replace("{session}", self.session), encoded=True)
        async with self.bridge.http.request(route.method, url, json=route.body, headers=headers) as response:
            challenge = response.headers.get("WWW-Authenticate", "")
            if response.content_type == "text/event-stream":
                return response.status, challenge, (await response.content.readuntil(b"\n\n")).decode()
            return response.status, challenge, await response.text()

    async def without_host(self, route: Route) -> int:
        """Return the status of a request of ``right`` that has no ``Host``."""
        url = URL(self.bridge.url)
        reader, writer = await asyncio.open_connection(url.host, url.port)
        head = f"{route.method} {route.path} HTTP/1.1\r\nAuthorization: Bearer {self.secrets['right']}\r\n"
        writer.write(f"{head}Content-Length: 0\r\nConnection: close\r\n\r\n".encode())
        status = (await reader.readline()).split()[1]
        writer.close()
        return int(status)

    async def fresh(self) -> None:
        """Open a session as ``right``."""
        ask = Route("POST", "/api/v1/sessions", 201, 201)
        headers = {"Authorization": f"Bearer {self.secrets['right']}"}
        async with self.bridge.http.post(self.bridge.url + ask.path, json={"server": "peer"}, headers=headers) as made:
            assert made.status == 201, await made.text()
            self.session = (await made.json())["session_id"]


@pytest.fixture
async def doors(start_bridge: StartBridge, tmp_path: Path) -> Doors:
    rows = {
        "right": tokens.mint("right", [ALL], None, NOW),
        "other": tokens.mint("other", [ALL], None, NOW),
        "elsewhere": tokens.mint("elsewhere", ["servers:second"], None, NOW),
        "expired": tokens.mint("expired", ["admin"], NOW - timedelta(seconds=1), NOW),
        "operator": tokens.mint("operator", ["admin"], None, NOW),
    }
    path = tmp_path / "tokens.json"
    tokens.write(path, [row for _, row in rows.values()])
    (tmp_path / "logs/servers").mkdir(parents=True)
    bridge = await start_bridge(
        {"peer": peer(), "second": peer()}, TOKENS_FILE=path, LOG_DIR=tmp_path / "logs", ALLOWED_ORIGINS=LOCAL
    )
    found = Doors(bridge, {name: secret for name, (secret, _) in rows.items()})
    await found.fresh()
    return found


@pytest.mark.parametrize("route", ROUTES, ids=str)
async def test_a_route_is_for_whom_it_should_be(doors: Doors, route: Route) -> None:
    for token in (None, "", "mcpb_wrong", doors.secrets["expired"]):
        status, challenge, text = await doors.ask(route, token)
        assert status == 401, (token, text)
        assert challenge.startswith("Bearer")
        assert ("invalid_token" in challenge) == (token is not None)
        assert "peer" not in text
    status, challenge, text = await doors.ask(route, doors.secrets["elsewhere"])
    if route.names_server:
        assert status == 403
        assert "insufficient_scope" in challenge
        assert "servers:peer" in challenge
    else:
        assert "peer" not in text
    assert (await doors.ask(route, doors.secrets["other"]))[0] == route.other
    assert (await doors.ask(route, doors.secrets["right"]))[0] == route.right


@pytest.mark.parametrize("route", [*ROUTES, *PUBLIC, PAGE[0], *NOWHERE], ids=str)
async def test_no_foreign_page_and_no_foreign_name_gets_in(doors: Doors, route: Route) -> None:
    for page in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost.evil.example"},
        {"Host": "evil.example"},
        {"Host": "localhost.evil.example:3000"},
        {"Host": "evil.example", "Origin": "http://localhost"},
    ):
        status, _, text = await doors.ask(route, doors.secrets["right"], **page)
        assert status == 403, page
        assert "ALLOWED_ORIGINS" in text or "ALLOWED_HOSTS" in text
    assert await doors.without_host(route) in (400, 403)
    status, _, _ = await doors.ask(route, doors.secrets["right"], Origin=LOCAL)
    assert status == route.right


@pytest.mark.parametrize("base", ["", "/tools"])
async def test_a_probe_may_come_under_any_name_and_is_told_a_status(start_bridge: StartBridge, base: str) -> None:
    """As those of Kubernetes and of load balancers do; by DNS rebinding a page might too."""
    bridge = await start_bridge({"peer": peer()}, BASE_PATH=base)
    for path in ("/livez", "/readyz", "/health"):
        for host in ("10.1.2.3:3000", "evil.example"):
            async with bridge.http.get(bridge.url + path, headers={"Host": host}) as response:
                assert (response.status, await response.json()) == (200, {"status": "ok"})
            for headers in ({"Host": host, "Origin": "https://evil.example"}, {"Origin": "null"}):
                async with bridge.http.get(bridge.url + path, headers=headers) as response:
                    assert response.status == 403
        async with bridge.http.post(bridge.url + path, headers={"Host": "evil.example"}) as response:
            assert response.status == 403
    assert "version" in await bridge.get("/health")


@pytest.mark.parametrize("route", PROBES, ids=str)
async def test_probes_answer_everyone_and_tell_names_to_nobody(doors: Doors, route: Route) -> None:
    for token in (None, "mcpb_wrong", doors.secrets["expired"]):
        status, _, text = await doors.ask(route, token)
        assert (status, text) == (200, '{"status":"ok"}\n'), text


@pytest.mark.parametrize("route", PUBLIC, ids=str)
async def test_public_routes_answer_everyone_alike(doors: Doors, route: Route) -> None:
    answers = {await doors.ask(route, token) for token in (None, "mcpb_wrong", *doors.secrets.values())}
    [(status, challenge, text)] = answers
    assert (status, challenge) == (route.right, "")
    assert "OAUTH_ISSUER" in text


@pytest.mark.parametrize("route", NOWHERE, ids=str)
async def test_what_is_not_there_is_not_told_to_strangers(doors: Doors, route: Route) -> None:
    assert (await doors.ask(route, None))[0] == 401
    assert (await doors.ask(route, doors.secrets["right"]))[0] == route.right


async def test_no_route_is_forgotten_here(doors: Doors) -> None:
    registered = {
        (
            route.method,
            route.resource.canonical.replace("{server_id}", "peer")
            .replace("{resource}", "peer")
            .replace("{session_id}", "{session}")
            .replace("{tool}", "echo"),
        )
        for route in doors.bridge.service.faces.routes.app.router.routes()  # nobody else has a use for a list
        if route.resource is not None and route.method != "HEAD"
    }
    assert registered <= {(route.method, route.path.partition("?")[0]) for route in [*ROUTES, *PROBES, *PUBLIC, *PAGE]}


async def test_lists_show_what_is_the_callers_own(doors: Doors) -> None:
    async def rows(path: str, who: str) -> list[dict[str, Any]]:
        headers = {"Authorization": f"Bearer {doors.secrets[who]}"}
        async with doors.bridge.http.get(doors.bridge.url + path, headers=headers) as response:
            return list(await response.json())

    assert [row["session_id"] for row in await rows("/sessions", "right")] == [doors.session]
    assert await rows("/sessions", "other") == []
    [seen] = await rows("/sessions", "operator")
    assert seen["session_id"] != doors.session
    assert doors.session.startswith(seen["session_id"].rstrip("."))
    assert [row["id"] for row in await rows("/servers", "elsewhere")] == ["second"]
    assert [row["id"] for row in await rows("/servers", "operator")] == ["peer", "second"]


async def test_an_operator_may_do_what_needs_admin(doors: Doors) -> None:
    for action in ("stop", "start", "restart"):
        route = Route("POST", f"/api/v1/servers/peer/{action}", 200, 403)
        assert (await doors.ask(route, doors.secrets["operator"]))[0] == 200


async def test_only_who_may_makes_sessions_persistent(start_bridge: StartBridge, tmp_path: Path) -> None:
    rows = [tokens.mint(name, scopes, None, NOW) for name, scopes in (("a", [ALL]), ("b", [ALL, "sessions:persist"]))]
    tokens.write(tmp_path / "t.json", [row for _, row in rows])
    bridge = await start_bridge(TOKENS_FILE=tmp_path / "t.json")
    statuses = []
    for secret, _ in rows:
        headers = {"X-API-Key": secret}
        url = bridge.url + "/api/v1/sessions"
        async with bridge.http.post(url, json={"server": "peer", "persistent": True}, headers=headers) as made:
            statuses.append(made.status)
        async with bridge.http.post(url, json={"server": "peer"}, headers=headers) as made:
            session = (await made.json())["session_id"]
        async with bridge.http.patch(f"{url}/{session}", json={"persistent": True}, headers=headers) as changed:
            statuses.append(changed.status)
    assert statuses == [403, 403, 201, 200]


async def test_callers_of_the_bridge_pool_have_a_process_each(doors: Doors) -> None:
    async def pid(who: str) -> Any:
        headers = {"Authorization": f"Bearer {doors.secrets[who]}"}
        body = {"method": "tools/call", "params": {"name": "pid", "arguments": {}}}
        async with doors.bridge.http.post(doors.bridge.url + "/bridge/peer", json=body, headers=headers) as response:
            return (await response.json())["result"]

    assert await pid("right") == await pid("right")
    assert await pid("right") != await pid("other")


async def test_a_token_that_is_known_in_one_header_is_read_as_written_in_another(doors: Doors) -> None:
    async def status(**headers: str) -> int:
        async with doors.bridge.http.get(doors.bridge.url + "/servers", headers=headers) as response:
            return response.status

    token = doors.secrets["right"]
    for _ in range(2):  # the second time what was good is remembered
        assert await status(**{"X-API-Key": token}) == 200
        assert await status(Authorization=f"Bearer {token}") == 200
        assert await status(Authorization=f"bearer  {token}") == 200
        assert await status(**{"X-API-Key": f"Bearer {token}"}) == 401
        assert await status(Authorization=token) == 401
        assert await status(**{"Authorization": f"Bearer {token}", "X-API-Key": "wrong"}) == 401


async def test_a_removed_token_is_refused_on_an_open_connection(doors: Doors, tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    kept = [token for token in tokens.read(path) if token.name != "right"]
    route = Route("GET", "/servers", 200, 200)
    assert (await doors.ask(route, doors.secrets["right"]))[0] == 200
    tokens.write(path, kept)
    doors.bridge.service.faces.guards._keyring._looked -= 10  # the second until the next look
    assert (await doors.ask(route, doors.secrets["right"]))[0] == 401
    assert (await doors.ask(route, doors.secrets["other"]))[0] == 200
