"""The programs that measure: written in C and compiled at run time, because what measures must cost less than what is
measured. Without a compiler the same in Python is used, and the report says so.
"""

from __future__ import annotations

import functools
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
#: What is made at run time: compiled programs, and the peers.
CACHE = ROOT / ".cache" / "bench"

#: How the Python form of each C program is started. The child has nothing to import, which is what makes it light.
PYTHON = {
    "child": [sys.executable, "-I", "-S", str(HERE / "child.py")],
    "load": [sys.executable, str(HERE / "loader.py")],
}


def compiler() -> str | None:
    """The C compiler of this machine."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


@functools.cache
def program(name: str) -> list[str]:
    """The command of ``child`` or ``load``, compiled if that is possible."""
    source = HERE / f"{name}.c"
    cc = compiler()
    if cc is None:
        return PYTHON[name]
    compiled = CACHE / f"{name}-{hashlib.sha256(source.read_bytes()).hexdigest()[:12]}"
    if not compiled.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        done = subprocess.run([cc, "-O2", "-o", str(compiled), str(source)], capture_output=True, encoding="utf-8")
        if done.returncode != 0:  # no headers of a C library, say
            print(f"{source.name} does not compile, Python instead: {done.stderr.strip()[:300]}", file=sys.stderr)
            return PYTHON[name]
    return [str(compiled)]
