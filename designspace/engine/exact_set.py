"""What an event must have kept whose cadence has a least score: checked on what is about to be carried out."""

from __future__ import annotations

import torch
from torch import Tensor

from designspace.axes import View
from designspace.cache.packing import CompressionResult
from designspace.errors import InvariantViolation


def check_exact_set(view: View, scores: Tensor, least: float, kept: CompressionResult) -> None:
    """Check that every slot stays that must, and no other, from positions and scores alone; scores: [L,E,H_kv,C].

    A slot must stay that holds a sink, one of the newest `recent` tokens, a pinned token, a token of a protected prompt, or
    a token whose score is at least `least`.

    Raises:
        InvariantViolation: the kept set is another one.
    """
    n_kept = torch.arange(kept.order.shape[-1], device=kept.order.device) < kept.counts[..., None]
    keep = torch.zeros_like(view.valid).scatter_(-1, kept.order, n_kept)
    positions, context = view.positions, view.context
    age = view.next_position[None, :, None, None] - 1 - positions  # 0 for the newest token
    must = (positions < context.sinks) | (age < context.recent) | ~(scores < least)
    if context.protects_prompt:
        must |= positions < view.n_prompt_tokens[None, :, None, None]
    if view.pinned is not None:
        table = view.pinned[None, :, None].expand(*positions.shape[:3], -1)
        must |= table.gather(-1, positions.clamp(min=0))
    must &= positions >= 0
    if not torch.equal(keep, must):
        lost, extra = int((must & ~keep).sum()), int((keep & ~must).sum())
        raise InvariantViolation(
            f"an event must keep what is protected or has a score of at least {least:g}, and nothing else: {lost} such "
            f"slots are gone, {extra} others stay"
        )
