"""What the full cache would have attended to of a text's tokens after a head had evicted them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from designspace.axes import Geometry
from designspace.engine.foresight import LargestAttention
from designspace.models.loading import LoadedModel


class LookedUp(NamedTuple):
    """Of each token in each head, [L,H_kv,T]: the largest attention from its eviction on, and the position that pays it.

    weights: float32, 0 where the token was not evicted. by: int64.
    """

    weights: Tensor
    by: Tensor


class _AfterEviction(LargestAttention):
    """Keeps of each layer only the largest attention that a token gets from the query on that lacks it first."""

    def __init__(self, geometry: Geometry, owners: tuple[int, ...] | None, first_query: Tensor) -> None:
        super().__init__(geometry, owners)
        self._first_query = first_query  # [L,H_kv,T], T where every query has the token
        self.weights = torch.zeros(first_query.shape)
        self.by = torch.zeros(first_query.shape, dtype=torch.int64)

    def keep(self, place: int, largest: Tensor) -> None:
        """Reduce a layer's attention [H_kv,T queries,T keys]."""
        queries = torch.arange(largest.shape[1])[None, :, None]
        weights, by = largest.masked_fill(queries < self._first_query[place][:, None], 0.0).max(dim=1)
        larger = weights > self.weights[place]
        self.weights[place] = torch.where(larger, weights, self.weights[place])
        self.by[place] = torch.where(larger, by, self.by[place])


def looked_up_after(
    loaded: LoadedModel,
    geometry: Geometry,
    owners: tuple[int, ...] | None,
    token_ids: tuple[int, ...],
    first_query: Tensor,
) -> LookedUp:
    """Return what one causal pass over a text with the full cache attends to of tokens that were evicted.

    Memory is that of one layer's attention, 4 H_kv T^2 bytes.

    Args:
        loaded: the model.
        geometry: of the layers that own a cache.
        owners: by layer, the one whose cache it reads; None where each has its own.
        token_ids: prompt and text, T tokens.
        first_query: [L,H_kv,T] int64, position of the first query that does not attend to the token; T where all do.
    """
    watching = _AfterEviction(geometry, owners, first_query)
    ids = torch.tensor([token_ids], device=loaded.device)
    with torch.inference_mode():
        loaded.forward(watching, input_ids=ids, logits_to_keep=1)
    return LookedUp(watching.weights, watching.by)
