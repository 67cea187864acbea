"""The zygote's program: imports what a server imports first, then forks a child of it whenever the bridge asks.

It runs under the *server's* Python, so it is one file that needs nothing but the standard library of Python 3.8 or
newer, and knows nothing of the bridge::

    python [options] zygote.py FD MODULES (-m MODULE | -c CODE | -e NAME | SCRIPT) [argument ...]

``FD`` is a socket to the bridge, ``MODULES`` a comma list of modules or ``-`` for those that the program imports before
it does anything else, ``-e`` names a console script of this environment. What follows is the server's own command line.

A child is what a plain start would be at the moment when its imports are done: the same objects for the standard
streams, the same ``sys.argv``, ``sys.path`` and ``__main__``, the signal handlers that its modules have set. Nothing is
put back, because nothing was changed: the zygote runs no line of the program that is not the beginning of it, and stays
out of what that can see. What could notice the fork (threads, sockets) is found after the imports, and refused.

The bridge asks ``fork`` (with three descriptors), ``status PID`` and ``reap PID``. Children that have ended stay
zombies until it says so, because it signals them by number. End-of-file means that it is gone: then they end too.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import fcntl
import gc
import importlib
import importlib.machinery
import importlib.util
import os
import runpy
import select
import signal
import socket
import stat
import struct
import sys
import threading
import time
import types

#: Seconds for a child to end by itself, and then to obey SIGTERM, when the bridge has gone.
PATIENCE = 0.5
#: Seconds for a child to get as far as its program; a module's own hooks at a fork run in them.
FORK_PATIENCE = 5.0
#: Longest request, in bytes.
REQUEST = 64
#: Descriptors that a child is given: its standard streams.
STREAMS = struct.Struct("3i")
#: Characters of a reason that the bridge is told.
SHOWN = 500
#: What libraries import only when they are used, though every server uses it: by the module that stands for a library.
#: Each was read in mcp 1.30 and 2.3, anyio 4.16 and fastmcp 4.1: it looks at nothing that programs change before, so it
#: may as well be imported early. What another version does not have is left out.
WHEN_USED = {
    "__main__": ("argparse",),
    "anyio": ("anyio._backends._asyncio",),
    "mcp.server.fastmcp": ("rich.console", "rich.logging"),
    "mcp.server.mcpserver": ("rich.console", "rich.logging"),
    "fastmcp.server": (
        "fastmcp.server.context",
        "fastmcp.server.middleware.dereference",
        "fastmcp.server.providers.prefab_payload",
        "fastmcp.server.providers.prefab_synthesis",
        "fastmcp.server.sessions",
        "fastmcp.server.transforms.catalog",
        "fastmcp.utilities.cli",
        "key_value.aio.adapters.pydantic",
        "key_value.aio.stores.memory",
        "rich._emoji_codes",
        "rich.ansi",
    ),
}
#: Whether the interpreter puts no directory in front of ``sys.path`` (``-P``, ``-I``).
SAFE_PATH = bool(getattr(sys.flags, "safe_path", sys.flags.isolated))


class Unable(Exception):
    """This program cannot be forked; the text says why."""


class Program:
    """The server's program, as its command line names it."""

    def __init__(self, arguments: list[str]) -> None:
        kind, *rest = arguments
        if kind in ("-m", "-c", "-e"):
            self.kind = kind
            self.target, *self.arguments = rest
        else:
            self.kind, self.target, self.arguments = "", kind, rest
        self.package = ""
        self.source: str | bytes | None = None
        if self.kind == "-e":
            self.target = os.path.join(os.path.dirname(sys.executable), self.target)

    def find(self) -> None:
        """Make ``sys.argv``, ``sys.path`` and ``__main__`` what they are at its start, and find its source."""
        self._take_over_command_line()
        if self.kind == "-m":
            self._begin("-m", os.getcwd())
            self._find_module()
        elif self.kind == "-c":
            self._begin("-c", "")
            self.source = self.target
        else:
            self._begin(self.target, os.path.dirname(os.path.realpath(self.target)))
            self._read_script()

    def preload(self, modules: str) -> None:
        """Import ``modules``, or what the program imports before it does anything else, and what that will import."""
        if modules != "-":
            for name in modules.split(","):
                importlib.import_module(name)
        elif self.source is not None:
            for name, members in first_imports(self.source, self.package):
                __import__(name, {}, {}, members)
            if changes_nothing(self.source):
                import_when_used()

    def run(self) -> None:
        """Run it, in ``__main__``."""
        if self.kind == "-m":
            runpy._run_module_as_main(self.target)  # type: ignore[attr-defined]  # what python -m calls
            return
        main = sys.modules["__main__"].__dict__
        if self.kind == "-c":
            filename = "<string>"
        else:
            # Absolute since Python 3.9
            filename = os.path.join(os.getcwd(), self.target) if sys.version_info >= (3, 9) else self.target
            main["__file__"] = filename
            main["__cached__"] = None
            main["__loader__"] = importlib.machinery.SourceFileLoader("__main__", filename)
        assert self.source is not None
        exec(compile(self.source, filename, "exec", dont_inherit=True), main)  # noqa: S102  # as Python would

    def _take_over_command_line(self) -> None:
        if hasattr(sys, "orig_argv"):  # Python 3.10
            kind = [self.kind] if self.kind in ("-m", "-c") else []
            sys.orig_argv = [*sys.orig_argv[: -len(sys.argv)], *kind, self.target, *self.arguments]
        if not SAFE_PATH:
            del sys.path[0]  # the folder of this file

    def _begin(self, argv0: str, path0: str) -> None:
        sys.argv[:] = [argv0, *self.arguments]
        if not SAFE_PATH:
            sys.path.insert(0, path0)
        main = types.ModuleType("__main__")
        main.__dict__["__builtins__"] = builtins
        main.__dict__["__loader__"] = importlib.machinery.BuiltinImporter
        sys.modules["__main__"] = main

    def _find_module(self) -> None:
        spec = importlib.util.find_spec(self.target)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(self.target + ".__main__")
        if spec is None or spec.loader is None:
            raise Unable(f"there is no module {self.target} that can be run")
        self.package = spec.parent or ""
        sys.argv[0] = spec.origin or "-m"
        get_source = getattr(spec.loader, "get_source", None)
        self.source = None if get_source is None else get_source(spec.name)

    def _read_script(self) -> None:
        with open(self.target, "rb") as file:
            self.source = file.read()


