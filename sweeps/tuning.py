"""Draws trials and selects one: Optuna as the search engine, never as the store.

The trials of a study are a function of its registration and of the objectives of finished trials, in waves: nothing of a
wave is drawn from its own results. So the same trials come out whatever the number of workers, and however often the
search was killed and resumed. A search is rebuilt in memory every time; a sampler kept, or reopened with its seed, would
repeat its opening draws.
"""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from designspace.canonical import canonical_json
from designspace.errors import ProtocolError
from sweeps.placeholders import Parameter, Range, Space, grid
from sweeps.protocol_fields import TuningSpec

if TYPE_CHECKING:
    import optuna

FloatArray = NDArray[np.float64]

_ROUNDING = 1e-12  # objectives are means of many numbers: the bound of a tie is not decided by their last bits
_RESAMPLES = 10_000
_RESAMPLES_PER_BLOCK = 1_000


@dataclass(frozen=True)
class Trial:
    """One point of the space. `number` counts from 0 in the order of drawing; `values` has what then exists."""

    number: int
    values: Mapping[str, Any]

    @property
    def key(self) -> str:
        """What two trials with the same values share."""
        return canonical_json(self.values)


@dataclass(frozen=True)
class Choice:
    """The trial that a rule selects.

    Attributes:
        tied: numbers of all trials that counted as equal to the best one, the selected one among them.
    """

    trial: Trial
    objective: float
    best_objective: float
    tied: tuple[int, ...]


Finished = Sequence[tuple[Trial, float | None]]


def n_trials(space: Space, settings: TuningSpec) -> int:
    """Return how many trials a search has."""
    return sum(1 for _ in grid(space)) if settings.sampler == "grid" else int(settings.trials or 0)


def next_trials(
    space: Space, settings: TuningSpec, registration_sha: str, finished: Finished, n: int | None = None
) -> list[Trial]:
    """Return trials that can be run now, in order: what is not finished of the wave under way. None are left at the end.

    Which trials a wave has depends on the waves before it only. Asking again returns the same trials, so a caller keeps
    account of those that it has started.

    Args:
        space: what is tuned.
        settings: how.
        registration_sha: hash of the registration: the seed of all draws, together with `settings.seed`.
        finished: trials with their objectives, in any order; None where a trial cannot be run or scored.
        n: at most this many; None = all.

    Raises:
        ProtocolError: finished trials are not the ones that this registration draws, or an objective is not a number.
    """
    objectives = _objectives(finished)
    if settings.sampler == "grid":
        wave = [Trial(number, values) for number, values in enumerate(grid(space))]
        return _left(wave, finished, n)
    total, past = n_trials(space, settings), 0
    while past < total:
        size = min(settings.wave, total - past)
        if not all(number in objectives for number in range(past, past + size)):
            break
        past += size
    if past == total:
        return []
    before = sorted((pair for pair in finished if pair[0].number < past), key=lambda pair: pair[0].number)
    draw = _Draw(space, settings, registration_sha)
    return _left(draw.wave(before, min(settings.wave, total - past)), finished, n)


def repeats(trials: Sequence[Trial]) -> dict[int, int]:
    """Return the trials whose values an earlier one has: number -> number of the first. Samplers repeat themselves."""
    first: dict[str, int] = {}
    found = {}
    for trial in sorted(trials, key=lambda trial: trial.number):
        earlier = first.setdefault(trial.key, trial.number)
        if earlier != trial.number:
            found[trial.number] = earlier
    return found


def select(finished: Finished, rule: TuningSpec) -> Choice:
    """Return the trial with the largest objective; among those within `ties_within` of it, the one that `prefer` names.

    `smaller` and `larger` compare the values in alphabetical order of their parameters, the first that differs decides;
    of equal values the first trial is taken.

    Raises:
        ProtocolError: no trial has an objective, or an objective is not a number.
    """
    scored = [(trial, objective) for trial, objective in finished if objective is not None]
    _objectives(scored)
    if not scored:
        raise ProtocolError("a selection must have at least one scored trial, got none")
    trials = [trial for trial, _ in scored]
    objectives = np.array([[objective for _, objective in scored]], dtype=np.float64)
    tied = _tied(objectives, rule)[0]
    index = int(_chosen(objectives, trials, rule)[0])
    numbers = sorted(trial.number for trial, is_tied in zip(trials, tied, strict=True) if is_tied)
    return Choice(trials[index], float(objectives[0, index]), float(objectives.max()), tuple(numbers))


