"""Trials and their selection: the same whatever happened on the way."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from math import exp, log
from typing import Any

import numpy as np
import pytest

from designspace.errors import ProtocolError
from sweeps.protocol_fields import TuningSpec
from sweeps.space import Space, checked_values
from sweeps.tuning import (
    Trial,
    mean_effects,
    n_trials,
    next_trials,
    repeats,
    select,
    selection_uncertainty,
    tuning_document,
)
from tests.sweeps.studies import study_of, tuned, weight

SHA = "5" * 64
SELECTOR = "arm.scoring.selector"
RECENT = "arm.scoring.recent"

Objective = Callable[[Trial], float | None]


def settings(sampler: str = "tpe", **changes: Any) -> TuningSpec:
    """Return settings of a search."""
    return TuningSpec.model_validate({"sampler": sampler, "trials": 30, "seed": 7, **changes})


def mixed_space(sampler: str = "tpe") -> Space:
    """A choice of selectors with parameters of their own, and a whole range that always exists."""
    steps = {"step": 0.25} if sampler == "grid" else {}
    selectors = [
        "top-k",
        {"kind": "diversity", "weight": {"tune": {"low": 0.0, "high": 1.5, **steps}}},
        {"kind": "mmr", "lam": {"tune": {"choices": [0.25, 0.5]}}},
    ]
    scoring = {
        "kind": "snapkv",
        "recent": {"tune": {"low": 1, "high": 4}},
        "selector": {"tune": {"choices": selectors}},
    }
    return study_of(
        tuned(scoring=scoring), {"tuning": {"sampler": sampler, **({} if sampler == "grid" else {"trials": 30})}}
    ).space


def objective(trial: Trial) -> float:
    """Best with a diversity selector of weight 1."""
    away = abs(float(trial.values.get(f"{SELECTOR}.weight", 3.0)) - 1.0)
    return 0.1 - 0.05 * away + 0.001 * float(trial.values.get(RECENT, 0))


def searched(space: Space, spec: TuningSpec, score: Objective = objective, sha: str = SHA) -> list[Trial]:
    """Return all trials of an uninterrupted search by one worker that finishes them in order."""
    finished: list[tuple[Trial, float | None]] = []
    while left := next_trials(space, spec, sha, finished, n=1):
        finished.append((left[0], score(left[0])))
    return [trial for trial, _ in finished]


def killed_and_resumed(space: Space, spec: TuningSpec, chance: random.Random) -> list[Trial]:
    """Return all trials of a search by several workers that finish in any order and are killed again and again.

    Only finished trials survive a kill; what was under way is lost and asked for anew.
    """
    finished: list[tuple[Trial, float | None]] = []
    while under_way := next_trials(space, spec, SHA, finished, n=chance.randint(1, 6)):
        chance.shuffle(under_way)
        survivors = under_way[: chance.randint(0, len(under_way))]
        finished += [(Trial(trial.number, dict(trial.values)), objective(trial)) for trial in survivors]
        chance.shuffle(finished)
    return sorted((trial for trial, _ in finished), key=lambda trial: trial.number)


@pytest.mark.parametrize("sampler", ["grid", "random", "tpe"])
def test_interrupted_is_uninterrupted(sampler: str) -> None:
    """Any number of workers, any order of finishing, any number of kills: the same trials with the same values."""
    space, spec = mixed_space(sampler), settings(sampler, trials=18, wave=4)
    expected = searched(space, spec)
    assert [trial.number for trial in expected] == list(range(n_trials(space, spec)))
    for seed in range(3):
        assert killed_and_resumed(space, spec, random.Random(seed)) == expected


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_what_exists_is_drawn_and_nothing_else(sampler: str) -> None:
    """Parameters of a choice come with that choice only; every value is one of its parameter's."""
    space = mixed_space()
    trials = searched(space, settings(sampler))
    for trial in trials:
        assert checked_values(space, trial.values) == trial.values
        assert (f"{SELECTOR}.weight" in trial.values) == (trial.values[SELECTOR] == "diversity")
        assert (f"{SELECTOR}.lam" in trial.values) == (trial.values[SELECTOR] == "mmr")
    assert {trial.values[SELECTOR] for trial in trials} == {"top-k", "diversity", "mmr"}
    assert {type(trial.values[RECENT]) for trial in trials} == {int}


