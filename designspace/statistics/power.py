"""Power and the minimum detectable effect, by simulation, before anything is run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from designspace.errors import DeclarationError, UnknownName
from designspace.statistics.corrections import bonferroni_threshold
from designspace.statistics.intervals import proportion_interval
from designspace.statistics.lattice import bootstrap_lattice, sign_flip_lattice
from designspace.statistics.outcomes import Accuracies, simulated_steps
from designspace.statistics.paired import FloatArray, IntArray
from designspace.statistics.parameters import check_open_unit
from designspace.statistics.permutation import chance_of_one_sign
from designspace.statistics.tango import tango_z

POWER_SIMULATIONS = 2_000
POWER_SEED = 20260514
POWER_TESTS = ("sign_flip", "mcnemar_exact", "cluster_bootstrap", "t", "non_inferiority", "equivalence")


@dataclass(frozen=True)
class StudyDesign:
    """A contrast to be tested, and what is assumed of its problems.

    Attributes:
        accuracies: of the baseline, over problems.
        n_problems: held-out problems.
        n_replicates: generations per problem and arm.
        test: one of `POWER_TESTS`. The margin tests are those of `equivalence`: Tango's statistic for one generation per
            problem, else t on per-problem means.
        alpha: family-wise error.
        n_comparisons: registered size m of the family; each comparison is tested at alpha / m.
        effect_spread: standard deviation over problems of the effect, in logits: 0 moves every problem the same way, 1
            has a mechanism help some and hurt others.
        margin: of `non_inferiority` and `equivalence`, in accuracy; None for the other tests.
        resamples: draws of `sign_flip` and `cluster_bootstrap`, whose p value is taken at its expectation over draws; None
            takes infinitely many.
    """

    accuracies: Accuracies
    n_problems: int
    n_replicates: int = 1
    test: str = "sign_flip"
    alpha: float = 0.05
    n_comparisons: int = 1
    effect_spread: float = 0.0
    margin: float | None = None
    resamples: int | None = None

    def __post_init__(self) -> None:
        """Check the numbers and that the test is known and suits them."""
        if self.test not in POWER_TESTS:
            raise UnknownName("test", self.test, POWER_TESTS)
        bonferroni_threshold(self.n_comparisons, self.alpha)
        problems = []
        if self.n_problems < 2 or self.n_replicates < 1:
            problems.append(
                "n_problems must be at least 2 and n_replicates at least 1, "
                f"got n_problems={self.n_problems}, n_replicates={self.n_replicates}"
            )
        if self.resamples is not None and self.resamples < 1:
            problems.append(f"resamples must be at least 1, got resamples={self.resamples}")
        if self.effect_spread < 0:
            problems.append(f"effect_spread must not be negative, got effect_spread={self.effect_spread}")
        if self.test == "mcnemar_exact" and self.n_replicates != 1:
            problems.append(f"n_replicates must be 1 for mcnemar_exact, got n_replicates={self.n_replicates}")
        if (self.margin is not None) != (self.test in ("non_inferiority", "equivalence")):
            problems.append(f"margin must be given for margin tests only, got test={self.test}, margin={self.margin}")
        if problems:
            raise DeclarationError(problems)
        if self.margin is not None:
            check_open_unit(margin=self.margin)

    @property
    def threshold(self) -> float:
        """Return the largest p value that counts."""
        return bonferroni_threshold(self.n_comparisons, self.alpha)


@dataclass(frozen=True)
class PowerEstimate:
    """How often a study would reject.

    Attributes:
        effect: true mean difference of accuracies.
        power: share of simulated studies that reject.
        low: lower end of the 95 % exact interval of that share: the error of the simulation.
        high: upper end.
        discordance: mean share of generations on which the arms disagree.
        n_simulations: studies simulated.
        seed: of the simulation.
    """

    effect: float
    power: float
    low: float
    high: float
    discordance: float
    n_simulations: int
    seed: int


@dataclass(frozen=True)
class DetectableEffect:
    """The smallest gain a study would find often enough.

    Attributes:
        effect: in accuracy; None where not even the largest possible gain is found that often.
        target_power: how often is often enough.
        at: the estimate at `effect`, or at the largest gain tried.
    """

    effect: float | None
    target_power: float
    at: PowerEstimate


def estimate_power(
    design: StudyDesign, effect: float, *, simulations: int = POWER_SIMULATIONS, seed: int = POWER_SEED
) -> PowerEstimate:
    """Return how often the design rejects when the mean accuracy truly changes by `effect`.

    At an effect of 0 that is the error rate of the test (for the margin tests: how often no harm is rightly shown).

    Raises:
        DeclarationError: the baseline does not leave room for the effect.
    """
    if simulations < 1:
        raise DeclarationError(f"simulations must be at least 1, got simulations={simulations}")
    rejected, disagreeing = 0, 0.0
    blocks = simulated_steps(
        design.accuracies,
        n_sets=simulations,
        n_problems=design.n_problems,
        n_replicates=design.n_replicates,
        effect=effect,
        effect_spread=design.effect_spread,
        seed=seed,
    )
    for steps in blocks:
        rejected += int((p_values(design, steps) <= design.threshold).sum())
        disagreeing += float(np.abs(steps).sum())
    interval = proportion_interval(rejected, simulations, "exact")
    return PowerEstimate(
        effect=effect,
        power=rejected / simulations,
        low=interval.low,
        high=interval.high,
        discordance=disagreeing / (simulations * design.n_problems * design.n_replicates),
        n_simulations=simulations,
        seed=seed,
    )


def minimum_detectable_effect(
    design: StudyDesign,
    *,
    target_power: float = 0.8,
    simulations: int = POWER_SIMULATIONS,
    seed: int = POWER_SEED,
    tolerance: float = 0.0005,
) -> DetectableEffect:
    """Return the smallest gain in accuracy that the design finds with the target power, by bisection.

    Args:
        design: a test of a difference; a margin test has no such effect.
        target_power: how often the gain must be found.
        simulations: studies per step of the search, the same ones at every step.
        seed: of the simulation.
        tolerance: width of the last bracket, in accuracy. The reported end is the one that has the power.
    """
    check_open_unit(target_power=target_power, tolerance=tolerance)
    if design.margin is not None:
        raise DeclarationError(f"minimum_detectable_effect must have a test of a difference, got test={design.test}")

    def at(effect: float) -> PowerEstimate:
        return estimate_power(design, effect, simulations=simulations, seed=seed)

    low, high = 0.0, _largest_gain(design.accuracies)
    best = at(high)
    if best.power < target_power:
        return DetectableEffect(None, target_power, best)
    while high - low > tolerance:
        middle = at((low + high) / 2)
        if middle.power >= target_power:
            high, best = middle.effect, middle
        else:
            low = middle.effect
    return DetectableEffect(high, target_power, best)


def p_values(design: StudyDesign, steps: IntArray) -> FloatArray:
    """Return the p value of the design's test for each data set.

    steps: [n_sets, n_problems], differences in numbers of correct generations, arm less baseline.
    """
    if design.margin is None:
        return _TESTS[design.test](steps, design.resamples)
    above = _one_sided(steps, design.n_replicates, design.margin)
    return (
        above
        if design.test == "non_inferiority"
        else np.maximum(above, _one_sided(-steps, design.n_replicates, design.margin))
    )


def _largest_gain(accuracies: Accuracies) -> float:
    """Return a gain just below what the problems that can change leave room for."""
    points = accuracies.points()
    return 0.99 * float(np.where(points > 0, 1 - points, 0.0).mean())


def _sign_flip(steps: IntArray, resamples: int | None) -> FloatArray:
    exact = sign_flip_lattice(steps)
    if resamples is None:
        return exact
    enumerated = 2.0 ** (steps != 0).sum(axis=1) <= resamples
    return np.where(enumerated, exact, (1 + resamples * exact) / (1 + resamples))


def _bootstrap(steps: IntArray, resamples: int | None) -> FloatArray:
    exact = bootstrap_lattice(steps)
    drawn = exact if resamples is None else (2 + resamples * exact) / (1 + resamples)
    return np.clip(drawn, chance_of_one_sign(steps.shape[1]), 1.0)


def _mcnemar(steps: IntArray, _: int | None) -> FloatArray:
    from scipy.stats import binom

    arm, baseline = (steps > 0).sum(axis=1), (steps < 0).sum(axis=1)
    return np.minimum(1.0, 2 * binom.cdf(np.minimum(arm, baseline), arm + baseline, 0.5))


def _t(steps: IntArray, _: int | None) -> FloatArray:
    from scipy.stats import t

    n = steps.shape[1]
    mean, spread = steps.mean(axis=1), steps.std(axis=1, ddof=1) / math.sqrt(n)
    statistic = np.divide(np.abs(mean), spread, out=np.zeros_like(mean), where=spread > 0)
    none = np.where(mean == 0, 1.0, chance_of_one_sign(n))  # as `t_test` has it where nothing varies
    return np.where(spread > 0, 2 * t.sf(statistic, n - 1), none)


def _one_sided(steps: IntArray, n_replicates: int, margin: float) -> FloatArray:
    """Return the p value of "at or below -margin", [n_sets], by the statistic that `equivalence` takes for such data."""
    from scipy.stats import t

    n, differences = steps.shape[1], steps / n_replicates
    by_tango = np.full(len(steps), n_replicates == 1) | (np.ptp(steps, axis=1) == 0)
    spread = differences.std(axis=1, ddof=1) / math.sqrt(n)
    statistic = np.divide(differences.mean(axis=1) + margin, spread, out=np.zeros(len(steps)), where=~by_tango)
    found = t.sf(statistic, n - 1)
    found[by_tango] = _tango(steps[by_tango], n_replicates, margin)
    return found


def _tango(steps: IntArray, n_replicates: int, margin: float) -> FloatArray:
    from scipy.stats import norm

    if n_replicates == 1:
        sides = np.stack([(steps > 0).sum(axis=1), (steps < 0).sum(axis=1)], axis=1)
    else:  # differences that are all equal, over problems
        total = np.rint(steps.sum(axis=1) / n_replicates).astype(np.int64)
        sides = np.stack([np.maximum(0, total), np.maximum(0, -total)], axis=1)
    distinct, at = np.unique(sides, axis=0, return_inverse=True)
    z = [tango_z(int(arm), int(baseline), steps.shape[1], -margin) for arm, baseline in distinct]
    return np.asarray(norm.sf(np.array(z))[at.reshape(-1)], dtype=np.float64)


_TESTS: dict[str, Callable[[IntArray, int | None], FloatArray]] = {
    "sign_flip": _sign_flip,
    "mcnemar_exact": _mcnemar,
    "cluster_bootstrap": _bootstrap,
    "t": _t,
}
