"""Scores of arms that differ in the levels of several axes, and the contrasts between levels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from designspace.statistics.paired import FloatArray, UnpairedScores, check_problems, check_scores


@dataclass(frozen=True, eq=False)
class FactorialScores:
    """Per-problem mean scores of arms that differ in the levels of some axes, all on the same problems.

    Problems are held in ascending order of their ids whatever order they came in.

    Attributes:
        axes: names of the axes.
        cells: [n_cells], each arm's level on every axis, in the order of `axes`; no arm twice.
        problem_ids: unique, [n_problems].
        accuracy: [n_cells, n_problems] float64 in [0, 1], means over generations.
        n_replicates: generations per problem and arm.

    Raises:
        UnpairedScores: shapes or values break a rule above.
    """

    axes: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    problem_ids: tuple[str, ...]
    accuracy: FloatArray
    n_replicates: int = 1

    def __post_init__(self) -> None:
        """Check and sort."""
        accuracy = np.array(self.accuracy, dtype=np.float64)
        if accuracy.shape != (len(self.cells), len(self.problem_ids)):
            raise UnpairedScores(
                f"accuracy must be of shape [{len(self.cells)}, {len(self.problem_ids)}] (cells, problems), "
                f"got {accuracy.shape}"
            )
        if any(len(cell) != len(self.axes) for cell in self.cells) or len(set(self.cells)) != len(self.cells):
            raise UnpairedScores(f"cells must be unique and name a level of each of {list(self.axes)}")
        if len(set(self.axes)) != len(self.axes):
            raise UnpairedScores(f"axes must be unique, got {list(self.axes)}")
        check_problems(self.problem_ids)
        check_scores("accuracy", accuracy)
        order = sorted(range(len(self.problem_ids)), key=self.problem_ids.__getitem__)
        accuracy = accuracy[:, order]
        accuracy.flags.writeable = False
        object.__setattr__(self, "problem_ids", tuple(self.problem_ids[i] for i in order))
        object.__setattr__(self, "accuracy", accuracy)

    def levels(self, axis: str) -> tuple[str, ...]:
        """Return the levels of an axis, in the order in which the cells name them."""
        at = self.axes.index(axis)
        return tuple(dict.fromkeys(cell[at] for cell in self.cells))


def contrast(
    scores: FactorialScores, axes: Sequence[str], levels: Sequence[str], references: Sequence[str]
) -> tuple[FloatArray, int]:
    """Return the contrast of each problem [n_problems] and the number of backgrounds averaged over.

    One axis: level less reference. Two: the difference of differences. No background: zeros and 0.
    """
    row = {cell: index for index, cell in enumerate(scores.cells)}
    at = [scores.axes.index(axis) for axis in axes]
    total = np.zeros(len(scores.problem_ids))
    n_backgrounds = 0
    for background in _backgrounds(scores, at):
        corners = [
            (_replaced(background, at, values), sign) for values, sign in _corners(tuple(levels), tuple(references))
        ]
        if all(cell in row for cell, _ in corners):
            n_backgrounds += 1
            for cell, sign in corners:
                total += sign * scores.accuracy[row[cell]]
    return total / max(1, n_backgrounds), n_backgrounds


def _backgrounds(scores: FactorialScores, at: Sequence[int]) -> Iterator[tuple[str, ...]]:
    """Yield one cell for every setting of the other axes, in the order of the cells."""
    seen = set()
    for cell in scores.cells:
        others = tuple(value for index, value in enumerate(cell) if index not in at)
        if others not in seen:
            seen.add(others)
            yield cell


def _corners(levels: tuple[str, ...], references: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], int]]:
    """Yield the levels of each arm of a contrast and the sign it enters with."""
    for choice in product((0, 1), repeat=len(levels)):  # 1: reference
        values = tuple(references[i] if chosen else levels[i] for i, chosen in enumerate(choice))
        yield values, (-1) ** sum(choice)


def _replaced(cell: tuple[str, ...], at: Sequence[int], values: Sequence[str]) -> tuple[str, ...]:
    changed = list(cell)
    for index, value in zip(at, values, strict=True):
        changed[index] = value
    return tuple(changed)
