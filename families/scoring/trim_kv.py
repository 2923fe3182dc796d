"""TRIM-KV: a trained gate says at a token's creation how fast it may be forgotten."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn import functional

from designspace.axes import Arrival, Artefact, Gate, Needs, Scoring, Selector, View
from families.scoring.selectors.top_k import TopK

ARTEFACT = "trim-gate"
# What a layer's network reads, and its form, are in the names of its weights.
INPUTS, KEYS_VALUES = "inputs", "keys-values"


@dataclass(frozen=True)
class RetentionGate(Gate):
    """log beta of a token in each KV head: the log-sigmoid of a small network, one per layer.

    The network reads the input of the layer's projections, or the token's keys (after RoPE) and values of all KV heads side
    by side. Its forms are those of the release: two layers with a SiLU between them, or a gated SiLU unit (for keys and
    values alone). The release computes in the model's type; here it is float32.
    """

    artefact: str = ARTEFACT

    def open(self, weights: Artefact, arrival: Arrival) -> Tensor:
        """Return log beta, [B,H_kv,T] float32, at most 0."""
        reads = next(name.split(".")[0] for name in weights.tensors)
        of_layer = {
            name.removeprefix(f"{reads}."): tensor[arrival.layer].float() for name, tensor in weights.tensors.items()
        }
        if reads == INPUTS:
            return log_beta(of_layer, arrival.inputs.float())
        pairs = torch.cat([arrival.keys, arrival.values], dim=-1).float()  # [B,H_kv,T,2D]
        return log_beta(of_layer, pairs.transpose(1, 2).flatten(2))


def log_beta(weights: dict[str, Tensor], read: Tensor) -> Tensor:
    """Return log beta [...,H_kv,T] for what the network reads of each token, [...,T,n]."""
    if "gate_proj.weight" in weights:
        gated = functional.silu(read @ weights["gate_proj.weight"].mT) * (read @ weights["up_proj.weight"].mT)
        raw = gated @ weights["down_proj.weight"].mT
    else:
        hidden = functional.silu(read @ weights["linear1.weight"].mT + weights["linear1.bias"][..., None, :])
        raw = hidden @ weights["linear2.weight"].mT
    return functional.logsigmoid(raw + weights["bias"][..., None, :]).transpose(-1, -2)


@dataclass(frozen=True)
class TrimKV(Scoring):
    """Prefer tokens that a gate lets fade slowly, and young ones [bui2025trimkv].

    A gate gives every token in every KV head a number beta in (0, 1) when it comes. What is left of the token at age a is
    beta^a, and the score is its logarithm, a log beta. As released, the age of the token at position i (from 0) is
    t + 1 - i after t tokens, so the newest one has age 2. With `look_ahead` n > 1 the score is the logarithm of what is
    left over n steps, the sum of beta^(a+k) for k = 0 … n-1, and ages are larger by one (t + 2 - i), as released.

    The calibration "trim-gate" holds the gate. The published ones are trained with the whole model for its own losses;
    `designspace calibrate MODEL trim-gate --weights FILE` takes such a checkpoint. Without it the gate is trained here, on
    future attention (see the calibration). Scores are in float32.

    Attributes:
        selector: turns scores into the set of kept tokens; `top-k` by default.
        look_ahead: n, in steps; 1 by default, as released.
        key_norm: add the logarithm of the key's L2 norm; off by default, as released.
        sinks: number of first tokens that are always kept; 0 by default, as released.
        recent: number of newest tokens that are always kept; 0 by default, as released.
        protect: "none" (the default), or "prompt": every head keeps the whole prompt too, within the budget.
    """

    kind: ClassVar[str] = "trim-kv"
    citation: ClassVar[str | None] = "bui2025trimkv"

    selector: Selector = field(default=TopK())
    look_ahead: Annotated[int, Ge(1)] = 1
    key_norm: bool = False

    def needs(self) -> Needs:
        """Return the need for the gate, and for the keys whose norm counts."""
        return Needs(gates=(RetentionGate(),), keys=self.key_norm)

    def score(self, view: View) -> Tensor:
        """Return the logarithm of what is left of each token, [L,E,H_kv,C]."""
        rate = view.gated(RetentionGate())
        seen = view.next_position[None, :, None, None]
        age = (seen + 1 - view.positions).float()
        scores = age * rate if self.look_ahead == 1 else look_ahead_score(rate, age + 1, self.look_ahead)
        return scores + view.keys.float().norm(dim=-1).clamp(min=1e-30).log() if self.key_norm else scores


def look_ahead_score(rate: Tensor, age: Tensor, n: int) -> Tensor:
    """Return log of the sum of beta^(age+k) for k = 0 … n-1, where rate = log beta is at most 0."""
    fading = rate.clamp(max=-1e-30)  # the quotient below has a limit at 0, but no value
    total = log1mexp(n * fading) - log1mexp(fading)
    return age * rate + torch.where(rate > -1e-9, math.log(n), total)


def log1mexp(x: Tensor) -> Tensor:
    """Return log(1 - exp(x)) for x < 0, exact for small and large moduli."""
    return torch.where(x > -math.log(2), torch.log(-torch.expm1(x)), torch.log1p(-torch.exp(x)))
