"""Cadences whose sizes or gaps change with the rounds: against naive simulators, closed forms, and their refusals."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from designspace.axes import Budget, Cadence, Schedule
from designspace.errors import DeclarationError, InfeasibleBudget
from families.cadence.annealed import Annealed
from families.cadence.every_k import EveryK
from families.cadence.geometric import Geometric
from families.cadence.prefill_only import PrefillOnly
from families.cadence.step_schedule import StepSchedule


def mean(sizes: list[float] | list[int]) -> float:
    """Average."""
    return sum(sizes) / len(sizes)


def naive_row(gaps: list[int], targets: list[float]) -> list[float]:
    """Attended sizes of a row that is cut to each target in turn and lives through the gap after it, token by token.

    The first target is the size after the prompt. A target above what the row holds leaves it alone.
    """
    attended, held = [], targets[0]
    for i, gap in enumerate(gaps):
        held = min(held, targets[i]) if i else targets[0]
        for _ in range(gap):
            held += 1
            attended.append(held)
    return attended


def schedule_or_skip(cadence: Cadence, budget: Budget) -> Schedule:
    """The schedule; combinations that are refused are no examples."""
    try:
        return cadence.schedule(budget)
    except InfeasibleBudget:
        assume(False)
        raise


budgets = st.integers(6, 300)
intervals = st.integers(1, 40)


@st.composite
def annealed(draw: st.DrawFn) -> Annealed:
    """Any annealing of 2 to 60 rounds."""
    k = draw(intervals)
    horizon = k * draw(st.integers(2, 60)) + draw(st.integers(0, k - 1))
    return Annealed(k=k, horizon=horizon, gamma=draw(st.floats(0.3, 0.99)), floor=draw(st.floats(0.05, 1.0)))


@st.composite
def stepped(draw: st.DrawFn) -> StepSchedule:
    """Any step of 2 to 60 rounds."""
    k = draw(intervals)
    horizon = k * draw(st.integers(2, 60)) + draw(st.integers(0, k - 1))
    direction = draw(st.sampled_from(["step-up", "step-down"]))
    ratio, switch = draw(st.floats(1.02, 3.0)), draw(st.floats(0.05, 0.95))
    return StepSchedule(direction, ratio=ratio, k=k, switch=switch, horizon=horizon)  # type: ignore[arg-type]


geometric = st.builds(
    Geometric, kappa=st.integers(1, 30), rho=st.floats(1.0, 2.5), intervals=st.integers(1, 6), prefill=st.booleans()
)


# Vectors computed by hand


def test_annealed_vector() -> None:
    """k=32, J=50, from 900 to 300 at gamma 0.9: 435.88; each size rounded for itself would give 435.86."""
    curve = [300 + 600 * 0.9**j for j in range(50)]

    assert mean(naive_row([32] * 50, curve)) == pytest.approx(435.88, abs=5e-3)
    assert mean(naive_row([32] * 50, [round(size) for size in curve])) == pytest.approx(435.86, abs=1e-9)

    cadence = Annealed(k=32, horizon=1600, gamma=0.9, floor=1 / 3)
    schedule = cadence.schedule(Budget(900, "nominal"))
    assert mean(schedule.simulate(2000, 1600)) == pytest.approx(435.88, abs=1e-2) == schedule.steady_mean
    assert (schedule.high, schedule.steady_peak) == (900, 932)
    assert cadence.schedule(Budget(932, "peak")).high == 900


def test_annealed_mean_inverts_the_closed_form() -> None:
    """A mean of 436 with c_lo = 300 needs c_hi = 300 + 119.5 * 5 / (1 - 0.9^50) = 900.6."""
    schedule = Annealed(k=32, horizon=1600, gamma=0.9, floor=300 / 436).schedule(Budget(436))

    assert schedule.high in (900, 901)
    assert mean(schedule.simulate(2000, 1600)) == 436.0


def test_annealed_auto_leaves_a_tenth() -> None:
    """k=128, J=128, mean 512: c_lo=256, and of what c_hi has above it a tenth is left in the last round."""
    rounds = Annealed(horizon=16384).schedule(Budget(512)).rounds[:128]  # type: ignore[attr-defined]
    gamma = 0.1 ** (1 / 127)
    highest = 256 + 191.5 * 128 * (1 - gamma) / (1 - gamma**128)

    assert sum(rounds) == 128 * 447.5
    assert abs(rounds[0] - highest) < 1
    assert abs(rounds[-1] - (256 + (highest - 256) / 10)) < 1


def test_geometric_vector() -> None:
    """kappa=16, rho=2, J=6, c=100: T=1008 steps, mean 273.8333, peak 100 + 512."""
    schedule = Geometric(kappa=16, rho=2.0, intervals=6).schedule(Budget(100, "nominal"))

    assert sum(schedule.gaps) == 1008  # type: ignore[attr-defined]
    assert mean(schedule.simulate(500, 1008)) == pytest.approx(273.8333, abs=5e-5)
    assert schedule.steady_mean == pytest.approx(100.5 + 16 * 65 / 6)
    assert max(schedule.simulate(500, 1008)) == 612 == schedule.steady_peak


def test_prefill_only_vectors() -> None:
    """T=400 and b=512: c=311.5, so 311 and a mean of 511.5; a peak of 711 is the same size."""
    cadence = PrefillOnly(horizon=400)

    assert cadence.schedule(Budget(512)).low == 311
    assert mean(cadence.schedule(Budget(512)).simulate(600, 400)) == 511.5
    assert cadence.schedule(Budget(711, "peak")).low == 311
    assert max(cadence.schedule(Budget(711, "peak")).simulate(600, 400)) == 711
    assert cadence.schedule(Budget(311, "nominal")) == PrefillOnly().schedule(Budget(311, "nominal"))
    assert mean(PrefillOnly(horizon=401).schedule(Budget(512)).simulate(600, 401)) == 512.0


def test_step_schedules_by_hand() -> None:
    """k=4, 10 intervals. Down, mean 31: 5 (1.5 x + x) = 10 (31 - 2.5), x = 22.8, so 171 tokens before the step and 114 after.

    Up, nominal 36: from 24, and the row grows for two intervals, 28 and 32, before it is cut to 36.
    """
    down = StepSchedule("step-down", k=4, horizon=40).schedule(Budget(31, "mean"))
    starts = [size - 1 for size in down.simulate(100, 40)[::4]]

    assert starts == [35, 34, 34, 34, 34, 23, 23, 23, 23, 22]
    assert mean(down.simulate(100, 40)) == 31.0

    up = StepSchedule("step-up", k=4, horizon=40).schedule(Budget(36, "nominal"))  # from 24 to 36
    starts = [size - 1 for size in up.simulate(100, 44)[::4]]
    assert starts[:10] == [24, 24, 24, 24, 24, 28, 32, 36, 36, 36]
    assert starts[10] == 29  # 288 / 10 is 29 to the nearest half


# Naive references


@given(cadence=annealed(), tokens=budgets)
def test_annealed_follows_the_real_curve(cadence: Annealed, tokens: int) -> None:
    """At every step of the horizon the row is less than a token from the curve with fractional sizes."""
    schedule = schedule_or_skip(cadence, Budget(tokens))
    k, gamma = int(cadence.k), float(cadence.gamma)
    n = cadence.horizon // k
    lowest = min(max(cadence.floor * tokens, 1.0), tokens - (k + 1) / 2)
    highest = lowest + (tokens - lowest - (k + 1) / 2) * n * (1 - gamma) / (1 - gamma**n)
    expected = naive_row([k] * n, [lowest + (highest - lowest) * gamma**j for j in range(n)])

    assert mean(expected) == pytest.approx(tokens)
    assert schedule.simulate(schedule.high + 50, n * k) == pytest.approx(expected, abs=1 + 1e-6)


@given(cadence=stepped(), tokens=budgets)
def test_step_follows_real_sizes(cadence: StepSchedule, tokens: int) -> None:
    """Fractional sizes in the exact ratio, matched by bisection on a naive simulator: the row stays near them."""
    schedule = schedule_or_skip(cadence, Budget(tokens))
    k = int(cadence.k)
    n = cadence.horizon // k
    n_before = min(max(int(cadence.switch * n + 0.5), 1), n - 1)

    def row(smaller: float) -> list[float]:
        before, after = smaller, smaller * cadence.ratio
        if cadence.direction == "step-down":
            before, after = after, before
        return naive_row([k] * n, [before] * n_before + [after] * (n - n_before))

    below, above = 0.0, float(tokens)
    for _ in range(60):
        middle = (below + above) / 2
        below, above = (middle, above) if mean(row(middle)) <= tokens else (below, middle)
    found, expected = schedule.simulate(schedule.high + 50, n * k), row(below)

    assert mean(expected) == pytest.approx(tokens)
    # A whole size just above the fractional one may be reached one interval later, so single steps may be k apart.
    assert sum(abs(a - b) for a, b in zip(found, expected, strict=True)) / len(found) <= 2 + k / n
    assert max(found) == pytest.approx(max(expected), abs=3 + 1e-6)
    assert min(found) == pytest.approx(min(expected), abs=3 + 1e-6)


@given(cadence=geometric, tokens=budgets)
def test_geometric_follows_real_sizes(cadence: Geometric, tokens: int) -> None:
    """Over two cycles the row is less than a token from the one with the fractional size of the closed form."""
    schedule = schedule_or_skip(cadence, Budget(tokens))
    ends = [0]
    for j in range(cadence.intervals):
        ends.append(int(sum(cadence.kappa * cadence.rho**i for i in range(j + 1)) + 0.5))
    gaps = [after - before for before, after in pairwise(ends)]
    size = tokens - sum(i for gap in gaps for i in range(1, gap + 1)) / sum(gaps)
    expected = naive_row(gaps * 2, [size] * len(gaps) * 2)
    found = schedule.simulate(tokens * 3 + 99, 1 + sum(gaps) * 2)

    assert mean(expected) == pytest.approx(tokens)
    offset = 0 if cadence.prefill else 1  # an uncut prompt is cut after the first decode step
    assert found[offset : offset + len(expected)] == pytest.approx(expected, abs=1 - 1e-9)


@given(kappa=st.integers(1, 30), rho=st.integers(2, 4), n=st.integers(1, 5), tokens=budgets)
def test_geometric_closed_form(kappa: int, rho: int, n: int, tokens: int) -> None:
    """The size is b - 1/2 - kappa (rho^J + 1) / (2 (rho + 1)), rounded to the whole tokens on both sides."""
    size = tokens - 0.5 - kappa * (rho**n + 1) / (2 * (rho + 1))
    cadence = Geometric(kappa=kappa, rho=float(rho), intervals=n)
    if size < 1 - 1e-9:
        with pytest.raises(InfeasibleBudget):
            cadence.schedule(Budget(tokens))
        return

    schedule = cadence.schedule(Budget(tokens))
    assert schedule.low <= size + 1e-9
    assert schedule.high >= size - 1e-9
    assert schedule.high - schedule.low <= 1


# The mean, the peak, the capacity


@given(cadence=annealed(), tokens=budgets)
def test_annealed_mean_over_the_horizon(cadence: Annealed, tokens: int) -> None:
    """The simulated mean is the budget to within half a token in one round; so is that of any longer text, twice that."""
    check_mean(cadence, tokens, rounds_off=0.5)


@given(cadence=stepped(), tokens=budgets)
def test_step_mean_over_the_horizon(cadence: StepSchedule, tokens: int) -> None:
    """The simulated mean, growth between the sizes included, is the budget to within one token in one interval."""
    check_mean(cadence, tokens, rounds_off=1.0)


def check_mean(cadence: Annealed | StepSchedule, tokens: int, rounds_off: float) -> None:
    """Horizon, long text and reported mean against the budget."""
    schedule = schedule_or_skip(cadence, Budget(tokens))
    k = int(cadence.k)
    n = cadence.horizon // k
    n_more = len(schedule.rounds) + 3 * (tokens // k + 20)  # type: ignore[attr-defined]  # time to grow back and to repay
    sizes = schedule.simulate(schedule.high + 1, (n + n_more) * k)

    assert mean(sizes[: n * k]) == pytest.approx(tokens, abs=rounds_off / n + 1e-9)
    assert mean(sizes) == pytest.approx(tokens, abs=(rounds_off + 1.0) / (n + n_more))
    assert mean(sizes[-2 * k :]) == tokens == schedule.steady_mean


@given(cadence=geometric, tokens=budgets)
def test_geometric_mean_over_cycles(cadence: Geometric, tokens: int) -> None:
    """Over its period the mean is the budget, exactly or to 1/128; over any whole cycles within a token per cycle."""
    schedule = schedule_or_skip(cadence, Budget(tokens))
    cycle, period = sum(schedule.gaps), schedule.period  # type: ignore[attr-defined]
    sizes = schedule.simulate(tokens * 3 + 99, 1 + period)[0 if cadence.prefill else 1 :][:period]

    assert mean(sizes) == pytest.approx(tokens, abs=1e-9 if period < 64 * cycle else 1 / 128)
    assert mean(sizes) == pytest.approx(schedule.steady_mean, abs=1e-9)
    for n_steps in range(cycle, period + 1, cycle):
        assert mean(sizes[:n_steps]) == pytest.approx(tokens, abs=cycle / n_steps)


@pytest.mark.parametrize("tokens", [30, 31, 48, 97, 512])
def test_geometric_mean_is_exact_in_two_cycles(tokens: int) -> None:
    """With the default gaps no budget needs more."""
    schedule = Geometric().schedule(Budget(tokens))
    cycle = 4 + 8 + 16 + 32

    assert mean(schedule.simulate(tokens * 2, 2 * cycle)) == tokens


@given(
    cadence=st.one_of(annealed(), stepped(), geometric),
    tokens=budgets,
    of=st.sampled_from(["mean", "nominal", "peak"]),
    n_prompt=st.integers(1, 900),
    prefill=st.booleans(),
)
def test_capacity(
    cadence: Annealed | StepSchedule | Geometric, tokens: int, of: str, n_prompt: int, prefill: bool
) -> None:
    """No prompt makes a row larger than announced, no event leaves it outside low and high, each cuts something."""
    cadence = type(cadence)(**{**vars(cadence), "prefill": prefill})
    schedule = schedule_or_skip(cadence, Budget(tokens, of))  # type: ignore[arg-type]
    size, n_events, peak = n_prompt, 0, 0
    for step in range(600):
        if step:
            size += 1
            peak = max(peak, size)
        if schedule.due(step, size, n_events):
            assert schedule.low <= schedule.target(n_events) <= schedule.high
            assert schedule.target(n_events) < size or isinstance(cadence, Geometric)  # its gap may be a single step
            size, n_events = schedule.target(n_events), n_events + 1

    assert peak <= schedule.peak_bound(n_prompt, 599)
    assert n_events > 0 or peak <= schedule.high + schedule.max_growth


@given(cadence=st.one_of(annealed(), stepped()), tokens=budgets)
def test_low_and_high_occur(cadence: Annealed | StepSchedule, tokens: int) -> None:
    """The bounds are not loose: some event leaves `low`, some leaves `high`, and the peak is reached."""
    schedule = schedule_or_skip(cadence, Budget(tokens))
    sizes = schedule.simulate(schedule.high + 1, cadence.horizon + 3 * tokens + 8 * int(cadence.k))
    starts = [sizes[0] - 1] + [b - 1 for a, b in pairwise(sizes) if b <= a]

    assert (min(starts), max(starts), max(sizes)) == (schedule.low, schedule.high, schedule.steady_peak)


@given(
    cadence=st.one_of(annealed(), stepped(), geometric),
    tokens=budgets,
    of=st.sampled_from(["nominal", "peak"]),
)
def test_nominal_and_peak(cadence: Annealed | StepSchedule | Geometric, tokens: int, of: str) -> None:
    """Nominal is the largest after-event size; peak is the largest attended size; the mean is reported as it comes."""
    schedule = schedule_or_skip(cadence, Budget(tokens, of))  # type: ignore[arg-type]
    sizes = schedule.simulate(tokens + 50, cadence.horizon if not isinstance(cadence, Geometric) else 400)

    assert schedule.high == tokens - (schedule.max_growth if of == "peak" else 0)
    assert schedule.steady_peak == schedule.high + schedule.max_growth
    if not isinstance(cadence, Geometric):
        n_steps = cadence.horizon // int(cadence.k) * int(cadence.k)
        assert schedule.steady_mean == pytest.approx(mean(sizes[:n_steps]), abs=1e-9)


@given(cadence=st.one_of(annealed(), stepped(), geometric), tokens=budgets, seed=st.integers(0, 99))
def test_tensors_and_integers_agree(cadence: Cadence, tokens: int, seed: int) -> None:
    """`due` and `target` of a batch are those of its rows."""
    schedule = schedule_or_skip(cadence, Budget(tokens))
    generator = torch.Generator().manual_seed(seed)
    step = torch.randint(0, 3 * schedule.max_growth, (40,), generator=generator)
    size = torch.randint(max(schedule.low - 3, 1), schedule.high + schedule.max_growth + 2, (40,), generator=generator)
    n_events = torch.randint(0, 90, (40,), generator=generator) * (torch.rand(40, generator=generator) > 0.2)
    rows = list(zip(step.tolist(), size.tolist(), n_events.tolist(), strict=True))

    assert schedule.target(n_events).tolist() == [schedule.target(events) for _, _, events in rows]
    due = schedule.due(step, size, n_events)
    assert due.dtype is torch.bool
    assert due.tolist() == [bool(schedule.due(*row)) for row in rows]


# Short prompts, long texts


def test_rounds_start_with_the_first_event() -> None:
    """A prompt below the first size delays the rounds; from the first event on the mean over the horizon is the budget."""
    schedule = Annealed(k=8, horizon=64, gamma=0.7, floor=0.4).schedule(Budget(40))
    sizes = schedule.simulate(5, 200)
    first = next(i for i in range(1, 200) if sizes[i] <= sizes[i - 1])

    assert first % 8 == 0
    assert first > 8
    assert mean(sizes[first : first + 64]) == 40.0


def test_annealed_returns_to_the_size_of_every_k() -> None:
    """Long after the horizon the row is that of `every-k` at the same budget."""
    annealed_sizes = Annealed(k=16, horizon=128).schedule(Budget(100)).simulate(300, 1600)[-32:]

    assert sorted(annealed_sizes) == sorted(EveryK(k=16).schedule(Budget(100)).simulate(300, 1600)[-32:])


def test_a_row_grows_back_uncut_and_repays() -> None:
    """k=2, last round 21, constant size 38.5: no event while the row grows from 23, then as far above, then 38.5."""
    schedule = Annealed(k=2, horizon=40, gamma=0.6, floor=0.5).schedule(Budget(40))
    starts = [size - 1 for size in schedule.simulate(400, 400)[::2]]
    first = starts.index(max(starts[20:]), 20)

    assert [b - a for a, b in pairwise(starts[19:first])] == [2] * (first - 20)
    assert max(starts[20:]) <= 38.5 + (38.5 - starts[20])
    assert sum(starts[:20]) == 20 * 38.5
    assert abs(sum(starts) - len(starts) * 38.5) <= 1


# Refusals: each names a value that works


def named(pattern: str, refused: Callable[[], object]) -> float:
    """The number that the refusal names as feasible."""
    with pytest.raises(InfeasibleBudget, match=pattern) as caught:
        refused()
    found = re.search(pattern, str(caught.value))
    assert found is not None
    return float(found[1])


@pytest.mark.parametrize("of", ["mean", "peak"])
def test_prefill_only_names_the_largest_horizon(of: str) -> None:
    """(T+1)/2 or T must leave one token of the prompt."""
    budget = Budget(64, of)  # type: ignore[arg-type]
    largest = named(r"the largest feasible horizon is (\d+)", lambda: PrefillOnly(horizon=400).schedule(budget))

    assert largest == {"mean": 125, "peak": 63}[of]
    assert PrefillOnly(horizon=int(largest)).schedule(budget).low == 1
    with pytest.raises(InfeasibleBudget):
        PrefillOnly(horizon=int(largest) + 1).schedule(budget)


def test_prefill_only_grows_whatever_the_horizon() -> None:
    """It has no steady mean, and its capacity follows the text, not the horizon."""
    schedule = PrefillOnly(horizon=10).schedule(Budget(64))

    assert (schedule.steady_mean, schedule.steady_peak, PrefillOnly(horizon=10).bounded) == (None, None, False)
    assert max(schedule.simulate(300, 90)) == schedule.peak_bound(300, 90) == 58 + 90


@pytest.mark.parametrize(("of", "tokens", "k"), [("mean", 64, 32), ("peak", 64, 32), ("mean", 3, 3), ("mean", 97, 7)])
def test_annealed_names_the_largest_floor(of: str, tokens: int, k: int) -> None:
    """c_lo must not be above the mean or the largest size."""
    budget = Budget(tokens, of)  # type: ignore[arg-type]
    refused = Annealed(k=k, horizon=8 * k, floor=0.99)
    largest = named(r"the largest feasible floor is ([\d.]+)", lambda: refused.schedule(budget))

    assert len(set(Annealed(k=k, horizon=8 * k, floor=largest).schedule(budget).rounds)) <= 2  # type: ignore[attr-defined]


def test_annealed_names_the_smallest_floor_and_the_largest_interval() -> None:
    """c_lo is a token at least; the interval is bounded as that of `every-k`."""
    smallest = named(r"the smallest feasible floor is ([\d.]+)", lambda: Annealed(floor=0.001).schedule(Budget(48)))
    largest = named(r"the largest feasible k is (\d+)", lambda: Annealed(k=100, floor=0.1).schedule(Budget(48)))

    assert Annealed(floor=smallest).schedule(Budget(48)).low >= 1
    assert largest == 93


@pytest.mark.parametrize(
    ("cadence", "budget", "reason"),
    [
        (
            StepSchedule("step-up", ratio=4.0, k=8, horizon=64),
            Budget(200),
            "growth takes more than half of what horizon=64 leaves",
        ),
        (StepSchedule("step-up", ratio=3.0, k=8, horizon=64), Budget(200, "nominal"), "growth takes more than half"),
        (StepSchedule("step-down", ratio=40.0, k=8, horizon=64), Budget(20), "below one token"),
        (StepSchedule("step-down", ratio=90.0, k=8, horizon=64), Budget(40, "peak"), "below one token"),
    ],
    ids=str,
)
def test_step_names_the_largest_ratio(cadence: StepSchedule, budget: Budget, reason: str) -> None:
    """A ratio that asks for too much growth or too small a size."""
    largest = named(rf"(?:{reason}).*the largest feasible ratio is ([\d.]+)", lambda: cadence.schedule(budget))

    assert 1 < largest < cadence.ratio
    StepSchedule(cadence.direction, ratio=largest, k=8, horizon=64).schedule(budget)
    with pytest.raises(InfeasibleBudget):
        StepSchedule(cadence.direction, ratio=largest + 0.02, k=8, horizon=64).schedule(budget)


def test_geometric_names_what_is_feasible() -> None:
    """Fewer intervals, then a shorter gap, then nothing."""
    fewer = named(
        r"the largest feasible intervals is (\d+)", lambda: Geometric(kappa=16, intervals=9).schedule(Budget(64))
    )
    shorter = named(
        r"with intervals=1 the largest feasible kappa is (\d+)", lambda: Geometric(kappa=99).schedule(Budget(24))
    )

    Geometric(kappa=16, intervals=int(fewer)).schedule(Budget(64))
    with pytest.raises(InfeasibleBudget):
        Geometric(kappa=16, intervals=int(fewer) + 1).schedule(Budget(64))
    assert Geometric(kappa=int(shorter), intervals=1).schedule(Budget(24)).low == 1
    with pytest.raises(InfeasibleBudget, match="no gap is feasible"):
        Geometric().schedule(Budget(1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Annealed(gamma=1.0), r"gamma must lie in \(0, 1\) or be 'auto', got gamma=1.0"),
        (lambda: Annealed(floor=0.0), r"floor must lie in \(0, 1\], got floor=0.0"),
        (lambda: Annealed(k=0), "k must be at least 1 or 'auto', got k=0"),
        (lambda: Annealed(k=16, horizon=31), "horizon must be at least 32 decode steps .*got horizon=31, k=16"),
        (lambda: Annealed(horizon=1), "horizon must be at least 2, got horizon=1"),
        (lambda: StepSchedule("up"), "direction must be 'step-up' or 'step-down', got direction='up'"),  # type: ignore[arg-type]
        (lambda: StepSchedule(ratio=1.0), "ratio must be above 1, got ratio=1.0"),
        (lambda: StepSchedule(switch=1.0), r"switch must lie in \(0, 1\), got switch=1.0"),
        (lambda: StepSchedule(k=16, horizon=31), "horizon must be at least 32"),
        (lambda: Geometric(kappa=0), "kappa must be at least 1, got kappa=0"),
        (lambda: Geometric(rho=0.9), "rho must be at least 1, got rho=0.9"),
        (lambda: Geometric(rho=float("nan")), "rho must be a finite number, got rho=nan"),
        (lambda: Geometric(intervals=0), "intervals must be at least 1, got intervals=0"),
        (lambda: Geometric(intervals=2000), "must be at most 2"),
        (lambda: PrefillOnly(horizon=0), "horizon must be at least 1 or None, got horizon=0"),
    ],
)
def test_bad_parameters(make: Callable[[], Cadence], message: str) -> None:
    """Each rule names what came."""
    with pytest.raises(DeclarationError, match=message):
        make()
