"""How well fidelity ranks arms, on rows whose ranks are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.fidelity_predicts import both_ways, lines, tau, tau_interval, told_apart
from designspace.report.arm_rows import COLUMNS, FORCED
from designspace.store import RESULTS_SCHEMA
from tests.designspace.report.conftest import result_row

SCHEMA = pa.schema([RESULTS_SCHEMA.field(name) for name in ("study", *COLUMNS, *FORCED)])
N_PROBLEMS = 12
SOLVED = {"a": 10, "b": 6, "c": 2}  # problems that each arm solves, from the first on


def rows(better: str = "abc") -> list[dict[str, Any]]:
    """Return three arms both ways; better: the order of their fidelity, the best first."""
    made = []
    for arm, n_solved in SOLVED.items():
        for i in range(N_PROBLEMS):
            free = {
                "mechanism": f"{arm}+greedy",
                "problem_id": f"p{i}",
                "correct": i < n_solved,
                **dict.fromkeys(FORCED),
            }
            loss = 0.1 * (1 + better.index(arm)) + 0.001 * i
            fed = {
                "mechanism": f"{arm}+teacher-forced", "problem_id": f"p{i}", "correct": None, "forced_of": "full",
                "forced_loss_over_full": loss, "forced_agreement": 1 - loss, "forced_first_disagreement": 3,
            }  # fmt: skip
            made += [result_row(**free), result_row(**fed)]
    return made


def table(*made: dict[str, Any]) -> pa.Table:
    """Return rows as a table."""
    return pa.Table.from_pylist(list(made), schema=SCHEMA)


@pytest.mark.parametrize(("better", "expected"), [("abc", 1.0), ("cba", -1.0), ("bac", 1 / 3)])
def test_tau_is_that_of_the_ranks(better: str, expected: float) -> None:
    """One for equal ranks, minus one for opposite ones, a third where one pair of three is swapped."""
    (place,) = both_ways(table(*rows(better)))
    assert ("a", "b", "c") == place.arms
    for measure in (place.less_loss, place.agreement):
        assert expected == pytest.approx(tau(measure, place.accuracy))


def test_the_interval_draws_the_same_problems_for_both() -> None:
    """Ranks that hold on every problem hold in every resample in which the accuracies differ."""
    (place,) = both_ways(table(*rows()))
    low, high = tau_interval(place.less_loss, place.accuracy)
    assert 0.8 <= low <= high == 1.0
    assert (1.0, 1.0) == tau_interval(place.less_loss, place.agreement)


def test_a_measure_of_many_tokens_tells_more_arms_apart() -> None:
    """Accuracy tells the first from the last; a loss that differs on every problem tells all pairs."""
    (place,) = both_ways(table(*rows()))
    assert (1, 3) == (told_apart(place.accuracy), told_apart(place.less_loss))
    assert 0 == told_apart(np.zeros((3, N_PROBLEMS)))


def test_only_common_problems_and_arms_count() -> None:
    """An arm that was run one way is left out, and so is a problem that one arm lacks."""
    made = [
        row
        for row in rows()
        if row["mechanism"] != "c+greedy" and (row["mechanism"], row["problem_id"]) != ("a+greedy", "p3")
    ]
    (place,) = both_ways(table(*made))
    assert ("a", "b") == place.arms
    assert (2, N_PROBLEMS - 1) == place.accuracy.shape


def test_texts_that_are_not_graded_are_refused() -> None:
    """They are no wrong answers."""
    made = rows()
    made[0]["correct"] = None
    with pytest.raises(ValueError, match=r"a text of a\+greedy is not graded"):
        both_ways(table(*made))


def test_the_tables_name_every_arm() -> None:
    """Correlations, pairs told apart, arms with the smallest loss first."""
    shown = list(lines(both_ways(table(*rows("bac")))))
    assert "| pocket | 48 | 3 | 12 | 0.33 (" in shown[2]
    assert "| pocket | 48 | 3 | 1 | 3 | 3 |" in shown
    assert ["`b`", "`a`", "`c`"] == [line.split(" | ")[2] for line in shown[-3:]]
