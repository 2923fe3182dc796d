"""The interval of a mean paired difference that stands beside a p value."""

from __future__ import annotations

import math

import numpy as np

from designspace.statistics.intervals import Interval
from designspace.statistics.paired import FloatArray, PairedScores
from designspace.statistics.parameters import check_open_unit
from designspace.statistics.tango import METHOD, tango_interval


def difference_interval(scores: PairedScores, level: float = 0.95) -> Interval:
    """Return the interval of the mean difference over problems.

    One right-or-wrong generation per problem gives Tango's score interval; several give the t interval on per-problem
    means, n_problems - 1 degrees of freedom, cut to [-1, 1].
    """
    if scores.binary:
        return tango_interval(*scores.discordant, scores.n_problems, level)
    if alike(scores.differences):
        return interval_of_equal_differences(scores.differences, level)
    found = t_interval(scores.differences, level)
    return Interval(max(-1.0, found.low), min(1.0, found.high), found.method)


def t_interval(differences: FloatArray, level: float = 0.95) -> Interval:
    """Return the t interval of the mean; differences: [n_problems], not all equal."""
    from scipy.stats import ttest_1samp

    check_open_unit(level=level)
    found = ttest_1samp(differences, 0.0).confidence_interval(level)
    return Interval(float(found.low), float(found.high), "t")


def interval_of_equal_differences(differences: FloatArray, level: float = 0.95) -> Interval:
    """Return Tango's interval for differences that are all the same number in [-1, 1].

    Methods that look at the spread would give an interval of width zero, which claims certainty that nobody has.
    """
    n = len(differences)
    total = round(float(differences[0]) * n)
    found = tango_interval(max(0, total), max(0, -total), n, level)
    return Interval(found.low, found.high, f"{METHOD} over problems")


def alike(differences: FloatArray) -> bool:
    """Return whether all differences are the same number."""
    return math.isclose(float(np.ptp(differences)), 0.0, abs_tol=1e-12)
