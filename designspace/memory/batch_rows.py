"""How many rows a batch may have: the most that every arm of a study holds in a given memory, the same for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from designspace.errors import DeclarationError
from designspace.memory.footprint import ArmMemory, Footprint
from designspace.models.free_memory import bytes_text

_POWERS = tuple(2**k for k in range(11))
LADDER = tuple(
    sorted({*_POWERS, *(low + (high - low) // 2 for low, high in pairwise(_POWERS))})
)  # 1, 2, 3, 4, 6 … 1024
SHARE = 0.9  # of the memory: allocators round up and leave gaps, and operators need a little inside themselves


@dataclass(frozen=True)
class NamedArm:
    """An arm in words, and what it takes."""

    name: str
    model: str
    memory: ArmMemory

    def __str__(self) -> str:
        """Return mechanism and budget, and the model."""
        return f"{self.name} on {self.model}"


@dataclass(frozen=True)
class RowsPlan:
    """A number of rows, the memory in bytes that it is for, and the arm that counts: its name, its model, what it takes.

    why: the words between the number and the arm.
    """

    rows: int
    memory: int
    arm: str
    model: str
    footprint: Footprint
    why: str = "limited by"

    def __str__(self) -> str:
        """Return the line that a plan shows."""
        return f"{self.rows} rows in {bytes_text(self.memory)}: {self.why} {self.arm} on {self.model}: {self.footprint}"


def plan_rows(arms: Sequence[NamedArm], memory: int) -> RowsPlan:
    """Return the largest number of rows on the ladder with which each arm takes at most `SHARE` of the memory.

    Raises:
        DeclarationError: an arm does not fit with a single row.
    """
    allowed = int(SHARE * memory)
    step = len(LADDER) - 1
    for arm in arms:
        while step >= 0 and arm.memory.at(LADDER[step]).total > allowed:
            step -= 1
        if step < 0:
            raise DeclarationError(
                f"memory must hold one row of every arm, got {bytes_text(memory)}, of which {SHARE:.0%} are used; "
                f"{arm} takes {arm.memory.at(1)}"
            )
    rows = LADDER[step]
    if rows == LADDER[-1]:
        return plan_at(arms, memory, rows, "as many as there may be; the largest is")
    limiting = _largest(arms, LADDER[step + 1])  # what stands in the way of more is seen one step further up
    return RowsPlan(rows, memory, limiting.name, limiting.model, limiting.memory.at(rows))


def plan_at(
    arms: Sequence[NamedArm], memory: int, rows: int, why: str = "as in the results; the largest is"
) -> RowsPlan:
    """Return the plan for a number of rows that is known already, with the arm that takes most."""
    largest = _largest(arms, rows)
    return RowsPlan(rows, memory, largest.name, largest.model, largest.memory.at(rows), why)


def check_fits(arms: Sequence[NamedArm], rows: int, memory: int) -> None:
    """Check that every arm fits into so many bytes, weights included.

    Raises:
        DeclarationError: naming the largest arm, what it takes, and how many rows would fit.
    """
    largest = _largest(arms, rows)
    needed = largest.memory.at(rows)
    if needed.total <= memory:
        return
    try:
        remedy = f"at most {plan_rows(arms, memory).rows} rows fit"
    except DeclarationError:
        remedy = "not even one row fits"
    raise DeclarationError(
        f"rows must leave every arm within {bytes_text(memory)} of memory, got rows={rows}: {largest} takes {needed}; {remedy}"
    )


def _largest(arms: Sequence[NamedArm], rows: int) -> NamedArm:
    return max(arms, key=lambda arm: arm.memory.at(rows).total)
