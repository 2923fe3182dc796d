"""McNemar's exact test, for one generation per problem."""

from __future__ import annotations

from designspace.errors import DeclarationError
from designspace.statistics.paired import PairedScores
from designspace.statistics.result import PairedResult
from designspace.statistics.tango import tango_interval


def mcnemar_exact(scores: PairedScores, *, level: float = 0.95) -> PairedResult:
    """Test that problems solved by one arm only are as often the arm's as the baseline's [mcnemar1947].

    The interval is Tango's.

    Raises:
        DeclarationError: there are several generations per problem. Pooling them as if they were problems rejects a true
            null far too often as soon as a mechanism helps some problems and hurts others.
    """
    if not scores.binary:
        raise DeclarationError(
            "mcnemar_exact must have one right-or-wrong generation per problem, "
            f"got n_replicates={scores.n_replicates} (use sign_flip on per-problem means)"
        )
    only_arm, only_baseline = scores.discordant
    interval = tango_interval(only_arm, only_baseline, scores.n_problems, level)
    return PairedResult(
        test="mcnemar_exact",
        effect=scores.effect,
        low=interval.low,
        high=interval.high,
        level=level,
        interval=interval.method,
        p_value=mcnemar_p_value(only_arm, only_baseline),
        n_problems=scores.n_problems,
        n_replicates=1,
    )


def mcnemar_p_value(only_arm: int, only_baseline: int) -> float:
    """Return the two-sided exact p value of the counts of discordant problems; 1 where there are none."""
    from scipy.stats import binomtest

    discordant = only_arm + only_baseline
    return float(binomtest(only_arm, discordant, 0.5).pvalue) if discordant else 1.0
