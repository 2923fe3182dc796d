"""How much of a prompt is still in the cache: most gaps between scorings are gaps in that share."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class PromptSurvival(NamedTuple):
    """Shares of a prompt's tokens in [0, 1].

    union: in the slots of at least one KV head of a layer, mean over layers. mean: in the slots of one head, mean over all.
    """

    union: float
    mean: float


def prompt_survival(positions: Tensor, n_prompt_tokens: int) -> PromptSurvival:
    """Return what one row still holds of its prompt; layers that share a cache count once.

    positions: [L,H_kv,C] of the filled slots, -1 where a slot is free. A slot that stands for several merged tokens counts
    as the one whose position it has.
    """
    of_prompt = (positions >= 0) & (positions < n_prompt_tokens)
    held = torch.zeros(*positions.shape[:2], n_prompt_tokens + 1, dtype=torch.bool, device=positions.device)
    slot = torch.where(of_prompt, positions, n_prompt_tokens).long()  # the last column takes every other slot
    held = held.scatter(-1, slot, True)[..., :n_prompt_tokens].float()
    union, mean = torch.stack([held.amax(dim=1).mean(), held.mean()]).tolist()
    return PromptSurvival(union, mean)