def mean_effects(effects: Sequence[FloatArray]) -> FloatArray:
    """Return the objective of every trial, [n_trials]: the mean over cells of the mean over problems.

    effects: one array per task, [n_trials, n_cells, n_problems]: score(arm) - score(baseline) of each problem, averaged
    over its generations.
    """
    n_cells = sum(task.shape[1] for task in effects)
    total: FloatArray = sum((task.mean(axis=2).sum(axis=1) for task in effects), np.zeros(len(effects[0])))
    return total / n_cells


def selection_uncertainty(
    trials: Sequence[Trial],
    effects: Sequence[FloatArray],
    rule: TuningSpec,
    seed: int = 0,
    resamples: int = _RESAMPLES,
) -> dict[int, float]:
    """Return in which share of bootstrap resamples of the problems each trial would have been selected, by number.

    The problems of a task are drawn with replacement, the same ones for all trials and cells of that task; tasks in the
    order given, each resample's indices by `default_rng(seed + index of the task).integers(0, n, size=(resamples, n))`.

    Args:
        trials: that have scores.
        effects: one array per task, [n_trials, n_cells, n_problems], as for `mean_effects`.
        rule: of the selection.
        seed: of the resampling.
        resamples: number of them.
    """
    n_cells = sum(task.shape[1] for task in effects)
    objectives = np.zeros((resamples, len(trials)))
    for index, task in enumerate(effects):
        objectives += _resampled(task.sum(axis=1), resamples, seed + index) / n_cells
    counts = np.bincount(_chosen(objectives, trials, rule), minlength=len(trials))
    return {trial.number: float(count) / resamples for trial, count in zip(trials, counts, strict=True)}


def tuning_document(space: Space, settings: TuningSpec) -> dict[str, Any]:
    """Return what a registration says about tuning."""
    return {
        "space": [parameter.document() for parameter in space],
        "sampler": settings.sampler,
        "trials": n_trials(space, settings),
        "seed": settings.seed,
        "wave": settings.wave,
        "maximise": settings.maximise,
        "selection": {"ties_within": settings.ties_within, "prefer": settings.prefer},
    }


def _objectives(finished: Finished) -> dict[int, float | None]:
    found: dict[int, float | None] = {}
    for trial, objective in finished:
        if objective is not None and not np.isfinite(objective):
            raise ProtocolError(f"an objective must be a number or None, got {objective} for trial {trial.number}")
        if trial.number in found:
            raise ProtocolError(f"a trial must have one objective, got two for trial {trial.number}")
        found[trial.number] = objective
    return found


def _left(wave: Sequence[Trial], finished: Finished, n: int | None) -> list[Trial]:
    """Return what is not finished of a wave; what is finished of it must be what was drawn."""
    keys = {trial.number: trial.key for trial, _ in finished}
    for trial in wave:
        if keys.get(trial.number, trial.key) != trial.key:
            raise ProtocolError(
                f"trial {trial.number} must be {trial.key} by this registration, got {keys[trial.number]} "
                "(another registration, or another version of the sampler?)"
            )
    return [trial for trial in wave if trial.number not in keys][:n]


class _Draw:
    """Draws waves of trials with Optuna, each trial by a sampler of its own seed."""

    def __init__(self, space: Space, settings: TuningSpec, registration_sha: str) -> None:
        self.space = space
        self.settings = settings
        self.registration = registration_sha

    def wave(self, before: Finished, size: int) -> list[Trial]:
        """Return the trials that follow the finished ones, all of them drawn as if none of the others had a result."""
        import optuna

        with _quiet():
            study = optuna.create_study(direction="maximize")
            for trial, objective in before:
                study.add_trial(self.replayed(trial, objective))
            drawn = []
            for number in range(len(before), len(before) + size):
                study.sampler = self.sampler(number)
                drawn.append(Trial(number, self.values(study.ask())))
        return drawn

    def replayed(self, trial: Trial, objective: float | None) -> optuna.trial.FrozenTrial:
        """Return a finished trial as Optuna keeps it."""
        import optuna

        active = [(index, parameter) for index, parameter in enumerate(self.space) if parameter.active(trial.values)]
        return optuna.trial.create_trial(
            state=optuna.trial.TrialState.FAIL if objective is None else optuna.trial.TrialState.COMPLETE,
            value=objective,
            params={_name(i, p): _code(p, trial.values[p.id]) for i, p in active},
            distributions={_name(i, p): _distribution(p) for i, p in active},
        )

    def values(self, trial: optuna.Trial) -> dict[str, Any]:
        """Ask for every parameter that exists under the values drawn before it."""
        values: dict[str, Any] = {}
        for index, parameter in enumerate(self.space):
            if parameter.active(values):
                values[parameter.id] = _suggested(trial, _name(index, parameter), parameter)
        return values

    def sampler(self, number: int) -> optuna.samplers.BaseSampler:
        """Return a new sampler whose seed is a hash of what it draws for."""
        import optuna

        text = f"{self.registration}\0{self.settings.seed}\0{number}"
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
        if self.settings.sampler == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        # Trials of the same wave have no results yet: they count as poor ones, which keeps the wave apart.
        return optuna.samplers.TPESampler(seed=seed, constant_liar=True)


