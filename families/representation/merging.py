"""Helpers of representations that merge tokens: the nearest kept slot of an evicted token, and sums over merged tokens.

Shapes: L layers, E rows of one event, H_kv KV heads, C slots, D head dimension.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from designspace.axes import Needs, Representation, SlotStore, StoreSpec, View
from designspace.axes.full_store import FullStore
from designspace.axes.slot_store import take_slots


@dataclass(frozen=True)
class Merging(Representation):
    """Store keys and values in the model's number type; a compression event merges evicted tokens into kept ones."""

    def needs(self) -> Needs:
        """Return the keys, by which tokens are compared, and the values, which are averaged."""
        return Needs(keys=True, values=True)

    def allocate(self, room: StoreSpec) -> SlotStore:
        """Return an empty full-precision store."""
        return FullStore(room)


class Nearest(NamedTuple):
    """The kept slot that each evicted token resembles most.

    target: [L,E,H_kv,C] int64, -1 for tokens that are not evicted. cosine: [L,E,H_kv,C] float32 of the two keys, 0
    there.
    """

    target: Tensor
    cosine: Tensor


def nearest_kept(view: View, keep: Tensor) -> Nearest:
    """Return for each evicted token the kept slot of its head whose key has the largest cosine to its own.

    keep: [L,E,H_kv,C] bool. Ties go to the larger position. A zero key has cosine 0 to every other.
    """
    unit = torch.nn.functional.normalize(view.keys.float(), dim=-1, eps=1e-8).masked_fill(~view.valid[..., None], 0.0)
    found = []
    for keys, kept in zip(unit, keep, strict=True):  # one layer at a time: the matrices are C x C
        cosine = (keys @ keys.mT).masked_fill(~kept[..., None, :], -torch.inf)  # [E,H,C,C]
        best, from_the_end = cosine.flip(-1).max(dim=-1)
        found.append((best, keep.shape[-1] - 1 - from_the_end))
    best, target = (torch.stack(parts) for parts in zip(*found, strict=True))
    evicted = view.valid & ~keep & keep.any(dim=-1, keepdim=True)
    return Nearest(target.where(evicted, -1), best.clamp(-1.0, 1.0).masked_fill(~evicted, 0.0))


def sums_at(x: Tensor, target: Tensor) -> Tensor:
    """Sum the vectors x [L,E,H_kv,C,n] that share a target 0 ... C-1, in float32; those with target -1 are left out.

    target: [L,E,H_kv,C] int64. Returns [L,E,H_kv,C,n], indexed by target. Vectors are added in the order of the slots,
    so the sums are the same on every run; adding by index does not promise that on every device.
    """
    n_slots, width = x.shape[-2:]
    bins = target.where(target >= 0, n_slots)
    lengths = bins.new_zeros(*bins.shape[:-1], n_slots + 1).scatter_add_(-1, bins, torch.ones_like(bins))
    ordered = take_slots(x.float(), torch.argsort(bins, dim=-1, stable=True))
    sums = torch.segment_reduce(ordered.reshape(-1, width), "sum", lengths=lengths.flatten(), unsafe=True)
    return sums.view(*bins.shape[:-1], n_slots + 1, width)[..., :n_slots, :]


def counts_at(counts: Tensor, target: Tensor) -> Tensor:
    """Sum integers [L,E,H_kv,C] that share a target [L,E,H_kv,C]; those with target -1 are left out."""
    n_slots = counts.shape[-1]
    bins = target.where(target >= 0, n_slots)
    return counts.new_zeros(*counts.shape[:-1], n_slots + 1).scatter_add_(-1, bins, counts)[..., :n_slots]


def averaged(x: Tensor, own: Tensor, weights: Tensor, target: Tensor) -> Tensor:
    """Return x with each target's vector averaged with the vectors that move to it; others stay as they are.

    x: [L,E,H_kv,C,D]. own: [L,E,H_kv,C], the weight of a slot's own vector. weights: [L,E,H_kv,C], the weights of
    moving vectors. target: [L,E,H_kv,C] int64, -1 for vectors that do not move.
    """
    weighted = torch.cat([x.float() * weights[..., None], weights[..., None]], dim=-1)
    sums = sums_at(weighted, target.where(weights != 0, -1))
    came, weight = sums[..., :-1], sums[..., -1:]
    mean = (x.float() * own[..., None] + came) / (own[..., None] + weight)
    return torch.where(weight > 0, mean.to(x.dtype), x)