def first_imports(source: str | bytes, package: str) -> list[tuple[str, list[str]]]:
    """Return what a program imports before it does anything else: names of modules, and what is taken of each.

    Behind the first line that does something, an import may depend on what that line did.
    """
    found: list[tuple[str, list[str]]] = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import):
            found += [(alias.name, []) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            name = node.module or ""
            if node.level:
                name = importlib.util.resolve_name("." * node.level + name, package)
            found.append((name, [alias.name for alias in node.names]))
        elif not _does_nothing(node):
            break
    return found


def _does_nothing(node: ast.stmt) -> bool:
    """A docstring, or a constant that is given a name."""
    return isinstance(node, (ast.Expr, ast.Assign)) and isinstance(node.value, ast.Constant)


def changes_nothing(source: str | bytes) -> bool:
    """Whether nothing between a program's imports and its last line could change a library that it has imported.

    What is called there may patch one (``nest_asyncio.apply()``), and what is imported before that would not know.
    """
    *before, last = ast.parse(source).body or [ast.Pass()]
    return all(map(_only_defines, before)) and (isinstance(last, ast.Expr) or _only_defines(last))


def _only_defines(node: ast.stmt) -> bool:
    """An import, a definition, a name that is given to a value, or what is done where the program is the main one."""
    if isinstance(node, ast.Assign):
        return all(isinstance(target, ast.Name) for target in node.targets)
    if isinstance(node, ast.AnnAssign):
        return isinstance(node.target, ast.Name)
    if isinstance(node, ast.If):
        asked = getattr(node.test, "left", None)
        return isinstance(asked, ast.Name) and asked.id == "__name__"
    kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Pass)
    return isinstance(node, kinds) or _does_nothing(node)


def import_when_used() -> None:
    """Import what the libraries that are there will import when they are used."""
    for library, modules in WHEN_USED.items():
        if library in sys.modules:
            for name in modules:
                with contextlib.suppress(Exception):  # the program will meet it, if it comes to that
                    importlib.import_module(name)


# --- what a fork would break ------------------------------------------------------------------------------------------