def _name(index: int, parameter: Parameter) -> str:
    """Return the parameter's name in the search: two choices may each have a parameter at the same place."""
    return f"{index} {parameter.id}"


def _suggested(trial: optuna.Trial, name: str, parameter: Parameter) -> Any:
    if parameter.choices is not None:
        return parameter.choices[trial.suggest_categorical(name, tuple(range(len(parameter.choices))))]
    bounds = _bounds(parameter)
    if bounds.whole:
        step = int(bounds.step or 1)
        return bounds.value(trial.suggest_int(name, int(bounds.low), int(bounds.high), step=step, log=bounds.log))
    return bounds.value(trial.suggest_float(name, bounds.low, bounds.high, step=bounds.step, log=bounds.log))


def _distribution(parameter: Parameter) -> optuna.distributions.BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if parameter.choices is not None:
        return CategoricalDistribution(tuple(range(len(parameter.choices))))
    bounds = _bounds(parameter)
    if bounds.whole:
        return IntDistribution(int(bounds.low), int(bounds.high), log=bounds.log, step=int(bounds.step or 1))
    return FloatDistribution(bounds.low, bounds.high, log=bounds.log, step=bounds.step)


def _code(parameter: Parameter, value: Any) -> Any:
    """Return a value as the search knows it: choices go by their place, since they may be any data."""
    checked = parameter.checked(value)
    return checked if parameter.choices is None else parameter.place(checked)


def _bounds(parameter: Parameter) -> Range:
    if parameter.range is None:
        raise ProtocolError(f"{parameter.id} must have choices or a range, got neither")
    return parameter.range


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna's log lines and notes on experimental options off the console."""
    logger = logging.getLogger("optuna")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="optuna")
            yield
    finally:
        logger.setLevel(level)


def _resampled(values: FloatArray, resamples: int, seed: int) -> FloatArray:
    """Return [resamples, n_trials] means over resampled problems; values: [n_trials, n_problems]."""
    generator = np.random.default_rng(seed)
    n = values.shape[1]
    means = np.empty((resamples, len(values)))
    for start in range(0, resamples, _RESAMPLES_PER_BLOCK):  # drawing in blocks yields the same stream as one call
        rows = min(_RESAMPLES_PER_BLOCK, resamples - start)
        picked = generator.integers(0, n, size=(rows, n))
        counts = np.zeros((rows, n))
        np.add.at(counts, (np.arange(rows)[:, None], picked), 1.0)
        means[start : start + rows] = counts @ values.T / n
    return means


def _tied(objectives: FloatArray, rule: TuningSpec) -> NDArray[np.bool_]:
    """Return which trials count as equal to the best of their row; objectives: [n, n_trials]."""
    return objectives >= objectives.max(axis=1, keepdims=True) - rule.ties_within - _ROUNDING


def _chosen(objectives: FloatArray, trials: Sequence[Trial], rule: TuningSpec) -> NDArray[np.int64]:
    """Return [n] index of the trial that each row of objectives [n, n_trials] selects."""
    order = sorted(range(len(trials)), key=lambda index: _preference(trials[index], rule))
    # argmax returns the first of several: the first tied one in order of preference
    picked = _tied(objectives, rule)[:, order].argmax(axis=1)
    return np.array(order, dtype=np.int64)[picked]


def _preference(trial: Trial, rule: TuningSpec) -> tuple[Any, ...]:
    if rule.prefer == "first":
        return (trial.number,)
    values = [trial.values[name] for name in sorted(trial.values)]
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        raise ProtocolError(f"prefer={rule.prefer} must have numbers to compare, got {trial.key}")
    return (*(value if rule.prefer == "smaller" else -value for value in values), trial.number)
