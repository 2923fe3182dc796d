"""The kit as a pytest class: a test for each rule, and none that passes without a strategy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from designspace.testing.conformance import StrategyConformance, checks
from families.scoring.keydiff import KeyDiff
from families.scoring.random import Random

RUN = """
from designspace.testing.conformance import StrategyConformance
from families.scoring.random import Random

class TestRandom(StrategyConformance):
    strategies = ({strategies})
    exempt = ({exempt})
"""


class TestKeyDiff(StrategyConformance):
    """A strategy that keeps every rule."""

    strategies = (KeyDiff(),)


class TestDraws(StrategyConformance):
    """Two parameterisations, and a rule that they break by design."""

    strategies = (Random(), Random(recent=4))
    exempt = ("head permutation",)


def pytest_of(folder: Path, strategies: str, exempt: str = "") -> str:
    """Return what pytest prints for a class of its own."""
    (folder / "test_mine.py").write_text(RUN.format(strategies=strategies, exempt=exempt), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout


def test_a_broken_rule_is_the_name_of_the_test_that_fails(tmp_path: Path) -> None:
    """And the other rules are told to hold."""
    printed = pytest_of(tmp_path, "Random(),")
    assert "FAILED test_mine.py::TestRandom::test_contract[scoring 'random'-head permutation]" in printed
    assert f"1 failed, {len(checks('scoring')) - 1} passed" in printed


def test_a_class_without_strategies_does_not_pass(tmp_path: Path) -> None:
    """It would have tested nothing."""
    printed = pytest_of(tmp_path, "")
    assert "TestRandom.strategies must name at least one strategy" in printed
    assert " passed" not in printed


def test_a_misspelt_exemption_does_not_pass(tmp_path: Path) -> None:
    """It exempts nothing, and is told by name."""
    assert "unknown check of scoring 'head permutatoin'" in pytest_of(tmp_path, "Random(),", "'head permutatoin',")
