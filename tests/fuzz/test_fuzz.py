"""Any bytes: the kept corpus, and what hypothesis thinks of. ``make fuzz MINUTES=60`` thinks longer.

What has failed once becomes a file under ``corpus/``, so that it is tried for ever.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.fuzz.inputs import INPUTS, corpus
from tests.fuzz.properties import PROPERTIES

#: Minutes that all properties have together.
MINUTES = float(os.environ.get("FUZZ_MINUTES", "1"))
#: Inputs after which the time is looked at.
ROUND = 400


@pytest.mark.parametrize(
    ("name", "file"),
    [(name, file) for name in PROPERTIES for file in corpus(name)],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_kept_input_keeps_its_property(name: str, file: Path) -> None:
    PROPERTIES[name](file.read_bytes())


@pytest.mark.slow
@pytest.mark.timeout(60 * MINUTES + 120)
@pytest.mark.parametrize("name", PROPERTIES)
def test_a_property_holds_for_any_bytes(name: str) -> None:
    @settings(
        max_examples=ROUND,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=set(Phase) - {Phase.explain},
    )
    @given(data=INPUTS[name])
    def holds(data: bytes) -> None:
        PROPERTIES[name](data)

    until = time.monotonic() + 60 * MINUTES / len(PROPERTIES)
    while time.monotonic() < until:
        holds()
