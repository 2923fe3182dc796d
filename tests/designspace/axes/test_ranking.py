"""The selection primitives against plain sorting, number by number."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from designspace.axes.ranking import highest

LOWEST = torch.finfo(torch.float32).min


def best_of(scores: list[float], candidates: list[bool], n: int) -> list[bool]:
    """Sort a head's candidates by score, later slots first among equals, and mark the first n."""
    slots = sorted((slot for slot, may in enumerate(candidates) if may), key=lambda slot: (-scores[slot], -slot))
    return [slot in slots[:n] for slot in range(len(scores))]


def some_scores(kind: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Distinct scores, or many equal ones, or the ends of the range among them."""
    if kind == "distinct":
        return torch.randn(shape, generator=generator)
    scores = torch.randint(-2, 3, shape, generator=generator).float()
    if kind == "extremes":
        which = torch.randint(0, 5, shape, generator=generator)
        scores[which == 0], scores[which == 1], scores[which == 2] = torch.inf, -torch.inf, LOWEST
    return scores


@pytest.mark.parametrize("kind", ["distinct", "ties", "extremes"])
@pytest.mark.parametrize("n_slots", [1, 2, 17, 40])
def test_highest_marks_what_sorting_finds(kind: str, n_slots: int) -> None:
    """Also where a head keeps nothing, everything, or is asked for more than it has; others' numbers are of no account."""
    generator = torch.Generator().manual_seed(n_slots)
    for _ in range(20):
        scores = some_scores(kind, (2, 3, n_slots), generator)
        candidates = torch.rand(scores.shape, generator=generator) < 0.7
        scores[~candidates] = torch.nan
        n = torch.randint(0, n_slots + 2, scores.shape[:-1], generator=generator)

        kept = highest(scores, candidates, n)

        for layer in range(2):
            for row in range(3):
                # -inf counts as the lowest finite score.
                one = scores[layer, row].clamp(min=LOWEST).tolist()
                expected = best_of(one, candidates[layer, row].tolist(), int(n[layer, row]))
                assert kept[layer, row].tolist() == expected
