"""What holds for any bytes: one function per parser, which raises when it does not.

Each takes what has been sent, so that hypothesis, a file of the corpus and a colleague's dump are all the same to it.
The oracles are Python's own ``json`` and code that is too simple to be wrong.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable
from typing import Any

from bridge.children.stream import Stream
from bridge.protocol import jsontext, messages, modern
from bridge.protocol.era import is_modern
from bridge.protocol.errors import Fault, Rejection
from bridge.protocol.framing import HEAD_BYTES, LineSplitter, Oversized
from bridge.protocol.messages import Notification, Request, Response
from bridge.protocol.mux import Deliver, Drop, Mux, Reply, Undirected
from bridge.protocol.sse import Event, EventParser
from bridge.protocol.versions import HANDSHAKE_VERSIONS
from bridge.sessions.backlog import Backlog
from bridge.web.reply import event

#: How the bytes are cut into chunks: by these sizes, over and over. The last one is "not at all".
CHUNKS = ((1,), (2, 3), (7, 1, 64), (1 << 30,))
LIMITS = (8, 100, 1 << 20)

sys.set_int_max_str_digits(0)  # the oracle has to read what the bridge passes on


def chunks(data: bytes, sizes: tuple[int, ...]) -> list[bytes]:
    cut, at = [], 0
    for size in itertools.cycle(sizes):
        if at >= len(data):
            return cut
        cut.append(data[at : at + size])
        at += size
    return cut


def framing(data: bytes) -> None:
    """Lines are what stands between newlines, however they come; those over the limit keep their ends and size."""
    for limit in LIMITS:
        expected: list[bytes | Oversized] = []
        for line in data.split(b"\n"):
            if len(line) > limit:
                expected.append(Oversized(line[:HEAD_BYTES], len(line), line[HEAD_BYTES:][-HEAD_BYTES:]))
            elif stripped := _stripped(line):
                expected.append(stripped)
        for sizes in CHUNKS:
            splitter = LineSplitter(limit)
            lines = [line for chunk in chunks(data, sizes) for line in splitter.feed(chunk)]
            assert lines + splitter.finish() == expected, (limit, sizes)


def _stripped(line: bytes) -> bytes:
    return line.strip(b" \t\r").removeprefix(b"\xef\xbb\xbf")


def events(data: bytes) -> None:
    """Events are the same however they come; none is over the limit, and an id never holds a line end or a NUL."""
    for limit in LIMITS:
        seen = []
        for sizes in CHUNKS:
            parser = EventParser(limit)
            found = [each for chunk in chunks(data, sizes) for each in parser.feed(chunk)]
            seen.append((found, parser.last_id, parser.retry, parser.count))
            for each in found:
                assert isinstance(each.data, Oversized) or 0 < len(each.data) <= limit
                assert not isinstance(each.data, Oversized) or each.data.size > limit
            assert not set(parser.last_id) & set("\0\r\n")
        assert all(each == seen[0] for each in seen), limit


def envelope(data: bytes) -> None:
    """A message is strict JSON with the members that it seems to have; what is made of it is one line and one event."""
    try:
        message = messages.parse(data)
    except Rejection as rejection:
        _is_refusal(rejection, Fault.NOT_JSON, Fault.BATCH, Fault.NOT_A_MESSAGE)
        if rejection.fault is Fault.BATCH:
            for item in jsontext.objects(data):
                envelope(item)
        number = messages.id_in_broken(data)
        assert number is None or str(number).encode() in data
        return
    whole = _strict(data)
    assert whole is _UNKNOWN or (isinstance(whole, dict) and whole["jsonrpc"] == "2.0")
    if isinstance(message, Request | Notification):
        assert whole is _UNKNOWN or whole["method"] == message.method
        assert whole is _UNKNOWN or (whole.get("params") or {}) == _value(message.params, {})
    if isinstance(message, Request):
        assert messages.is_id(message.id)
    if not isinstance(message, Notification):
        assert whole is _UNKNOWN or str(whole["id"]) == str(_value(message.id))
    if isinstance(message, Response):
        name = "error" if message.error else "result"
        assert whole is _UNKNOWN or whole[name] == _value(message.error or message.result)
    _passed_on(message)


def _passed_on(message: messages.Message) -> None:
    """Through the mux in both directions."""
    mux: Mux[str] = Mux(itertools.count(1000))
    if isinstance(message, Request):
        try:
            number, line = mux.open("mine", message)
        except Rejection as rejection:
            _is_refusal(rejection, Fault.NOT_JSON)  # nested too deeply to be looked into
            return
        sent = messages.parse(_one_line(line))
        assert isinstance(sent, Request)
        assert (sent.id, sent.method) == (str(number).encode(), message.method)
        ours, theirs = _value(message.params, {}), _value(sent.params, {})
        if _UNKNOWN not in (ours, theirs):
            assert isinstance(ours, dict)
            assert isinstance(theirs, dict)
            token = _token(ours)
            if token is not None:
                assert _token(theirs) == number
                ours["_meta"]["progressToken"] = number
            assert ours == theirs
        answer = mux.receive(Response(sent.id, result=b'{"a":1}'))
        assert answer == Deliver("mine", messages.response_line(Response(message.id, result=b'{"a":1}')), final=True)
        assert len(mux) == 0
    match mux.receive(message):
        case Undirected(_, line) | Reply(line):
            _one_event(_one_line(line))
        case Drop(why):
            _is_one_line(why)
        case Deliver():
            raise AssertionError("nothing is open")


def _token(params: dict[str, Any]) -> Any:
    meta = params.get("_meta")
    return meta.get("progressToken", None) if isinstance(meta, dict) else None


def _one_line(line: bytes) -> bytes:
    assert b"\n" not in line
    assert b"\r" not in line
    return line


def _is_refusal(rejection: Rejection, *faults: Fault) -> None:
    assert rejection.fault in faults
    assert 400 <= rejection.fault.status < 500
    _is_one_line(str(rejection))


def _is_one_line(text: str) -> None:
    assert len(text.splitlines()) == 1, text


def _one_event(line: bytes) -> None:
    assert EventParser(1 << 30).feed(event(line, "1-1")) == [Event("message", line)]


class _Unknown:
    """What Python's json cannot tell: nested too deeply."""


