"""Fast KVzip: a low-rank attention of a token to itself, against learned sinks, says what KVzip would find it worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from annotated_types import Ge
from torch import Tensor

from designspace.axes import Arrival, Artefact, Gate, Needs, Scoring, Selector, View, Window
from families.scoring.selectors.top_k import TopK

ARTEFACT = "fast-kvzip"
_EPSILON = 1e-6  # of the norms, as released


@dataclass(frozen=True)
class SinkAttention(Gate):
    """A token's score in each KV head, in (0, 1): what it gets of its own attention where learned sinks compete with it."""

    artefact: str = ARTEFACT

    def open(self, weights: Artefact, arrival: Arrival) -> Tensor:
        """Return scores, [B,H_kv,T] float32."""
        of_layer = {name: tensor[arrival.layer].float() for name, tensor in weights.tensors.items()}
        return sink_attention(of_layer, arrival.inputs.float())


def sink_attention(weights: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
    """Return scores [...,H_kv,T] for inputs [...,T,hidden]; leading dimensions are those of the weights, or none of them.

    weights: "q_proj.weight" [...,H_kv G d,hidden], "q_proj.bias" [...,H_kv G d], "k_proj.weight" [...,H_kv d,hidden],
    "q_norm.weight", "k_norm.weight" [...,d], "k_base" [...,H_kv,1,S,d] and "b" [...,H_kv,1,G]. A query of width d and one key
    are made of each token for every KV head; the score is the mean over the G queries of
    exp(q k + b) / (exp(q k + b) + the sum of exp(q s) over the S sinks), products over the root of d.
    """
    base, bias = weights["k_base"].squeeze(-3), weights["b"].squeeze(-2)  # [...,H_kv,S,d], [...,H_kv,G]
    n_heads, group, dim = bias.shape[-2], bias.shape[-1], base.shape[-1]
    queries = inputs @ weights["q_proj.weight"].mT + weights["q_proj.bias"][..., None, :]
    queries = _normed(queries.unflatten(-1, (n_heads, group, dim)), weights["q_norm.weight"])  # [...,T,H_kv,G,d]
    keys = (inputs @ weights["k_proj.weight"].mT).unflatten(-1, (n_heads, dim))
    keys = _normed(keys[..., None, :], weights["k_norm.weight"])  # [...,T,H_kv,1,d]
    own = (queries * keys).sum(dim=-1) / dim**0.5 + bias[..., None, :, :]  # [...,T,H_kv,G]
    sinks = queries @ base[..., None, :, :, :].mT / dim**0.5  # [...,T,H_kv,G,S]
    return (own - sinks.logsumexp(dim=-1)).sigmoid().mean(dim=-1).mT


def _normed(x: Tensor, weight: Tensor) -> Tensor:
    """Return x [...,T,H_kv,n,d] over the root of its mean square, times weights [...,d]."""
    scale = (x.square().mean(dim=-1, keepdim=True) + _EPSILON).rsqrt()
    return x * scale * weight[..., None, None, None, :]


@dataclass(frozen=True)
class FastKVzip(Scoring):
    """Prefer tokens of which a gate says that the model would attend to them to repeat its text [kim2026fastkvzip].

    The score estimates KVzip's: the largest attention weight that the token would get while the model writes its text once
    more. It is given when the token comes and does not change. In the release the scores of all layers and heads compete for
    one budget, as with head routing `pooled`; with cadence `threshold` instead, tokens of a low score are evicted whatever
    their number.

    The calibration "fast-kvzip" holds the gates. The published ones are pickles, which are not read here: saved as safetensors
    under the names of the release, they are taken by `designspace calibrate MODEL fast-kvzip --weights FILE`. Without such a
    file gates of the published form are trained here (see the calibration). They are computed in float32, in the release
    partly in the model's type. The release's training code adds the bias b twice, its other code once: here it is once.

    Attributes:
        selector: turns scores into the set of kept tokens; `top-k` by default.
        sinks: number of first tokens that are always kept; 4 by default, as released.
        recent: number of newest tokens that are always kept; 128 by default, as in the released runs on decoding.
        protect: "none" (the default), or "prompt": every head keeps the whole prompt too, within the budget.
    """

    kind: ClassVar[str] = "fast-kvzip"
    citation: ClassVar[str | None] = "kim2026fastkvzip"
    comparable: ClassVar[bool] = True

    selector: Selector = field(default=TopK())
    sinks: Annotated[int, Ge(0)] = field(default=4, kw_only=True)
    recent: Window = field(default=128, kw_only=True)

    def needs(self) -> Needs:
        """Return the need for the gates."""
        return Needs(gates=(SinkAttention(),))

    def score(self, view: View) -> Tensor:
        """Return what the gates said of each token when it came, [L,E,H_kv,C]."""
        return view.gated(SinkAttention())
