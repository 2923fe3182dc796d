"""The artefact "head-importance": how much attention each head gives to distant tokens, for `headkv`."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from designspace.axes import Geometry
from designspace.cache.layer_call import LayerCall
from designspace.errors import CalibrationError
from designspace.models.loading import LoadedModel
from designspace.models.one_look import Reading, one_pass

SINKS = 4  # attention on the first tokens says nothing about retrieval
RECENT = 16  # nor does attention on the newest, which every arm keeps anyway
_BLOCK = 64  # queries per block, to bound the memory of explicit attention


def attention_rows(query: Tensor, key: Tensor, call: LayerCall, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield full causal attention in blocks of queries: their positions [n] and their weights [H_q,n,T] float32.

    query: [1,H_q,T,D]; key: [1,H_kv,T,D]. first: the first query to yield.
    """
    length = query.shape[2]
    keys = key[0].float().repeat_interleave(query.shape[1] // key.shape[1], 0)
    column = torch.arange(length, device=query.device)
    for start in range(first, length, _BLOCK):
        rows = torch.arange(start, min(start + _BLOCK, length), device=query.device)
        distance = rows[:, None] - column
        hidden = distance < 0 if call.window is None else (distance < 0) | (distance >= call.window)
        logits = call.logits(query[:, :, rows], keys[None]).masked_fill(hidden, -torch.inf)
        yield rows, call.weights(logits)[0]


class FarMassPass(Reading):
    """Sums each query head's mass on tokens that are neither among the first nor the newest."""

    def __init__(self, geometry: Geometry) -> None:
        self.mass = torch.zeros(geometry.n_layers, geometry.n_query_heads, dtype=torch.float64)

    def see(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> None:
        """Add one layer of a text [1,H_q,T,D] at positions 0 … T-1 to the sums."""
        column = torch.arange(query.shape[2], device=query.device)
        for rows, weights in attention_rows(query, key, call, first=SINKS + RECENT):
            far = (column >= SINKS) & (column <= rows[:, None] - RECENT)
            self.mass[call.layer] += (weights * far).sum(dim=(1, 2)).double().cpu()

    def tensors(self) -> dict[str, Tensor]:
        """Return each head's share of the mass.

        Raises:
            CalibrationError: no text is long enough to have distant tokens.
        """
        total = float(self.mass.sum())
        if total == 0:
            raise CalibrationError(f"head importance needs a text of more than {SINKS + RECENT} tokens")
        return {"importance": (self.mass / total).float()}


@one_pass(passes=1.2)
def measure(loaded: LoadedModel) -> FarMassPass:
    """Measure "importance" [L,H_q] float32 with a sum of 1: each query head's share of all attention to distant tokens.

    The number of a head is the attention mass that it puts on tokens at least RECENT back and not among the first
    SINKS, summed over the queries of all texts with the full cache. The published scores [fu2024headkv,
    wu2024retrievalhead] count how often the attention of a head falls on the answer of a probing question. They need
    questions with known evidence; this needs any text.

    Raises:
        CalibrationError: no text is long enough to have distant tokens.
    """
    return FarMassPass(loaded.geometry)
