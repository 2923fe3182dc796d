"""Adaptive cadences: the closed form, the controller, the signals, and the engine against the simulator."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from designspace.axes import Budget, Generation, Mechanism, Observed, StepSeen
from designspace.engine import Engine
from designspace.errors import DeclarationError, InfeasibleBudget
from designspace.testing.conformance import check_mechanism, check_strategy
from designspace.testing.conformance.mechanism import CacheChecks
from designspace.testing.conformance.spelling import Spelling
from families.cadence.adaptive import Adaptive, AdaptiveSchedule, AttentionShift
from families.cadence.every_k import EveryK
from families.decoding.greedy import Greedy
from families.head_routing.uniform import Uniform
from families.representation.full import FullPrecision
from families.scoring.h2o import H2O
from tests.families.attention_history import HEADS, LAYERS, ROWS, Seen, moments
from tests.families.decoding.toy import model, request

TRIGGERS = ("entropy", "attention-shift", "newline")
NEWLINE = Adaptive(trigger="newline")


def mean(numbers: Sequence[float]) -> float:
    """Average."""
    return sum(numbers) / len(numbers)


def with_intervals(schedule: AdaptiveSchedule, intervals: Sequence[int], n_prompt: int) -> list[int]:
    """Sizes of a row, cut right after its prompt, whose signal asks `intervals` steps after each event."""
    signals = [float(i == interval) for interval in intervals for i in range(1, interval + 1)]
    return schedule.simulate(n_prompt, len(signals), signals)


def cuts(sizes: Sequence[int]) -> list[int]:
    """Steps after which a row did not grow: those with an event."""
    return [step for step, (a, b) in enumerate(pairwise(sizes), start=1) if b <= a]


def test_c7_two_extreme_intervals() -> None:
    """K = 1 or 255, equiprobable, controller off: c + 127.5 instead of the c + 64.5 of a regular 128."""
    schedule = replace(NEWLINE, k_min=1, k_max=255).schedule(Budget(100, "nominal"))
    intervals = [1, 255] * 50
    random.Random(0).shuffle(intervals)
    sizes = with_intervals(schedule, intervals, 300)
    squares = mean([k * k for k in intervals])

    assert mean(sizes) == pytest.approx(100 + 0.5 + squares / (2 * mean(intervals)), abs=1e-9)
    assert mean(sizes) == pytest.approx(100 + 127.5, abs=0.01)
    assert max(sizes) == 355


@pytest.mark.parametrize(
    ("tokens", "k_min", "k_max"), [(512, 16, 128), (48, 4, 16), (128, 16, 64), (24, 2, 8), (2048, 32, 128)]
)
@pytest.mark.parametrize("n_k_max", [20, 80, 320])
def test_controller_holds_the_mean_of_random_triggers(tokens: int, k_min: int, k_max: int, n_k_max: int) -> None:
    """Within 2 % for T >= 20 k_max, whatever the draw."""
    cadence = Adaptive(trigger="newline", k_min=k_min, k_max=k_max, eta=0.05)
    for seed in range(4):
        draw = random.Random(seed)
        intervals: list[int] = []
        while sum(intervals) < n_k_max * k_max:
            intervals.append(draw.randint(k_min, k_max))
        sizes = with_intervals(cadence.schedule(Budget(tokens)), intervals, tokens * 2)

        assert mean(sizes) == pytest.approx(tokens, rel=0.02)


@pytest.mark.parametrize("always", ["k_min", "k_max", "either"])
@pytest.mark.parametrize(("tokens", "k_min", "k_max"), [(512, 16, 128), (48, 4, 16), (24, 2, 8)])
def test_controller_repays_the_extremes(always: str, tokens: int, k_min: int, k_max: int) -> None:
    """A signal that always asks, never asks, or draws one of the bounds: 2 % after a longer run."""
    draw = random.Random(1)
    choices = {"k_min": (k_min,), "k_max": (k_max,), "either": (k_min, k_max)}[always]
    intervals = [draw.choice(choices) for _ in range(100 * k_max // min(choices))]
    schedule = Adaptive(trigger="newline", k_min=k_min, k_max=k_max).schedule(Budget(tokens))

    assert mean(with_intervals(schedule, intervals, tokens * 2)) == pytest.approx(tokens, rel=0.02)


def test_a_start_below_the_budget_does_not_count() -> None:
    """The mean is held over the steps after the first event; a long fill is not made up for."""
    schedule = Adaptive(trigger="newline", k_min=4, k_max=16).schedule(Budget(64))
    draw = random.Random(3)
    sizes = schedule.simulate(1, 4000, [float(draw.random() < 0.1) for _ in range(4000)])
    first = cuts(sizes)[0]

    assert mean(sizes[first:]) == pytest.approx(64, rel=0.01)
    assert schedule.steady_mean == 64


def slow(cadence: Adaptive, budget: Budget, n_prompt: int, signals: Sequence[float]) -> list[int]:
    """Attended sizes from the words of the definition, in one loop, for an explicit k_min, k_max and threshold."""
    b, k_min, k_max = budget.tokens, int(cadence.k_min), int(cadence.k_max)
    controlled = budget.of == "mean"
    lowest, highest = max(1, b - k_max), b - 1
    c = {"mean": float(math.floor(b - ((k_min + k_max) // 2 + 1) / 2)), "nominal": float(b), "peak": float(b - k_max)}[
        budget.of
    ]
    c = min(max(c, lowest), highest) if controlled else c
    held, sizes, first_event, last_event = n_prompt, [], None, None
    if cadence.prefill and held > math.floor(c + 0.5):
        held, first_event, last_event = math.floor(c + 0.5), 0, 0
    for step, said in enumerate(signals, start=1):
        held += 1
        sizes.append(held)
        wanted = c
        if controlled and first_event is not None:
            running = mean(sizes[first_event:])
            wanted = min(max(c - cadence.eta * (running - b), lowest), highest)
        size = math.floor(wanted + 0.5)
        if cadence.trigger == "entropy":
            total, weight = signals[0], cadence.smoothing
            for x in signals[1:step]:
                total = weight * total + (1 - weight) * x
            asks = total < float(cadence.threshold)
        else:
            asks = said > (0.5 if cadence.trigger == "newline" else float(cadence.threshold))
        since = held - size if last_event is None else step - last_event
        if held > size and (since >= k_max or (since >= k_min and asks)):
            held, c, last_event = size, wanted, step
            first_event = step if first_event is None else first_event
    return sizes


@settings(max_examples=150, deadline=None)
@given(
    trigger=st.sampled_from(TRIGGERS),
    bounds=st.tuples(st.integers(1, 12), st.integers(0, 12)),
    tokens=st.integers(26, 60),
    reading=st.sampled_from(["mean", "nominal", "peak"]),
    n_prompt=st.integers(1, 120),
    prefill=st.booleans(),
    eta=st.sampled_from([0.05, 0.7]),
    seed=st.integers(0, 99),
)
def test_simulator_against_the_definition(
    trigger: str,
    bounds: tuple[int, int],
    tokens: int,
    reading: str,
    n_prompt: int,
    prefill: bool,
    eta: float,
    seed: int,
) -> None:
    """Every trigger, reading and phase, on random signals; the bounds hold at every step."""
    cadence = Adaptive(
        trigger=trigger,  # type: ignore[arg-type]
        threshold="auto" if trigger == "newline" else 0.5,
        k_min=bounds[0],
        k_max=sum(bounds),
        eta=eta,
        smoothing=0.6,
        prefill=prefill,
    )
    budget = Budget(tokens, reading)  # type: ignore[arg-type]
    draw = random.Random(seed)
    signals = [draw.random() for _ in range(200)]
    schedule = cadence.schedule(budget)
    sizes = schedule.simulate(n_prompt, 200, signals)

    assert sizes == slow(cadence, budget, n_prompt, signals)
    assert max(sizes) <= schedule.peak_bound(n_prompt, 200)
    intervals = [b - a for a, b in pairwise(cuts(sizes))]
    if eta == 0.05 or reading != "mean":
        assert all(bounds[0] <= k <= sum(bounds) for k in intervals)
    if reading == "peak" and (prefill or n_prompt < tokens):
        assert max(sizes) <= tokens


def test_fill_phase_does_not_burst() -> None:
    """A short prompt and a signal that always asks: nothing is cut below c, then an event every k_min steps."""
    schedule = Adaptive(trigger="newline", k_min=3, k_max=10).schedule(Budget(20, "nominal"))
    sizes = schedule.simulate(2, 40, [1.0] * 40)

    assert sizes == [*range(3, 24), *([21, 22, 23] * 7)[:19]]


def test_silence_is_every_k_max() -> None:
    """With a signal that never asks, every interval takes k_max steps."""
    schedule = Adaptive(trigger="newline", k_min=3, k_max=10).schedule(Budget(20, "nominal"))

    assert schedule.simulate(50, 35, [0.0] * 35) == ([*range(21, 31)] * 4)[:35]


@pytest.mark.parametrize("tokens", [24, 48, 97, 512])
def test_an_unknown_signal_is_every_middle_k(tokens: int) -> None:
    """Planning knows no text: the interval is the middle of its bounds, and the mean the budget."""
    schedule = Adaptive(k_min=3, k_max=10).schedule(Budget(20, "nominal"))
    planned = Adaptive().schedule(Budget(tokens))

    assert schedule.simulate(50, 35) == ([*range(21, 27)] * 6)[:35]
    assert mean(planned.simulate(planned.high, 8 * planned.max_growth)) == pytest.approx(tokens, rel=0.015)


def test_a_newline_that_comes_too_soon_is_passed_over() -> None:
    """It is not remembered until k_min is reached."""
    schedule = Adaptive(trigger="newline", k_min=4, k_max=6).schedule(Budget(20, "nominal"))

    assert schedule.simulate(30, 8, [1, 1, 1, 0, 0, 0, 0, 0]) == [21, 22, 23, 24, 25, 26, 21, 22]
    assert schedule.simulate(30, 6, [0, 0, 0, 1, 0, 0]) == [21, 22, 23, 24, 21, 22]


def test_entropy_is_averaged() -> None:
    """One sure token among unsure ones does not trigger; the average of the fill phase goes on."""
    schedule = Adaptive(threshold=1.0, smoothing=0.5, k_min=1, k_max=9).schedule(Budget(20, "nominal"))

    assert schedule.simulate(30, 5, [4, 0.1, 0.1, 0.1, 9]) == [21, 22, 23, 24, 21]  # averages 4, 2.05, 1.07, 0.59


def test_a_copied_pacer_goes_on_by_itself() -> None:
    """Controller, clock and average belong to the copy."""
    schedule = Adaptive(k_min=2, k_max=6).schedule(Budget(24))
    row_schedule = schedule.row_schedule()
    for step in range(1, 40):
        if row_schedule.due(step, 20 + step % 7, 0.1 * (step % 9)):
            row_schedule.cut()
    twin = row_schedule.copy()
    before = dict(vars(row_schedule))
    for step in range(40, 60):
        if twin.due(step, 40, 3.0):
            twin.cut()

    assert vars(row_schedule) == before
    assert vars(twin) != before


@pytest.mark.parametrize(
    ("budget", "low", "high", "peak", "start", "steady"),
    [
        (Budget(48), 32, 47, 63, 42, 48),
        (Budget(512), 384, 511, 639, 471, 512),
        (Budget(33, "nominal"), 33, 33, 161, 33, None),
        (Budget(40, "peak"), 24, 24, 40, 24, None),
        (Budget(2), 1, 1, 2, 1, 2),
    ],
    ids=str,
)
def test_auto(budget: Budget, low: int, high: int, peak: int, start: float, steady: float | None) -> None:
    """k_max as the interval of `every-k`, a quarter of it for k_min."""
    schedule = Adaptive().schedule(budget)

    assert schedule.max_growth == EveryK().schedule(budget).max_growth
    assert schedule.k_min == max(1, schedule.max_growth // 4)
    assert (schedule.low, schedule.high, schedule.steady_peak, schedule.start) == (low, high, peak, start)
    assert schedule.steady_mean == steady


@pytest.mark.parametrize(
    ("cadence", "budget", "message"),
    [
        (Adaptive(k_max=100), Budget(40), "the largest feasible k_max is 77"),
        (Adaptive(k_max=40), Budget(40, "peak"), "the largest feasible k_max is 39"),
        (Adaptive(k_min=20), Budget(24), "k_min=20 cannot hold a mean of 24 tokens: the largest feasible k_min is 8"),
        (Adaptive(c_min=40), Budget(48), "c_min=40 cannot hold a mean of 48 tokens: the largest feasible c_min is 39"),
        (Adaptive(), Budget(1), "no interval is feasible"),
    ],
)
def test_infeasible(cadence: Adaptive, budget: Budget, message: str) -> None:
    """Every refusal says what would do."""
    with pytest.raises(InfeasibleBudget, match=message):
        cadence.schedule(budget)


def test_c_min_is_kept() -> None:
    """The size never falls below what is asked for, so that protected tokens fit."""
    cadence = Adaptive(trigger="newline", k_min=1, k_max=16, c_min=39, eta=5.0)
    schedule = cadence.schedule(Budget(48))
    sizes = schedule.simulate(100, 500, [0.0] * 500)
    starts = [sizes[step] - 1 for step in cuts(sizes)]

    assert schedule.low == 39
    assert min(starts) == 39


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"trigger": "boredom"}, "trigger must be 'entropy', 'attention-shift' or 'newline', got trigger='boredom'"),
        ({"k_min": 9, "k_max": 8}, "k_min must be at most k_max, got k_min=9, k_max=8"),
        ({"k_min": 0}, "k_min must be at least 1 or 'auto', got k_min=0"),
        ({"eta": 0.0}, "eta must be above 0"),
        ({"smoothing": 1.0}, r"smoothing must lie in \[0, 1\), got smoothing=1.0"),
        ({"c_min": 0}, "c_min must be at least 1 or 'auto', got c_min=0"),
        ({"window": 0}, "window must be at least 1"),
        ({"boundary": ""}, "boundary must not be empty, got boundary=''"),
        ({"trigger": "newline", "threshold": 0.5}, "trigger 'newline' has no threshold"),
        (
            {"trigger": "attention-shift", "threshold": 1.0},
            "threshold of 'attention-shift' must be below 1, got threshold=1.0",
        ),
        ({"threshold": 0.0}, "threshold must be above 0 or 'auto', got threshold=0.0"),
    ],
)
def test_declaration(parameters: dict[str, object], message: str) -> None:
    """Values without a meaning are refused."""
    with pytest.raises(DeclarationError, match=message):
        Adaptive(**parameters)  # type: ignore[arg-type]


def seen_step(tokens: list[int], logits: torch.Tensor) -> StepSeen:
    """A step without observations."""
    return StepSeen(torch.tensor(tokens), logits, Observed(), torch.zeros(1, len(tokens), 1, 1), Spelling())


def test_entropy_signal() -> None:
    """In nats; a token that cannot come counts nothing."""
    logits = torch.randn(3, 20, generator=torch.Generator().manual_seed(0)) * 3
    logits[1, 4] = float("-inf")
    logits[2] = 0.0
    expected = []
    for row in logits.tolist():
        powers = [math.exp(x) for x in row]
        expected.append(-sum(p / sum(powers) * math.log(p / sum(powers)) for p in powers if p > 0))

    assert Adaptive().signal(seen_step([0, 0, 0], logits)).tolist() == pytest.approx(expected, abs=1e-5)
    assert expected[2] == pytest.approx(math.log(20))


def test_newline_signal() -> None:
    """1 where the token fed has the boundary in it; a vocabulary without it never does."""
    newline = Spelling().token_ids("\n")[0]
    seen = seen_step([newline, 3, newline - 1], torch.zeros(3, 5))

    assert NEWLINE.signal(seen).tolist() == [1, 0, 0]
    assert Adaptive(trigger="newline", boundary="#").signal(seen).tolist() == [0, 1, 0]
    assert Adaptive(trigger="newline", boundary="\n\n").signal(seen).tolist() == [0, 0, 0]


def slow_means(history: dict[int, list[Seen]], window: int) -> dict[int, dict[int, float]]:
    """Running mean of every token of a head that lost none, by query and position."""
    queries = sorted({seen.now for rows in history.values() for seen in rows})
    given = {(p, seen.now): mean(seen.weights) for p, rows in history.items() for seen in rows}
    running: dict[int, float] = {}
    found = {}
    for now in queries:
        share = 1 / min(now + 1, window)
        running = {p: (1 - share) * running.get(p, 0.0) + share * given[p, now] for p in history if p <= now}
        found[now] = running
    return found


def test_running_mean() -> None:
    """A plain mean over the first `window` queries, whose sum is 1, then exponential; rows from position 0."""
    for moment in moments(AttentionShift(4), n_steps=9, seed=1, starts=(0, 0)):
        if moment.cut:
            break
        for (layer, row, head), held in moment.log.items():
            now = int(moment.view.next_position[row]) - 1
            running = slow_means(held, 4)[now]
            for slot, position in enumerate(sorted(held)):
                assert float(moment.state[layer, row, head, slot, 0]) == pytest.approx(running[position], abs=1e-6)
            assert sum(running.values()) == pytest.approx(1)
    assert now >= 3


@pytest.mark.parametrize("window", [1, 4, 16])
@pytest.mark.parametrize("seed", range(3))
def test_shift_against_whole_histories(window: int, seed: int) -> None:
    """Distributions kept as dictionaries by position: rescaled at a cut, compared after every query."""
    cadence = Adaptive(trigger="attention-shift", window=window)
    now_is: dict[tuple[int, int, int], dict[int, float]] = {}
    was: dict[tuple[int, int, int], dict[int, float]] = {}
    n_cuts, shifts = 0, []
    for moment in moments(AttentionShift(window), n_steps=45, seed=seed):
        for head, held in moment.log.items():
            if moment.cut:
                total = sum(now_is[head][p] for p in held)
                now_is[head] = was[head] = {p: now_is[head][p] / total for p in held}
                continue
            now = int(moment.view.next_position[head[1]]) - 1
            share = 1 / min(now + 1, window)
            old = now_is.get(head, {})
            now_is[head] = {p: old.get(p, 0.0) * (1 - share) + mean(held[p][-1].weights) * share for p in held}
        expected = [0.0] * ROWS
        for (layer, row, h), distribution in now_is.items():
            reference = was.get((layer, row, h))
            if reference is not None:
                moved = sum(abs(p - reference.get(position, 0.0)) for position, p in distribution.items()) / 2
                expected[row] += moved / (LAYERS * HEADS)
        state = moment.state.masked_fill((moment.view.positions < 0)[..., None], 77.0)  # free slots hold anything
        observed = Observed(tracked={AttentionShift(window): state})
        step = StepSeen(torch.zeros(ROWS).long(), torch.zeros(ROWS, 3), observed, moment.view.positions, Spelling())
        n_cuts += moment.cut
        shifts.append(expected[0])

        assert cadence.signal(step).tolist() == pytest.approx(expected, abs=1e-5)
        assert all(expected[row] == 0 for row in range(ROWS)) or n_cuts > 0
        if moment.cut:
            assert expected == pytest.approx([0.0] * ROWS, abs=1e-9)
    assert n_cuts > 2
    assert max(shifts) > 0.1


def cadence_of(trigger: str) -> Adaptive:
    """A cadence whose trigger fires now and then on the toy model."""
    threshold = {"entropy": 4.28, "attention-shift": 0.2}.get(trigger, "auto")
    return Adaptive(trigger=trigger, threshold=threshold, k_min=3, k_max=9, boundary="1", smoothing=0.5, window=4)  # type: ignore[arg-type]


def watched(trigger: str, budget: Budget, prompts: Sequence[int]) -> tuple[CacheChecks, dict[str, Generation]]:
    """Run prompts of these lengths, three rows at a time; texts end at different steps."""
    mechanism = Mechanism("test", H2O(recent=3), Uniform(), cadence_of(trigger), FullPrecision(), Greedy())
    engine = Engine(model(), mechanism, budget, rows=3, max_new_tokens=60, max_prompt_tokens=40, capacity=48, burst=1)
    engine.hook = checks = CacheChecks(engine)
    todo = [request(f"p{length}", length, max_new_tokens=30 + length) for length in prompts]
    return checks, {generation.problem_id: generation for generation in engine.generate(todo)}


@pytest.mark.parametrize("budget", [Budget(20), Budget(16, "nominal"), Budget(25, "peak")], ids=str)
@pytest.mark.parametrize("trigger", TRIGGERS)
def test_ledger_equals_the_simulator(trigger: str, budget: Budget) -> None:
    """On what the signals really said, token for token, in rows that are cut at different steps."""
    checks, found = watched(trigger, budget, (5, 12, 20, 30, 38))
    schedule = cadence_of(trigger).schedule(budget)
    steps = []
    for name, generation in found.items():
        said = checks.signals[name]
        sizes = list(generation.cache_tokens_per_step)
        steps.append([b - a for a, b in pairwise(cuts([int(size) for size in sizes]))])

        assert schedule.simulate(generation.n_prompt_tokens, generation.n_steps, said) == sizes
        assert generation.peak_cache_tokens <= schedule.peak_bound(generation.n_prompt_tokens, 60)
    asked = [k for intervals in steps for k in intervals if k < 9]
    assert len(asked) > 3
    assert min(asked) >= 3
    assert len({tuple(intervals) for intervals in steps}) > 1


@pytest.mark.parametrize("trigger", TRIGGERS)
def test_rows_do_not_depend_on_their_company(trigger: str) -> None:
    """Alone, in other orders, refilled at other times: the same tokens, the same sizes, bit for bit."""
    _, straight = watched(trigger, Budget(20), (5, 12, 20, 30, 38))
    for order in ((38, 30, 20, 12, 5), (20,), (12, 38)):
        _, other = watched(trigger, Budget(20), order)
        for name, generation in other.items():
            assert generation.token_ids == straight[name].token_ids
            assert generation.cache_tokens_per_step == straight[name].cache_tokens_per_step


@pytest.mark.parametrize("trigger", TRIGGERS)
def test_conformance(trigger: str) -> None:
    """The kit's checks, and a mechanism through the engine."""
    check_strategy(Adaptive(trigger=trigger))  # type: ignore[arg-type]
    check_strategy(cadence_of(trigger))
    check_strategy(replace(cadence_of(trigger), prefill=False))
    mechanism = Mechanism("c7", H2O(recent=3), Uniform(), cadence_of(trigger), FullPrecision())
    check_mechanism(mechanism, model(), Budget(24))
