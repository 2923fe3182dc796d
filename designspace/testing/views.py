"""Build a `View` from plain tensors, to test a strategy without a model or a cache."""

from __future__ import annotations

import torch
from torch import Tensor

from designspace.geometry import Geometry
from designspace.models.calibration import QueryStatistics
from designspace.view import Observed, View


def view_of(
    keys: Tensor,
    values: Tensor | None = None,
    *,
    positions: Tensor | None = None,
    next_position: int | None = None,
    n_query_heads: int | None = None,
    queries: Tensor | None = None,
    accumulated: Tensor | None = None,
    last: Tensor | None = None,
    calibration: QueryStatistics | None = None,
    inv_freq: Tensor | None = None,
    attention_scaling: float = 1.0,
    sinks: int = 0,
    recent: int = 0,
    comparable_scores: bool = False,
) -> View:
    """Return a view of one event.

    keys, values: [L,E,H_kv,N,D]; values default to keys. positions: [L,E,H_kv,N], default 0 … N-1 everywhere.
    queries: [L,E,H_q,w,D], taken to stand at the last w positions. accumulated: [L,E,H_kv,N]. last: [L,E,H_q,N].
    """
    n_layers, n_rows, n_kv_heads, n_slots, dim = keys.shape
    if positions is None:
        positions = torch.arange(n_slots).expand(n_layers, n_rows, n_kv_heads, n_slots)
    next_position = int(positions.max()) + 1 if next_position is None else next_position
    observed = Observed(accumulated=accumulated, last=last)
    if queries is not None:
        window = queries.shape[3]
        observed.queries = queries
        observed.query_positions = torch.arange(next_position - window, next_position).expand(n_rows, window)
        n_query_heads = queries.shape[2]
    if last is not None:
        n_query_heads = last.shape[2]
    return View(
        geometry=Geometry(
            n_layers=n_layers,
            n_query_heads=n_query_heads or n_kv_heads,
            n_kv_heads=n_kv_heads,
            head_dim=dim,
            inv_freq=torch.ones(dim // 2) if inv_freq is None else inv_freq,
            attention_scaling=attention_scaling,
        ),
        keys=keys,
        values=keys if values is None else values,
        positions=positions.long(),
        next_position=torch.full((n_rows,), next_position),
        streams=torch.arange(n_rows),
        width=next_position,
        observed=observed,
        calibration=calibration,
        sinks=sinks,
        recent=recent,
        comparable_scores=comparable_scores,
    )
