"""Shares of a budget in whole tokens: rounding that keeps the total, and capping at what is there."""

from __future__ import annotations

import torch
from torch import Tensor


def largest_remainder(real: Tensor, total: Tensor) -> Tensor:
    """Round non-negative shares [..., N] to integers that sum exactly to `total` [...]; ties go to the lower index.

    The real shares must sum to `total` up to floating-point error.
    """
    floor = torch.floor(real + 1e-9)
    missing = (total - floor.sum(dim=-1).long()).unsqueeze(-1)
    rank = torch.argsort(torch.argsort(-(real - floor), dim=-1, stable=True), dim=-1, stable=True)
    return floor.long() + (rank < missing).long()


def cap_shares(shares: Tensor, counts: Tensor) -> Tensor:
    """Cap integer shares [L,E,H] at the tokens present and hand the surplus of each row to its heads with room.

    The surplus is spread evenly, leftover units to lower (layer, head) first. Totals are kept unless everything is kept.
    """
    capped = torch.minimum(shares, counts)
    surplus = (shares - capped).sum(dim=(0, 2))
    while bool((surplus > 0).any()):
        room = counts - capped
        is_open = (room > 0).permute(1, 0, 2).flatten(1)  # [E, L*H]
        n_open = is_open.sum(dim=1)
        if not bool(((surplus > 0) & (n_open > 0)).any()):
            break
        even = surplus // n_open.clamp(min=1)
        extra = surplus - even * n_open
        grant = even[:, None] + ((is_open.cumsum(dim=1) <= extra[:, None]) & is_open)
        grant = (grant * is_open).view(-1, shares.shape[0], shares.shape[2]).permute(1, 0, 2)
        given = torch.minimum(grant, room)
        capped = capped + given
        surplus = surplus - given.sum(dim=(0, 2))
    return capped
