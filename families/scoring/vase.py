"""VaSE: the largest values are kept, and the rest is drawn at random by attention."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from designspace.axes import Needs, Scoring, Selector, View
from designspace.axes.ranking import highest
from designspace.axes.view import masked_softmax_
from families.scoring.selectors.sampling import CERTAIN, Sampling
from families.scoring.snapkv import check_kernel, pool_slots, window_logits

Magnitude = Literal["range", "variance", "norm"]
_MAGNITUDES: dict[Magnitude, Callable[[Tensor], Tensor]] = {
    "range": lambda values: values.amax(dim=-1) - values.amin(dim=-1),
    "variance": lambda values: values.var(dim=-1),
    "norm": lambda values: values.norm(dim=-1),
}


@dataclass(frozen=True)
class Vase(Scoring):
    """Keep the tokens with the largest values, and draw the others by their attention [chang2026vase].

    The first tokens and those whose values have the largest magnitude are `large` of what an event leaves. The others score
    by the attention of the newest `recent` queries over the tokens before these: a softmax over those tokens alone, mean
    over the queries and over the group. The selector draws among them without replacement.

    Attributes:
        selector: turns scores into the set of kept tokens; `sampling` by default. With `top-k` the best are kept.
        large: part of what an event leaves that is kept for the magnitude of its values, sinks included, in [0, 1]; 0.25 by
            default, as released (0.5 on GSM8K).
        magnitude: of a value: "range" (the default), largest minus smallest component; "variance"; or "norm".
        kernel: number of slots over which the attention is averaged, an odd number; 5 by default, as in the released
            runs. 1 switches it off.
        temperature: divides the logits, above 0; 1 by default.
        sinks: number of first tokens that are always kept; 4 by default, as released.
        recent: number of newest tokens that are always kept, whose queries score the others; 8 by default, for small
            budgets. Released: 64, of budgets from 1,024 tokens on.
        protect: "none" (the default), or "prompt": every head keeps the whole prompt too, within the budget.
    """

    kind: ClassVar[str] = "vase"
    citation: ClassVar[str | None] = "chang2026vase"

    selector: Selector = field(default=Sampling())
    large: Annotated[float, Ge(0), Le(1)] = 0.25
    magnitude: Magnitude = "range"
    kernel: Annotated[int, Ge(1)] = 5
    temperature: Annotated[float, Gt(0)] = 1.0
    sinks: Annotated[int, Ge(0)] = field(default=4, kw_only=True)
    recent: Annotated[int, Ge(1)] = field(default=8, kw_only=True)

    def __post_init__(self) -> None:
        """Check the kernel."""
        super().__post_init__()
        check_kernel(self.kernel)

    def needs(self) -> Needs:
        """Return the need for the queries of the newest tokens, the keys they attend to, and the values."""
        return Needs(queries=self.recent, keys=True, values=True)

    @property
    def follows_target(self) -> bool:
        """How many of the largest values are certain is a share of the size."""
        return True

    def score(self, view: View) -> Tensor:
        """Return the attention of each token, or `CERTAIN` for the largest values, [L,E,H_kv,C]."""
        scores = self.attention(view)
        magnitude = _MAGNITUDES[self.magnitude](view.values.float())
        n_large = (self.large * view.target.double() + 1e-9).floor().long() - self.sinks  # [E]
        n_large = n_large.clamp(min=0)[None, :, None].minimum(view.candidates.sum(dim=-1))
        return torch.where(highest(magnitude, view.candidates, n_large), CERTAIN, scores)

    def attention(self, view: View) -> Tensor:
        """Return the mean attention of the newest queries over the tokens before them, [L,E,H_kv,C]."""
        before = view.valid & (view.positions < (view.next_position - self.recent)[None, :, None, None])
        logits = window_logits(view, self.temperature)
        weights = masked_softmax_(logits, before[:, :, :, None, None].expand_as(logits))
        seen = (view.query_positions >= 0).float()[None, :, None, None, :, None]
        mean = (weights * seen).sum(dim=4) / seen.sum(dim=4).clamp(min=1)  # [L,E,H_kv,G,C]
        return pool_slots(mean.mean(dim=3), before, self.kernel, "avg")
