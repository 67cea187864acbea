"""A child of a zygote is what a plain start would be, only sooner."""

from __future__ import annotations

import asyncio
import errno
import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bridge.process.foreign.zygote import changes_nothing, first_imports
from bridge.process.spawn import Command
from bridge.process.zygote import ZygoteError
from tests.process.conftest import Grow, Watch, python
from tests.process.watched import Watched

#: Tells all that a program can see of how it was started. Runs under any Python that a server may have.
FACTS = """
import atexit, gc, json, os, resource, signal, sys, threading
HERE = "a constant"
import heavy
def stream(file):
    return [file.encoding, file.errors, file.line_buffering, getattr(file, "write_through", None), file.fileno(),
            file.name, file.isatty(), file.seekable(), type(getattr(file, "buffer", None)).__name__]
main = sys.modules["__main__"]
facts = {
    "argv": [sys.argv, heavy.ARGV],
    "orig_argv": getattr(sys, "orig_argv", None),
    "path": sys.path,
    "executable": [sys.executable, sys.prefix],
    "flags": list(sys.flags),
    "options": [sys.warnoptions, sorted(sys._xoptions.items())],
    "main": [main.__dict__ is globals(), __name__, __package__, globals().get("__file__"), __doc__],
    "main's": [type(__builtins__).__name__, globals().get("__cached__"), type(__loader__).__name__,
               getattr(__loader__, "name", None), __spec__ and [__spec__.name, __spec__.origin]],
    "cwd": os.getcwd(),
    "env": {name: value for name, value in os.environ.items() if name != "MCP_BRIDGE_RUN"},  # each has its own
    "streams": [stream(sys.stdin), stream(sys.stdout), stream(sys.stderr), sys.stdin is sys.__stdin__],
    "signals": [repr(signal.getsignal(n)) for n in range(1, 32)],
    "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    "descriptors": sorted(n for n in map(int, os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd/%d" % n)),
    "leads": [os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid()],
    "threads": [threading.active_count(), threading.current_thread() is threading.main_thread()],
    "gc": [gc.isenabled(), gc.get_threshold()],
    "limits": [resource.getrlimit(n) for n in range(10)],
    "umask": os.umask(0),
}
print(json.dumps(facts))
print(json.dumps([os.getpid() == heavy.PID, os.getppid() == heavy.PID]))
sys.stdout.flush()
print(sys.stdin.readline().strip() + "!")
atexit.register(lambda: print("at exit"))
threading.Thread(target=lambda: print("a thread", HERE)).start()
"""

