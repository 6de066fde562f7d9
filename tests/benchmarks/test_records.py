"""Judging: medians, ratios, targets, and measurements that do not count."""

from __future__ import annotations

import pytest

from benchmarks import plot, report
from benchmarks.parts.steady import Curve, ends_of_line
from benchmarks.records import Records, Row, Verdict


def make_row(*, limit: float | None = 2.0, at_least: bool = True) -> Row:
    return Row(
        name="fast",
        title="Fast",
        part="fast",
        series=("fast", "unit"),
        evaluate=lambda records: records.ratio("fast", "unit"),
        shown=lambda ratio: f"{ratio:.1f}",
        target="≥ 2",
        limit=limit,
        at_least=at_least,
    )


@pytest.fixture
def records() -> Records:
    """Rounds with ratios 2, 4 and 1."""
    made = Records()
    for fast, unit in ((200, 100), (400, 100), (300, 300)):
        made.add("fast", fast)
        made.add("unit", unit)
    return made


def test_a_ratio_is_the_median_of_the_rounds_ratios(records: Records) -> None:
    assert records.ratio("fast", "unit") == 2
    assert records.median("fast") == 300


@pytest.mark.parametrize(
    ("limit", "at_least", "verdict"),
    [
        (2.0, True, Verdict.MET),
        (2.1, True, Verdict.MISSED),
        (2.0, False, Verdict.MET),
        (1.9, False, Verdict.MISSED),
        (None, True, Verdict.SHOWN),
    ],
)
def test_a_row_is_judged_by_its_limit(
    records: Records, limit: float | None, at_least: bool, verdict: Verdict
) -> None:
    assert make_row(limit=limit, at_least=at_least).judge(records).verdict is verdict


def test_one_fault_in_any_round_fails_the_row(records: Records) -> None:
    records.add("unit", 100, faults=["99 of 100 arrived"])
    finding = make_row().judge(records)
    assert finding.verdict is Verdict.FAILED
    assert finding.number is None
    assert finding.note == "unit: 99 of 100 arrived"


def test_a_part_that_broke_off_or_never_ran_fails_its_rows(records: Records) -> None:
    records.broken["fast"] = "the sink ended"
    assert make_row().judge(records).note == "the sink ended"
    assert make_row().judge(Records()).note == "fast has no result (and 1 more)"


def test_tables_show_every_finding_with_its_verdict(records: Records) -> None:
    findings = [make_row().judge(records), make_row().judge(Records())]
    for table in (report.terminal_table(findings), report.markdown_table(findings)):
        assert "2.0" in table
        assert "met" in table
        assert "FAILED" in table


def test_a_plot_needs_something_to_compare(records: Records) -> None:
    assert plot.draw(Records()) is None
    records.add("bare", 100)
    records.add("engine-sqlite", 250)
    drawn = plot.draw(records) or ""
    assert "Foyer, SQLite: 2.50 times" in drawn


def test_the_rate_of_a_part_of_a_mailing_is_read_from_its_arrivals() -> None:
    """100 mails in the first second, 100 in the two seconds after it."""
    curve = Curve([(0.0, 0), (0.5, 50), (1.0, 100), (2.0, 150), (3.0, 200), (3.5, 200)])
    assert curve.rate(0.1, 0.2) == pytest.approx(100)
    assert curve.rate(0.8, 0.9) == pytest.approx(50)
    assert curve.rate(0.0, 1.0) == pytest.approx(200 / 3)


def test_the_tenths_of_a_mailing_lie_between_its_margins() -> None:
    """One mail a second, but for the first and the last twentieth."""
    points = [(0.0, 0), (10.0, 50), *((10.0 + at, 50 + at) for at in range(1, 901))]
    curve = Curve([*points, (1910.0, 1000)])
    assert curve.tenths(0.05) == pytest.approx([1.0] * 10)


def test_one_slow_tenth_counts_for_less_at_an_end_and_for_no_fall_in_the_middle() -> None:
    falling = [1000.0 - 10 * at for at in range(10)]
    assert ends_of_line(falling) == pytest.approx((1000, 910))
    assert ends_of_line([1000.0] * 9 + [800.0]) == pytest.approx((1029, 931), abs=0.1)
    assert ends_of_line([1000.0] * 4 + [800.0] * 2 + [1000.0] * 4) == pytest.approx((960, 960))
