"""A head that is recognised is what aiohttp would read in it, and where a request ends is never guessed."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator

import pytest
from aiohttp import StreamReader, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpRequestParser, RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from bridge.web.heads import UNKNOWN, Head, rest_of
from bridge.web.server import Connection, Server

HEAD = b"POST /mcp/x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nAccept: */*\r\n\r\n"


@pytest.fixture(scope="module", autouse=True)
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that never runs: parsers want one."""
    made = asyncio.new_event_loop()
    asyncio.set_event_loop(made)
    yield made
    asyncio.set_event_loop(None)
    made.close()


class Parsed:
    """What a new parser of aiohttp makes of some bytes: requests that have come as a whole, and whether more began."""

    def __init__(self, data: bytes) -> None:
        loop = asyncio.get_event_loop_policy().get_event_loop()
        self._parser = HttpRequestParser(BaseProtocol(loop), loop, 2**16, max_line_size=8190, max_field_size=8190)
        try:
            self.messages, _, _ = self._parser.feed_data(data)
        except HttpProcessingError:
            self.messages = []

    def only(self) -> tuple[RawRequestMessage, bytes] | None:
        """The one request that they are, with its body."""
        if len(self.messages) != 1 or not self.messages[0][1].is_eof():
            return None
        message, content = self.messages[0]
        return message, content.read_nowait() if isinstance(content, StreamReader) else b""

    def is_between(self) -> bool:
        """Whether the next byte begins a request."""
        try:
            messages, *_ = self._parser.feed_data(b"GET /next HTTP/1.1\r\nHost: h\r\n\r\n")
        except HttpProcessingError:
            return False
        return len(messages) == 1 and messages[0][0].path == "/next"  # and nothing of it was the body of another


def read(data: bytes) -> RawRequestMessage:
    """The request that ``data`` begins with."""
    return Parsed(data).messages[0][0]


def learned(data: bytes) -> Head | None:
    """The head of the first request in ``data`` as a connection learns it."""
    messages = Parsed(data).messages
    if len(messages) != 1 or rest_of(data, messages[0][0]) == UNKNOWN:
        return None
    return Head.of(data, messages[0][0])


def test_the_same_head_with_another_length_is_known() -> None:
    head = learned(HEAD + b"12345")
    assert head is not None
    assert head.message.path == "/mcp/x"
    again = HEAD.replace(b": 5", b": 1234567")
    assert head.begins(again + b"...") == (len(again), 1234567)
    assert head.begins(HEAD) == (len(HEAD), 5)
    assert b"".join(head.body([again + b"ab", b"", b"cd", b"e"])) == b"abcde"
    assert head.without_body == HEAD.replace(b": 5", b": 0")


@pytest.mark.parametrize(
    "other",
    [
        HEAD[:-1],
        HEAD[:30],
        b"",
        HEAD.replace(b"/x", b"/y"),
        HEAD.replace(b"*/*", b"*/ *"),
        HEAD.replace(b": 5", b": "),
        HEAD.replace(b": 5", b": +5"),
        HEAD.replace(b": 5", b": 5 "),
        HEAD.replace(b": 5", b": 0x5"),
        HEAD.replace(b": 5", b": 1_0"),
        HEAD.replace(b": 5", b": \xb2"),
        HEAD.replace(b": 5", b": 5, 5"),
        HEAD.replace(b": 5", b": 1234567890"),
        HEAD.replace(b": 5\r\n", b": 5\n"),
        HEAD.replace(b": 5\r\n", b": 5\r\nTransfer-Encoding: chunked\r\n"),
        HEAD.replace(b": 5\r\n", b": 5\r\nContent-Length: 6\r\n"),
        b"\r\n" + HEAD,
    ],
)
def test_any_other_head_is_not(other: bytes) -> None:
    head = learned(HEAD)
    assert head is not None
    assert head.begins(other) is None


@pytest.mark.parametrize(
    "line",
    [
        b"Connection: close",
        b"Expect: 100-continue",
        b"Content-Encoding: gzip",
        b"Transfer-Encoding: chunked",
        b"Content-Length: 5",
        b"Upgrade: websocket\r\nConnection: upgrade",
    ],
)
def test_requests_that_are_not_alike_are_not_learned(line: bytes) -> None:
    data = HEAD.replace(b"Accept: */*", line)
    assert learned(data) is None
    assert learned(data.replace(b"Content-Length: 5\r\n", b"")) is None


