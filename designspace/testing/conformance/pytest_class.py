"""The kit on strategies as a pytest class: one test for each strategy and check, so that a failing rule is a test's name."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from designspace.axes import Mechanism, Strategy
from designspace.testing.conformance.cases import SHAPES, ArtefactMaker, Shape
from designspace.testing.conformance.dispatch import check_strategy, checks
from designspace.testing.conformance.verdict import named


class StrategyConformance:
    """Base of a test class; a subclass whose name starts with `Test` says which strategies it is about.

        class TestKeyAge(StrategyConformance):
            strategies = (KeyAge(), KeyAge(recent=4))

    Attributes:
        strategies: of any axis.
        exempt, within, artefacts, shapes: as for `check_strategy`; a function that makes artefacts is a `staticmethod`.
    """

    strategies: Sequence[Strategy] = ()
    exempt: Collection[str] = ()
    within: Mechanism | None = None
    artefacts: ArtefactMaker | None = None
    shapes: Sequence[Shape] = SHAPES

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """Make one test for each strategy and each check of its axis; pytest calls this.

        Raises:
            AssertionError: the class names no strategy, so it would pass without having tested anything.
        """
        if not self.strategies:
            raise AssertionError(f"{type(self).__name__}.strategies must name at least one strategy")
        cases = [
            (strategy, name)
            for strategy in self.strategies
            for name in checks(strategy.axis)
            if name not in self.exempt
        ]
        ids = [f"{named(strategy)}-{name}" for strategy, name in cases]
        metafunc.parametrize(("strategy", "check"), cases, ids=ids)

    def test_contract(self, strategy: Strategy, check: str) -> None:
        """Check one rule of the contract of the strategy's axis."""
        check_strategy(
            strategy,
            exempt=self.exempt,
            only=[check],
            within=self.within,
            artefacts=self.artefacts,
            shapes=self.shapes,
        )
