"""Which axis matters: main effects and pairwise interactions of a full or partial factorial of arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Literal, NamedTuple

import numpy as np

from designspace.errors import DeclarationError, UnknownName
from designspace.statistics.bootstrap import resample_differences
from designspace.statistics.corrections import bonferroni, holm
from designspace.statistics.difference_interval import alike, interval_of_equal_differences, t_interval
from designspace.statistics.factorial import FactorialScores, contrast
from designspace.statistics.intervals import BOOTSTRAP_RESAMPLES, BOOTSTRAP_SEED
from designspace.statistics.paired import FloatArray
from designspace.statistics.permutation import SIGN_FLIP_RESAMPLES, SIGN_FLIP_SEED, sign_flip_p_value

FactorialTest = Literal["sign_flip", "cluster_bootstrap"]
FACTORIAL_TESTS = ("sign_flip", "cluster_bootstrap")
_ZERO = 1e-10  # means of fractions that cancel on paper


@dataclass(frozen=True)
class AxisEffect:
    """One contrast of levels, averaged over the backgrounds that hold all its arms.

    Attributes:
        axes: one axis for a main effect, two for an interaction.
        levels: compared, one per axis.
        references: compared with, one per axis.
        n_backgrounds: settings of the other axes averaged over, with equal weight.
        effect: mean over problems. Main effect: accuracy at the level less that at the reference. Interaction: by how
            much the first axis' effect is larger at the second's level than at the second's reference.
        n_differing: problems in which the contrast is not zero.
        low: lower end of the interval of `effect`, for this contrast alone.
        high: upper end.
        level: confidence of that interval.
        p_value: two-sided, uncorrected.
        family_low: lower end of the interval that holds together with those of the whole family (Bonferroni): it belongs
            to `p_bonferroni` as `low` and `high` do to `p_value`.
        family_high: upper end.
        p_bonferroni: corrected for the family.
        p_holm: corrected for the family, stepping down.
    """

    axes: tuple[str, ...]
    levels: tuple[str, ...]
    references: tuple[str, ...]
    n_backgrounds: int
    effect: float
    n_differing: int
    low: float
    high: float
    level: float
    p_value: float
    family_low: float
    family_high: float
    p_bonferroni: float
    p_holm: float


@dataclass(frozen=True)
class FactorialEffects:
    """A family of contrasts tested together.

    Attributes:
        test: that made the p values.
        effects: in the order of axes and levels.
        not_estimable: contrasts for which no background holds all arms, as `axis=level` joined by ` x `.
        n_comparisons: size of the family that p values and family intervals are corrected for.
        n_problems: the sample size.
        n_resamples: draws of each test.
        seed: of each test.
    """

    test: FactorialTest
    effects: tuple[AxisEffect, ...]
    not_estimable: tuple[str, ...]
    n_comparisons: int
    n_problems: int
    n_resamples: int
    seed: int


class _Tested(NamedTuple):
    alone: tuple[float, float]
    in_family: tuple[float, float]
    p_value: float


class _Draws(NamedTuple):
    test: FactorialTest
    resamples: int
    seed: int


class _Question(NamedTuple):
    axes: tuple[str, ...]
    levels: tuple[str, ...]
    references: tuple[str, ...]


def main_effects(
    scores: FactorialScores,
    references: Mapping[str, str],
    *,
    test: FactorialTest = "sign_flip",
    n_comparisons: int | None = None,
    resamples: int | None = None,
    seed: int | None = None,
    level: float = 0.95,
) -> FactorialEffects:
    """Test every level of every axis against the axis' reference level.

    In each problem the accuracies at the two levels are subtracted within every background (setting of all other axes)
    that holds both, and averaged over those backgrounds: one paired difference per problem, then as for two arms. In a
    partial factorial two main effects may rest upon different backgrounds; `n_backgrounds` says how many.

    Args:
        scores: of the arms.
        references: each axis' baseline level.
        test: of the mean difference over problems.
        n_comparisons: registered size of the family; None takes the number of contrasts that can be estimated.
        resamples: draws of each test; None takes the test's own number.
        seed: of each test; None takes the test's own.
        level: confidence of each interval: t beside sign flips, percentile beside the bootstrap.

    Raises:
        DeclarationError: an axis has no reference, or n_comparisons is below the number of contrasts.
        UnknownName: a reference is no level of its axis, or there is no such test.
    """
    _check_references(scores, references)
    found = _tested(scores, _main_questions(scores, references), test, n_comparisons, resamples, seed, level)
    if not found.effects:
        raise DeclarationError(f"the factorial must hold at least one contrast to test, got {len(scores.cells)} cells")
    return found


def interactions(
    scores: FactorialScores,
    references: Mapping[str, str],
    *,
    test: FactorialTest = "sign_flip",
    n_comparisons: int | None = None,
    resamples: int | None = None,
    seed: int | None = None,
    level: float = 0.95,
) -> FactorialEffects:
    """Test for every two axes whether one's effect depends on the other's level.

    The difference of differences against both references, within every background that holds all four arms. Arguments
    and errors are those of `main_effects`, but that there may be none to estimate; the family is that of the interactions
    alone, unless `n_comparisons` says more.
    """
    _check_references(scores, references)
    return _tested(scores, _pair_questions(scores, references), test, n_comparisons, resamples, seed, level)


def family_size(scores: FactorialScores, references: Mapping[str, str]) -> int:
    """Return how many main effects and interactions can be estimated: `n_comparisons` for both as one family."""
    _check_references(scores, references)
    questions = [*_main_questions(scores, references), *_pair_questions(scores, references)]
    return sum(contrast(scores, *question)[1] > 0 for question in questions)


def _main_questions(scores: FactorialScores, references: Mapping[str, str]) -> list[_Question]:
    return [
        _Question((axis,), (value,), (references[axis],))
        for axis in scores.axes
        for value in scores.levels(axis)
        if value != references[axis]
    ]


def _pair_questions(scores: FactorialScores, references: Mapping[str, str]) -> list[_Question]:
    return [
        _Question((first, second), values, (references[first], references[second]))
        for first, second in combinations(scores.axes, 2)
        for values in product(scores.levels(first), scores.levels(second))
        if values[0] != references[first] and values[1] != references[second]
    ]


def _tested(
    scores: FactorialScores,
    questions: Sequence[_Question],
    test: FactorialTest,
    n_comparisons: int | None,
    resamples: int | None,
    seed: int | None,
    level: float,
) -> FactorialEffects:
    """Return the family of the questions that can be answered."""
    if test not in FACTORIAL_TESTS:
        raise UnknownName("test", test, FACTORIAL_TESTS)
    own = (SIGN_FLIP_RESAMPLES, SIGN_FLIP_SEED) if test == "sign_flip" else (BOOTSTRAP_RESAMPLES, BOOTSTRAP_SEED)
    draws = _Draws(test, own[0] if resamples is None else resamples, own[1] if seed is None else seed)
    contrasts = [(question, *contrast(scores, *question)) for question in questions]
    asked = [(question, differences, n) for question, differences, n in contrasts if n]
    absent = tuple(_named(question) for question, _, n in contrasts if not n)
    family = len(asked) if n_comparisons is None else n_comparisons
    effects = _family(asked, draws, family, level) if asked else ()
    return FactorialEffects(test, effects, absent, family, len(scores.problem_ids), draws.resamples, draws.seed)


def _family(
    asked: Sequence[tuple[_Question, FloatArray, int]], draws: _Draws, n_comparisons: int, level: float
) -> tuple[AxisEffect, ...]:
    """Return the effects with p values and intervals corrected for a family of `n_comparisons`."""
    together = 1 - (1 - level) / max(1, n_comparisons)
    found = [_test(differences, len(question.axes), draws, (level, together)) for question, differences, _ in asked]
    p_values = [tested.p_value for tested in found]
    primary, secondary = bonferroni(p_values, n_comparisons), holm(p_values, n_comparisons)
    return tuple(
        AxisEffect(
            **question._asdict(),
            n_backgrounds=n_backgrounds,
            effect=float(differences.mean()),
            n_differing=int((np.abs(differences) > _ZERO).sum()),
            low=tested.alone[0],
            high=tested.alone[1],
            level=level,
            p_value=tested.p_value,
            family_low=tested.in_family[0],
            family_high=tested.in_family[1],
            p_bonferroni=primary.adjusted[index],
            p_holm=secondary.adjusted[index],
        )
        for index, ((question, differences, n_backgrounds), tested) in enumerate(zip(asked, found, strict=True))
    )


def _test(differences: FloatArray, n_axes: int, draws: _Draws, levels: tuple[float, float]) -> _Tested:
    """Return the p value of one contrast, and its intervals at two levels."""
    if draws.test == "cluster_bootstrap":
        p_value = resample_differences(differences, resamples=draws.resamples, seed=draws.seed).p_value
    else:
        p_value, _ = sign_flip_p_value(differences, resamples=draws.resamples, seed=draws.seed)
    alone, in_family = (_interval(differences, n_axes, draws, level) for level in levels)
    return _Tested(alone, in_family, p_value)


def _interval(differences: FloatArray, n_axes: int, draws: _Draws, level: float) -> tuple[float, float]:
    """Return the interval of one contrast, which stays within what accuracies allow."""
    if alike(differences):
        found = interval_of_equal_differences(differences / n_axes, level)
        return n_axes * found.low, n_axes * found.high
    if draws.test == "cluster_bootstrap":
        resampled = resample_differences(differences, resamples=draws.resamples, seed=draws.seed, level=level)
        return resampled.low, resampled.high
    found = t_interval(differences, level)
    return max(-float(n_axes), found.low), min(float(n_axes), found.high)


def _named(question: _Question) -> str:
    return " x ".join(f"{axis}={value}" for axis, value in zip(question.axes, question.levels, strict=True))


def _check_references(scores: FactorialScores, references: Mapping[str, str]) -> None:
    if set(references) != set(scores.axes):
        raise DeclarationError(
            f"references must name one level of each axis {list(scores.axes)}, got {dict(references)}"
        )
    for axis in scores.axes:
        if references[axis] not in scores.levels(axis):
            raise UnknownName(f"level of {axis}", references[axis], scores.levels(axis))
