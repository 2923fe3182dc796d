"""Corrections for several comparisons: Bonferroni is primary, Holm stands beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from designspace.errors import DeclarationError
from designspace.statistics.parameters import check_open_unit


@dataclass(frozen=True)
class Corrected:
    """P values of one family after correction, in the order they came.

    Attributes:
        method: of the correction.
        alpha: family-wise error.
        n_comparisons: registered size of the family.
        adjusted: p values to hold against `alpha`.
        rejected: which nulls fall.
    """

    method: Literal["bonferroni", "holm"]
    alpha: float
    n_comparisons: int
    adjusted: tuple[float, ...]
    rejected: tuple[bool, ...]


def bonferroni(p_values: Sequence[float], n_comparisons: int | None = None, alpha: float = 0.05) -> Corrected:
    """Multiply each p value by the size of the family.

    Args:
        p_values: uncorrected.
        n_comparisons: registered size m of the family; None takes the number of p values. A family does not shrink
            because some of its comparisons were not run.
        alpha: family-wise error.

    Raises:
        DeclarationError: m is below the number of p values, or a p value is not in [0, 1].
    """
    family = _family(p_values, n_comparisons, alpha)
    adjusted = tuple(min(1.0, family * float(p)) for p in p_values)
    threshold = bonferroni_threshold(family, alpha)
    return Corrected("bonferroni", alpha, family, adjusted, tuple(bool(p <= threshold) for p in p_values))


def holm(p_values: Sequence[float], n_comparisons: int | None = None, alpha: float = 0.05) -> Corrected:
    """Step down from the smallest p value [holm1979]; never rejects less than Bonferroni.

    A registered comparison that has no p value counts as one of 1. Arguments and errors are those of `bonferroni`.
    """
    from statsmodels.stats.multitest import multipletests  # 2 s cold

    n, family = len(p_values), _family(p_values, n_comparisons, alpha)
    rejected, adjusted, _, _ = multipletests([*p_values, *[1.0] * (family - n)], alpha=alpha, method="holm")
    return Corrected("holm", alpha, family, tuple(map(float, adjusted[:n])), tuple(map(bool, rejected[:n])))


def bonferroni_threshold(n_comparisons: int, alpha: float = 0.05) -> float:
    """Return the largest uncorrected p value that falls below the family-wise error."""
    check_open_unit(alpha=alpha)
    if n_comparisons < 1:
        raise DeclarationError(f"n_comparisons must be at least 1, got n_comparisons={n_comparisons}")
    return alpha / n_comparisons


def _family(p_values: Sequence[float], n_comparisons: int | None, alpha: float) -> int:
    """Return the size of the family, once everything is checked."""
    check_open_unit(alpha=alpha)
    n = len(p_values)
    family = n if n_comparisons is None else n_comparisons
    if family < max(1, n):
        raise DeclarationError(
            f"n_comparisons must be at least the number of p values, got n_comparisons={family}, {n} p values"
        )
    if not all(0 <= p <= 1 for p in p_values):
        raise DeclarationError(f"p values must be in [0, 1], got {list(p_values)}")
    return family
