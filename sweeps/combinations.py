"""What a sweep runs: model, task, mechanism and budget of every cell, in file order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from designspace.axes import Budget, Mechanism
from designspace.models.model_spec import ModelSpec
from designspace.tasks.task_spec import TaskSpec
from sweeps.checks import matches

if TYPE_CHECKING:
    from sweeps.spec import Sweep


class Combination(NamedTuple):
    """A cell without its replicate; `budget` None where the mechanism has no use for one."""

    model: ModelSpec
    task: TaskSpec
    mechanism: Mechanism
    budget: Budget | None


def combinations(sweep: Sweep) -> Iterator[Combination]:
    """Yield what is neither refused nor excluded."""
    refused = {(unsupported_reason.mechanism, unsupported_reason.budget) for unsupported_reason in sweep.refused}
    for model in sweep.models:
        for task in sweep.tasks:
            for mechanism in sweep.mechanisms_of(model):
                for budget in sweep.budgets if mechanism.budget_applies else (None,):
                    if (mechanism.name, str(budget)) in refused:
                        continue
                    if not any(matches(rule, model, task, budget, mechanism) for rule in sweep.exclude):
                        yield Combination(model, task, mechanism, budget)
