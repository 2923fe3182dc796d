"""Learned: a small network for each head says what attention a token has to expect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from annotated_types import Ge
from torch import Tensor
from torch.nn import functional

from designspace.axes import Geometry, Needs, Scoring, Selector, View, Window
from designspace.axes.rotary import unrotate_slots, unrotation_error
from families.scoring.selectors.top_k import TopK

ARTEFACT = "learned"


@dataclass(frozen=True)
class Learned(Scoring):
    """Prefer tokens that a trained network expects later queries to attend to.

    A network with one hidden layer for each layer and KV head reads a token's key before RoPE, its value, and the
    logarithms of one plus its age and of one plus its position, where the newest token has age 0. Its output is the score.
    The calibration "learned" trains it on the model's own attention. Other published scorers of this kind read more, or are
    trained otherwise: by ranking and reinforcement on keys, values and positions [moschella2026kvp], on attention features
    and for the model's loss [dong2026foresightkv], or as adapters for the prompt alone [ahn2026lookaheadkv]. None of them
    is reproduced here.

    Attributes:
        selector: turns scores into the set of kept tokens; `top-k` by default.
        sinks: number of first tokens that are always kept; 4 by default.
        recent: number of newest tokens that are always kept; 8 by default. The network knows position and age, but without
            these tokens far fewer problems were solved.
        protect: "none" (the default), or "prompt": every head keeps the whole prompt too, within the budget.
    """

    kind: ClassVar[str] = "learned"

    selector: Selector = field(default=TopK())
    sinks: Annotated[int, Ge(0)] = field(default=4, kw_only=True)
    recent: Window = field(default=8, kw_only=True)

    def needs(self) -> Needs:
        """Return the calibration that holds the networks, and the need for keys and values."""
        return Needs(calibrations=(ARTEFACT,), keys=True, values=True)

    def unsupported_reason(self, geometry: Geometry) -> str | None:
        """Refuse models that rotate only a part of the head dimension."""
        return unrotation_error(f"scoring {self.kind!r}", geometry)

    def score(self, view: View) -> Tensor:
        """Return what each head's network says of its tokens, [L,E,H_kv,C]."""
        found, device = view.artefact(ARTEFACT), view.keys.device
        weights = {name: view.geometry.held(x).to(device)[:, None] for name, x in found.tensors.items()}  # [L,1,H,...]
        positions = view.positions.clamp(min=0)
        age = (view.next_position[None, :, None, None] - 1 - positions).clamp(min=0)
        hidden = of_token(weights, unrotate_slots(view.keys, positions, view.geometry), view.values.float(), positions)
        return expected(weights, hidden, age)


def of_token(weights: Mapping[str, Tensor], keys: Tensor, values: Tensor, positions: Tensor) -> Tensor:
    """Return what the hidden layer gets of tokens whatever their age, [...,T,I].

    keys, values: [...,T,D], keys before RoPE. positions: [...,T]. weights: "key", "value" [...,D,I], and "position", "bias"
    [...,I].
    """
    place = positions.float().log1p()[..., None] * weights["position"][..., None, :]
    return keys @ weights["key"] + values @ weights["value"] + place + weights["bias"][..., None, :]


def expected(weights: Mapping[str, Tensor], hidden: Tensor, age: Tensor) -> Tensor:
    """Return scores [...,T] of tokens at some ages [...,T]; hidden: [...,T,I]. weights: "age", "out" [...,I]."""
    aged = hidden + age.float().log1p()[..., None] * weights["age"][..., None, :]
    return (functional.silu(aged) @ weights["out"][..., None])[..., 0]
