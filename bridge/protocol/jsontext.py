"""JSON text: values that are read as far as somebody must know them, and otherwise stay the bytes that came.

What clients and servers send each other is none of the bridge's business, down to the spelling of a number. So members
of an object are taken out, put back and replaced as text, and nothing is made a Python value that does not have to be.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from bridge.protocol.errors import Fault, Rejection

#: JSON text in a value that is to be written; what is read is the same.
Raw = msgspec.Raw
#: A member that is not there.
ABSENT = Raw(b"")

#: Levels of arrays and objects that any text may have, on every version of Python.
LEVELS = 500
#: Bytes in which there can be no more.
SMALL = 2 * LEVELS
#: Bytes from which on brackets are not counted: that would take longer than to read further down at once.
COUNTED = 64 * 1024
#: Calls that are left to whoever reads it again, deeper in the stack or with more around it: nobody needs half of them.
SPARE = 100

T = TypeVar("T")
B = TypeVar("B", bound=bytes | bytearray)

_fields = msgspec.json.Decoder(dict[str, Raw])
_items = msgspec.json.Decoder(list[Raw])


def read(decoder: msgspec.json.Decoder[T], raw: bytes) -> T | None:
    """Decode what a decoder is for; None for anything else.

    Raises :class:`Rejection` when it is nested deeper than can be read from here.
    """
    try:
        return decoder.decode(raw)
    except msgspec.DecodeError:
        return None
    except RecursionError as error:
        raise not_json(error) from None


def parsed(decoder: msgspec.json.Decoder[T], text: bytes | bytearray) -> T:
    """Decode what somebody has sent. Raises :class:`Rejection` that says what is wrong with it, and where."""
    try:
        if not text.isascii():
            text.decode()  # which msgspec does not do with strings that it skips
        return decoder.decode(text)
    except NOT_JSON as error:
        raise not_json(error) from None


#: What is raised of a text that is no JSON, or none that can be read.
NOT_JSON = (UnicodeDecodeError, msgspec.DecodeError, RecursionError)


def not_json(error: Exception) -> Rejection:
    """Say what is wrong with a text that raised one of ``NOT_JSON``."""
    match error:
        case UnicodeDecodeError():
            why = f"not UTF-8 at byte {error.start}"
        case RecursionError():
            why = "nested too deeply"
        case _:
            why = in_a_sentence(error)
    return Rejection(Fault.NOT_JSON, f"parse error: {why}")


def in_a_sentence(error: Exception) -> str:
    """What an error says, as it stands after a colon."""
    text = str(error)
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]


def with_room(reader: Callable[[B], T], raw: B) -> T:
    """Read what comes in from further down in the stack, so that whatever is taken can be read again by everybody.

    msgspec counts levels and the calls above them against one limit, that of the interpreter. What can only just be
    read where it comes in is too deep for those who read it later, and they are in the middle of something.
    """
    size = len(raw)
    if size <= SMALL:
        return reader(raw)
    # replace() jumps from bracket to bracket, where count() looks at each byte.
    if size < COUNTED and 2 * size - len(raw.replace(b"[", b"", LEVELS)) - len(raw.replace(b"{", b"", LEVELS)) < LEVELS:
        return reader(raw)
    found: T = _further_down(reader, raw, SPARE)
    return found


def _further_down(reader: Callable[[Any], Any], raw: Any, calls: int) -> Any:
    # By way of C: from Python 3.12 on, calls from Python to Python do not count against the limit that msgspec has.
    return next(map(_further_down, (reader,), (raw,), (calls - 1,))) if calls else reader(raw)


def fields(raw: bytes) -> dict[str, Raw]:
    """Return the members of a JSON object, their values untouched; ``{}`` for anything that is no object.

    Raises as :func:`read`.
    """
    return (read(_fields, raw) or {}) if raw else {}


def member(raw: bytes, name: str, default: bytes = b"") -> bytes:
    """Return one member of a JSON object, untouched; ``default`` where it has none. Raises as :func:`read`."""
    return bytes(fields(raw).get(name, default))


#: Places of a text in an object that are tried before it is written anew.
PLACES = 16


def replaced(raw: bytes, name: str, value: bytes) -> bytes:
    """Return a JSON object with another value for a member that it has, every other byte as it was.

    Where the old value stands is found by its text and proved by reading: a text may stand in many places.
    """
    old = member(raw, name)
    probe = b'"?"' if old != b'"?"' else b'"!"'
    start = len(raw)
    for _ in range(PLACES):  # from behind, because of members of one name the last one counts
        start = raw.rfind(old, 0, start + len(old) - 1)
        if start < 0:
            break
        if member(b"%b%b%b" % (raw[:start], probe, raw[start + len(old) :]), name) == probe:
            return b"%b%b%b" % (raw[:start], value, raw[start + len(old) :])
    return encode({**fields(raw), name: Raw(value)})


def items(raw: bytes) -> list[Raw]:
    """Return the items of a JSON array, untouched; ``[]`` for anything that is no array."""
    return read(_items, raw) or []


def objects(raw: bytes) -> list[bytes]:
    """Return the objects in a JSON array; ``[]`` for anything that is none, or cannot be read."""
    try:
        return [bytes(item) for item in items(raw) if is_object(item)]
    except Rejection:
        return []


def is_object(raw: Raw) -> bool:
    """Whether this JSON text is an object."""
    return bytes(raw)[:1] == b"{"


def encode(value: Any) -> bytes:
    """Compact JSON of a value; members of type ``Raw`` are written as they are."""
    return msgspec.json.encode(value)


def decode(raw: bytes) -> Any:
    """Python value of a JSON text; None where there is none, or none that Python can hold (``1e999``)."""
    try:
        return msgspec.json.decode(raw)
    except NOT_JSON:
        return None


def canonical(raw: bytes) -> str:
    """The same text for equal JSON, however it is spelled; itself where Python cannot hold it."""
    value = decode(raw)
    return raw.decode() if value is None else msgspec.json.encode(value, order="sorted").decode()


def string(raw: bytes) -> str | None:
    """The text of a JSON string; None for anything else."""
    value = decode(raw)
    return value if isinstance(value, str) else None
