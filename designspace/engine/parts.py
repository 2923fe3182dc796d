"""Separate budgets for prompt and trace: how each head's share is divided between them."""

from __future__ import annotations

import torch
from torch import Tensor

from designspace.axes import View
from designspace.axes.ranking import keep_protected
from designspace.axes.shares import largest_remainder


def divided(view: View, shares: Tensor) -> list[tuple[View, Tensor]]:
    """Return what is chosen from on its own, and each head's share [L,E,H_kv] of it: the prompt and the trace, or all.

    shares: [L,E,H_kv], at most what each head holds.
    """
    if not view.context.prompt_slots:
        return [(view, shares)]
    of_prompt, for_prompt = view.of_prompt, prompt_shares(view, shares)
    return [(view.part(of_prompt), for_prompt), (view.part(view.valid & ~of_prompt), shares - for_prompt)]


def prompt_shares(view: View, shares: Tensor) -> Tensor:
    """Return how much of each head's share [L,E,H_kv] is the prompt's, [L,E,H_kv].

    All shares are divided in the same ratio, to whole tokens, so that the prompt has its slots per head on average. What one
    part cannot fill is the other's, so that the cache is as large as the sum at every step: slots that the trace has not
    filled yet hold tokens of the prompt, and what a short prompt leaves is the trace's. Protected tokens are kept in
    either part.
    """
    context = view.context
    # A steered row may be cut below every size of the schedule; its parts then shrink alike.
    size = view.target.long().clamp(max=context.smallest_size)  # [E]
    wanted = context.prompt_slots * view.geometry.n_heads_total * size // context.smallest_size
    by_row = shares.permute(1, 0, 2).flatten(1)  # [E, L*H]
    total = by_row.sum(dim=1)
    wanted = torch.minimum(wanted, total)
    real = by_row.double() * (wanted.double() / total.clamp(min=1))[:, None]
    divided = largest_remainder(real, wanted).view(-1, shares.shape[0], shares.shape[2]).permute(1, 0, 2)
    of_prompt, protected = view.of_prompt, keep_protected(view, shares)
    n_prompt, n_trace = of_prompt.sum(dim=-1), (view.valid & ~of_prompt).sum(dim=-1)
    fewest = torch.maximum((protected & of_prompt).sum(dim=-1), shares - n_trace)
    most = torch.minimum(n_prompt, shares - (protected & ~of_prompt).sum(dim=-1))
    return torch.minimum(torch.maximum(divided, fewest), most)