def test_a_request_without_a_length_and_one_of_an_older_version_are_not_learned() -> None:
    assert learned(HEAD.replace(b"Content-Length: 5\r\n", b"")) is None
    assert learned(b"GET /ab HTTP/1.1\r\nHost: h\r\n\r\n") is None
    assert learned(HEAD.replace(b"1.1", b"1.0")) is None
    assert learned(HEAD.replace(b"1.1", b"1.0").replace(b"Accept: */*", b"Connection: keep-alive")) is None


def test_only_so_much_is_learned() -> None:
    line = b"X: " + b"y" * 8100 + b"\r\n"
    assert learned(HEAD.replace(b"Accept", line * 2 + b"Accept")) is None
    assert learned(HEAD.replace(b"Accept", line[:4000] + b"\r\nAccept")) is not None


def test_a_length_that_stands_there_twice_is_none() -> None:
    assert Head.of(HEAD.replace(b"Accept: */*", b"content-length: 5"), read(HEAD)) is None


def test_how_much_is_still_to_come() -> None:
    message = read(HEAD)
    assert rest_of(HEAD, message) == 5
    assert rest_of(HEAD + b"123", message) == 2
    assert rest_of(HEAD + b"12345", message) == 0
    bare = HEAD.replace(b"Content-Length: 5\r\n", b"")
    assert rest_of(bare, read(bare)) == 0


@pytest.mark.parametrize(
    "data",
    [
        HEAD + b"12345G",
        b"\r\n\r\n" + HEAD,
        b"\n" + HEAD,
        HEAD[:-4] + b"\n\n" + b"\r\n\r\n",
        HEAD.replace(b"h\r\n", b"h\n"),
        HEAD[:-1],
    ],
)
def test_where_that_is_not_sure_nobody_guesses(data: bytes) -> None:
    assert rest_of(data, read(HEAD)) == UNKNOWN


def test_a_head_without_an_end_of_its_own_is_none() -> None:
    long = read(HEAD.replace(b": 5", b": 500"))
    assert rest_of(HEAD.replace(b"\r\n", b"\n"), long) == UNKNOWN
    assert rest_of(HEAD.replace(b"\r\n", b"\r"), long) == UNKNOWN
    assert rest_of(b"\r\n\r\n" + HEAD, long) == UNKNOWN


def test_of_an_error_and_of_chunks_nobody_knows_where_they_end() -> None:
    chunked = HEAD.replace(b"Content-Length: 5", b"Transfer-Encoding: chunked")
    assert rest_of(chunked, read(chunked)) == UNKNOWN
    assert rest_of(HEAD, None) == UNKNOWN


def test_a_length_that_is_too_long_for_a_number_is_none() -> None:
    data = HEAD.replace(b": 5", b": " + b"0" * 5000 + b"5")
    assert rest_of(data + b"12345", read(data)) == UNKNOWN


# Against aiohttp's own parser, which is the one to decide.

GOOD = st.sampled_from([b"Content-Length: ", b"content-length:", b"CONTENT-LENGTH:   "])
LENGTHS = st.sampled_from([b"0", b"3", b"5", b"05", b"12"])
ODD = st.sampled_from(
    [
        b"Content-Length: 3\r\n",
        b"Content-Length : 3\r\n",
        b"X: a\r\n Content-Length: 3\r\n",
        b"X: Content-Length: 3\r\n",
        b"X-Content-Length: 3\r\n",
        b"X: a\nContent-Length: 3\r\n",
        b"X: a\rContent-Length: 3\r\n",
        b"X: a\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n",
        b"Expect: 100-continue\r\n",
        b"\n",
    ]
)
STARTS = st.sampled_from(
    [b"POST /a HTTP/1.1\r\n"] * 6 + [b"\r\nPOST /a HTTP/1.1\r\n", b"GET /a HTTP/1.1\r\n", b"POST /a HTTP/1.0\r\n"]
)
LINES = st.tuples(
    st.lists(ODD, max_size=1), st.lists(st.tuples(GOOD, LENGTHS).map(b"".join), max_size=1), st.lists(ODD, max_size=1)
).map(lambda parts: b"".join([*parts[0], *(line + b"\r\n" for line in parts[1]), *parts[2]]))
BODIES = st.sampled_from([b"", b"123", b"12345", b"123456789012", b"\r\n\r\n1", b"GET / HTTP/1.1\r\n\r\n"])
REQUESTS = st.tuples(STARTS, LINES, st.sampled_from([b"\r\n"] * 4 + [b"\n", b"\r\n\r\n"]), BODIES).map(b"".join)
WRITTEN = st.one_of(LENGTHS, st.sampled_from([b"99", b"1_2", b"+3", b" 3", b"3 ", b""]))
SPOILT = st.none() | st.tuples(st.integers(0, 80), st.sampled_from([b"\n", b"\r", b" ", b"x", b"9"]))


