"""Trials with their objectives, the rule that selects one, and how sure that selection is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from designspace.canonical import canonical_json
from designspace.errors import ProtocolError
from sweeps.protocol_fields import TuningSpec

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


def objectives_of(finished: Finished) -> dict[int, float | None]:
    """Return objectives by trial number.

    Raises:
        ProtocolError: one is not a number, or a trial has two.
    """
    found: dict[int, float | None] = {}
    for trial, objective in finished:
        if objective is not None and not np.isfinite(objective):
            raise ProtocolError(f"an objective must be a number or None, got {objective} for trial {trial.number}")
        if trial.number in found:
            raise ProtocolError(f"a trial must have one objective, got two for trial {trial.number}")
        found[trial.number] = objective
    return found


def select(finished: Finished, rule: TuningSpec) -> Choice:
    """Return the trial with the largest objective; among those within `ties_within` of it, the one that `prefer` names.

    `smaller` and `larger` compare the values in alphabetical order of their parameters, the first that differs decides;
    of equal values the first trial is taken.

    Raises:
        ProtocolError: no trial has an objective, or an objective is not a number.
    """
    scored = [(trial, objective) for trial, objective in finished if objective is not None]
    objectives_of(scored)
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
