"""The child in C and the child in Python say the same, and what they say is JSON."""

from __future__ import annotations

import json
import subprocess

import pytest

from bench import mcp, programs

LINES = [
    mcp.INITIALIZE,
    mcp.INITIALIZED,
    {**mcp.INITIALIZE, "params": {"protocolVersion": "2025-11-25"}, "id": "a"},
    {"jsonrpc": "2.0", "id": 1, "method": "tools/list"},
    {"jsonrpc": "2.0", "id": 2, "method": "server/discover", "params": {"_meta": mcp.MODERN_META}},
    {"jsonrpc": "2.0", "id": 3, "method": "ping"},
    mcp.ECHO,
    mcp.call("echo", text="x" * 100_000),
    {"method": "tools/call", "params": {"name": "echo", "arguments": {"text": "y" * 100_000}}, "id": "at the end"},
    *(mcp.call("give", bytes=size) for size in (0, 1, 78, 79, 80, 81, 159, 64_000, 64_079, 3_000_000)),
    mcp.with_meta(mcp.call("notes", count=3, bytes=100), {"progressToken": "t"}),
]


def said(command: list[str], compact: bool) -> bytes:
    separators = (",", ":") if compact else None
    lines = "".join(json.dumps(line, separators=separators) + "\n" for line in LINES)
    return subprocess.run(command, input=lines.encode(), capture_output=True, check=True, timeout=30).stdout


@pytest.mark.parametrize("compact", [True, False])
def test_both_children_say_the_same(compact: bool) -> None:
    if programs.compiler() is None:
        pytest.skip("no C compiler")
    assert said(programs.program("child"), compact) == said(programs.PYTHON["child"], compact)


def test_what_they_say_is_an_answer_to_each_request() -> None:
    messages = [json.loads(line) for line in said(programs.PYTHON["child"], True).splitlines()]
    answers = [message for message in messages if "id" in message]
    assert [answer["id"] for answer in answers] == [line["id"] for line in LINES if "id" in line]
    assert answers[0]["result"]["protocolVersion"] == mcp.VERSION
    assert answers[1]["result"]["protocolVersion"] == "2025-11-25"
    notes = [message["params"] for message in messages if "id" not in message]
    assert [(note["progressToken"], note["progress"]) for note in notes] == [("t", 1), ("t", 2), ("t", 3)]


def test_a_text_has_as_many_bytes_as_were_asked_for() -> None:
    sizes = [line["params"]["arguments"].get("bytes") for line in LINES if line.get("method") == "tools/call"]
    lines = said(programs.PYTHON["child"], True).splitlines()
    texts = [line.partition(b'"text":"')[2].partition(b'"}]')[0] for line in lines if b'"text":"' in line]
    for size, text in zip(sizes[:-1], texts[:-1], strict=True):
        if size is not None:
            assert len(text) == size
