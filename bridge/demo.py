"""``python -m bridge.demo``: an MCP server to try the bridge with, on the official SDK.

Each tool shows one thing that a bridge must get right: answers, state per session, progress, a question to the user.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

from bridge.version import __version__

try:
    from mcp.server import MCPServer
    from mcp.server.mcpserver import Context, Elicit, Resolve
    from pydantic import BaseModel, Field
except ImportError as error:
    sys.exit(
        f"bridge.demo: {error.name} is not installed; in the folder of the bridge, as it was installed: "
        "uv tool install '.[demo]', pipx install --force '.[demo]' or pip install '.[demo]'"
    )

server = MCPServer("demo", version=__version__, instructions="Tools to try the bridge with.")
_count = 0


class Name(BaseModel):
    """What the user is asked for."""

    name: str = Field(description="Who should be greeted?")


async def _ask_name() -> Elicit[Name]:
    return Elicit("What is your name?", Name)


@server.tool()
def echo(text: str) -> str:
    """Return the text."""
    return text


@server.tool()
def add(a: float, b: float) -> float:
    """Return the sum of two numbers."""
    return a + b


@server.tool()
def count() -> int:
    """Count the calls of this session: a session has a process, and so a counter, of its own."""
    global _count
    _count += 1
    return _count


@server.tool()
async def slow(context: Context, seconds: float = 3, steps: int = 3) -> str:
    """Take some time, and tell how far it is."""
    for step in range(1, steps + 1):
        await asyncio.sleep(seconds / steps)
        await context.report_progress(step, steps, f"step {step} of {steps}")
    return f"took {seconds:g} s"


@server.tool()
def greet(answer: Annotated[Name, Resolve(_ask_name)]) -> str:
    """Ask the user for a name, and greet."""
    return f"Hello {answer.name}"


def main() -> None:
    """Serve on stdin and stdout."""
    server.run("stdio")


if __name__ == "__main__":
    main()
