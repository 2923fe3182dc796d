"""What must be true of every cadence: arithmetic in plain integers, no model needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from designspace.axes import Budget, Cadence, RowSchedule, Schedule, StepSeen, View
from designspace.errors import InfeasibleBudget
from designspace.testing.conformance.cases import Case, cases
from designspace.testing.conformance.probes import HostMechanism
from designspace.testing.conformance.purity import check_pure
from designspace.testing.conformance.recording import check_needs
from designspace.testing.conformance.spelling import Spelling
from designspace.testing.conformance.verdict import expect, expect_equal, named
from designspace.testing.conformance.view_changes import of_rows, showing

BUDGETS = (Budget(24), Budget(48), Budget(97), Budget(20, "nominal"), Budget(33, "nominal"), Budget(40, "peak"))
PROMPTS = (1, 7, 24, 61, 200)
_STEPS = 150
_LONG, _WARM_UP = 12_000, 2_000
_TOLERANCE = 0.25  # tokens: half a token is what alternating after-event sizes are there to remove


@dataclass(frozen=True)
class Trial:
    """A cadence, the budgets that it can keep to, bound to it, and decode steps that give signals."""

    strategy: Cadence
    bound: list[tuple[Budget, Schedule]]
    tried: list[Case]

    def who(self, budget: Budget) -> str:
        """Return how a message begins."""
        return f"{named(self.strategy)} at a budget of {budget}"

    def signals(self) -> list[float] | None:
        """Return what a row's signal says at `_STEPS` made-up steps, None if the cadence has none."""
        said = [self.strategy.signal(_step(case, case.view, seed)) for case in self.tried[:2] for seed in range(5)]
        if said[0] is None:
            return None
        numbers = [float(x[0]) for x in said if x is not None]
        return (numbers * _STEPS)[:_STEPS]


def trial(strategy: Cadence, company: HostMechanism) -> Trial:
    """Return what the checks of a cadence need.

    Raises:
        AssertionError: the cadence can keep to none of the kit's budgets.
    """
    bound = []
    for budget in BUDGETS:
        try:
            bound.append((budget, strategy.schedule(budget)))
        except InfeasibleBudget:
            continue
    expect(bool(bound), f"{named(strategy)} refuses every budget of {', '.join(map(str, BUDGETS))}")
    return Trial(strategy, bound, list(cases(strategy.needs(), artefacts=company.artefacts, shapes=company.shapes[:3])))


def _step(case: Case, view: View, seed: int) -> StepSeen:
    generator = torch.Generator().manual_seed(seed)
    n_rows = view.positions.shape[1]
    tokens = torch.randint(0, Spelling.n_tokens, (n_rows,), generator=generator)
    logits = torch.randn(n_rows, Spelling.n_tokens, generator=generator) * 3
    return StepSeen(tokens, logits, view.observed, view.positions, Spelling())


def check_declared_needs(t: Trial) -> None:
    """Check that the signal works from what is declared alone, and reads all of it."""
    check_needs(t.strategy, t.tried, lambda case, view: t.strategy.signal(_step(case, view, 0)))


def check_signal(t: Trial) -> None:
    """Check that a signal is one finite number per row, a row's own business, and pure."""
    for case in t.tried:
        view = showing(case.view, t.strategy.needs())
        seen = _step(case, view, 0)
        signal = t.strategy.signal(seen)
        if signal is None:
            continue
        who, n_rows = f"{named(t.strategy)}, {case.name}", view.positions.shape[1]
        expect(tuple(signal.shape) == (n_rows,), f"{who}: a signal must be [{n_rows}], got {tuple(signal.shape)}")
        expect(bool(torch.isfinite(signal.float()).all()), f"{who}: a signal must be finite, got {signal.tolist()}")
        check_pure(who, lambda seen=seen: t.strategy.signal(seen), list(seen[:4]))  # type: ignore[misc]
        for row in range(n_rows):
            alone = of_rows(view, [row])
            one = StepSeen(seen.tokens[[row]], seen.logits[[row]], alone.observed, alone.positions, seen.text)
            own = t.strategy.signal(one)
            expect(
                own is not None and bool(torch.isclose(own[0].float(), signal[row].float(), rtol=1e-4, atol=1e-5)),
                f"{who}: row {row} by itself has another signal",
            )


def check_sizes(t: Trial) -> None:
    """Check that after-event sizes lie within [low, high], which are at least one token, and that binding is repeatable."""
    for budget, schedule in t.bound:
        who = t.who(budget)
        expect(1 <= schedule.low <= schedule.high, f"{who}: 1 <= low <= high must hold, got {schedule}")
        expect(schedule.max_growth >= 0, f"{who}: max_growth must be at least 0, got {schedule.max_growth}")
        again = t.strategy.schedule(budget)
        expect(again == schedule, f"{who}: binding twice must give the same schedule, got {schedule} and {again}")
        for n_events in range(200):
            target = schedule.target(n_events)
            expect(
                schedule.low <= target <= schedule.high,
                f"{who}: the target of event {n_events} must lie within [{schedule.low}, {schedule.high}], got {target}",
            )


def replay(row_schedule: RowSchedule, n_prompt: int, n_steps: int, signals: Sequence[float] | None) -> list[int]:
    """Return the attended sizes m_1 … m_T of a row that asks its schedule after every step, as the engine does."""
    size, attended = n_prompt, []
    if row_schedule.due(0, size, None):
        size = min(size, row_schedule.target())
        row_schedule.cut()
    for step in range(1, n_steps + 1):
        size += 1
        attended.append(size)
        if row_schedule.due(step, size, signals[step - 1] if signals else None):
            size = min(size, row_schedule.target())
            row_schedule.cut()
    return attended


