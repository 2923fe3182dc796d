"""What a paired test says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PairedResult:
    """An estimate, its interval and a two-sided p value.

    Attributes:
        test: registered name of the test that made `p_value`.
        effect: mean over problems of arm - baseline, a difference of accuracies: 0.01 is one percentage point.
        low: lower end of the interval, in the unit of `effect`.
        high: upper end.
        level: confidence of the interval.
        interval: method that made the interval.
        p_value: two-sided, not corrected for other comparisons.
        n_problems: the sample size.
        n_replicates: generations per problem and arm.
        n_resamples: sign patterns or resamples drawn (or enumerated); None where the test draws none.
        seed: of the draws; None where the test draws none, enumeration included.
    """

    test: str
    effect: float
    low: float
    high: float
    level: float
    interval: str
    p_value: float
    n_problems: int
    n_replicates: int
    n_resamples: int | None = None
    seed: int | None = None
