"""Whose X-Forwarded-* counts (TRUST_PROXY), and what stands below BASE_PATH. Real ones: test_reverse_proxies.py."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from bridge.config import values
from bridge.config.errors import ConfigError
from bridge.config.settings import OWN_PATHS
from bridge.web.proxy import Proxies, client_of, origin_of
from tests.conftest import INITIALIZE, Running, StartBridge, message, tool


def _request(peer: str, *headers: tuple[str, str]) -> Any:
    transport = mock.Mock()
    transport.get_extra_info = lambda name, default=None: (peer, 1) if name == "peername" else default
    return make_mocked_request("GET", "/", CIMultiDict([("Host", "bridge"), *headers]), transport=transport)


FOR = "X-Forwarded-For"


@pytest.mark.parametrize(
    ("trusted", "peer", "hops", "client"),
    [
        ("true", "127.0.0.1", ["9.9.9.9"], "9.9.9.9"),
        ("true", "::1", ["9.9.9.9"], "9.9.9.9"),
        ("true", "10.0.0.1", ["9.9.9.9"], "10.0.0.1"),  # not a proxy of this machine
        ("true", "127.0.0.1", [], "127.0.0.1"),
        ("true", "127.0.0.1", ["1.1.1.1, 9.9.9.9"], "9.9.9.9"),  # the client has sent 1.1.1.1 itself
        ("true", "127.0.0.1", ["1.1.1.1", "9.9.9.9"], "9.9.9.9"),  # on two lines
        ("10.0.0.0/8,127.0.0.1", "127.0.0.1", ["1.1.1.1, 9.9.9.9, 10.1.2.3"], "9.9.9.9"),  # two proxies
        ("10.0.0.0/8", "10.0.0.1", ["10.0.0.2"], "10.0.0.2"),  # a client that is where the proxies are
        ("10.0.0.0/8", "127.0.0.1", ["9.9.9.9"], "127.0.0.1"),
        ("10.0.0.0/8", "::ffff:10.0.0.1", ["9.9.9.9"], "9.9.9.9"),  # IPv4 on a socket for both
        ("2001:db8::/32", "2001:db8::1", ["[2001:db9::7]:443"], "2001:db9::7"),
        ("true", "127.0.0.1", ["9.9.9.9:4711"], "9.9.9.9"),
        ("true", "127.0.0.1", ["9.9.9.9, unknown"], "127.0.0.1"),
        ("true", "127.0.0.1", ["9.9.9.9, <script>"], "127.0.0.1"),
        ("true", "127.0.0.1", [",".join(["9.9.9.9"] + ["127.0.0.1"] * 500)], "127.0.0.1"),
    ],
)
def test_who_asks(trusted: str, peer: str, hops: list[str], client: str) -> None:
    request = _request(peer, *((FOR, hop) for hop in hops))
    Proxies(values.networks(trusted)).read(request)
    assert client_of(request) == client


@pytest.mark.parametrize(
    ("headers", "origin"),
    [
        ([], "http://bridge"),
        ([("X-Forwarded-Proto", "https")], "https://bridge"),
        ([("X-Forwarded-Proto", "HTTPS"), ("X-Forwarded-Host", "a.example:8443")], "https://a.example:8443"),
        ([("X-Forwarded-Proto", "javascript")], "http://bridge"),
        ([("X-Forwarded-Host", "forged.example, a.example")], "http://a.example"),
    ],
)
def test_the_address_that_the_client_has_used(headers: list[tuple[str, str]], origin: str) -> None:
    believed, doubted = _request("127.0.0.1", *headers), _request("9.9.9.9", *headers)
    proxies = Proxies(values.LOOPBACK)
    for request in (believed, doubted):
        proxies.read(request)
    assert (origin_of(believed), origin_of(doubted)) == (origin, "http://bridge")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "bridge.example"}, 200),
        ({"Host": "localhost", "X_Forwarded_Host": "bridge.example"}, 200),
        ({"Host": "localhost", "X_Forwarded_Host": "evil.example"}, 403),
        ({"Host": "evil.example", "X_Forwarded_Host": "localhost"}, 403),
        ({"Host": "bridge.example", "X_Forwarded_Proto": "https", "Origin": "https://bridge.example"}, 200),
        ({"Host": "bridge.example", "X_Forwarded_Proto": "https", "Origin": "http://bridge.example"}, 403),
        ({"Host": "bridge.example", "X_Forwarded_Proto": "https", "Origin": "https://other.example"}, 403),
        ({"Host": "localhost", "X_Forwarded_Host": "evil.example", "Origin": "http://evil.example"}, 403),
    ],
)
async def test_names_and_pages_that_get_in(start_bridge: StartBridge, headers: dict[str, str], status: int) -> None:
    bridge = await start_bridge(TRUST_PROXY="true", ALLOWED_HOSTS="bridge.example")
    async with bridge.post("/bridge/peer", {"method": "ping"}, **headers) as response:
        assert response.status == status


async def test_a_page_of_any_host_is_not_one_of_ours(start_bridge: StartBridge) -> None:
    bridge = await start_bridge(ALLOWED_HOSTS="*")  # DNS rebinding: the page and the host are of the same name
    async with bridge.post("/bridge/peer", {"method": "ping"}, Host="evil", Origin="http://evil") as response:
        assert response.status == 403


async def test_forwarded_headers_mean_nothing_unless_told(start_bridge: StartBridge) -> None:
    bridge = await start_bridge()
    forged = {"X_Forwarded_Host": "evil.example", "X_Forwarded_Proto": "https"}
    async with bridge.post("/api/v1/sessions", {"server": "peer"}, **forged) as made:
        assert (await made.json())["mcp_url"] == f"{bridge.url}/mcp/peer"


@pytest.mark.parametrize("below", ["", "/a/b"])
async def test_every_route_stands_below_the_base_path_too(start_bridge: StartBridge, below: str) -> None:
    bridge = await start_bridge(BASE_PATH="/a/b/", ACCESS_TOKEN="sesame")
    root = bridge.url.removesuffix("/a/b")
    assert root != bridge.url
    bridge.http.headers["Authorization"] = "Bearer sesame"
    bridge.http.headers["Accept"] = "application/json, text/event-stream"
    url = root + below
    async with bridge.http.post(f"{url}/mcp/peer", json=message("initialize", 1, **INITIALIZE)) as response:
        session = {"Mcp-Session-Id": response.headers["Mcp-Session-Id"]}
    for path in ("/mcp/peer", "/mcp/p%65er", "/bridge/peer"):
        async with bridge.http.post(url + path, json=tool("echo", 1, a=1), headers=session) as response:
            assert (await response.json())["result"] == {"a": 1}
    async with bridge.http.post(f"{url}/api/v1/sessions", json={"server": "peer"}) as made:
        assert (await made.json())["mcp_url"] == f"{root}/a/b/mcp/peer"
    for path in ("/servers", "/api/v1/sessions", "/children"):
        async with bridge.http.get(url + path) as response:
            assert response.status == 200
    for path in ("/health", "/livez", "/readyz"):
        async with bridge.http.get(url + path, headers={"Authorization": ""}) as response:
            assert response.status == 200
    for path in ("/a", "/a/bc/servers", "/a/b/a/b/servers"):
        async with bridge.http.get(root + path) as response:
            assert response.status == 404


async def test_own_paths_are_those_of_the_routes(bridge: Running) -> None:
    app = bridge.service.faces.routes.app
    assert {resource.canonical.split("/")[1] for resource in app.router.resources()} == OWN_PATHS | {""}


@pytest.mark.parametrize("path", ["/mcp", "/api/x", "/health"])
async def test_a_base_path_that_is_one_of_ours_is_refused(start_bridge: StartBridge, path: str) -> None:
    with pytest.raises(ConfigError, match=f"BASE_PATH: {path} begins with"):
        await start_bridge(BASE_PATH=path)
