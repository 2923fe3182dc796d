"""Draws trials: Optuna as the search engine, never as the store.

The trials of a study are a function of its registration and of the objectives of finished trials, in waves: nothing of a
wave is drawn from its own results. So the same trials come out whatever the number of workers, and however often the
search was killed and resumed. A search is rebuilt in memory every time; a sampler kept, or reopened with its seed, would
repeat its opening draws.
"""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from designspace.errors import ProtocolError
from sweeps.protocol_fields import TuningSpec
from sweeps.space import Parameter, Range, Space, grid
from sweeps.trials import Choice, Finished, Trial, mean_effects, objectives_of, select, selection_uncertainty

if TYPE_CHECKING:
    import optuna

__all__ = [
    "Choice",
    "Finished",
    "Trial",
    "mean_effects",
    "n_trials",
    "next_trials",
    "repeats",
    "select",
    "selection_uncertainty",
    "tuning_document",
]


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
    objectives = objectives_of(finished)
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
