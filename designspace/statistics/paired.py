"""Scores of an arm and a baseline on the same problems: what every paired test and interval starts from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from designspace.errors import DesignspaceError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class UnpairedScores(DesignspaceError, ValueError):
    """Two arms cannot be compared problem by problem: they lack problems or generations of each other."""


@dataclass(frozen=True, eq=False)
class PairedScores:
    """Per-problem mean scores of two arms, each over the same number of generations of every problem.

    The problem is the unit of inference, never the generation: generations of one problem are not independent evidence.
    Problems are held in ascending order of their ids whatever order they came in, so resampling by position gives the
    same numbers for the same data.

    Attributes:
        problem_ids: unique, [n_problems].
        arm: [n_problems] float64 in [0, 1], the mean score of each problem's generations.
        baseline: the same of the arm compared with.
        n_replicates: generations per problem, the same in both arms: only then are the two exchangeable where the
            mechanisms do not differ, which sign-flipping rests upon.

    Raises:
        UnpairedScores: lengths differ, a problem occurs twice, there are none, or a score is not a number in [0, 1].
    """

    problem_ids: tuple[str, ...]
    arm: FloatArray
    baseline: FloatArray
    n_replicates: int = 1

    def __post_init__(self) -> None:
        """Check and sort."""
        arm, baseline = (np.array(scores, dtype=np.float64) for scores in (self.arm, self.baseline))
        n = len(self.problem_ids)
        if arm.shape != (n,) or baseline.shape != (n,):
            raise UnpairedScores(
                f"arm and baseline must be of shape [{n}], got arm {arm.shape}, baseline {baseline.shape}"
            )
        check_problems(self.problem_ids)
        for name, scores in (("arm", arm), ("baseline", baseline)):
            check_scores(name, scores)
        if self.n_replicates < 1:
            raise UnpairedScores(f"n_replicates must be at least 1, got n_replicates={self.n_replicates}")
        order = sorted(range(n), key=self.problem_ids.__getitem__)
        object.__setattr__(self, "problem_ids", tuple(self.problem_ids[i] for i in order))
        for name, scores in (("arm", arm[order]), ("baseline", baseline[order])):
            scores.flags.writeable = False
            object.__setattr__(self, name, scores)

    @property
    def n_problems(self) -> int:
        """Return the number of problems."""
        return len(self.problem_ids)

    @property
    def differences(self) -> FloatArray:
        """Return arm - baseline of each problem, [n_problems]."""
        return self.arm - self.baseline

    @property
    def effect(self) -> float:
        """Return the mean difference, the estimate every test here is about."""
        return float(self.differences.mean())

    @property
    def binary(self) -> bool:
        """Return whether each problem has one generation, right or wrong."""
        return self.n_replicates == 1 and bool(np.isin([self.arm, self.baseline], (0.0, 1.0)).all())

    @property
    def discordant(self) -> tuple[int, int]:
        """Return how many problems only the arm solved and how many only the baseline did.

        Raises:
            UnpairedScores: the scores are not one right-or-wrong generation per problem.
        """
        if not self.binary:
            raise UnpairedScores(
                "counts of discordant problems need one right-or-wrong generation per problem, "
                f"got n_replicates={self.n_replicates}"
            )
        return int((self.differences > 0).sum()), int((self.differences < 0).sum())


def pair(arm: Mapping[str, Sequence[float]], baseline: Mapping[str, Sequence[float]]) -> PairedScores:
    """Average each problem's generations and pair the two arms.

    Args:
        arm: the scores (bool or in [0, 1]) of each problem's generations.
        baseline: of the same problems, the same number of generations each.

    Raises:
        UnpairedScores: an arm lacks a problem, or problems differ in their number of generations. A generation that
            failed is a score of 0 by the registered policy, never a gap.
    """
    only_arm, only_baseline = sorted(set(arm) - set(baseline)), sorted(set(baseline) - set(arm))
    if only_arm or only_baseline:
        raise UnpairedScores(
            "arm and baseline must hold the same problems, got "
            f"{_some(only_arm)} only in the arm, {_some(only_baseline)} only in the baseline"
        )
    counts = {len(scores) for side in (arm, baseline) for scores in side.values()}
    if len(counts) > 1 or counts == {0}:
        raise UnpairedScores(f"every problem must have the same number of generations, got counts {sorted(counts)}")
    names = tuple(sorted(arm))
    return PairedScores(
        problem_ids=names,
        arm=_means(arm, names),
        baseline=_means(baseline, names),
        n_replicates=counts.pop() if counts else 1,
    )


def _means(scores: Mapping[str, Sequence[float]], names: Sequence[str]) -> FloatArray:
    """Return the mean of each problem's scores, of which all problems have as many, [n_problems]."""
    return np.array([scores[name] for name in names], dtype=np.float64).mean(axis=1) if names else np.empty(0)


def check_problems(problem_ids: Sequence[str]) -> None:
    """Raise UnpairedScores unless there is at least one problem and none occurs twice."""
    if not problem_ids or len(set(problem_ids)) != len(problem_ids):
        repeated = sorted({name for name in problem_ids if list(problem_ids).count(name) > 1})
        raise UnpairedScores(f"problem_ids must be unique and at least one, got {_some(repeated)} repeated")


def check_scores(name: str, scores: FloatArray) -> None:
    """Raise UnpairedScores unless all scores are numbers in [0, 1]."""
    wrong = scores[~((scores >= 0) & (scores <= 1))]
    if wrong.size:
        raise UnpairedScores(f"{name} must hold numbers in [0, 1], got {_some(map(str, wrong.ravel()))}")


def _some(names: Iterable[str]) -> str:
    """Return a few names and how many more there are."""
    names = list(names)
    if not names:
        return "none"
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
