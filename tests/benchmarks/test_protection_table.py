"""The table of scorings without and with the prompt kept."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.protection_table import protection_table
from designspace.report import summarise
from designspace.report.summary import ArmSummary
from tests.designspace.report.conftest import SCHEMA, result_row


def arms() -> list[ArmSummary]:
    """Two scorings both ways; one keeps half of the prompt, and one arm has another mean cache."""
    import pyarrow as pa

    rows = [
        result_row(mechanism=f"{name}+{protect}", correct=correct)
        for name, protect, correct in (
            ("a", "none", False), ("a", "prompt", True), ("b", "none", True), ("b", "prompt", True),
        )
    ]  # fmt: skip
    found = summarise(pa.Table.from_pylist(rows, schema=SCHEMA))
    return [
        replace(arm, prompt_survival_mean=0.5 if arm.mechanism == "a+none" else None,
                comparison="unmatched" if arm.mechanism == "b+prompt" else "matched")
        for arm in found
    ]  # fmt: skip


def test_best_first_with_what_survived() -> None:
    """Brackets only where it is known, italics where an arm is unmatched."""
    assert list(protection_table(arms())) == [
        "| scoring | pocket, 48: evictable | kept |",
        "| --- | --: | --: |",
        "| `b` | 100.0 | *100.0* |",
        "| `a` | 0.0 (50) | 100.0 |",
    ]


def test_an_arm_without_its_counterpart_is_an_error() -> None:
    """Not a row with a gap."""
    with pytest.raises(KeyError):
        list(protection_table([arm for arm in arms() if arm.mechanism != "a+prompt"]))
