"""What is said of measurements: ratios of neighbours, and promises that are kept, missed or not looked at."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

import pytest

from bench.plot import bars
from bench.programs import ROOT
from bench.report import Results, Table, page, verdicts
from bench.series import Round, Series, difference, number, p50, rate, ratio, spread
from bench.suite import Suite
from bench.targets import TARGETS, Target


def series(rates: Sequence[float]) -> Series:
    return Series("x", [Round(each, 1000 / each, 0, 0, 0) for each in rates])


def test_a_ratio_compares_rounds_that_ran_next_to_each_other() -> None:
    """In the second round everything was ten times slower: that is the machine, not the contender."""
    ours, theirs = series([1000, 100, 900]), series([500, 60, 300])
    assert ratio(ours, theirs, rate) == 2
    assert difference(ours, theirs, p50) == pytest.approx(1000 / 900 - 1000 / 300)


def test_a_contender_that_failed_on_its_way_is_compared_up_to_there() -> None:
    assert ratio(series([3, 3, 3]), series([1]), rate) == 3


@pytest.mark.parametrize(
    ("value", "text"),
    [(43210.4, "43 210"), (123.4, "123"), (12.34, "12.3"), (1.234, "1.23"), (0.0234, "0.023"), (0, "0.00")],
)
def test_a_number_has_the_digits_that_mean_something(value: float, text: str) -> None:
    assert number(value) == text
    assert spread([value, value]) == f"{text}-{text}"


def test_a_limit_holds_in_its_own_direction() -> None:
    least, most = Target("a", "", 6), Target("b", "", 6, at_most=True)
    assert [least.is_met(seen) for seen in (5.9, 6, 6.1)] == [False, True, True]
    assert [most.is_met(seen) for seen in (5.9, 6, 6.1)] == [True, True, False]


def test_a_target_is_met_missed_or_not_measured() -> None:
    first, second = TARGETS[:2]
    results = Results(seen={first.key: first.wanted, second.key: second.wanted / 2})
    rows = verdicts(results).rows
    assert len(rows) == len(TARGETS)
    assert [row[0] for row in verdicts(results, whole=False).rows] == [first.text, second.text]
    assert [row[3] for row in rows[:3]] == ["met", "**missed**", "not measured: nothing was seen of it"]


def test_the_page_says_why_a_target_is_missed_where_that_is_known() -> None:
    known = next(each for each in TARGETS if each.why)
    assert known.why in page(Results(seen={known.key: known.wanted / 2}), [])
    assert known.why not in page(Results(seen={known.key: known.wanted}), [])
    assert known.why not in page(Results(), [])


def test_a_note_is_one_line_without_paths_of_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    suite = Suite(1, 1, True)
    suite.note(f"failed:\n<b>no</b>  {ROOT}/.cache/x" + "x" * 1000)
    assert suite.results.notes[0].startswith("failed: no /.cache/xxx")
    assert len(suite.results.notes[0]) <= 160
    assert suite.results.notes[0] in capsys.readouterr().err


def test_the_page_holds_every_table() -> None:
    results = Results(
        tables=[Table("A case", "What was done.", ("", "calls/s"), [("bridge", "1"), ("peer", "2")])],
        bars=[("bridge", 1.0)],
    )
    text = page(results, ["a machine"])
    assert "## A case\n\nWhat was done.\n\n|  | calls/s |\n| --- | ---: |\n| bridge | 1 |\n| peer | 2 |" in text
    assert "* a machine" in text
    assert "performance.svg" in text


def test_bars_are_as_long_as_their_values() -> None:
    root = ElementTree.fromstring(bars("a <title>", [("bridge", 100.0), ("peer", 50.0)], "bridge"))
    widths = [float(each.attrib["width"]) for each in root.iter() if each.tag.endswith("rect")][1:]
    assert widths[0] == pytest.approx(2 * widths[1])
    assert "a <title>" in [each.text for each in root.iter()]
