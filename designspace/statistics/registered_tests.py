"""The tests a registration may name."""

from __future__ import annotations

from designspace.errors import UnknownName
from designspace.statistics.bootstrap import cluster_bootstrap_test
from designspace.statistics.intervals import BOOTSTRAP_RESAMPLES, BOOTSTRAP_SEED
from designspace.statistics.mcnemar import mcnemar_exact
from designspace.statistics.paired import PairedScores
from designspace.statistics.permutation import SIGN_FLIP_RESAMPLES, SIGN_FLIP_SEED, sign_flip
from designspace.statistics.result import PairedResult

REGISTERED_TESTS = ("sign_flip", "mcnemar_exact", "cluster_bootstrap")


def default_test(n_replicates: int) -> str:
    """Return the primary test where none is named: McNemar's for one generation per problem, else sign flips.

    The two are the same test there; the first needs no draws.
    """
    return "mcnemar_exact" if n_replicates == 1 else "sign_flip"


def paired_test(
    scores: PairedScores,
    test: str | None = None,
    *,
    resamples: int | None = None,
    seed: int | None = None,
    level: float = 0.95,
) -> PairedResult:
    """Run the test of a registered name.

    Args:
        scores: the pairs.
        test: one of `REGISTERED_TESTS`; None takes `mcnemar_exact` for one right-or-wrong generation per problem, else
            `sign_flip`. The result says which.
        resamples: sign patterns or bootstrap samples; None takes the test's own number. `mcnemar_exact` draws none.
        seed: of the draws; None takes the test's own.
        level: confidence of the interval; 1 - alpha / m gives intervals that hold together for m comparisons.

    Raises:
        UnknownName: no such test may be registered.
        DeclarationError: the test does not suit the data.
    """
    if test is None:
        test = "mcnemar_exact" if scores.binary else "sign_flip"
    if test == "sign_flip":
        return sign_flip(
            scores,
            resamples=SIGN_FLIP_RESAMPLES if resamples is None else resamples,
            seed=SIGN_FLIP_SEED if seed is None else seed,
            level=level,
        )
    if test == "cluster_bootstrap":
        return cluster_bootstrap_test(
            scores,
            resamples=BOOTSTRAP_RESAMPLES if resamples is None else resamples,
            seed=BOOTSTRAP_SEED if seed is None else seed,
            level=level,
        )
    if test == "mcnemar_exact":
        return mcnemar_exact(scores, level=level)
    raise UnknownName("test", test, REGISTERED_TESTS)
