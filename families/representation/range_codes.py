"""Non-uniform codes of numbers within ranges, with the numbers outside stored apart."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Coded(NamedTuple):
    """codes [...,D] uint8 not yet packed; outliers [...,m] float32 and their places [...,m] int16, -1 = not in use."""

    codes: Tensor
    outliers: Tensor
    places: Tensor


def centre_and_half(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Return the centre and half of the width of ranges; the half is 1 for a range of no width."""
    half = (high - low) / 2
    return (high + low) / 2, torch.where(half > 0, half, 1.0)


def encode(x: Tensor, low: Tensor, high: Tensor, book: Tensor, most_outliers: int) -> Coded:
    """Encode x [...,D] float32 in ranges that broadcast to it, by the nearest entry of book [...,K], ascending.

    A tie goes to the lower entry.
    """
    centre, half = centre_and_half(low, high)
    scaled = (x - centre) / half
    codes = torch.zeros_like(x, dtype=torch.uint8)
    for middle in ((book[..., 1:] + book[..., :-1]) / 2).unbind(-1):
        codes += scaled > middle[..., None]
    beyond = torch.maximum(low - x, x - high) / half
    farthest, places = beyond.sort(dim=-1, descending=True, stable=True)
    farthest, places = farthest[..., :most_outliers], places[..., :most_outliers]
    return Coded(codes, x.gather(-1, places), torch.where(farthest > 0, places, -1).to(torch.int16))


def decode(coded: Coded, low: Tensor, high: Tensor, book: Tensor) -> Tensor:
    """Undo `encode`, [...,D] float32."""
    centre, half = centre_and_half(low, high)
    entries = book.expand(*coded.codes.shape[:-1], book.shape[-1]).gather(-1, coded.codes.long())
    x = centre + half * entries
    unused = coded.places < 0  # they are written into one element more, which is dropped
    places = torch.where(unused, x.shape[-1], coded.places.long())
    return torch.nn.functional.pad(x, (0, 1)).scatter(-1, places, coded.outliers.float())[..., :-1]


def row_ranges(
    values: Tensor, positions: Tensor, outliers: float, *, width: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return per token the least and the largest element that are no outliers, over all heads that hold it.

    values: [E,H,C,D] float32 of one layer; positions: [E,H,C], -1 = free. Both results are [E,H,C]. width: all
    positions are less; None: it is computed, for which the host waits.

    With x_1 … x_n the row in order, the elements below its quantile q = outliers / 2 are those before x_(1 + ceil(q (n
    - 1))), so this one is the least inside; likewise from above. Elements outside are left out of the range; the
    published code puts the median in their place, which gives the same range.
    """
    n_rows, n_heads, _, dim = values.shape
    if width is None:
        width = int(positions.max()) + 1 if positions.numel() else 0
    place = torch.where(positions < 0, width, positions.long())  # free slots meet behind the last position
    rows = torch.arange(n_rows, device=values.device)[:, None, None]
    heads = torch.arange(n_heads, device=values.device)[None, :, None]
    by_token = torch.full((n_rows, width + 1, n_heads, dim), torch.inf, device=values.device)
    by_token[rows, place, heads] = values
    n_held = torch.zeros(n_rows, width + 1, n_heads, dtype=torch.long, device=values.device)
    n_held[rows, place, heads] = torch.full_like(place, dim)
    last = n_held.sum(dim=-1) - 1
    first = torch.ceil(outliers / 2 * last.clamp(min=0).double() - 1e-9).long()
    ordered = by_token.flatten(2).sort(dim=-1).values
    low, high = (ordered.gather(-1, at.clamp(min=0)[..., None])[..., 0] for at in (first, last - first))
    return low[rows, place], high[rows, place]
