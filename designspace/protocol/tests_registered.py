"""The tests that a registration may name, and how each is run on paired scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from designspace.statistics.paired import PairedScores
from designspace.statistics.registered_tests import REGISTERED_TESTS, paired_test
from designspace.statistics.result import PairedResult

__all__ = ["REGISTERED_TESTS", "run_registered_test"]


def run_registered_test(test: Mapping[str, Any], scores: PairedScores, *, level: float) -> PairedResult:
    """Run the registered test with the registered resamples and seed.

    Args:
        test: {name, resamples, seed} of a registration.
        scores: the pairs.
        level: confidence of the interval that comes with it.

    Raises:
        UnknownName: no such test may be registered.
        DeclarationError: the test does not suit the data.
    """
    return paired_test(scores, test["name"], resamples=test.get("resamples"), seed=test.get("seed"), level=level)