def check_replay(t: Trial) -> None:
    """Check that `simulate` agrees with a replay step by step, and that row schedules and their copies share nothing."""
    signals = t.signals()
    for budget, schedule in t.bound:
        for n_prompt in PROMPTS:
            who = f"{t.who(budget)}, prompt of {n_prompt}"
            simulated = schedule.simulate(n_prompt, _STEPS, signals)
            replayed = replay(schedule.row_schedule(), n_prompt, _STEPS, signals)
            at = next((i + 1 for i, (a, b) in enumerate(zip(simulated, replayed, strict=True)) if a != b), 0)
            expect(not at, f"{who}: simulate() says {simulated[at - 1]} at step {at}, a replay {replayed[at - 1]}")
            row_schedule = schedule.row_schedule()
            replay(row_schedule, n_prompt, 20, signals)
            replay(row_schedule.copy(), n_prompt, _STEPS, signals)
            twin, n_events = row_schedule.copy(), row_schedule.n_events
            twin.cut()
            expect(
                row_schedule.n_events == n_events and schedule.row_schedule().n_events == 0,
                f"{who}: row schedules and their copies must share nothing",
            )


def check_tensor_form(t: Trial) -> None:
    """Check that `due` and `target` say of a batch of rows what they say of each row."""
    sizes = torch.tensor([size for size in (1, 5, 19, 20, 24, 33, 40, 48, 64, 97, 130, 400)])
    for budget, schedule in t.bound:
        if schedule.row_schedule().sees_every_step:
            continue  # such a row is asked by itself, there is no batch
        for step in (0, 1, 4, 16, 63, 128):
            for n_events in (0, 1, 2, 7):
                steps, events = torch.full_like(sizes, step), torch.full_like(sizes, n_events)
                due = schedule.due(steps, sizes, events)
                one_by_one = torch.tensor([bool(schedule.due(step, size, n_events)) for size in sizes.tolist()])
                who = f"{t.who(budget)}, step {step}, {n_events} events"
                expect_equal(due, one_by_one, f"{who}: due() differs between tensors and integers")
                target = schedule.target(events)
                expect(
                    bool((target == schedule.target(n_events)).all()),
                    f"{who}: target() differs between tensors and integers",
                )


def check_peak(t: Trial) -> None:
    """Check that no attended size is above `peak_bound`, and after the first cycles none above `steady_peak`."""
    signals = t.signals()
    for budget, schedule in t.bound:
        for n_prompt in PROMPTS:
            for said in [None] if signals is None else [signals, signals[::-1], [0.0] * _STEPS, [1.0] * _STEPS]:
                sizes = schedule.simulate(n_prompt, _STEPS, said)
                for n_steps in (1, 2, 10, _STEPS):
                    peak, bound = max(sizes[:n_steps]), schedule.peak_bound(n_prompt, n_steps)
                    expect(
                        peak <= bound,
                        f"{t.who(budget)}: a prompt of {n_prompt} reaches {peak} within {n_steps} steps, above "
                        f"peak_bound, which says {bound}: slots would run out",
                    )
        if schedule.steady_peak is not None and signals is None:
            largest = max(schedule.simulate(budget.tokens * 2, _LONG)[_WARM_UP:])
            expect(
                largest <= schedule.steady_peak,
                f"{t.who(budget)}: reaches {largest} in the long run, above steady_peak, which says {schedule.steady_peak}",
            )
            if budget.of == "peak":
                expect(largest <= budget.tokens, f"{t.who(budget)}: reaches {largest} in the long run")


def check_mean(t: Trial) -> None:
    """Check over a long run that the attended mean is the budget, for a mean, and `steady_mean` whatever the reading.

    A cadence that takes no budget must have the same schedule at all of them, and one with a least score takes none.
    """
    expect(
        t.strategy.least_score is None or not t.strategy.is_matched,
        f"{named(t.strategy)} has a least score, so its size depends on the scores and is_matched must be False",
    )
    if not t.strategy.is_matched:
        (_, first), *others = t.bound
        for budget, schedule in others:
            expect(schedule == first, f"{t.who(budget)}: is_matched is False, but the schedule depends on the budget")
    if not t.strategy.bounded or t.signals() is not None:
        return
    for budget, schedule in t.bound:
        sizes = schedule.simulate(budget.tokens * 2, _LONG)[_WARM_UP:]
        realised = sum(sizes) / len(sizes)
        if budget.of == "mean":
            expect(
                abs(realised - budget.tokens) <= _TOLERANCE,
                f"{t.who(budget)}: the mean over {len(sizes)} steps is {realised:.2f} tokens",
            )
        if schedule.steady_mean is not None:
            expect(
                abs(realised - schedule.steady_mean) <= _TOLERANCE,
                f"{t.who(budget)}: steady_mean says {schedule.steady_mean:.2f}, the mean over {len(sizes)} steps is "
                f"{realised:.2f} tokens",
            )


CHECKS: dict[str, Callable[[Trial], None]] = {
    "needs": check_declared_needs,
    "signal": check_signal,
    "sizes": check_sizes,
    "replay": check_replay,
    "tensor form": check_tensor_form,
    "peak": check_peak,
    "mean": check_mean,
}