def test_two_choices_may_tune_the_same_place() -> None:
    """Their ranges do not mix."""
    selectors = [
        {"kind": "diversity", "weight": {"tune": {"low": 1.0, "high": 1.5}}},
        {"kind": "diversity", "floor": False, "weight": {"tune": {"low": 0.0, "high": 0.5}}},
    ]
    arm = tuned(scoring={"kind": "snapkv", "selector": {"tune": {"choices": selectors}}})
    space = study_of(arm, {"tuning": {"sampler": "tpe", "trials": 30}}).space
    trials = searched(space, settings(), lambda trial: trial.values[f"{SELECTOR}.weight"])
    seen = {(trial.values[SELECTOR], trial.values[f"{SELECTOR}.weight"] >= 1) for trial in trials}
    assert seen == {("diversity#1", True), ("diversity#2", False)}


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_draws_follow_the_scale(sampler: str) -> None:
    """On a log scale half of the draws lie below the geometric mean; on an even one, half below the middle."""
    shares = []
    for is_log in (True, False):
        space = study_of(
            weight({"low": 0.01, "high": 1.0, "log": is_log}), {"tuning": {"sampler": "random", "trials": 9}}
        ).space
        values = [
            trial.values[f"{SELECTOR}.weight"] for trial in searched(space, settings(sampler, trials=60, wave=60))
        ]
        assert all(0.01 <= value <= 1 for value in values)
        shares.append(float(np.mean([value < exp((log(0.01) + log(1.0)) / 2) for value in values])))
    assert 0.35 < shares[0] < 0.65
    assert shares[1] < 0.25


def test_steps_and_whole_numbers_are_kept() -> None:
    """Floats as a file would hold them."""
    space = study_of(
        weight({"low": 0.1, "high": 0.7, "step": 0.1}), {"tuning": {"sampler": "random", "trials": 9}}
    ).space
    values = {trial.values[f"{SELECTOR}.weight"] for trial in searched(space, settings("random", trials=60))}
    assert values == {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7}
    whole = tuned(scoring={"kind": "snapkv", "recent": {"tune": {"low": 1, "high": 9, "step": 4}}})
    space = study_of(whole, {"tuning": {"sampler": "random", "trials": 9}}).space
    assert {trial.values[RECENT] for trial in searched(space, settings())} == {1, 5, 9}
    logarithmic = tuned(scoring={"kind": "snapkv", "recent": {"tune": {"low": 1, "high": 7, "log": True}}})
    space = study_of(logarithmic, {"tuning": {"sampler": "random", "trials": 9}}).space
    assert {trial.values[RECENT] for trial in searched(space, settings("random", trials=80))} == set(range(1, 8))


def test_a_wave_does_not_see_its_own_results() -> None:
    """The first waves are the same whatever comes out; what follows a result may differ by it."""
    space, spec = mixed_space(), settings(trials=24, wave=12)
    one, other = searched(space, spec), searched(space, spec, lambda trial: -objective(trial))
    assert one[:12] == other[:12]
    assert one[12:] != other[12:]


def test_the_search_learns() -> None:
    """Later trials are better than those of the sampler that does not look at results."""
    space = mixed_space()
    guided, blind = (
        float(np.mean([objective(trial) for trial in searched(space, settings(sampler, trials=60))[30:]]))
        for sampler in ("tpe", "random")
    )
    assert guided > blind


def test_other_registrations_and_seeds_draw_other_trials() -> None:
    """The registration's hash is part of the seed."""
    space = mixed_space()
    draws = [
        searched(space, settings("random")),
        searched(space, settings("random"), sha="6" * 64),
        searched(space, settings("random", seed=8)),
    ]
    assert all(one != other for i, one in enumerate(draws) for other in draws[:i])


def test_random_draws_do_not_depend_on_the_wave() -> None:
    """Nothing is learned, so nothing is waited for."""
    space = mixed_space()
    assert searched(space, settings("random", wave=1)) == searched(space, settings("random", wave=30))


def test_a_grid_is_the_product_in_file_order() -> None:
    """All at once, however many are asked for."""
    space = study_of(weight({"choices": [0.5, 1.0, 1.5]})).space
    spec = TuningSpec(sampler="grid")
    trials = next_trials(space, spec, SHA, [])
    assert [(trial.number, trial.values) for trial in trials] == [
        (number, {f"{SELECTOR}.weight": value}) for number, value in enumerate((0.5, 1.0, 1.5))
    ]
    assert next_trials(space, spec, SHA, [(trials[1], 0.1)], n=1) == trials[:1]
    assert next_trials(space, spec, SHA, [(trial, 0.1) for trial in trials]) == []


def test_only_what_is_missing_of_a_wave_is_returned() -> None:
    """The next wave waits for all of it."""
    space, spec = mixed_space(), settings(wave=4)
    wave = next_trials(space, spec, SHA, [])
    assert [trial.number for trial in wave] == [0, 1, 2, 3]
    three: list[tuple[Trial, float | None]] = [(trial, 0.1) for trial in (wave[0], wave[2], wave[3])]
    assert next_trials(space, spec, SHA, three) == [wave[1]]
    assert [trial.number for trial in next_trials(space, spec, SHA, [*three, (wave[1], None)])] == [4, 5, 6, 7]


