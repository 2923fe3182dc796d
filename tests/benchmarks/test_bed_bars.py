"""The bars of the test bed, on outcomes that are made up so that the answer is known."""

from __future__ import annotations

import pandas as pd
import pytest

from benchmarks.bed_bars import SAME_ARMS, agreement, bars, best_scores, outcomes

ORDER = list(SAME_ARMS)


def made_up(names: list[str], rates: list[float], budgets: tuple[str, ...] = ("80", "112")) -> pd.DataFrame:
    """Arms that solve the first problems, as many as their rate says, at every budget."""
    rows = [
        {"mechanism": name, "model": "m", "budget": budget, "problem_id": f"p{n:03}", "correct": float(n < 100 * rate)}
        for name, rate in zip(names, rates, strict=True)
        for budget in budgets
        for n in range(100)
    ]
    return pd.DataFrame(rows)


def test_the_same_order_agrees_and_the_reverse_disagrees() -> None:
    """Tau-b is 1 and -1, and the intervals are on their sides."""
    rates = [0.1 + 0.08 * rank for rank in range(len(ORDER))]
    ours = outcomes(made_up(ORDER, rates))
    there = list(SAME_ARMS.values())
    tau, low, _ = agreement(ours, outcomes(made_up(there, rates, ("96",))), n_samples=200)
    assert (1.0, True) == (pytest.approx(tau), low > 0.6)
    tau, _, high = agreement(ours, outcomes(made_up(there, rates[::-1], ("96",))), n_samples=200)
    assert (-1.0, True) == (pytest.approx(tau), high < -0.6)


def test_bars_are_of_the_smaller_budget_and_say_what_was_missed() -> None:
    """The full cache solves 90 of 100; the window loses 60, the oracle 10, the ten best (the window is one) spread over 24."""
    scores = [f"s{rank}" for rank in range(12)]
    names = ["full", "prefix-sliding", "oracle", *scores]
    small = made_up(names, [0.9, 0.3, 0.8, *[0.5 - 0.03 * rank for rank in range(12)]], ("80",))
    large = made_up(names[1:], [0.9] * (len(names) - 1), ("112",))
    small.loc[small["mechanism"] == "full", "budget"] = "none"
    kinds = {name: {"prefix-sliding": "streaming-llm"}.get(name, name) for name in names}
    lines = bars(outcomes(pd.concat([small, large])), kinds)
    assert lines[0] == "m, 80: full cache 90.0 %"
    assert lines[1].endswith("lose 60.0 points (bar: at least 40): holds")
    assert lines[2].endswith("loses 10.0 points (bar: at most 5): MISSED")
    assert "of 13 (s0 to s8) are spread over 24.0 points (bar: at least 30): MISSED" in lines[3]


def test_a_score_is_as_good_as_the_best_of_its_arms() -> None:
    """Two arms of one scoring are one score; random draws and the oracle are none."""
    percent = pd.Series({"a-wide": 50.0, "a-narrow": 70.0, "b": 60.0, "random-attention": 90.0, "oracle": 99.0})
    kinds = {"a-wide": "a", "a-narrow": "a", "b": "b", "random-attention": "random", "oracle": "oracle"}
    assert best_scores(percent, kinds).to_dict() == {"a": 70.0, "b": 60.0}
