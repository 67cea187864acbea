"""mcp-server-fetch and mcp-server-time, published, on the Python SDK 2.x: each client is served in its own era."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.interop.conftest import ALL_SDKS, PATIENCE, Bridge, Reports, run_all
from tests.interop.expected import check_course

pytestmark = [pytest.mark.slow, pytest.mark.timeout(4 * PATIENCE)]

PAGE = """<!DOCTYPE html>
<html><head><title>Bridges</title></head>
<body><h1>Of bridges</h1><p>A <a href="/other">bridge</a> carries
“Grüße, 世界 \U0001f309”.</p><script>no()</script></body></html>
"""
SHOWN = "Bridges\n\n# Of bridges\n\nA bridge carries “Grüße, 世界 \U0001f309”."
CLOSED = "For people only"
ROBOTS = "User-agent: *\nDisallow: /closed\n"


@dataclass
class Site:
    """A web site on loopback, and who has read what of it."""

    url: str
    visits: list[tuple[str, str]] = field(default_factory=list)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    pages = {
        "/robots.txt": ("text/plain", ROBOTS),
        "/page": ("text/html; charset=utf-8", PAGE),
        "/closed": ("text/plain", CLOSED),
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.visits.append((self.path, self.headers["User-Agent"].partition("; ")[0]))
            kind, text = pages[self.path]
            body = text.encode()
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        site = Site(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield site
        server.shutdown()
        thread.join(PATIENCE)


@pytest.fixture(scope="module")
def fetched(served: Bridge, site: Site) -> Reports:
    pages = {"page": f"{site.url}/page", "closed": f"{site.url}/closed"}
    return run_all(served, "fetch", "fetch", names=ALL_SDKS, options=lambda _: pages)


@pytest.mark.parametrize("name", ALL_SDKS)
def test_fetch(name: str, fetched: Reports, served: Bridge, site: Site) -> None:
    seen = fetched[name].result()
    check_course(name, seen, served)
    assert seen["server"] == "mcp-fetch"
    assert seen["tools"] == ["fetch"]
    assert seen["page"].rstrip() == f"Contents of {site.url}/page:\n{SHOWN}"
    assert f"Contents of {site.url}/page:\n{SHOWN[2:12]}\n\n<error>Content truncated." in seen["part"]
    assert seen["raw"].endswith(f"Contents of {site.url}/page:\n{PAGE}")
    assert "specifies that autonomous fetching of this page is not allowed" in seen["closed"]
    assert ROBOTS in seen["closed"]
    [message] = seen["prompt"]
    assert message["role"] == "user"
    assert message["content"]["text"].endswith(f"here is the raw content:\n{CLOSED}")


def test_fetch_was_at_the_site(fetched: Reports, site: Site) -> None:
    for report in fetched.values():
        report.result()
    robot, person = "ModelContextProtocol/1.0 (Autonomous", "ModelContextProtocol/1.0 (User-Specified"
    for visit, times in {("/robots.txt", robot): 4, ("/page", robot): 3, ("/closed", person): 1}.items():
        assert site.visits.count(visit) == times * len(ALL_SDKS), visit
    assert ("/closed", robot) not in site.visits


@pytest.fixture(scope="module")
def times(served: Bridge) -> Reports:
    return run_all(served, "time", "time", names=ALL_SDKS)


@pytest.mark.parametrize("name", ALL_SDKS)
def test_time(name: str, times: Reports, served: Bridge) -> None:
    seen = times[name].result()
    check_course(name, seen, served)
    assert seen["tools"] == ["convert_time", "get_current_time"]
    converted = seen["converted"]
    assert converted["source"]["datetime"].endswith("T16:30:00+09:00")
    assert converted["target"]["datetime"].endswith("T13:00:00+05:30")
    assert converted["time_difference"] == "-3.5h"
    assert "Nowhere/Land" in seen["nowhere"]


def test_each_client_is_served_in_its_own_era(fetched: Reports, times: Reports, served: Bridge) -> None:
    for report in (*fetched.values(), *times.values()):
        report.result()
    for server in ("fetch", "time"):
        assert f'server "{server}" is of the other era' not in served.log
