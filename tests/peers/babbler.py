"""A server of the handshake era that writes what it is told, byte for byte, at the time and in the pieces it is told.

Standard library only. Arguments of ``tools/call``:

* ``raw``: a list of texts, written one by one in latin-1, so that any byte can be said; ``@ID@`` is the call's id.
* ``flood``: ``{"method", "params", "times", "size"}``, so many notifications of that size, then the answer unless
  ``after`` is set: then the answer comes first. ``@TOKEN@`` as a value of params is the progress token of the call.
* ``stderr``: ``{"size", "newlines"}``, so many bytes on stderr, then the answer.
* ``big``: ``{"size", "id_last"}``, an answer of that size.
* ``close``: a file descriptor to close after the answer, or ``before`` it.
* ``exit``: the exit code with which it ends at once after an answer of ``size`` bytes.
* anything else: the arguments come back.

Flags: ``--first TEXT`` is written before everything else; ``--stderr-until FILE`` writes to stderr, without a line end,
for as long as there is no such file, and answers ``initialize`` only then.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path


def put(data: bytes, fd: int = 1) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def line(**message: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **message}, separators=(",", ":")).encode() + b"\n"


def answer(id_: object, result: object) -> None:
    put(line(id=id_, result=result))


def flood(what: dict[str, object], meta: dict[str, object]) -> None:
    params = dict(what["params"])  # type: ignore[call-overload]
    for key, value in params.items():
        if value == "@TOKEN@":
            params[key] = meta["progressToken"]
    params["text"] = "x" * int(str(what.get("size", 0)))
    times = int(str(what["times"]))
    whole = line(method=what["method"], params={**params, "progress": "@N@"})
    head, tail = whole.split(b'"@N@"')
    for start in range(0, times, 100):
        put(b"".join(head + b"%d" % number + tail for number in range(start, min(start + 100, times))))


def call(id_: object, arguments: dict[str, object], meta: dict[str, object]) -> None:
    match arguments:
        case {"raw": list(pieces)}:
            for piece in pieces:
                put(str(piece).replace("@ID@", json.dumps(id_)).encode("latin-1"))
        case {"flood": dict(what)}:
            if what.get("after"):
                answer(id_, {})
            flood(what, meta)
            if not what.get("after"):
                answer(id_, {})
        case {"stderr": {"size": int(size), "newlines": bool(newlines)}}:
            put((b"e" * 99 + (b"\n" if newlines else b"e")) * (size // 100), 2)
            answer(id_, {})
        case {"big": {"size": int(size), "id_last": bool(last)}}:
            text = b"x" * size
            put(
                b'{"jsonrpc":"2.0","result":{"text":"%b"},"id":%d}\n' % (text, id_)
                if last
                else b'{"jsonrpc":"2.0","id":%d,"result":{"text":"%b"}}\n' % (id_, text)
            )
        case {"close": int(fd), "before": True}:
            os.close(fd)
            answer(id_, {"closed": fd})
        case {"close": int(fd)}:
            answer(id_, {"closed": fd})
            os.close(fd)
        case {"exit": int(code), "size": int(size)}:
            answer(id_, {"text": "x" * size})
            os._exit(code)
        case _:
            answer(id_, {"arguments": arguments, "pid": os.getpid()})


def lines() -> object:
    """Lines of stdin until its end; when it was closed here, live on."""
    rest = b""
    while True:
        try:
            data = os.read(0, 1 << 16)
        except OSError:
            time.sleep(1000)
        if not data:
            return
        *whole, rest = (rest + data).split(b"\n")
        yield from whole


def main() -> None:
    flags = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
    put(flags.get("--first", "").encode("latin-1").decode("unicode_escape").encode("latin-1"))
    for text in lines():  # type: ignore[attr-defined]
        message = json.loads(text)
        if message.get("method") == "initialize":
            while "--stderr-until" in flags and not Path(flags["--stderr-until"]).exists():
                put(b"installing...\r", 2)
                time.sleep(0.01)
            about = {"protocolVersion": message["params"]["protocolVersion"], "capabilities": {"tools": {}}}
            answer(message["id"], {**about, "serverInfo": {"name": "babbler", "version": "1"}})
        elif message.get("method") == "tools/call":
            call(message["id"], message["params"].get("arguments", {}), message["params"].get("_meta", {}))
        elif "id" in message and "method" in message:
            answer(message["id"], {})


if __name__ == "__main__":
    main()
