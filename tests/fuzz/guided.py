"""The same properties, with inputs that coverage leads: ``make fuzz-guided MINUTES=60``.

Atheris (libFuzzer) keeps whatever reaches a line or a comparison of ``bridge`` that nothing has reached before. What
breaks a property is written once per place that broke, and the run goes on. ``ARGS=--keep`` puts into ``corpus/`` what
reaches more than it.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shlex
import subprocess
import sys
import traceback
from pathlib import Path

import atheris
from hypothesis import HealthCheck, given, settings

with atheris.instrument_imports(include=["bridge"]):
    from tests.fuzz.inputs import INPUTS
    from tests.fuzz.properties import PROPERTIES

CORPUS = Path(__file__).parent / "corpus"
#: Bytes of the longest input; what is longer is slow and says no more.
LONGEST = 4096
#: What the parsers look for, which one changed byte at a time would hardly find.
WORDS = (
    *('"jsonrpc"', '"2.0"', '"id"', '"method"', '"params"', '"result"', '"error"', '"code"', '"message"', '"_meta"'),
    *('"progressToken"', '"name"', '"uri"', '"arguments"', "tools/call", "resources/read", "prompts/get", "initialize"),
    *("MCP-Protocol-Version: 2026-07-28", "Mcp-Method: ", "Mcp-Name: ", "Mcp-Param-Region: ", "=?base64?w6k=?="),
    *("io.modelcontextprotocol/protocolVersion", "io.modelcontextprotocol/clientCapabilities", "2026-07-28", "region"),
    *("data: ", "id: ", "event: ", "retry: ", "NaN", "Infinity", "1e999", "\\ud800", "\\u2028", "true", "null"),
    *("notifications/progress", "notifications/cancelled", "requestId", "99999999999999999999", "1-1", "0-0"),
)


def seeds(name: str, reached: Path) -> None:
    """Begin with what hypothesis thinks of: from single bytes it is a long way to a message."""

    @settings(max_examples=500, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(data=INPUTS[name])
    def write(data: bytes) -> None:
        (reached / hashlib.sha1(data).hexdigest()).write_bytes(data[:LONGEST])

    write()


def explore(name: str, seconds: int, reached: Path, findings: Path) -> None:
    """Try inputs for one property; never returns, as libFuzzer ends the process."""
    seeds(name, reached)
    seen: set[str] = set()

    def try_one(data: bytes) -> None:
        try:
            PROPERTIES[name](data)
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{name}-{Path(where.filename).stem}-{where.lineno}-{type(error).__name__}"
            if place not in seen:
                seen.add(place)
                (findings / place).write_bytes(data)
                print(f"FOUND {place}: {error}", flush=True)

    words = reached.parent / "words"
    words.write_text("".join('"' + re.sub(r'(["\\])', r"\\\1", word) + '"\n' for word in WORDS))
    limits = [f"-max_total_time={seconds}", f"-max_len={LONGEST}", "-timeout=30"]
    atheris.Setup(
        [sys.argv[0], *limits, f"-dict={words}", "-print_final_stats=1", str(reached), str(CORPUS / name)], try_one
    )
    atheris.Fuzz()


def keep(name: str, reached: Path, rest: list[str]) -> None:
    """Put into the corpus the fewest of ``reached`` that reach what it does not; never returns.

    libFuzzer tries them in processes of its own: it says ``rest`` to them, and its first word is how one is started.
    """
    itself = shlex.join([sys.executable, "-m", "tests.fuzz.guided", *sys.argv[1:]])
    options = rest or ["-set_cover_merge=1", str(CORPUS / name), str(reached)]
    atheris.Setup([itself, *options], PROPERTIES[name])
    atheris.Fuzz()


def main() -> int:
    """Each property in a process of its own, one after the other; return the exit code."""
    parser = argparse.ArgumentParser(prog="make fuzz-guided", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60, help="how long all properties have together (default: 60)")
    parser.add_argument("--keep", action="store_true", help="add to the corpus what reaches more than it does")
    parser.add_argument("--folder", type=Path, default=Path(".cache/fuzz"), help="where inputs and findings go")
    parser.add_argument("--only", choices=sorted(PROPERTIES), help=argparse.SUPPRESS)
    said, rest = parser.parse_known_args()
    findings = said.folder / "findings"
    if said.only:
        reached = said.folder / said.only
        if said.keep:
            keep(said.only, reached, rest)
        explore(said.only, round(said.minutes * 60), reached, findings)
    findings.mkdir(parents=True, exist_ok=True)
    for name in PROPERTIES:
        (said.folder / name).mkdir(exist_ok=True)
        again = [sys.executable, "-m", "tests.fuzz.guided", "--only", name, "--folder", str(said.folder)]
        subprocess.run([*again, "--minutes", str(said.minutes / len(PROPERTIES))], check=True)
        if said.keep:
            subprocess.run([*again, "--keep"], check=True)
    found = sorted(findings.iterdir())
    print(f"{len(found)} findings in {findings}", *found, sep="\n  ")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
