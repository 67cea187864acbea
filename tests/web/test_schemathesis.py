"""schemathesis reads /openapi.json and tries what it says: right and wrong bodies, methods, headers, tokens."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from tests.conftest import StartBridge
from tests.web.test_tools_rest import WHO, listed, page

TOKEN = "a-token-of-the-test"
KINDS = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 2, "maxLength": 5},
        "times": {"type": "integer", "minimum": 1, "maximum": 9},
        "part": {"type": ["number", "null"]},
        "colour": {"enum": ["red", "green"]},
        "some": {"type": "array", "items": {"anyOf": [{"type": "boolean"}, {"const": 7}]}, "maxItems": 3},
    },
    "required": ["name"],
    "additionalProperties": False,
}


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_the_bridge_does_what_its_document_says(start_bridge: StartBridge, tmp_path: Path) -> None:
    file = tmp_path / "pages"
    file.write_text(page(("a/b ü", WHO), ("kinds", KINDS)))
    demo = {"command": sys.executable, "args": ["-m", "bridge.demo"], "allowedTools": ["add"]}
    bridge = await start_bridge({"odd": listed(file), "demo": demo}, ACCESS_TOKEN=TOKEN)
    process = await asyncio.create_subprocess_exec(
        *(str(Path(sys.executable).with_name("schemathesis")), "run", f"{bridge.url}/openapi.json"),
        *("--header", f"Authorization: Bearer {TOKEN}", "--wait-for-schema", "30", "--seed", "1"),
        *("--checks", "all", "--phases", "examples,coverage,fuzzing", "--max-examples", "5"),
        *("--continue-on-failure", "--no-color"),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    assert "3 selected / 3 total" in out.decode()
