"""What every strategy and every mechanism must satisfy, as plain functions that raise `AssertionError`.

    from designspace.testing.conformance import check_strategy

    def test_key_age() -> None:
        check_strategy(KeyAge())

`check_strategy` runs the checks of the strategy's axis on random events of many shapes; `checks(axis)` names them.
`StrategyConformance` is the same as a pytest class, with one test for each check. `check_mechanism` runs a composition through
the real engine on a model. `cases` gives the events, for tests of one's own. `check_task` and `check_grader` do the same for
tasks and graders.
"""

from designspace.testing.conformance.cases import SHAPES, Case, Shape, cases
from designspace.testing.conformance.dispatch import check_strategy, checks
from designspace.testing.conformance.grader import GRADER_CHECKS, check_grader
from designspace.testing.conformance.mechanism import check_mechanism
from designspace.testing.conformance.pytest_class import StrategyConformance
from designspace.testing.conformance.task import TASK_CHECKS, check_task

__all__ = [
    "GRADER_CHECKS",
    "SHAPES",
    "TASK_CHECKS",
    "Case",
    "Shape",
    "StrategyConformance",
    "cases",
    "check_grader",
    "check_mechanism",
    "check_strategy",
    "check_task",
    "checks",
]
