"""How large a sweep may be: a slip of the keyboard must not keep a command silent for minutes.

Every cell and every shard is hashed when a sweep is planned. The largest that is allowed takes about half a minute of one
core for that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from designspace.tasks.task_spec import TaskSpec
from sweeps.checks import DeclaredSections, matches
from sweeps.generation_fields import AutoGeneration, GenerationSpec
from sweeps.mechanisms import Refusal
from sweeps.problems import Problems

MOST_CELLS = 50_000
MOST_SHARDS = 500_000


def check_size(
    whole: DeclaredSections,
    refused: Iterable[Refusal],
    replicates: int,
    generation: GenerationSpec | AutoGeneration,
    problems: Problems,
) -> None:
    """Note that a sweep has too many cells, or too many shards of those tasks that say how many problems they have."""
    per_task = _cells_by_task(whole, refused)
    n_cells = replicates * per_task.total()
    if n_cells > MOST_CELLS:
        rule = f"a sweep must have at most {MOST_CELLS:,} cells, got {n_cells:,}"
        problems.add(("seeds", "count"), f"{rule}: {per_task.total():,} with {replicates:,} replicates each")
        return
    block = generation.block or (generation.rows if isinstance(generation, GenerationSpec) else 1)
    n_shards = {task: replicates * n * -(-(task.problems or 1) // block) for task, n in per_task.items()}
    if sum(n_shards.values()) > MOST_SHARDS:
        _, path = max(whole.tasks, key=lambda declared: n_shards.get(declared[0], 0))
        rule = f"a sweep must have at most {MOST_SHARDS:,} shards, got {sum(n_shards.values()):,}"
        problems.add(path, f"{rule}: fewer problems, or more rows or a larger block, make fewer")


def _cells_by_task(whole: DeclaredSections, refused: Iterable[Refusal]) -> Counter[TaskSpec]:
    """Count each task's cells, replicates apart: what is neither refused nor excluded."""
    skipped = {(refusal.mechanism, refusal.budget) for refusal in refused}
    return Counter(
        task
        for task, _ in whole.tasks
        for model, _ in whole.models
        for mechanism in (declared.mechanism for declared in whole.mechanisms)
        for budget in ([budget for budget, _ in whole.budgets] if mechanism.budget_applies else [None])
        if (mechanism.name, str(budget)) not in skipped
        and not any(matches(rule, model, task, budget, mechanism) for rule, _ in whole.rules)
    )
