"""SDK clients of both eras at a bridge of two workers: their connections come to either, and nobody can tell."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.interop.conftest import PATIENCE, Bridge
from tests.interop.crowd import CROSSED, check_crowd

pytestmark = [pytest.mark.slow, pytest.mark.timeout(4 * PATIENCE)]

TIMES = 8


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    """A bridge of two workers."""
    with Bridge.running(tmp_path_factory.mktemp("two"), environ={"WORKERS": "2"}) as bridge:
        yield bridge


@pytest.mark.parametrize(("server", "name"), CROSSED)
def test_clients_that_are_asked_are_not_mixed_up_between_workers(server: str, name: str, two: Bridge) -> None:
    check_crowd(two, server, name, TIMES)
