"""What several nodes say, as one: rows behind one another, numbers added up. ``found`` is what each node has answered,
by its name, in the order of names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

#: Of states of one server on several nodes, the first of these that there is counts.
_STATES = ("running", "starting", "backoff", "fatal", "stopped", "idle", "disabled")
#: What of a server is added up.
_SUMS = ("children", "sessions", "parked_calls", "calls", "answered", "answer_seconds", "restarts")
_SAMPLE = re.compile(rb"([A-Za-z_:][\w:]*)(?:\{(.*)\})? (\S.*)", re.ASCII)

Row = dict[str, Any]
Answer = TypeVar("Answer")


def ordered(found: Mapping[str, Answer]) -> dict[str, Answer]:
    """The same in the order of names, w2 before w10."""
    return {node: found[node] for node in sorted(found, key=lambda name: (len(name), name))}


def listed(found: Mapping[str, list[Row]]) -> list[Row]:
    """All rows; each says where it was found."""
    return [{"node": node, **row} for node, rows in found.items() for row in rows]


def servers(found: Mapping[str, list[Row]]) -> list[Row]:
    """One row for each server."""
    merged: dict[str, Row] = {}
    for rows in found.values():
        for row in rows:
            known = merged.get(row["id"])
            merged[row["id"]] = dict(row) if known is None else _server(known, row)
    return [*merged.values()]


def _server(known: Row, other: Row) -> Row:
    sums = {name: round(known[name] + other[name], 6) for name in _SUMS if name in known and name in other}
    states = sorted((known["state"], other["state"]), key=lambda each: [*_STATES, each].index(each))
    one = {**known, **sums, "state": states[0]}
    for name in ("retry_in_s", "last_error"):
        if name in known:
            one[name] = known[name] if known[name] is not None else other.get(name)
    return one


def pins(found: Mapping[str, list[Row]]) -> list[Row]:
    """One row for each tool: that of a node which has seen it change, where there is one."""
    merged: dict[tuple[str, str], Row] = {}
    for rows in found.values():
        for row in rows:
            key = row["server"], row["tool"]
            if key not in merged or ("now_sha256" in row and "now_sha256" not in merged[key]):
                merged[key] = row
    return [merged[key] for key in sorted(merged)]


def approved(found: Mapping[str, Row]) -> Row:
    """What was approved on any node."""
    first = next(iter(found.values()))
    return {**first, "approved": sorted({name for each in found.values() for name in each["approved"]})}


def reloaded(found: Mapping[str, Row]) -> Row:
    """What has changed on any node: each reads files of its own."""
    first = next(iter(found.values()))
    return {name: list(dict.fromkeys(each for row in found.values() for each in row[name])) for name in first}


def added(found: Mapping[str, Row]) -> Row:
    """Numbers added up, within objects too; all else as the first node says it."""
    first, *others = found.values()
    return _added(first, others)


def _added(first: Row, others: list[Row]) -> Row:
    one: Row = {}
    for name in dict.fromkeys(name for each in (first, *others) for name in each):
        values = [each[name] for each in (first, *others) if name in each]
        if isinstance(values[0], dict):
            one[name] = _added(values[0], values[1:])
        elif isinstance(values[0], bool) or not isinstance(values[0], int) or name.endswith("_hours"):
            one[name] = values[0]
        else:
            one[name] = sum(values)
    return one


def health(found: Mapping[str, Row], absent: list[str]) -> Row:
    """How all are. ``absent`` are nodes that should be there; who may hear reasons hears of them."""
    first = next(iter(found.values()))
    is_well = not absent and all(each["status"] == "ok" for each in found.values())
    one: Row = {"status": "ok" if is_well else "degraded"}
    if "version" not in first:
        return one
    one |= {"version": first["version"], "uptime_s": max(each["uptime_s"] for each in found.values())}
    one["servers"] = first["servers"]
    one |= added({node: {name: each[name] for name in ("children", "sessions")} for node, each in found.items()})
    one["nodes"] = {node: {name: each[name] for name in _OF_A_NODE} for node, each in found.items()}
    reasons = [f"node {node} does not answer" for node in absent]
    reasons += [f"{node}: {why}" for node, each in found.items() for why in each.get("reasons", [])]
    if reasons:
        one["reasons"] = reasons
    return one


_OF_A_NODE = ("status", "uptime_s", "children", "sessions")


def metrics(found: Mapping[str, bytes]) -> bytes:
    """The numbers of all nodes for Prometheus: each sample has its node as a label, each family is told once."""
    heads: dict[bytes, list[bytes]] = {}
    samples: dict[bytes, list[bytes]] = {}
    for node, text in found.items():
        family = b""
        for line in text.splitlines():
            if line.startswith(b"# "):
                family = line.split(b" ", 3)[2]
                head = heads.setdefault(family, [])
                if line not in head:
                    head.append(line)
            elif (sample := _SAMPLE.fullmatch(line)) is not None:
                labels = b'node="%b"%b' % (node.encode(), b"," + sample[2] if sample[2] else b"")
                samples.setdefault(family, []).append(b"%b{%b} %b" % (sample[1], labels, sample[3]))
    return b"".join(line + b"\n" for family in heads for line in (*heads[family], *samples.get(family, [])))


def snapshot(found: Mapping[str, Row], at: float, absent: list[str]) -> Row:
    """What the page shows. ``at`` is a time of the clock of one node, whichever is asked."""
    found = ordered(found)
    first = next(iter(found.values()))
    return {
        "at": at,
        "admin": first["admin"],
        "bridge": health({node: each["bridge"] for node, each in found.items()}, absent if first["admin"] else []),
        "servers": servers({node: each["servers"] for node, each in found.items()}),
        "children": listed({node: each["children"] for node, each in found.items()}),
        "sessions": listed({node: each["sessions"] for node, each in found.items()}),
        "total_sessions": sum(each["total_sessions"] for each in found.values()),
    }