_UNKNOWN: Any = _Unknown()


def _strict(data: bytes) -> Any:
    """The value of JSON text; raises for what is none."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    try:
        return json.loads(data.decode(), parse_constant=refuse, parse_float=str)
    except RecursionError:
        return _UNKNOWN


def _value(raw: bytes, default: Any = None) -> Any:
    return _strict(raw) if raw else default


def era(data: bytes) -> None:
    """``data`` is a request: header lines, an empty line, a body. It is of one era, or is refused with a reason.

    A modern one that is accepted says everything twice and the same.
    """
    head, _, body = data.partition(b"\n\n")
    headers: dict[str, list[str]] = {}
    for line in head.decode(errors="replace").splitlines():
        name, _, value = line.partition(":")
        headers.setdefault(name.strip().lower(), []).append(value.strip())
    given = headers.get("mcp-protocol-version", [None])[0]
    try:
        message = messages.parse(body)
        if not is_modern(given, message):
            assert given is None or given in HANDSHAKE_VERSIONS
            return
        if not isinstance(message, Request):
            return
        request = modern.check_envelope(message, headers)
        modern.check_parameters(message, headers, {"mcp-param-region": ("region",), "mcp-param-deep": ("a", "b")})
    except Rejection as rejection:
        _is_refusal(rejection, *_LADDER)
        return
    whole = _strict(body)
    if whole is _UNKNOWN:
        return
    meta = whole["params"]["_meta"]
    assert headers["mcp-protocol-version"] == ["2026-07-28"] == [meta[modern.VERSION]]
    assert headers["mcp-method"] == [whole["method"]]
    assert isinstance(meta[modern.CAPABILITIES], dict)
    if whole["method"] in modern.NAMED:
        said = whole["params"][modern.NAMED[whole["method"]]]
        assert [modern.unwrap(each) for each in headers["mcp-name"]] == [said] == [request.name]
    assert whole["method"] not in modern.REMOVED


_LADDER = {
    *(Fault.NOT_JSON, Fault.NOT_A_MESSAGE, Fault.BATCH, Fault.BAD_PARAMS),
    *(Fault.HEADER_MISMATCH, Fault.UNSUPPORTED_VERSION, Fault.UNKNOWN_METHOD),
}


def resume(data: bytes) -> None:
    """``data`` is a session and an event id: a letter opens the stream of its number, a digit is an event on it.

    Who comes back with an id gets exactly what followed on that stream, or a refusal; and an id is one only as it was
    given out.
    """
    script, _, wanted = data.partition(b"\n")
    backlog = Backlog(events=12, size=200)
    tracks: list[Any] = []
    given: dict[str, tuple[Any, int]] = {}
    log: dict[Any, list[tuple[str, bytes]]] = {}
    for byte in script[:60]:
        if byte >= 0x40 or not tracks:
            track = backlog.open(Stream())
            tracks.append(track)
            log[track] = []
            given[track.last_id] = (track, 0)
        else:
            track = tracks[byte % len(tracks)]
            message = b'{"n":%d,"pad":"%b"}' % (len(given), b"x" * byte)
            log[track].append((backlog.record(track, message), message))
            given[log[track][-1][0]] = (track, len(log[track]))
    assert len(backlog) <= 12
    for event_id in {*given, wanted.decode(errors="replace")}:
        try:
            track, missed = backlog.find(event_id)
        except Rejection as rejection:
            _is_refusal(rejection, Fault.UNKNOWN_EVENT)
        else:
            assert event_id in given, "it was never given out"
            assert (track, missed) == (given[event_id][0], log[track][given[event_id][1] :])


PROPERTIES: dict[str, Callable[[bytes], None]] = {
    "framing": framing,
    "events": events,
    "envelope": envelope,
    "era": era,
    "resume": resume,
}
