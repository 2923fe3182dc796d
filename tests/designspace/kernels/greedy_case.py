"""Inputs of a greedy selection that are hard on a kernel."""

from __future__ import annotations

import torch
from torch import Tensor


def greedy_case(n_slots: int, *, seeded: bool) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return features [2,3,2,C,8], scores, candidates, seeds [2,3,2,C] and n_picks [2,3,2].

    Ties in scores, copies among the features, heads without picks and with all of them.
    """
    random = torch.Generator().manual_seed(n_slots)
    features = torch.nn.functional.normalize(torch.randn(2, 3, 2, n_slots, 8, generator=random), dim=-1)
    features[..., -1, :] = features[..., 0, :]
    scores = torch.randint(-3, 4, features.shape[:-1], generator=random).float()
    candidates = torch.rand(scores.shape, generator=random) < 0.8
    seeds = (torch.rand(scores.shape, generator=random) < 0.1) & ~candidates if seeded else torch.zeros_like(candidates)
    n_picks = (torch.rand(scores.shape[:-1], generator=random) * (candidates.sum(dim=-1) + 1)).long()
    n_picks[0, 0, 0], n_picks[0, 0, 1] = 0, candidates[0, 0, 1].sum()
    return features, scores, candidates, seeds, n_picks