def descriptors() -> dict[int, str]:
    """Return the open descriptors, and what each is."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink("/proc/self/fd/" + name)
        except OSError:  # that of the directory itself
            continue
    return found


def obstacle(before: dict[int, str]) -> str | None:
    """Return what its imports have left that no child may share, None for nothing."""
    threads = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    if threads:
        return "its imports have started threads: " + ", ".join(threads)
    native = len(os.listdir("/proc/self/task")) - 1
    if native:
        return f"its imports have started {native} thread(s) of a library"
    for number, name in descriptors().items():
        if before.get(number) != name and not _may_be_shared(number):
            return f"its imports have opened {name}, which children cannot share"
    return None


def _may_be_shared(number: int) -> bool:
    """A log is appended to by anyone, and a character device has no position."""
    try:
        mode = os.fstat(number).st_mode
        if stat.S_ISREG(mode):
            return bool(fcntl.fcntl(number, fcntl.F_GETFL) & os.O_APPEND)
    except OSError:  # closed meanwhile
        return True
    return stat.S_ISCHR(mode)


# --- serving the bridge -----------------------------------------------------------------------------------------------


class Zygote:
    """Obeys the bridge."""

    def __init__(self, bridge: socket.socket) -> None:
        self._bridge = bridge
        self._children: set[int] = set()

    def serve(self) -> None:
        """Fork whenever the bridge asks for it. Returns in each child; in the zygote itself never."""
        while True:
            try:
                request, extra, _, _ = self._bridge.recvmsg(REQUEST, socket.CMSG_SPACE(STREAMS.size))
            except ConnectionError:
                request = b""
            word, _, number = request.partition(b" ")
            if word == b"fork":
                if self._fork(STREAMS.unpack(extra[0][2])):
                    return
            elif word == b"status":
                self._say(_status(int(number)))
            elif word == b"reap":
                self._reap(int(number))
            else:
                self._end()

    def _say(self, text: str) -> None:
        with contextlib.suppress(ConnectionError):  # the next request is its end-of-file
            self._bridge.send(text.encode(errors="replace"))

    def _fork(self, streams: tuple[int, ...]) -> bool:
        """Fork; True in the child. The bridge hears of it when the child has its streams and its group."""
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        heard, done = os.pipe()
        try:
            pid = os.fork()
        except OSError as error:
            self._say("refused " + str(error.strerror))
            pid = -1
        if pid == 0:
            os.close(heard)
            self._bridge.close()
            _become(streams)
            os.write(done, b"1")
            os.close(done)
            return True
        for number in (done, *streams):
            os.close(number)
        if pid > 0:
            self._children.add(pid)
            self._answer(pid, heard)
        os.close(heard)
        return False

    def _answer(self, pid: int, heard: int) -> None:
        if select.select([heard], [], [], FORK_PATIENCE)[0] and os.read(heard, 1):
            self._say(f"forked {pid}")
            return
        os.kill(pid, signal.SIGKILL)
        self._reap(pid)
        self._say("refused the child did not come as far as its program")

    def _reap(self, pid: int) -> None:
        if pid in self._children:
            self._children.remove(pid)
            with contextlib.suppress(ChildProcessError):  # a module has had the signal of its end ignored
                os.waitpid(pid, 0)

    def _end(self) -> None:
        """The bridge is gone. So is what the children read from: wait, then insist, and leave nothing of them."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        tree: set[tuple[int, str]] = set()
        for number in (0, signal.SIGTERM, signal.SIGKILL):
            tree |= _descendants(self._children)
            for pid in self._children:
                _signal_group(pid, number)
            for pid, _ in tree & _living():
                if number:
                    os.kill(pid, number)
            self._wait(tree)
        os._exit(0)

    def _wait(self, tree: set[tuple[int, str]]) -> None:
        """Wait for the children, which are reaped, and for what descends from them."""
        deadline = time.monotonic() + PATIENCE
        while (self._children or tree & _living()) and time.monotonic() < deadline:
            for pid in [pid for pid in self._children if _status(pid) != "running"]:
                _signal_group(pid, signal.SIGKILL)  # what it leaves behind
                self._reap(pid)
            # Wakes up at the end of a child. The others are not ours, so that nothing tells of their ends.
            signal.sigtimedwait({signal.SIGCHLD}, 0.01)


def _become(streams: tuple[int, ...]) -> None:
    """Take the standard streams, under the objects that the interpreter made at its start; lead a session."""
    os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:  # as the module ``random`` does by itself
        numpy.seed()


def _status(pid: int) -> str:
    """Tell how a child has ended, and leave it a zombie."""
    try:
        info = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return "unknown"
    if info is None:
        return "running"
    return f"exited {info.si_status if info.si_code == os.CLD_EXITED else -info.si_status}"


def _signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _processes() -> dict[int, tuple[int, str]]:
    """Return all that live: the parent of each, and when it began."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
            if fields[0] != "Z":
                found[int(name)] = (int(fields[1]), fields[19])
    return found


def _living() -> set[tuple[int, str]]:
    """Return number and begin of all that live: a number alone may be given to another process."""
    return {(pid, begun) for pid, (_, begun) in _processes().items()}


def _descendants(ancestors: set[int]) -> set[tuple[int, str]]:
    processes = _processes()
    found: set[tuple[int, str]] = set()
    parents = set(ancestors)
    while parents:
        below = {(pid, begun) for pid, (parent, begun) in processes.items() if parent in parents}
        found |= below
        parents = {pid for pid, _ in below}
    return found


def main() -> Program:
    """Import, tell the bridge, and serve it. Returns the program in each child."""
    _, number, modules, *command = sys.argv
    bridge = socket.socket(fileno=int(number))
    bridge.set_inheritable(False)
    before = descriptors()
    try:
        program = Program(command)
        begun = len(sys.modules)
        program.find()
        program.preload(modules)
        why = obstacle(before)
        if why is not None:
            raise Unable(why)
    except BaseException as error:  # a module may even raise SystemExit
        why = str(error) if isinstance(error, Unable) else f"{type(error).__name__}: {error}"
        Zygote(bridge)._say("failed " + why[:SHOWN])
        os._exit(1)
    gc.collect()
    gc.freeze()  # so that no child's collection touches, and so copies, the pages that all of them share
    zygote = Zygote(bridge)
    zygote._say(f"ready {os.getpid()} {len(sys.modules) - begun}")
    zygote.serve()
    return program


if __name__ == "__main__":
    main().run()