COMMANDS = {
    "module": "{python} -m pkg.mod a --b",
    "package": "{python} -m pkg -m",
    "unbuffered": "{python} -u -m pkg.mod",
    "options": "{python} -X utf8 -W ignore -O -m pkg.mod",
    "script": "{python} script.py a",
    "a path to a script": "{python} ./pkg/../script.py",
    "a link to a script": "{python} link/linked.py",
    "code": "{python} -c exec(open('script.py').read()) a",
    "a console script": "{folder}/tool a",
    "isolated": "{python} -I {folder}/isolated.py",
    "safe path": "{python} -P {folder}/isolated.py",
}
#: Those that do something before they import, so that the zygote does not.
LATE = ("a link to a script", "code", "isolated", "safe path")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A package, a script, a link to one and a console script, which all tell the facts."""
    late = f"import sys\nsys.path.append({str(tmp_path)!r})\n{FACTS}"
    for name, text in {
        "heavy.py": "import os, sys\nPID = os.getpid()\nARGV = sys.argv[:]\n",
        "pkg/__init__.py": '"""A package."""\n',
        "pkg/__main__.py": FACTS,
        "pkg/mod.py": f'"""What it is."""{FACTS}',
        "script.py": FACTS,
        "scripts/linked.py": late,
        "isolated.py": late,
        "tool": f"#!{sys.executable}\n{FACTS}",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "linked.py").symlink_to(tmp_path / "scripts" / "linked.py")
    (tmp_path / "tool").chmod(0o755)
    return tmp_path


async def tell(it: Watched) -> tuple[dict[str, Any], list[bool], list[str]]:
    """What a program says of itself; whether it or its parent has imported ``heavy``; and its last lines."""
    facts, by_whom = json.loads(await it.line()), json.loads(await it.line())
    it.child.write(b"hear me")
    await it.ended.wait()
    assert it.child.returncode == 0, it.errors
    return facts, by_whom, [await it.line() for _ in range(it.lines.qsize())]


async def compare(command: Command, watch: Watch, grow: Grow, late: bool = False) -> None:
    """Start it plainly and from a zygote: both must find the same, and only the modules are older."""
    plain, by_whom, said = await tell(await watch(command))
    assert by_whom == [True, False]
    assert said == ["hear me!", "a thread a constant", "at exit"]
    zygote = await grow(command)
    for _ in range(2):
        forked, by_whom, also_said = await tell(await watch(command, zygote))
        assert forked == plain
        assert by_whom == [late, not late]
        assert also_said == said


@pytest.mark.parametrize("name", COMMANDS)
async def test_a_forked_child_finds_what_a_plain_one_finds(name: str, folder: Path, watch: Watch, grow: Grow) -> None:
    await compare(python(folder, COMMANDS[name]), watch, grow, name in LATE)


@pytest.mark.parametrize(
    "env",
    [
        {"PYTHONUNBUFFERED": "1"},
        {"PYTHONIOENCODING": "latin-1:replace"},
        {"PYTHONUTF8": "1", "LANG": "C"},
        {"PYTHONPATH": "one:two"},
        {"PYTHONSAFEPATH": "1", "PYTHONPATH": "."},
    ],
    ids=str,
)
async def test_the_environment_means_the_same_to_it(
    env: dict[str, str], folder: Path, watch: Watch, grow: Grow
) -> None:
    await compare(python(folder, "{python} -m pkg.mod", **env), watch, grow)


@pytest.mark.parametrize("minor", range(8, 14))
async def test_every_python_can_be_a_zygote(minor: int, folder: Path, watch: Watch, grow: Grow) -> None:
    interpreter = await _interpreter(f"python3.{minor}")
    await compare(python(folder, "{python} -m pkg.mod a", interpreter), watch, grow)
    await compare(python(folder, "{python} script.py a", interpreter), watch, grow)


async def _interpreter(name: str) -> str:
    """A Python of this machine; the test is skipped when there is none of that name."""
    found = shutil.which(name)
    if found is not None:
        asked = (found, "-c", "import sys; print(sys.executable)")
        done = await asyncio.to_thread(subprocess.run, asked, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout.strip()
    pytest.skip(f"there is no {name} here")


async def test_children_of_one_zygote_draw_different_numbers(tmp_path: Path, watch: Watch, grow: Grow) -> None:
    (tmp_path / "s.py").write_text(
        "import random, uuid, secrets\n"
        "print(random.random(), uuid.uuid4(), uuid.uuid1().clock_seq, secrets.token_hex())\n"
    )
    zygote = await grow(python(tmp_path))
    drawn = [(await (await watch(python(tmp_path), zygote)).line()).split() for _ in range(3)]
    assert all(len(set(numbers)) == 3 for numbers in zip(*drawn, strict=True))


async def test_numpy_draws_anew_too(tmp_path: Path, watch: Watch, grow: Grow) -> None:
    (tmp_path / "numpy").mkdir()  # not the real one, whose threads a zygote refuses on most machines
    (tmp_path / "numpy" / "__init__.py").touch()
    (tmp_path / "numpy" / "random.py").write_text("import os\ndef seed():\n    global by\n    by = os.getpid()\n")
    (tmp_path / "s.py").write_text("import numpy.random, os\nprint(numpy.random.by == os.getpid())")
    it = await watch(python(tmp_path), await grow(python(tmp_path)))
    assert await it.line() == "True"


async def test_a_hundred_children_speak_each_through_pipes_of_its_own(tmp_path: Path, watch: Watch, grow: Grow) -> None:
    (tmp_path / "s.py").write_text(
        "import os, sys\nfor line in sys.stdin: print(line.strip(), os.getpid(), flush=True)\n"
    )
    zygote = await grow(python(tmp_path))
    children = await asyncio.gather(*(watch(python(tmp_path), zygote) for _ in range(100)))
    for number, it in enumerate(children):
        it.child.write(b"%d" % number)
    for number, it in enumerate(children):
        assert await it.line() == f"{number} {it.child.pid}"
    assert len({it.child.pid for it in children}) == 100


async def test_asyncio_runs_in_a_child(tmp_path: Path, watch: Watch, grow: Grow) -> None:
    (tmp_path / "s.py").write_text(
        "import asyncio\n"
        "async def main():\n"
        "    process = await asyncio.create_subprocess_exec('echo', 'hello')\n"
        "    await asyncio.to_thread(process.__repr__)\n"
        "    await process.wait()\n"
        "asyncio.run(main())\n"
    )
    it = await watch(python(tmp_path), await grow(python(tmp_path)))
    assert await it.line() == "hello"


@pytest.mark.parametrize(
    ("source", "package", "found"),
    [
        ("", "", []),
        ("'doc'\nimport a, b.c\nX = 1\nfrom d import e, f as g", "", [("a", []), ("b.c", []), ("d", ["e", "f"])]),
        ("from . import a\nfrom .b import c", "p.q", [("p.q", ["a"]), ("p.q.b", ["c"])]),
        ("from ..d import e", "p.q", [("p.d", ["e"])]),
        ("from a import *", "", [("a", ["*"])]),
        ("import a\na.change()\nimport b", "", [("a", [])]),
        ("import a\nif a: import b\nimport c", "", [("a", [])]),
        ("import a\ntry:\n    import b\nexcept ImportError: pass", "", [("a", [])]),
        ("import a\nx = a.y\nimport b", "", [("a", [])]),
    ],
)
def test_what_a_program_imports_first(source: str, package: str, found: list[tuple[str, list[str]]]) -> None:
    assert first_imports(source, package) == found


@pytest.mark.parametrize(
    ("source", "nothing"),
    [
        ("", True),
        ("from a import main\n\nmain()\n", True),
        ("import a\nX: int = 1\nmcp = a.Server()\n@mcp.tool\ndef f(): a.b = 1\nclass C: pass\nmcp.run()", True),
        ("import a\nif __name__ == '__main__':\n    a.patch()\n    a.run()", True),
        ("import a\na.patch()\na.run()", False),
        ("import a\na.b = 1\na.run()", False),
        ("import a\na.b: int = 1\na.run()", False),
        ("import a\nif a: a.patch()\na.run()", False),
        ("import a\nfor x in a: x.patch()\na.run()", False),
    ],
)
def test_what_a_program_does_between_its_imports_and_its_last_line(source: str, nothing: bool) -> None:
    assert changes_nothing(source) is nothing


async def test_what_a_program_patches_is_patched_in_what_its_libraries_import_when_they_are_used(
    folder: Path, watch: Watch, grow: Grow
) -> None:
    (folder / "s.py").write_text(
        "import anyio, asyncio\n"
        "asyncio.current_task = print\n"
        "import anyio._backends._asyncio\n"
        "print(anyio._backends._asyncio.current_task is print)\n"
    )
    assert await (await watch(python(folder), await grow(python(folder)))).line() == "True"


async def test_no_descriptor_is_lost_where_there_are_none_for_all_pipes(
    tmp_path: Path, watch: Watch, grow: Grow, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "s.py").write_text("print(1)\n")
    zygote = await grow(python(tmp_path))
    made = [os.pipe(), os.pipe()]
    pipes = iter(made)

    def pipe() -> tuple[int, int]:
        found = next(pipes, None)
        if found is None:
            raise OSError(errno.EMFILE, "Too many open files")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(os, "pipe", pipe)
        with pytest.raises(ZygoteError, match="there are no pipes for its child: Too many open files"):
            await zygote.fork()
    for fd in itertools.chain(*made):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    assert await (await watch(python(tmp_path), zygote)).line() == "1"


async def test_a_list_of_modules_is_imported_instead(folder: Path, watch: Watch, grow: Grow) -> None:
    (folder / "s.py").write_text(
        "import sys, calendar\nprint({'heavy', 'wave', 'calendar'} & set(sys.modules) - {''})\n"
    )
    (folder / "heavy.py").write_text("import sys\nassert 'calendar' not in sys.modules\n")
    it = await watch(python(folder), await grow(python(folder), "heavy", "wave"))
    assert sorted(eval(await it.line())) == ["calendar", "heavy", "wave"]


async def test_what_a_library_cannot_import_yet_is_left_to_the_program(folder: Path, watch: Watch, grow: Grow) -> None:
    (folder / "anyio" / "_backends").mkdir(parents=True)
    (folder / "anyio" / "__init__.py").touch()
    (folder / "anyio" / "_backends" / "_asyncio.py").write_text("import heavy\nraise RuntimeError\n")
    (folder / "s.py").write_text("import anyio, os, sys\nprint('heavy' in sys.modules, 'argparse' in sys.modules)\n")
    assert await (await watch(python(folder), await grow(python(folder)))).line() == "True True"
    assert await (await watch(python(folder), await grow(python(folder), "anyio"))).line() == "False False"


async def test_what_modules_print_goes_to_the_log_and_not_to_the_children(
    folder: Path, watch: Watch, grow: Grow
) -> None:
    (folder / "heavy.py").write_text(
        "import sys\nPID = ARGV = 1\nprint('to stdout')\nprint('to stderr', file=sys.stderr)"
    )
    prints: list[bytes] = []
    it = await watch(python(folder, "{python} -m pkg"), await grow(python(folder, "{python} -m pkg"), prints=prints))
    assert "argv" in json.loads(await it.line())
    assert sorted(prints) == [b"to stderr", b"to stdout"]
