"""Outcomes of a study that has not been run: drawn from assumed accuracies of problems and an assumed effect."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from designspace.errors import DeclarationError
from designspace.statistics.paired import FloatArray, IntArray, check_scores
from designspace.statistics.parameters import check_positive

_DRAWS_PER_BLOCK = 4_000_000
_QUANTILES = 400  # points that stand for a beta distribution when the shift is solved for
_NODES = 40  # Gauss-Hermite points that stand for the spread of effects
_FARTHEST = 60.0  # logits
_SHAPES_LOG = (-6.0, 8.0)  # where a fit looks for the shapes


@dataclass(frozen=True)
class BetaAccuracies:
    """Baseline accuracies of problems, spread by a beta distribution.

    Attributes:
        a: first shape; the mean is a / (a + b).
        b: second shape; small a + b: problems are either easy or hopeless.
    """

    a: float
    b: float

    def __post_init__(self) -> None:
        """Check the shapes."""
        check_positive(a=self.a, b=self.b)

    def sample(self, shape: tuple[int, int], generator: np.random.Generator) -> FloatArray:
        """Return accuracies of new problems."""
        return generator.beta(self.a, self.b, size=shape)

    def points(self) -> FloatArray:
        """Return equally likely accuracies that stand for the distribution."""
        from scipy.stats import beta

        return np.asarray(beta.ppf((np.arange(_QUANTILES) + 0.5) / _QUANTILES, self.a, self.b), dtype=np.float64)


@dataclass(frozen=True)
class ListedAccuracies:
    """Baseline accuracies of the very problems measured, as a stand-in for the population they come from.

    A problem with accuracy 0 or 1 keeps it whatever the effect, so accuracies estimated from few generations should be
    smoothed first: `fit_beta` does.

    Attributes:
        values: one in [0, 1] per problem; drawn with replacement, so their number need not be that of the study.
    """

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check the values."""
        if not self.values:
            raise DeclarationError("values must hold at least one accuracy, got none")
        check_scores("values", self.points())

    def sample(self, shape: tuple[int, int], generator: np.random.Generator) -> FloatArray:
        """Return accuracies of problems drawn with replacement."""
        return generator.choice(self.points(), size=shape)

    def points(self) -> FloatArray:
        """Return the values."""
        return np.asarray(self.values, dtype=np.float64)


Accuracies = BetaAccuracies | ListedAccuracies


def fit_beta(n_correct: Sequence[int], n_replicates: int) -> BetaAccuracies:
    """Return the beta distribution of accuracies that makes the counts likeliest (beta-binomial).

    Args:
        n_correct: correct generations of each problem.
        n_replicates: generations per problem, at least 2: one says nothing about how problems differ.
    """
    from scipy.optimize import minimize
    from scipy.stats import betabinom

    counts = np.asarray(n_correct, dtype=np.int64)
    if n_replicates < 2 or not counts.size or counts.min() < 0 or counts.max() > n_replicates:
        raise DeclarationError(
            "fit_beta must have at least 2 replicates and counts of correct ones among them, "
            f"got n_replicates={n_replicates}, n_correct={counts.tolist()[:8]}"
        )
    frequency = np.bincount(counts, minlength=n_replicates + 1)

    def unlikeliness(logs: FloatArray) -> float:
        shapes = np.exp(logs)
        return -float(frequency @ betabinom.logpmf(np.arange(n_replicates + 1), n_replicates, shapes[0], shapes[1]))

    mean = (counts.sum() + 0.5) / (counts.size * n_replicates + 1)
    spread = counts.var() / (n_replicates * mean * (1 - mean))  # 1 where problems are alike, n_replicates where 0 or 1
    alike = float(np.clip((spread - 1) / (n_replicates - 1), 0.02, 0.9))  # correlation within problems
    start = np.log(np.array([mean, 1 - mean]) * (1 / alike - 1))
    # No gradients: the likelihood is flat where problems are alike, and a long first step ends there.
    found = minimize(unlikeliness, start, method="Nelder-Mead", bounds=[_SHAPES_LOG] * 2, options={"maxiter": 2_000})
    a, b = np.exp(found.x)
    return BetaAccuracies(float(a), float(b))


def shift_for(accuracies: Accuracies, effect: float, effect_spread: float = 0.0) -> float:
    """Return the shift on the logit scale that changes the mean accuracy by `effect`.

    Raises:
        DeclarationError: no shift does: the effect is larger than what is left to gain or lose.
    """
    from scipy.optimize import brentq
    from scipy.special import expit, logit

    points = accuracies.points()
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    weights = weights / weights.sum()
    logits = logit(points)[:, None] + effect_spread * nodes
    before = float(points.mean())

    def surplus(shift: float) -> float:
        return float((expit(logits + shift) @ weights).mean()) - before - effect

    if not surplus(-_FARTHEST) < 0 < surplus(_FARTHEST):
        raise DeclarationError(
            "effect must be within what the baseline leaves to gain or lose, "
            f"got effect={effect}, mean baseline accuracy={before:.3f}"
        )
    return float(brentq(surplus, -_FARTHEST, _FARTHEST, xtol=1e-10))


def simulated_steps(
    accuracies: Accuracies,
    *,
    n_sets: int,
    n_problems: int,
    n_replicates: int,
    effect: float,
    effect_spread: float,
    seed: int,
) -> Iterator[IntArray]:
    """Yield blocks [sets, n_problems] of differences in numbers of correct generations, arm less baseline.

    Each set draws its problems anew. A problem with baseline accuracy p has
    expit(logit(p) + shift + effect_spread * z) under the arm, z standard normal, the shift such that the mean over the
    population of problems is `effect`. Generations are independent given the problem. The same seed draws the same
    problems, z and uniforms for every effect, so power grows smoothly with the effect.
    """
    from scipy.special import expit, logit

    shift = shift_for(accuracies, effect, effect_spread)
    rows = max(1, _DRAWS_PER_BLOCK // (n_problems * n_replicates))
    for block, start in enumerate(range(0, n_sets, rows)):
        generator = np.random.default_rng([seed, block])
        shape = (min(rows, n_sets - start), n_problems)
        before = accuracies.sample(shape, generator)
        after = expit(logit(before) + shift + effect_spread * generator.standard_normal(shape))
        steps = np.zeros(shape, dtype=np.int64)
        for _ in range(n_replicates):
            steps += generator.random(shape) < after
            steps -= generator.random(shape) < before
        yield steps
