"""The smallest p value that a design can give: where it exceeds the threshold, no outcome whatever rejects."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from designspace.statistics.permutation import chance_of_one_sign
from designspace.statistics.power import StudyDesign, p_values

_MOST_PROBLEMS = 1 << 20
_ROUNDING = 1e-12  # of a threshold that a p value of 1 / (1 + resamples) may equal


def smallest_p_value(design: StudyDesign) -> float:
    """Return the p value of the outcome that speaks most clearly for what is tested.

    For a difference: the arm solves every problem and the baseline none, and no draw comes as far. For non-inferiority
    the same; for equivalence, arms that never differ (or differ in one generation of one problem, which lets t be
    computed).
    """
    one_sign = chance_of_one_sign(design.n_problems)
    if design.test == "mcnemar_exact":
        return one_sign
    if design.test == "sign_flip":
        if design.resamples is None or 2.0**design.n_problems <= design.resamples:
            return one_sign
        return 1 / (1 + design.resamples)
    if design.test == "cluster_bootstrap":
        return max(one_sign, 0.0 if design.resamples is None else 2 / (1 + design.resamples))
    n, most = design.n_problems, design.n_replicates
    clearest = np.array([[level] * n for level in (0, most)] + [[level] * (n - 1) + [1] for level in (0, most)])
    return float(p_values(design, clearest).min())


def can_reject(design: StudyDesign) -> bool:
    """Return whether some outcome rejects."""
    return smallest_p_value(design) <= design.threshold * (1 + _ROUNDING)


def resamples_needed(design: StudyDesign) -> int | None:
    """Return the fewest draws with which some outcome rejects; None where the test draws none."""
    if design.test not in ("sign_flip", "cluster_bootstrap"):
        return None
    tails = 1 if design.test == "sign_flip" else 2
    return max(1, math.ceil(tails / design.threshold * (1 - _ROUNDING)) - 1)


def problems_needed(design: StudyDesign) -> int | None:
    """Return the fewest problems with which some outcome rejects, however many draws there are; None: none do."""

    def enough(n_problems: int) -> bool:
        return can_reject(replace(design, n_problems=n_problems, resamples=None))

    low, high = 1, 2
    while not enough(high):
        low, high = high, 2 * high
        if high > _MOST_PROBLEMS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
