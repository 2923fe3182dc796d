"""A confirmation in words: every interval and every p value says what it holds for."""

from __future__ import annotations

import pytest

from designspace.report.evidence import evidence_text

RESULT = {
    "id": "a/chain/pocket/48", "arm": "alpha", "baseline": "h2o", "kind": "superiority", "status": "ok", "reason": None,
    "effect": 0.125, "low": 0.05, "high": 0.2, "level": 0.95, "p": 0.0125, "significant": True, "bonferroni_p": 0.05,
    "holm_p": 0.0375, "claim": None, "arms": {"arm": None, "baseline": None}, "memory": None,
}  # fmt: skip


def text_of(**changed):
    """The text of a report with one result."""
    report = {
        "study": "s", "registration": "f" * 64, "look": 1, "test": {"name": "sign_flip"}, "alpha": 0.05, "m": 4,
        "correction": "bonferroni", "threshold": 0.0125, "hypotheses": [RESULT | changed], "decision": None, "notes": [],
    }  # fmt: skip
    return evidence_text(report)


def test_interval_and_p_are_those_of_the_hypothesis_alone_and_the_verdict_is_corrected():
    """None of the three can be taken for another."""
    text = text_of()

    assert "effect +12.50 points [+5.00 points, +20.00 points] (95% interval of this hypothesis alone)" in text
    assert "p = 0.0125 uncorrected: significant after Bonferroni (0.0500; by Holm 0.0375)" in text


def test_a_margin_has_the_interval_of_its_own_test():
    """At 1 - 2 alpha / m, so that it says what the verdict says."""
    claim = {"low": -0.018, "high": 0.09, "alpha": 0.0125, "margin": 0.02}
    text = text_of(kind="non-inferiority", claim=claim, significant=True)

    assert "[-1.80 points, +9.00 points] (97.5% interval, as the corrected test of a margin of 2 points has it)" in text


@pytest.mark.parametrize("significant", [False, None])
def test_what_is_not_significant_or_not_in_the_family_says_so(significant):
    """An exploratory hypothesis has no corrected p value."""
    corrected = {} if significant is False else {"bonferroni_p": None, "holm_p": None}
    text = text_of(significant=significant, **corrected)

    assert ("not significant after Bonferroni" if significant is False else "not in the registered family") in text
