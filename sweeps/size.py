"""How large a sweep may be: a slip of the keyboard must not keep a command silent for minutes.

Every cell and every shard is hashed when a sweep is planned. The largest that is allowed takes about half a minute of one
core for that.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from sweeps.combinations import combinations
from sweeps.problems import Problems

if TYPE_CHECKING:
    from sweeps.spec import Sweep

MOST_CELLS = 50_000
MOST_SHARDS = 500_000


def check_size(sweep: Sweep, problems: Problems) -> None:
    """Note that a sweep has too many cells, or too many shards of those tasks that say how many problems they have."""
    per_task = Counter(one.task for one in combinations(sweep))
    replicates = sweep.seeds.count
    n_cells = replicates * per_task.total()
    if n_cells > MOST_CELLS:
        rule = f"a sweep must have at most {MOST_CELLS:,} cells, got {n_cells:,}"
        problems.add(("seeds", "count"), f"{rule}: {per_task.total():,} with {replicates:,} replicates each")
        return
    rows = sweep.generation.rows
    block = sweep.generation.block or (rows if isinstance(rows, int) else 1)
    n_shards = {task: replicates * n * -(-(task.problems or 1) // block) for task, n in per_task.items()}
    if sum(n_shards.values()) > MOST_SHARDS:
        largest = max(sweep.tasks, key=lambda task: n_shards.get(task, 0))
        rule = f"a sweep must have at most {MOST_SHARDS:,} shards, got {sum(n_shards.values()):,}"
        problems.add(
            ("tasks", sweep.tasks.index(largest)), f"{rule}: fewer problems, or more rows or a larger block, make fewer"
        )
