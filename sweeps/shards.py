"""From a cell to its shards: blocks of problems, the unit of retry and of commit; and which of them may share an engine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from designspace.canonical import canonical_json
from designspace.tasks.problem import Problem
from sweeps.expand import Cell
from sweeps.identity import cell_id

_ID_DIGITS = 32
_SEEDS = ("replicate", "root_seed")  # what of an identity enters through a request's random stream alone


@dataclass(frozen=True)
class Shard:
    """A cell's problems `index * block … (index + 1) * block - 1`, in task order."""

    cell: Cell
    index: int
    problem_ids: tuple[str, ...]
    shard_id: str


def shard_id(cell_id: str, problem_ids: Iterable[str]) -> str:
    """Return the id of a block of problems of a cell: 32 hex digits, order matters."""
    return hashlib.sha256(canonical_json([cell_id, list(problem_ids)]).encode()).hexdigest()[:_ID_DIGITS]


def shards(cell: Cell, problems: Sequence[Problem]) -> tuple[Shard, ...]:
    """Return the shards of a cell over its task's problems; every arm has the same blocks."""
    ids = [problem.problem_id for problem in problems]
    size = cell.generation.problems_per_shard
    blocks = [tuple(ids[start : start + size]) for start in range(0, len(ids), size)]
    return tuple(Shard(cell, index, block, shard_id(cell.cell_id, block)) for index, block in enumerate(blocks))


def engine_key(cell: Cell) -> str:
    """Return what cells have in common whose generations one engine may run side by side: all of the identity but seeds.

    A row does not depend on its batch-mates, so which shards go through an engine together is no part of any identity.
    """
    return cell_id({name: value for name, value in cell.identity.items() if name not in _SEEDS})
