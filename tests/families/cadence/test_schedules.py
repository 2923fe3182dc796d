"""Cadences: closed forms against the integer simulator, and the refusals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from designspace.axes import Budget, Cadence
from designspace.errors import InfeasibleBudget
from families.cadence.every_k import EveryK
from families.cadence.every_step import EveryStep
from families.cadence.hysteresis import Hysteresis
from families.cadence.never import Never
from families.cadence.prefill_only import PrefillOnly


def mean(sizes: list[int]) -> float:
    """Average of integers."""
    return sum(sizes) / len(sizes)


@pytest.mark.parametrize(
    ("cadence", "budget", "n_prompt", "n_steps", "expected"),
    [
        (EveryStep(), Budget(512), 600, 1000, 512.0),
        (EveryK(k=128), Budget(448, "nominal"), 600, 128 * 50, 512.5),
        (EveryK(k=128), Budget(447, "nominal"), 600, 128 * 50, 511.5),
        (EveryK(k=128), Budget(512), 600, 128 * 400, 512.0),
        (EveryK(k=129), Budget(512), 600, 129 * 50, 512.0),
        (Hysteresis(slack=128), Budget(447, "nominal"), 600, 128 * 50, 511.5),
        (PrefillOnly(), Budget(311, "nominal"), 600, 400, 511.5),
        (EveryStep(), Budget(447, "nominal"), 100, 1000, 387.622),
        (EveryStep(), Budget(447, "nominal"), 100, 200, 200.5),
        (EveryK(k=128), Budget(447, "nominal"), 100, 1000, 426.156),
        (EveryK(k=128), Budget(447, "nominal"), 100, 4000, 490.092),
        (EveryK(k=128), Budget(447, "nominal"), 100, 16000, 506.244),
    ],
    ids=str,
)
def test_simulated_mean(cadence: Cadence, budget: Budget, n_prompt: int, n_steps: int, expected: float) -> None:
    """The published vectors, fill phase included."""
    assert mean(cadence.schedule(budget).simulate(n_prompt, n_steps)) == pytest.approx(expected, abs=5e-3)


@given(
    cadence=st.one_of(
        st.just(EveryStep()),
        st.builds(EveryK, k=st.integers(1, 40)),
        st.builds(Hysteresis, slack=st.integers(1, 40)),
        st.just(EveryK()),
    ),
    tokens=st.integers(25, 200),
)
def test_a_mean_budget_is_the_steady_mean(cadence: Cadence, tokens: int) -> None:
    """Over whole cycles after a long prompt, the attended mean is the budget exactly, and the peak is as announced."""
    schedule = cadence.schedule(Budget(tokens))
    cycle = 2 * schedule.max_growth
    sizes = schedule.simulate(tokens * 3, 1 + cycle * 12)[1 + cycle * 2 :]

    assert mean(sizes) == pytest.approx(tokens, abs=1e-9)
    assert schedule.steady_mean == tokens
    assert max(sizes) == schedule.high + schedule.max_growth <= schedule.peak_bound(tokens * 3, 10_000)


@given(cadence=st.sampled_from([EveryStep(), EveryK(k=8), Hysteresis(slack=8)]), tokens=st.integers(12, 200))
def test_a_peak_budget_is_a_cap(cadence: Cadence, tokens: int) -> None:
    """No step attends more than the peak, and some step reaches it."""
    assert max(cadence.schedule(Budget(tokens, "peak")).simulate(tokens * 2, 200)) == tokens


@pytest.mark.parametrize(("tokens", "interval"), [(48, 16), (96, 32), (128, 64), (256, 128), (1000, 128), (3, 1)])
def test_auto_interval(tokens: int, interval: int) -> None:
    """The largest power of two that is at most half the budget and the published interval."""
    assert EveryK().schedule(Budget(tokens)).max_growth == interval


def test_auto_is_the_published_interval_for_a_nominal_budget() -> None:
    """A size after the event does not bound the interval."""
    assert Hysteresis().schedule(Budget(64, "nominal")).max_growth == 128


def test_the_released_trigger_of_triattention() -> None:
    """A prompt of 150 at a size of 64 stays whole until 192 are held; one that is longer until the first decode step."""
    schedule = Hysteresis(slack=128, prefill=False).schedule(Budget(64, "nominal"))

    assert schedule.simulate(150, 44) == [*range(151, 193), 65, 66]
    assert schedule.simulate(300, 3) == [301, 65, 66]
    assert schedule.simulate(64, 130) == [*range(65, 193), 65, 66]
    assert schedule.steady_mean == Hysteresis(slack=128).schedule(Budget(64, "nominal")).steady_mean == 128.5


@pytest.mark.parametrize("cadence", [EveryK(k=128), Hysteresis(slack=128)], ids=lambda c: c.kind)
def test_an_infeasible_interval_names_the_largest_feasible_one(cadence: Cadence) -> None:
    """A mean of 64 with interval 128 would need a target below zero; 125 is the largest that works."""
    with pytest.raises(InfeasibleBudget, match=r"the largest feasible (k|slack) is 125"):
        cadence.schedule(Budget(64))
    assert EveryK(k=125).schedule(Budget(64)).low == 1


def test_prefill_only_refuses_a_mean() -> None:
    """It has no steady mean for an unknown length."""
    with pytest.raises(InfeasibleBudget, match="no steady mean or peak for an unknown length, got a mean of 64 tokens"):
        PrefillOnly().schedule(Budget(64))


@pytest.mark.parametrize("n_prompt", [1, 40, 64, 65, 500])
def test_prefill_only_cuts_long_prompts_once(n_prompt: int) -> None:
    """A prompt above the budget is cut, a shorter one is left alone, and nothing is cut afterwards."""
    sizes = PrefillOnly().schedule(Budget(64, "nominal")).simulate(n_prompt, 50)

    assert sizes == [min(n_prompt, 64) + t for t in range(1, 51)]


def test_never_makes_no_event() -> None:
    """The cache is the text."""
    assert Never().schedule(Budget(1, "nominal")).simulate(5, 4) == [6, 7, 8, 9]


def test_slack_trigger_saw_tooth() -> None:
    """TriAttention's slack mode: attended sizes run from c + 1 to c + slack, mean c + (slack + 1) / 2."""
    sizes = Hysteresis(slack=128).schedule(Budget(64, "nominal")).simulate(200, 1281)[1:]

    assert (min(sizes), max(sizes)) == (65, 192)
    assert mean(sizes) == 128.5