def test_a_search_ends_within_a_wave() -> None:
    """Trials are counted, not waves."""
    spec = settings("random", trials=6, wave=4)
    assert len(searched(mixed_space(), spec)) == 6


def test_trials_without_a_score_count() -> None:
    """What could not be run is not drawn again, and never selected."""
    space, spec = mixed_space(), settings(trials=16)
    trials = searched(space, spec, lambda trial: None if trial.number % 3 else objective(trial))
    assert [trial.number for trial in trials] == list(range(16))
    scored = [(trial, None if trial.number % 3 else objective(trial)) for trial in trials]
    assert select(scored, spec).trial.number % 3 == 0


def test_trials_of_another_registration_are_noticed() -> None:
    """Also what an edited result, or another sampler, would be."""
    space, spec = mixed_space(), settings("random", wave=4)
    first = next_trials(space, spec, SHA, [])[0]
    with pytest.raises(ProtocolError, match=r"trial 0 must be \{.*\} by this registration"):
        next_trials(space, spec, "6" * 64, [(first, 0.1)])


def test_objectives_are_numbers() -> None:
    """Neither NaN nor two of them."""
    space, spec = mixed_space(), settings("random")
    first = next_trials(space, spec, SHA, [])[0]
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ProtocolError, match="an objective must be a number or None"):
            next_trials(space, spec, SHA, [(first, bad)])
        with pytest.raises(ProtocolError, match="an objective must be a number or None"):
            select([(first, bad)], spec)
    with pytest.raises(ProtocolError, match="must have one objective, got two for trial 0"):
        next_trials(space, spec, SHA, [(first, 0.1), (first, 0.1)])


def test_repeated_values_are_recognised() -> None:
    """1 and 1.0 are one value; the first trial that has it is named."""
    values = ({"w": 0.5}, {"w": 1}, {"w": 0.5}, {"w": 1.0}, {"w": True}, {"w": 0.5, "v": 1})
    trials = [Trial(number, value) for number, value in enumerate(values)]
    assert repeats(trials[::-1]) == {2: 0, 3: 1}
    small = study_of(weight({"choices": [0.5, 1.0]}), {"tuning": {"sampler": "random", "trials": 9}}).space
    assert len(repeats(searched(small, settings("random", trials=9)))) == 7


def test_the_search_is_quiet(caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder) -> None:
    """Optuna's own level is put back."""
    before = logging.getLogger("optuna").level
    searched(mixed_space(), settings(trials=14))
    assert (caplog.records, list(recwarn), logging.getLogger("optuna").level) == ([], [], before)


def scored(*objectives: float | None, values: tuple[Any, ...] = ()) -> list[tuple[Trial, float | None]]:
    """Return trials with one parameter, or with the given values."""
    given = values or tuple({"w": float(number)} for number in range(len(objectives)))
    return [(Trial(number, given[number]), objective) for number, objective in enumerate(objectives)]


@pytest.mark.parametrize(
    ("prefer", "ties_within", "expected"),
    [
        ("first", 0.0, 2),
        ("smaller", 0.0, 2),
        ("first", 0.004, 1),
        ("smaller", 0.004, 2),
        ("larger", 0.004, 1),
        ("larger", 0.02, 3),
    ],
)
def test_ties_go_where_the_rule_says(prefer: str, ties_within: float, expected: int) -> None:
    """Within the bound trials count as equal to the best one."""
    values = ({"w": 0.0}, {"w": 9.0}, {"w": 5.0}, {"w": 10.0})
    found = select(scored(0.01, 0.046, 0.05, 0.03, values=values), settings(prefer=prefer, ties_within=ties_within))
    assert (found.trial.number, found.best_objective) == (expected, 0.05)


def test_the_papers_choice() -> None:
    """Weights 0.5, 1.0, 1.5 with mean effects +0.75, -0.50 and +0.43 points: 0.5, alone or tied."""
    values = tuple({"w": value} for value in (0.5, 1.0, 1.5))
    trials = scored(0.0075, -0.005, 0.0043, values=values)
    found = select(trials, settings(prefer="smaller", ties_within=0.005))
    assert (found.trial.values, found.objective, found.tied) == ({"w": 0.5}, 0.0075, (0, 2))
    assert select(trials, settings(prefer="larger", ties_within=0.005)).trial.values == {"w": 1.5}


def test_the_bound_of_a_tie_belongs_to_it() -> None:
    """0.3 - 0.1 is 0.2 here, whatever floats make of it."""
    found = select(scored(0.1 + 0.2, 0.1), settings(prefer="larger", ties_within=0.2))
    assert found.tied == (0, 1)
    assert found.trial.number == 1


