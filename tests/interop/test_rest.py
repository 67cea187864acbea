"""Published servers without any MCP client: their tools by plain HTTP, and the document that describes them."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.interop.conftest import PATIENCE, Bridge, servers
from tests.interop.expected import EVERYTHING_TOOLS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(4 * PATIENCE)]

CHOSEN = ("everything", "filesystem", "demo-handshake", "demo-modern")
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    folder = tmp_path_factory.mktemp("rest")
    entries = servers(folder)
    bridge = Bridge.start(folder, {name: entries[name] for name in CHOSEN})
    try:
        yield bridge
        assert bridge.stop() == 0
    finally:
        bridge.kill()


def call(bridge: Bridge, server: str, tool: str, **arguments: Any) -> tuple[int, Any]:
    url = f"{bridge.url}/api/v1/servers/{server}/tools/{tool}"
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(arguments).encode(), headers)
    try:
        with DIRECT.open(request, timeout=PATIENCE) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_the_document_has_every_tool(bridge: Bridge) -> None:
    while "x-unavailable" in (document := bridge.get("/openapi.json")):  # node takes its time on a busy machine
        pass
    OpenAPIV31SpecValidator(document).validate()
    tags: dict[str, set[str]] = {}
    for path, item in document["paths"].items():
        tags.setdefault(item["post"]["tags"][0], set()).add(path.rpartition("/")[2])
    assert set(tags) == set(CHOSEN)
    assert tags["everything"] <= EVERYTHING_TOOLS
    assert {"echo", "get-sum"} <= tags["everything"]
    assert tags["demo-modern"] == tags["demo-handshake"] >= {"add", "echo"}


def test_calls_are_answered_with_values(bridge: Bridge) -> None:
    place = {"location": "New York"}
    status, weather = call(bridge, "everything", "get-structured-content", **place)
    assert (status, set(weather)) == (200, {"temperature", "conditions", "humidity"})
    assert call(bridge, "everything", "echo", message="hi")[1] == {"content": [{"type": "text", "text": "Echo: hi"}]}
    for server in ("demo-handshake", "demo-modern"):
        assert call(bridge, server, "add", a=2, b=3) == (200, {"result": 5})


def test_what_is_wrong_has_its_status(bridge: Bridge) -> None:
    status, answer = call(bridge, "everything", "get-sum", a="two", b=3)
    assert (status, answer["error"]["data"]) == (422, {"path": "/a"})
    status, answer = call(bridge, "filesystem", "read_text_file", path="/etc/passwd")
    assert (status, "Access denied" in answer["error"]["message"]) == (424, True)
    assert call(bridge, "everything", "absent")[0] == 404
