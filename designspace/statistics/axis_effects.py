"""Which axis matters: main effects and pairwise interactions of a full or partial factorial of arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Literal, NamedTuple

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
        low: lower end of the interval of `effect`.
        high: upper end.
        level: confidence of the interval, for this contrast alone.
        p_value: two-sided, uncorrected.
        p_bonferroni: corrected for the family.
        p_holm: corrected for the family, stepping down.
    """

    axes: tuple[str, ...]
    levels: tuple[str, ...]
    references: tuple[str, ...]
    n_backgrounds: int
    effect: float
    low: float
    high: float
    level: float
    p_value: float
    p_bonferroni: float
    p_holm: float


@dataclass(frozen=True)
class FactorialEffects:
    """A family of contrasts tested together.

    Attributes:
        test: that made the p values.
        effects: in the order of axes and levels.
        not_estimable: contrasts for which no background holds all arms, as `axis=level` joined by ` x `.
        n_comparisons: size of the family that the p values are corrected for.
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
    low: float
    high: float
    p_value: float


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
    questions = [
        _Question((axis,), (value,), (references[axis],))
        for axis in scores.axes
        for value in scores.levels(axis)
        if value != references[axis]
    ]
    return _tested(scores, questions, test, n_comparisons, resamples, seed, level)


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
    and errors are those of `main_effects`; the family is that of the interactions alone.
    """
    _check_references(scores, references)
    questions = [
        _Question((first, second), values, (references[first], references[second]))
        for first, second in combinations(scores.axes, 2)
        for values in product(scores.levels(first), scores.levels(second))
        if values[0] != references[first] and values[1] != references[second]
    ]
    return _tested(scores, questions, test, n_comparisons, resamples, seed, level)


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
    draws, root = own[0] if resamples is None else resamples, own[1] if seed is None else seed
    contrasts = [(question, *contrast(scores, *question)) for question in questions]
    asked = [entry for entry in contrasts if entry[2]]
    if not asked:
        raise DeclarationError(f"the factorial must hold at least one contrast to test, got {len(scores.cells)} cells")
    found = [_test(differences, len(question.axes), test, draws, root, level) for question, differences, _ in asked]
    p_values = [tested.p_value for tested in found]
    primary, secondary = bonferroni(p_values, n_comparisons), holm(p_values, n_comparisons)
    effects = tuple(
        AxisEffect(
            axes=question.axes,
            levels=question.levels,
            references=question.references,
            n_backgrounds=n_backgrounds,
            effect=float(differences.mean()),
            low=tested.low,
            high=tested.high,
            level=level,
            p_value=tested.p_value,
            p_bonferroni=primary.adjusted[index],
            p_holm=secondary.adjusted[index],
        )
        for index, ((question, differences, n_backgrounds), tested) in enumerate(zip(asked, found, strict=True))
    )
    absent = tuple(_named(question) for question, _, n_backgrounds in contrasts if not n_backgrounds)
    return FactorialEffects(test, effects, absent, primary.n_comparisons, len(scores.problem_ids), draws, root)


def _test(
    differences: FloatArray, n_axes: int, test: FactorialTest, resamples: int, seed: int, level: float
) -> _Tested:
    """Return the interval and p value of one contrast; the interval stays within what accuracies allow."""
    if test == "cluster_bootstrap":
        low, high, p_value = resample_differences(differences, resamples=resamples, seed=seed, level=level)
    else:
        p_value, _ = sign_flip_p_value(differences, resamples=resamples, seed=seed)
        low, high = -float(n_axes), float(n_axes)
    if alike(differences):
        interval = interval_of_equal_differences(differences / n_axes, level)
        return _Tested(n_axes * interval.low, n_axes * interval.high, p_value)
    if test == "sign_flip":
        interval = t_interval(differences, level)
        low, high = max(low, interval.low), min(high, interval.high)
    return _Tested(low, high, p_value)


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
