"""KVzap: a small network for each layer reads a token's hidden state and says what KVzip would find it worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from annotated_types import Ge
from torch import Tensor
from torch.nn import functional

from designspace.axes import Arrival, Artefact, Gate, Needs, Scoring, Selector, View, Window
from families.scoring.selectors.top_k import TopK

ARTEFACT = "kvzap"


@dataclass(frozen=True)
class Surrogate(Gate):
    """A token's score in each KV head: a linear map of what the layer's projections read, or two with a GELU between them.

    Which of the two forms it is follows from the names of its weights, which are those of the release.
    """

    artefact: str = ARTEFACT

    def open(self, weights: Artefact, arrival: Arrival) -> Tensor:
        """Return scores, [B,H_kv,T] float32."""
        of_layer = {name: tensor[arrival.layer].float() for name, tensor in weights.tensors.items()}
        return surrogate(of_layer, arrival.inputs.float())


def surrogate(weights: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
    """Return scores [B,H_kv,T] for inputs [B,T,hidden].

    weights: "weight" [H_kv,hidden] and "bias" [H_kv], or "0.weight" [I,hidden], "0.bias" [I], "2.weight" [H_kv,I] and
    "2.bias" [H_kv].
    """
    if "weight" in weights:
        return functional.linear(inputs, weights["weight"], weights["bias"]).mT
    hidden = functional.gelu(functional.linear(inputs, weights["0.weight"], weights["0.bias"]))
    return functional.linear(hidden, weights["2.weight"], weights["2.bias"]).mT


@dataclass(frozen=True)
class KVzap(Scoring):
    """Prefer tokens of which a network says that the model would need them to repeat its text [jegou2026kvzap].

    The score is an estimate of the logarithm of KVzip+: the largest attention weight that the token would get while the model
    writes its text once more, times |v W| / |h|, with the token's value v, the output projection W of the head and the input
    h of the query. It is given when the token comes and does not change. With cadence `threshold` a token is evicted whose
    score is below tau once it has left the window (`recent`), as in the release; with other cadences the best tokens of
    each head are kept.

    The calibration "kvzap" holds the networks. The published ones are per model, linear or with a hidden layer of 512 to 640;
    `designspace calibrate MODEL kvzap --weights FILE` takes such a checkpoint. Without it a linear one is fitted here (see the
    calibration). Networks are computed in float32, in the release in the model's type.

    Attributes:
        selector: turns scores into the set of kept tokens; `top-k` by default.
        sinks: number of first tokens that are always kept; 0 by default, as released.
        recent: number of newest tokens that are always kept; 128 by default, as released.
        protect: "none" (the default), or "prompt": every head keeps the whole prompt too.
    """

    kind: ClassVar[str] = "kvzap"
    citation: ClassVar[str | None] = "jegou2026kvzap"

    selector: Selector = field(default=TopK())
    sinks: Annotated[int, Ge(0)] = field(default=0, kw_only=True)
    recent: Window = field(default=128, kw_only=True)

    def needs(self) -> Needs:
        """Return the need for the networks."""
        return Needs(gates=(Surrogate(),))

    def score(self, view: View) -> Tensor:
        """Return what the networks said of each token when it came, [L,E,H_kv,C]."""
        return view.gated(Surrogate())
