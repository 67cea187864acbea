"""``mcp-bridge pins``: what has changed, shown so that nothing hides in it, and approving it."""

from __future__ import annotations

import json
from pathlib import Path

import aiohttp

from tests.cli.conftest import Serve, run
from tests.web.test_tools import server

TOOL = {"name": "add", "description": "adds", "inputSchema": {}}


async def test_a_change_is_shown_and_approved(
    serve: Serve,
    http: aiohttp.ClientSession,
    tmp_path: Path,
) -> None:
    pages = tmp_path / "pages"

    async def listed(tool: dict[str, object]) -> list[object]:
        pages.write_text(json.dumps([tool]))
        async with http.post(f"{served.url}/bridge/mail", json={"method": "tools/list"}) as response:
            return list((await response.json())["result"]["tools"])

    served = await serve(servers={"mail": server(pages, pinTools="block")})
    where = ("--port", served.url.rpartition(":")[2])

    async def pins(*words: str) -> tuple[int, str, str]:
        return await run(tmp_path, "pins", *words, *where)

    assert await listed(TOOL) == [TOOL]
    assert await pins("diff") == (0, "nothing has changed\n", "")
    assert await listed({**TOOL, "description": "adds\u202e\x1b[31m"}) == []
    code, out, _ = await pins()
    assert code == 0
    assert out.splitlines()[1].split()[:4] == ["mail", "add", "changed", "yes"]
    code, out, _ = await pins("diff", "mail", "add")
    assert '-  "description": "adds",' in out
    assert r'+  "description": "adds\u202e\u001b[31m",' in out
    [row] = json.loads((await pins("diff", "--json"))[1])
    assert (await pins("approve", "mail", "add", "--sha256", "0" * 64))[0] == 1
    assert await pins("approve", "mail", "--sha256", row["now_sha256"]) == (
        0,
        "mail: 'add' is approved as it is now\n",
        "",
    )
    code, _, err = await pins("approve", "mail")
    assert code == 1
    assert "nothing there waits" in err
    assert (await pins("approve"))[0] == 2
    assert (await pins("ls", "nobody"))[0] == 1
    await served.stop()
    kept = json.loads((tmp_path / ".sessions" / "pins.json").read_text())
    assert kept["servers"]["mail"]["tools"]["add"]["pinned"]["sha256"] == row["now_sha256"]
    assert (await pins("ls"))[0] == 3


async def test_a_broken_file_of_pins_is_a_mistake_of_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "pins.json").write_text("{")
    (tmp_path / "servers.json").write_text(json.dumps({"mail": server(tmp_path / "pages")}))
    code, _, err = await run(tmp_path, "serve", "--port", "0", PINS_FILE="pins.json")
    assert code == 1
    assert "PINS_FILE: pins.json is no JSON" in err
    assert "Traceback" not in err
