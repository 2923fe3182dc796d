"""The greedy loop on a GPU: one Triton program per head, all of whose picks run without the host."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _loop(  # type: ignore[no-untyped-def]  # Triton takes every annotation but this one for a variable
    features, scores, penalty, gain, candidates, n_picks, chosen, weight, n_slots, dim, PADDED: tl.constexpr
):
    """One head. features: [heads,D,C]; n_picks: [heads]; all others [heads,C]. chosen: int8, written."""
    head = tl.program_id(0).to(tl.int64)
    slot = tl.arange(0, PADDED)
    inside, at = slot < n_slots, head * n_slots + slot
    eligible = inside & (tl.load(candidates + at, mask=inside, other=0) != 0)
    score = tl.load(scores + at, mask=inside, other=0.0)
    largest = tl.load(penalty + at, mask=inside, other=0.0)
    gained = tl.where(eligible, tl.load(gain + at, mask=inside, other=0.0), float("-inf"))
    taken = slot < 0
    for _ in range(tl.load(n_picks + head)):
        best = tl.max(tl.where(gained == tl.max(gained, axis=0), slot, -1), axis=0)  # ties go to the later slot
        taken |= eligible & (slot == best)  # none is left where a head is asked for more than its candidates
        eligible &= slot != best
        similar = tl.zeros([PADDED], dtype=tl.float32)
        for channel in range(dim):
            row = features + (head * dim + channel) * n_slots
            similar += tl.load(row + best) * tl.load(row + slot, mask=inside, other=0.0)
        largest = tl.maximum(largest, weight * similar)
        gained = tl.where(eligible, score - largest, float("-inf"))
    tl.store(chosen + at, taken.to(tl.int8), mask=inside)


def greedy_on_gpu(
    features: Tensor, weight: float, scores: Tensor, penalty: Tensor, gain: Tensor, candidates: Tensor, n_picks: Tensor
) -> Tensor:
    """Return the chosen slots, bool [...,C], as `greedy_penalised` does; its conditions hold."""
    n_slots, dim = features.shape[-2:]
    n_heads = n_picks.numel()
    across = features.reshape(n_heads, n_slots, dim).mT.contiguous()  # a channel of all slots lies in one piece
    chosen = torch.zeros(candidates.shape, dtype=torch.int8, device=candidates.device)
    per_slot = (x.contiguous() for x in (scores, penalty, gain, candidates.to(torch.int8), n_picks))
    _loop[(n_heads,)](across, *per_slot, chosen, weight, n_slots, dim, PADDED=triton.next_power_of_2(n_slots))
    return chosen.bool()
