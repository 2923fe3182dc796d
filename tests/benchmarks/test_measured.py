"""Medians, ratios within a round, and how they are shown."""

from __future__ import annotations

import pytest

from benchmarks.measured import Runs, faster, figure, percents, table


def test_ratios_are_taken_within_a_round() -> None:
    """A round in which the machine is slow hits both sides and leaves the ratio as it is."""
    ours, theirs = Runs((100.0, 10.0, 90.0)), Runs((50.0, 5.0, 30.0))

    assert Runs((2.0, 2.0, 3.0)) == ours.over(theirs)
    assert 2.0 == ours.over(theirs).median


def test_the_median_ratio_is_not_the_ratio_of_medians() -> None:
    """Which is why it has to be taken round by round."""
    ours, theirs = Runs((1.0, 4.0, 9.0)), Runs((1.0, 1.0, 10.0))

    assert 1.0 == ours.over(theirs).median
    assert 4.0 == ours.median / theirs.median


def test_sides_of_different_length_are_refused() -> None:
    """A round that one side did not run has no ratio."""
    with pytest.raises(ValueError):
        Runs((1.0, 2.0)).over(Runs((1.0,)))


def test_runs_show_median_and_range() -> None:
    """In three digits or whole numbers."""
    assert "1,234 (57.3–9,000)" == str(Runs((9000.0, 57.3, 1234.4)))


@pytest.mark.parametrize(
    ("number", "shown"), [(0.04567, "0.046"), (1.234, "1.23"), (12.34, "12.3"), (123.4, "123"), (0.0, "0.000")]
)
def test_figures(number: float, shown: str) -> None:
    """Small numbers have decimals, large ones do not."""
    assert shown == figure(number)


def test_shares_in_percent() -> None:
    """Below ten percent two decimals."""
    assert "3.21 % (1.00 %–12.3 %)" == percents(Runs((0.0321, 0.123, 0.01)))


def test_the_better_of_two_is_the_one_with_the_larger_median() -> None:
    """A single lucky run does not decide."""
    steady, lucky = Runs((5.0, 5.0, 5.0)), Runs((4.0, 4.0, 100.0))

    assert faster(steady, lucky) is steady and faster(lucky, steady) is steady


def test_table() -> None:
    """The first column is text, the others are numbers, ranged right."""
    lines = list(table(("model", "rate"), [("a", 1), ("b", Runs((2.0,)))]))

    assert ["| model | rate |", "| --- | --: |", "| a | 1 |", "| b | 2.00 (2.00–2.00) |"] == lines