def rewritten(data: bytes, length: bytes, body: bytes, spoilt: tuple[int, bytes] | None) -> bytes:
    """A request with the head of ``data``, another length and body, and maybe another byte somewhere."""
    head = data[: data.index(b"\r\n\r\n") + 4]
    start = head.lower().index(b"content-length:") + len("content-length:")
    end = head.index(b"\r", start)
    start = end - len(head[start:end].lstrip())
    again = head[:start] + length + head[end:] + body
    return again if spoilt is None else again[: spoilt[0]] + spoilt[1] + again[spoilt[0] + 1 :]


@settings(max_examples=500)
@given(REQUESTS)
@example(HEAD + b"12345")
def test_a_request_ends_where_aiohttp_says(data: bytes) -> None:
    parsed = Parsed(data)
    if len(parsed.messages) != 1 or rest_of(data, parsed.messages[0][0]) == UNKNOWN:
        return
    rest = rest_of(data, parsed.messages[0][0])
    event("whole" if not rest else "more to come")
    whole = Parsed(data + b"x" * rest)
    assert whole.only() is not None
    assert whole.is_between()


@settings(max_examples=500)
@given(REQUESTS, WRITTEN, BODIES, SPOILT)
@example(HEAD + b"12345", b"3", b"123", None)
def test_what_is_known_again_is_what_aiohttp_would_have_read(
    data: bytes, length: bytes, body: bytes, spoilt: tuple[int, bytes] | None
) -> None:
    head = learned(data)
    if head is None:
        return
    again = rewritten(data, length, body, spoilt)
    found = head.begins(again)
    if found is None or sum(found) != len(again):
        return
    event("known")
    parsed = Parsed(again)
    only = parsed.only()
    assert only is not None
    assert parsed.is_between()
    assert only[1] == again[found[0] :]
    assert shape(only[0]) == shape(head.message)


PARTS = st.lists(st.tuples(REQUESTS, st.lists(st.integers(1, 60), max_size=3)), min_size=1, max_size=4)


@settings(max_examples=500)
@given(PARTS, st.lists(st.booleans(), min_size=1))
@example([(HEAD + b"12345", []), (HEAD.replace(b": 5", b": 9") + b"123456789", [len(HEAD) + 5])], [False])
@example([(HEAD + b"12345" + HEAD.replace(b": 5", b": 105") + b"1" * 105, [105 + len(HEAD)])], [False])
def test_a_connection_knows_when_it_is_between_two_requests(
    loop: asyncio.AbstractEventLoop, parts: list[tuple[bytes, list[int]]], answered: list[bool]
) -> None:
    """Whatever comes in whatever pieces, and however many of them are answered meanwhile."""
    loop.run_until_complete(follow(parts, answered))


async def follow(parts: list[tuple[bytes, list[int]]], answered: list[bool]) -> None:
    """Give all parts to a connection, and ask after each."""
    connection = Connection(Server(never_asked), loop=asyncio.get_running_loop())
    answers = itertools.cycle(answered)
    come = b""
    for data, cuts in parts:
        places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
        for start, end in itertools.pairwise(places):
            come += data[start:end]
            connection._give(data[start:end])
            if not connection._left:
                event("between")
                assert Parsed(come).is_between()
            if next(answers):
                connection._messages.clear()


def test_what_aiohttp_goes_on_with_ends_no_request(loop: asyncio.AbstractEventLoop) -> None:
    async def look() -> None:
        connection = Connection(Server(never_asked), loop=asyncio.get_running_loop())
        for _ in range(2):
            connection._give(HEAD + b"12345")
            connection._give(b"")
            connection._messages.clear()
        assert (connection._left, connection._head is None) == (0, False)
        connection._give(HEAD + b"12345POST")
        assert (connection._left, connection._head) == (UNKNOWN, None)

    loop.run_until_complete(look())


async def never_asked(request: web.BaseRequest) -> web.StreamResponse:
    """No request is answered here."""
    raise AssertionError(request)


def shape(message: RawRequestMessage) -> tuple[object, ...]:
    """All that is to be the same."""
    fields = [(name, value) for name, value in message.headers.items() if name.lower() != "content-length"]
    return message.method, message.path, message.version, message.should_close, fields
