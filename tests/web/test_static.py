"""The files of the page: public, checked again at each use, and with a policy that lets them do next to nothing."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from bridge.web.static import FILES
from tests.conftest import Running, StartBridge

ROOT = Path(__file__).parent.parent.parent
NAMES = sorted(file.name for file in FILES.iterdir())
PATHS = ["/", *(f"/page/{name}" for name in NAMES if name != "index.html")]


@pytest.mark.parametrize("path", PATHS)
async def test_a_file_is_public_and_strict(start_bridge: StartBridge, path: str) -> None:
    bridge = await start_bridge(ACCESS_TOKEN="secret")
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        async with bridge.http.get(bridge.url + path, headers=headers) as response:
            assert response.status == 200
            body = await response.read()
            assert body == (FILES / (path.rpartition("/")[2] or "index.html")).read_bytes()
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
    assert "unsafe" not in policy
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert response.headers["Cache-Control"] == "no-cache"
    again = {"If-None-Match": response.headers["ETag"]}
    async with bridge.http.get(bridge.url + path, headers=again) as unchanged:
        assert (unchanged.status, await unchanged.read()) == (304, b"")
        assert unchanged.headers["ETag"] == response.headers["ETag"]
    async with bridge.http.get(bridge.url + path, headers={"If-None-Match": '"other"'}) as changed:
        assert changed.status == 200
    async with bridge.http.head(bridge.url + path) as head:
        assert (head.status, await head.read()) == (200, b"")


async def test_nothing_else_lies_there(bridge: Running) -> None:
    for path in ("/page/", "/page/index.html", "/page/../app.py", "/page/%2e%2e/app.py", "/page/main.js/", "/page"):
        async with bridge.http.get(bridge.url + path) as response:
            assert response.status == 404, path


def test_a_file_holds_no_script_and_no_style_of_its_own_and_no_way_to_make_markup() -> None:
    html = (FILES / "index.html").read_text()
    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=|javascript:", html) == []
    for name in NAMES:
        text = (FILES / name).read_text()
        ways = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|Function\(|localStorage|sessionStorage"
        assert re.findall(ways + r"|indexedDB|document\.cookie", text) == [], name
        assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text) == [], name


def test_the_wheel_holds_the_page(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        names = {name.removeprefix("bridge/web/page/") for name in packed.namelist() if "/page/" in name}
    assert names == set(NAMES)
