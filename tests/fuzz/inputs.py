"""Bytes that get far: what each parser is for, cut, doubled and spliced."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import strategies as st

from bridge.protocol.modern import CAPABILITIES, NAMED, REMOVED, VERSION

CORPUS = Path(__file__).parent / "corpus"


def corpus(name: str) -> list[Path]:
    """The kept inputs of one property."""
    return sorted((CORPUS / name).iterdir())


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from([7, "7", 10**30, -0.0, "\u2028", "\ud800", "\x00\r\n", "p" * 2000]),
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)
pieces = st.sampled_from(
    [
        *(
            b"\n",
            b"\r",
            b"\r\n",
            b"\n\n",
            b" ",
            b"\t",
            b"\0",
            b"\xef\xbb\xbf",
            b"\xff",
            b"\xed\xa0\x80",
            b"\xe2\x80\xa8",
        ),
        *(
            b"data: ",
            b"id: 1-1\n",
            b"event: x\n",
            b"retry: 5\n",
            b":",
            b"{",
            b"}",
            b"[",
            b"]",
            b'"',
            b"\\u",
            b"\\ud800",
        ),
        *(
            b"NaN",
            b"1e999",
            b"-0",
            b"9" * 30,
            b"[" * 3000,
            b"]" * 3000,
            b',"id":7',
            b'"_meta":{"progressToken":',
            b"x" * 99,
        ),
    ]
)


@st.composite
def mutated(draw: st.DrawFn, base: st.SearchStrategy[bytes]) -> bytes:
    """Something of ``base``, a few times cut, doubled or spliced."""
    data = draw(base)
    for _ in range(draw(st.integers(0, 4))):
        at, end = sorted((draw(st.integers(0, len(data))), draw(st.integers(0, len(data)))))
        what = draw(st.sampled_from(["cut", "double", "insert", "replace"]))
        middle = {
            "cut": b"",
            "double": data[at:end] * 2,
            "insert": draw(pieces) + data[at:end],
            "replace": draw(pieces | st.binary(max_size=4)),
        }[what]
        data = data[:at] + middle + data[end:]
    return data


def kept(name: str) -> st.SearchStrategy[bytes]:
    return st.sampled_from([path.read_bytes() for path in corpus(name)])


@st.composite
def one_message(draw: st.DrawFn) -> bytes:
    """A JSON-RPC message, more or less."""
    members = draw(
        st.fixed_dictionaries(
            {"jsonrpc": st.just("2.0")},
            optional={
                "id": st.one_of(st.integers(), st.text(max_size=5), scalars),
                "method": st.sampled_from(
                    ["tools/call", "ping", "notifications/progress", "notifications/cancelled", ""]
                )
                | scalars,
                "params": st.dictionaries(
                    st.sampled_from(["_meta", "name", "progressToken", "requestId"]) | st.text(max_size=5),
                    st.dictionaries(st.sampled_from(["progressToken", "a", VERSION]), scalars) | values,
                    max_size=4,
                )
                | values,
                "result": values,
                "error": values,
            },
        )
    )
    order = draw(st.permutations(list(members)))
    indent, ascii_only = draw(st.sampled_from([None, 1])), draw(st.booleans())
    text = json.dumps({name: members[name] for name in order}, indent=indent, ensure_ascii=ascii_only)
    return text.encode(errors=draw(st.sampled_from(["replace", "surrogatepass"])))


@st.composite
def one_request(draw: st.DrawFn) -> bytes:
    """A modern POST, more or less: header lines, an empty line, a body."""
    method = draw(st.sampled_from([*NAMED, *sorted(REMOVED), "tools/list", "server/discover"]))
    name = draw(st.sampled_from(["echo", "", "é", " x ", "=?base64?w6k=?=", "=?base64??=", "a:b"]))
    version = draw(st.sampled_from(["2026-07-28", "2026-07-28", "2026-07-28", "2025-11-25", "1999-01-01", ""]))
    headers = {"MCP-Protocol-Version": version, "Mcp-Method": method, "Mcp-Name": name}
    if draw(st.booleans()):
        headers["Mcp-Param-Region"] = draw(st.sampled_from(["eu", "7", "7.0", "true", "1e2", ""]))
    meta = {VERSION: draw(st.sampled_from([version, "2026-07-28", 5, None])), CAPABILITIES: draw(st.just({}) | values)}
    region = draw(st.sampled_from(["eu", 7, 7.0, True, None, 100, [], {}]))
    params = {"name": name, "uri": name, "arguments": {"region": region}, "_meta": meta}
    for dropped in draw(st.sets(st.sampled_from([*headers, *params]), max_size=1)):
        headers.pop(dropped, None)
        params.pop(dropped, None)
    lines = [f"{key}: {value}" for key, value in headers.items()]
    body = {"jsonrpc": "2.0", "id": draw(scalars), "method": method, "params": params}
    return "\n".join(lines).encode() + b"\n\n" + json.dumps(body).encode()


one_id = st.one_of(
    st.tuples(st.integers(0, 5), st.integers(0, 15)).map(lambda pair: f"{pair[0]}-{pair[1]}"),
    st.from_regex(r"[0-9]{1,3}-[0-9]{1,3}(-[0-9])?"),
    st.sampled_from(["01-1", "1-01", "+1-1", "1-+1", "\uff11-1", "1-\u0661", " 1-1", "1_0-1", "-", "1-", "-1"]),
    st.text(max_size=12),
)
one_resumption = st.tuples(st.binary(max_size=60), one_id).map(
    lambda pair: pair[0].replace(b"\n", b"") + b"\n" + pair[1].encode(errors="replace")
)

lines = st.lists(one_message() | st.binary(max_size=40) | pieces, max_size=8).map(b"\n".join)
fields = st.lists(
    st.tuples(st.sampled_from([b"data:", b"data: ", b"id:", b"event:", b"retry:", b":", b""]), st.binary(max_size=12)),
    max_size=12,
)
streams = fields.map(lambda found: b"".join(name + value + b"\n" for name, value in found) + b"\n\n")

INPUTS: dict[str, st.SearchStrategy[bytes]] = {
    "framing": mutated(st.one_of(lines, kept("framing"))),
    "events": mutated(st.one_of(streams, st.lists(streams, max_size=3).map(b"".join), kept("events"))),
    "envelope": mutated(st.one_of(one_message(), kept("envelope"))),
    "era": mutated(st.one_of(one_request(), kept("era"))),
    "resume": mutated(st.one_of(one_resumption, kept("resume"))),
}
