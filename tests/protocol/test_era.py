"""The era of a request, from its header and its envelope. This version serves the handshake era."""

from __future__ import annotations

import pytest

from bridge.protocol.era import MODERN_KEY, check_version
from bridge.protocol.errors import Fault, Rejection
from bridge.protocol.messages import Message, Notification, Request, Response
from bridge.protocol.versions import HANDSHAKE_VERSIONS, MODERN_VERSION

CALL = Request(b"1", "tools/list", b"{}")


def enveloped(version: str) -> Request:
    """A request with the version in its ``_meta``; ``version`` is JSON text."""
    return Request(b"1", "tools/list", f'{{"_meta":{{"{MODERN_KEY}":{version}}}}}'.encode())


def refusal(header: str | None, message: Message | None) -> Rejection:
    with pytest.raises(Rejection) as caught:
        check_version(header, message)
    return caught.value


@pytest.mark.parametrize("message", [None, CALL, Notification("n"), Response(b"1", result=b"{}")])
@pytest.mark.parametrize("header", [None, *HANDSHAKE_VERSIONS])
def test_a_handshake_version_or_none_is_served(header: str | None, message: Message | None) -> None:
    check_version(header, message)


@pytest.mark.parametrize("message", [None, CALL, Notification("n")])
@pytest.mark.parametrize("header", ["", "1", "2025-06-18 ", "2025-06-19", "2026-07-29", "x" * 1000, "\n"])
def test_an_unknown_version_in_the_header_is_400(header: str, message: Message | None) -> None:
    # Transports, Protocol Version Header: "If the server receives a request with an invalid or unsupported
    # MCP-Protocol-Version, it MUST respond with 400 Bad Request."
    rejection = refusal(header, message)
    assert rejection.fault is Fault.BAD_VERSION
    assert rejection.fault.status == 400
    assert rejection.data == {"supported": list(HANDSHAKE_VERSIONS), "requested": header}
    assert len(str(rejection)) < 200
    assert "\n" not in str(rejection)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (MODERN_VERSION, None),
        (MODERN_VERSION, CALL),
        (MODERN_VERSION, enveloped(f'"{MODERN_VERSION}"')),
        (None, enveloped(f'"{MODERN_VERSION}"')),
        ("2025-06-18", enveloped(f'"{MODERN_VERSION}"')),
        (None, enveloped('"\\u0032026-07-28"')),
    ],
)
def test_a_modern_request_learns_which_versions_to_fall_back_to(header: str | None, message: Message | None) -> None:
    rejection = refusal(header, message)
    assert rejection.fault is Fault.UNSUPPORTED_VERSION
    assert (rejection.fault.code, rejection.fault.status) == (-32022, 400)
    assert rejection.data == {"supported": list(HANDSHAKE_VERSIONS), "requested": MODERN_VERSION}
    assert str(rejection) == (
        "unsupported protocol version '2026-07-28'; supported: 2024-11-05, 2025-03-26, 2025-06-18, 2025-11-25"
    )


@pytest.mark.parametrize(
    ("version", "requested"),
    [('"2027-01-01"', "2027-01-01"), ('"2025-06-18"', "2025-06-18"), ("5", 5), ("null", None), ("[]", [])],
)
def test_an_envelope_with_any_other_version_is_refused_as_unknown(version: str, requested: object) -> None:
    rejection = refusal(None, enveloped(version))
    assert rejection.fault is Fault.BAD_VERSION
    assert rejection.data["requested"] == requested


@pytest.mark.parametrize(
    "params",
    [
        f'{{"text":"{MODERN_KEY}"}}',
        f'{{"{MODERN_KEY}":"{MODERN_VERSION}"}}',
        f'{{"_meta":"{MODERN_KEY}"}}',
        f'{{"_meta":["{MODERN_KEY}"]}}',
        f'{{"_meta":{{"about":"{MODERN_KEY}"}}}}',
        f'{{"arguments":{{"_meta":{{"{MODERN_KEY}":"{MODERN_VERSION}"}}}}}}',
    ],
)
def test_the_name_of_the_envelope_elsewhere_is_only_text(params: str) -> None:
    check_version(None, Request(b"1", "tools/call", params.encode()))


def test_a_version_that_python_cannot_hold_is_refused_too() -> None:
    assert refusal(None, enveloped("1e999")).fault is Fault.BAD_VERSION
