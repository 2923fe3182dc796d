"""DMS: a predicted decision for each token and head, whether it may be evicted once it has left the window."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from annotated_types import Ge
from torch import Tensor

from designspace.axes import Arrival, Artefact, Gate, Needs, Scoring, Selector, View, Window
from families.scoring.kvzap import surrogate
from families.scoring.selectors.top_k import TopK

ARTEFACT = "dms-gate"


@dataclass(frozen=True)
class Keeping(Gate):
    """Minus the logit of evicting a token, in each KV head: a linear map of what its successor's projections read.

    The successor decides, as released: its input has seen the token. Weights are "weight" [L,H_kv,hidden] and "bias"
    [L,H_kv], with the release's scale and offset within.
    """

    of_previous: ClassVar[bool] = True

    artefact: str = ARTEFACT

    def open(self, weights: Artefact, arrival: Arrival) -> Tensor:
        """Return minus the logits, [B,H_kv,T] float32."""
        of_layer = {name: tensor[arrival.layer].float() for name, tensor in weights.tensors.items()}
        return -surrogate(of_layer, arrival.inputs.float())


@dataclass(frozen=True)
class DMS(Scoring):
    """Keep tokens that a trained head does not give up; evict the others once they have left a window [lancucki2025dms].

    Each layer predicts a logit per token and KV head from the input of the token that comes next, and a token is evicted
    where it is above 0. The score is minus the logit, so that cadence `threshold` with tau 0 evicts just these. It does
    not change while the token is held, and is +inf as long as the token has no successor. Other cadences keep the tokens of
    each head whose logits are lowest.

    The calibration "dms-gate" holds the map. In the release it is trained by distilling the model, with the decisions made
    soft, to a mean share of evicted tokens (8 times fewer, in 250 steps), and lies in the checkpoint of the retrofitted model.
    Of the release's two forms the separate one (`dms_separate_alpha`: a norm and a projection of their own for each layer) is
    read by `designspace calibrate MODEL dms-gate --weights FILE`. The other one takes the last component of a query head for
    the logit, and sets it to zero before attention; a model of that kind, nvidia/Qwen3-8B-DMS-8x among them, is refused, as
    its attention is not that of transformers. Without a checkpoint a map is fitted here (see the calibration).

    Deviations: the prompt is encoded with full attention and cut afterwards, where the release masks within it. The map is
    computed in float32.

    Attributes:
        selector: turns scores into the set of kept tokens; `top-k` by default.
        sinks: number of first tokens that are always kept; 0 by default, as released.
        recent: number of newest tokens that are always kept; 512 by default, as released for Qwen3-8B.
        protect: "none" (the default), or "prompt": every head keeps the whole prompt too.
    """

    kind: ClassVar[str] = "dms"
    citation: ClassVar[str | None] = "lancucki2025dms"

    selector: Selector = field(default=TopK())
    sinks: Annotated[int, Ge(0)] = field(default=0, kw_only=True)
    recent: Window = field(default=512, kw_only=True)

    def needs(self) -> Needs:
        """Return the need for the decisions."""
        return Needs(gates=(Keeping(),))

    def score(self, view: View) -> Tensor:
        """Return minus the logit of each token, [L,E,H_kv,C]."""
        return view.gated(Keeping())
