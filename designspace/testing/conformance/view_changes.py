"""Where rows, heads and slots stand in every tensor that an event shows, and the views that follow from one another.

One letter per dimension: L layers, E rows, H KV heads, Q query heads, C slots, W window, P positions, S sentences. A field
of `View` or of what it holds that is not in `LAYOUT` is refused, so that an addition to the core cannot go unchecked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from designspace.axes import Artefact, Contents, Geometry, Needs, Observed, Tracker, View

LAYOUT = {
    "keys": "LEHCd", "values": "LEHCd", "positions": "LEHC", "mass": "LEHC", "memory": "LEHn",
    "next_position": "E", "streams": "E", "target": "E", "n_prompt_tokens": "E", "pinned": "EP",
    "queries": "LEQWd", "query_positions": "EW", "accumulated": "LEHC", "last": "LEQC", "tracked": "LEHCn",
    "layer_cosine": "LE", "foreseen": "LEHC", "sentence_ends": "ES", "sentence_sums": "ESd",
    "output_projection": "LQdn", "scores": "LEHC", "shares": "LEH",
}  # fmt: skip
Shown = TypeVar("Shown")
Change = Callable[[str, Tensor], Tensor]


def mapped(shown: Shown, change: Change) -> Shown:
    """Return a copy of a view (or of what holds one) in which every tensor went through `change(layout, tensor)`."""
    changed = {f.name: _changed(f.name, getattr(shown, f.name), change) for f in fields(shown)}  # type: ignore[arg-type]
    return replace(shown, **changed)  # type: ignore[type-var]


def _changed(name: str, value: Any, change: Change) -> Any:
    if isinstance(value, Tensor):
        if name not in LAYOUT:
            raise NotImplementedError(f"the conformance kit does not know the layout of {name!r}: add it to LAYOUT")
        return change(LAYOUT[name], value)
    if isinstance(value, Mapping):
        return {key: _changed(name, inner, change) for key, inner in value.items()}
    if isinstance(value, Artefact):
        return replace(value, tensors={key: change("LA", tensor) for key, tensor in value.tensors.items()})
    if is_dataclass(value) and not isinstance(value, type | Geometry | Tracker):
        return mapped(value, change)
    return value


def cloned(shown: Shown) -> Shown:
    """Return a copy that shares no memory with the original."""
    return mapped(shown, lambda _, x: x.clone())


def of_rows(shown: Shown, rows: list[int]) -> Shown:
    """Return the same for some rows, in this order."""
    index = torch.tensor(rows)
    return mapped(shown, lambda layout, x: x.index_select(layout.index("E"), index) if "E" in layout else x)


def of_layer(shown: Shown, layer: int) -> Shown:
    """Return the same for one layer, without the leading dimension."""
    return mapped(shown, lambda layout, x: x[layer] if layout[0] == "L" else x)


def with_permuted_heads(shown: Shown, order: Tensor, geometry: Geometry) -> Shown:
    """Return the same with KV heads in another order [H_kv], their query heads moving with them.

    Of an artefact's per-layer tensors the second dimension is taken for query heads or KV heads if it is as long.
    """
    group = torch.arange(geometry.group)
    queries = (order[:, None] * geometry.group + group).flatten()

    def change(layout: str, x: Tensor) -> Tensor:
        if layout == "LA":
            by_head = x.dim() > 1 and x.shape[0] == geometry.n_layers and x.dtype != torch.int64
            index = {geometry.n_query_heads: queries, geometry.n_kv_heads: order}.get(x.shape[1]) if by_head else None
            return x if index is None else x.index_select(1, index)
        for letter, index in (("H", order), ("Q", queries)):
            if letter in layout:
                return x.index_select(layout.index(letter), index)
        return x

    return mapped(shown, change)


def with_garbage(shown: Shown, view: View, seed: int, scale: float = 30.0) -> Shown:
    """Return the same with other finite numbers in free slots, in queries that were never seen and in incomplete sentences."""
    generator = torch.Generator().manual_seed(seed)
    seen, ends = view.observed.query_positions, view.observed.sentence_ends

    def change(layout: str, x: Tensor) -> Tensor:
        if not x.is_floating_point():
            return x
        noise = (torch.randn(x.shape, generator=generator) * scale).to(x.dtype)
        if "C" in layout:
            free = ~view.valid if "H" in layout else (~view.valid).repeat_interleave(view.geometry.group, 2)
            return torch.where(free.view(*free.shape, *[1] * (x.dim() - 4)), noise, x)
        if "W" in layout and seen is not None:
            return torch.where((seen < 0)[None, :, None, :, None], noise, x)
        if "S" in layout and ends is not None:
            return torch.where((ends < 0)[..., None], noise, x)
        return x

    return mapped(shown, change)


def with_more_slots(shown: Shown, n: int) -> Shown:
    """Return the same with `n` more free slots at the end, holding zeros."""

    def change(layout: str, x: Tensor) -> Tensor:
        if "C" not in layout:
            return x
        at = layout.index("C")
        shape = [n if i == at else length for i, length in enumerate(x.shape)]
        # Positions, and masses, whose free slots mean nothing.
        filler = -1 if layout == "LEHC" and x.dtype == torch.int64 else 0
        return torch.cat([x, x.new_full(shape, filler)], dim=at)

    return mapped(shown, change)


def showing(view: View, needs: Needs) -> View:
    """Return the view with nothing held or observed but what is declared, as a mechanism with these needs would see it."""
    seen = view.observed
    observed = Observed(
        queries=seen.queries if needs.queries else None,
        query_positions=seen.query_positions if needs.queries else None,
        accumulated=seen.accumulated if needs.accumulated else None,
        last=seen.last if needs.last else None,
        tracked={tracker: state for tracker, state in seen.tracked.items() if tracker in needs.per_slot},
        layer_cosine=seen.layer_cosine if needs.layer_cosine else None,
        foreseen=seen.foreseen if needs.foresight else None,
        sentence_ends=seen.sentence_ends if needs.sentences else None,
        sentence_sums=seen.sentence_sums if needs.sentences else None,
    )
    contents = Contents(
        keys=view.contents.keys if needs.keys else None, values=view.contents.values if needs.values else None
    )
    context = view.context
    context = replace(
        context,
        artefacts={name: artefact for name, artefact in context.artefacts.items() if name in needs.calibrations},
        output_projection=context.output_projection if needs.output_projection else None,
    )
    return replace(view, contents=contents, observed=observed, context=context)