def test_order_of_the_trials_does_not_matter() -> None:
    """Nor does the order of their values; several are compared alphabetically."""
    values = ({"b": 1, "a": 2}, {"a": 1, "b": 2}, {"b": 0, "a": 2})
    trials = scored(0.1, 0.1, 0.1, values=values)
    for order in (trials, trials[::-1]):
        assert select(order, settings(prefer="smaller")).trial.number == 1
        assert select(order, settings(prefer="larger")).trial.number == 0
        assert select(order, settings(prefer="first")).trial.number == 0


def test_equal_values_go_to_the_first_trial() -> None:
    """A repeat has the objective of what it repeats."""
    values = ({"w": 2.0}, {"w": 1.0}, {"w": 1.0})
    for prefer in ("smaller", "first"):
        assert select(scored(0.0, 0.1, 0.1, values=values), settings(prefer=prefer)).trial.number == 1


def test_a_selection_needs_a_score_and_numbers_to_compare() -> None:
    """Both are said."""
    with pytest.raises(ProtocolError, match="at least one scored trial"):
        select(scored(None, None), settings())
    with pytest.raises(ProtocolError, match="must have numbers to compare"):
        select(scored(0.1, values=({"w": "diversity"},)), settings(prefer="smaller"))


def effects_of(*shapes: tuple[int, int, int], seed: int = 3) -> list[np.ndarray]:
    """Return effects in thirds, as three replicates give them."""
    generator = np.random.default_rng(seed)
    return [generator.integers(-3, 4, size=shape) / 3 for shape in shapes]


def test_the_objective_is_the_mean_over_cells() -> None:
    """Against loops: every cell counts alike, whatever the number of its problems."""
    effects = effects_of((3, 4, 10), (3, 2, 25))
    for trial in range(3):
        cells = [list(task[trial, cell]) for task in effects for cell in range(task.shape[1])]
        expected = sum(sum(cell) / len(cell) for cell in cells) / len(cells)
        assert mean_effects(effects)[trial] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("prefer", ["smaller", "larger", "first"])
def test_selection_uncertainty_against_loops(prefer: str) -> None:
    """Problems resampled one by one, cells averaged one by one, ties looked at one by one."""
    resamples, seed, rule = 150, 11, settings(prefer=prefer, ties_within=0.05)
    effects = effects_of((4, 2, 12), (4, 1, 7))
    trials = [trial for trial, _ in scored(*[0.0] * 4, values=tuple({"w": w} for w in (2.0, 1.0, 4.0, 3.0)))]
    picks = [
        np.random.default_rng(seed + index).integers(0, task.shape[2], size=(resamples, task.shape[2])).tolist()
        for index, task in enumerate(effects)
    ]
    counts = dict.fromkeys(range(4), 0)
    for resample in range(resamples):
        objectives = []
        for trial in range(4):
            cells = []
            for task, picked in zip(effects, picks, strict=True):
                for cell in range(task.shape[1]):
                    drawn = [task[trial, cell, problem] for problem in picked[resample]]
                    cells.append(sum(drawn) / len(drawn))
            objectives.append(sum(cells) / len(cells))
        equal = [trial for trial in range(4) if objectives[trial] >= max(objectives) - 0.05 - 1e-12]
        values = {trial: trials[trial].values["w"] for trial in equal}
        by = {"smaller": lambda t: values[t], "larger": lambda t: -values[t], "first": lambda t: t}[prefer]  # noqa: B023
        counts[min(equal, key=by)] += 1
    expected = {trial: count / resamples for trial, count in counts.items()}
    assert selection_uncertainty(trials, effects, rule, seed, resamples) == pytest.approx(expected)
    assert max(expected.values()) < 1


def test_a_clear_winner_is_certain() -> None:
    """Shares add up to one; a trial better on every problem has them all."""
    trials = [trial for trial, _ in scored(0.0, 0.0)]
    clear = np.stack([np.zeros((1, 20)), np.ones((1, 20))])
    assert selection_uncertainty(trials, [clear], settings(), resamples=50) == {0: 0.0, 1: 1.0}
    shares = selection_uncertainty(trials, effects_of((2, 3, 9)), settings(), seed=2, resamples=2_500)
    assert sum(shares.values()) == pytest.approx(1.0)
    assert shares == selection_uncertainty(trials, effects_of((2, 3, 9)), settings(), seed=2, resamples=2_500)


def test_tuning_as_plain_data() -> None:
    """What a registration says, the grid's size written out."""
    study = study_of(
        protocol_changes={"tuning": {"sampler": "grid", "seed": 7, "ties_within": 0.005, "prefer": "smaller"}}
    )
    assert study.protocol.tuning is not None
    found = tuning_document(study.space, study.protocol.tuning)
    assert found["trials"] == 3
    assert found["selection"] == {"ties_within": 0.005, "prefer": "smaller"}
    assert [parameter["id"] for parameter in found["space"]] == [f"{SELECTOR}.weight"]
