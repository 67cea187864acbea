"""A kept session on its way from one bridge to another: its record and its events."""

from __future__ import annotations

import msgspec

from bridge.stores.record import Damaged, Event, SessionRecord, from_json

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(tuple[msgspec.Raw, list[Event]]).decode


def packed(record: SessionRecord, events: list[Event]) -> bytes:
    """Return what :func:`unpacked` reads."""
    return _encode((msgspec.Raw(record.to_json()), events))


def unpacked(data: bytes) -> tuple[SessionRecord, list[Event]]:
    """Return the session. Raises ValueError."""
    try:
        record, events = _decode(data)
        return from_json(bytes(record)), events
    except (msgspec.MsgspecError, Damaged) as error:
        raise ValueError(str(error)) from None
