"""Build a `View` from plain tensors, to test a strategy without a model or a cache."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from designspace.axes import Artefact, Contents, Gate, Geometry, Observed, RunContext, Tracker, View


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
    tracked: Mapping[Tracker | Gate, Tensor] | None = None,
    layer_cosine: Tensor | None = None,
    foreseen: Tensor | None = None,
    artefacts: Mapping[str, Artefact] | None = None,
    output_projection: Tensor | None = None,
    inv_freq: Tensor | None = None,
    attention_scaling: float = 1.0,
    sinks: int = 0,
    recent: int = 0,
    comparable_scores: bool = False,
    target: int | Tensor = 0,
    n_prompt_tokens: int | Tensor = 0,
    pinned: Tensor | None = None,
    mass: Tensor | None = None,
    memory: Tensor | None = None,
) -> View:
    """Return a view of one event.

    keys, values: [L,E,H_kv,N,D]; values default to keys. positions: [L,E,H_kv,N], default 0 … N-1 everywhere.
    queries: [L,E,H_q,w,D], taken to stand at the last w positions. accumulated: [L,E,H_kv,N]. last: [L,E,H_q,N].
    target, n_prompt_tokens: one number, or one per row [E]. pinned: [E,width] bool, width = next_position.
    """
    n_layers, n_rows, n_kv_heads, n_slots, dim = keys.shape
    if positions is None:
        positions = torch.arange(n_slots).expand(n_layers, n_rows, n_kv_heads, n_slots)
    next_position = int(positions.max()) + 1 if next_position is None else next_position
    observed = Observed(accumulated=accumulated, last=last, tracked=tracked or {}, layer_cosine=layer_cosine)
    observed.foreseen = foreseen
    if queries is not None:
        window = queries.shape[3]
        observed.queries = queries
        observed.query_positions = torch.arange(next_position - window, next_position).expand(n_rows, window)
        n_query_heads = queries.shape[2]
    if last is not None:
        n_query_heads = last.shape[2]
    if output_projection is not None:
        n_query_heads = output_projection.shape[1]
    geometry = Geometry(
        n_layers=n_layers,
        n_query_heads=n_query_heads or n_kv_heads,
        n_kv_heads=n_kv_heads,
        head_dim=dim,
        inv_freq=torch.ones(dim // 2) if inv_freq is None else inv_freq,
        attention_scaling=attention_scaling,
    )
    context = RunContext(
        geometry=geometry,
        width=next_position,
        sinks=sinks,
        recent=recent,
        comparable_scores=comparable_scores,
        artefacts=artefacts or {},
        output_projection=output_projection,
    )
    return View(
        context=context,
        contents=Contents(keys, keys if values is None else values),
        positions=positions.long(),
        next_position=torch.full((n_rows,), next_position),
        streams=torch.arange(n_rows),
        target=torch.as_tensor(target).expand(n_rows),
        n_prompt_tokens=torch.as_tensor(n_prompt_tokens).expand(n_rows),
        observed=observed,
        pinned=pinned,
        mass=mass,
        memory=memory,
    )
