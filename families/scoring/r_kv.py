"""R-KV: attended tokens are rewarded, near duplicates of newer tokens are penalised."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Le
from torch import Tensor

from designspace.axes import Needs, Scoring, Selector, View
from designspace.axes.view import masked_softmax
from families.scoring.key_similarity import column_similarity
from families.scoring.selectors.top_k import TopK
from families.scoring.snapkv import check_kernel, pool_slots


@dataclass(frozen=True)
class RKV(Scoring):
    """Prefer tokens that recent queries attend to and whose key has no near duplicate [cai2025rkv].

    The score is lam * importance - (1 - lam) * redundancy.

    Importance is the attention that the last `recent` queries give to the tokens before them, with the largest logit of
    the query heads that share a KV head, averaged over queries and max-pooled over slots. Redundancy is the softmax
    over tokens of the column means of the keys' cosine matrix [C,C]. In each row of that matrix, the most recent
    neighbour above `threshold` is spared. Deviations: a row without such a neighbour spares nothing, where the released
    code spares slot 0; kept tokens stay in the order of the text, in which "most recent" keeps its meaning at the next
    event.

    Attributes:
        selector: turns scores into the set of kept tokens; `top-k` by default.
        lam: weight of the importance, in [0, 1]; 0.1 by default, as recommended. On Qwen3-4B, 0.5 was 7 to 9 points
            better in two re-measurements by others (arXiv 2609.03430); the released script has 0.07.
        threshold: cosine above which two keys are duplicates; 0.5 by default.
        kernel: number of slots that the importance is max-pooled over, an odd number; 7 by default, 1 switches pooling
            off.
        sinks: number of first tokens that are always kept; 0 by default.
        recent: length of the observation window in tokens; these newest tokens are always kept. 8 by default.
        protect: "none" (the default), or "prompt": every head keeps the whole prompt too, within the budget.
    """

    kind: ClassVar[str] = "r-kv"
    citation: ClassVar[str | None] = "cai2025rkv"

    selector: Selector = field(default=TopK())
    lam: Annotated[float, Ge(0), Le(1)] = 0.1
    threshold: float = 0.5
    kernel: Annotated[int, Ge(1)] = 7
    recent: Annotated[int, Ge(1)] = field(default=8, kw_only=True)

    def __post_init__(self) -> None:
        """Check the kernel."""
        super().__post_init__()
        check_kernel(self.kernel)

    def needs(self) -> Needs:
        """Return the need for the queries of the observation window and the keys."""
        return Needs(queries=self.recent, keys=True)

    def score(self, view: View) -> Tensor:
        """Return the weighted difference for the tokens before the window, [L,E,H_kv,C]."""
        before = view.positions < (view.next_position - self.recent)[None, :, None, None]
        past = view.valid & before
        mixed = self.lam * self.importance(view, past) - (1 - self.lam) * self.redundancy(view)
        return mixed.masked_fill(~past, 0.0)

    def importance(self, view: View, past: Tensor) -> Tensor:
        """Return the pooled attention of the window for the tokens in `past` [L,E,H_kv,C], same shape."""
        logits = torch.einsum("lehgwd,lehcd->lehgwc", view.grouped_queries().float(), view.keys.float()).amax(dim=3)
        logits = logits / view.geometry.head_dim**0.5
        if (log_mass := view.log_mass()) is not None:
            logits = logits + log_mass[:, :, :, None]
        weights = masked_softmax(logits, past[:, :, :, None].expand_as(logits))
        seen = (view.query_positions >= 0).float()  # [E,w]
        mean = torch.einsum("lehwc,ew->lehc", weights, seen) / seen.sum(dim=-1).clamp(min=1)[None, :, None, None]
        return pool_slots(mean, past, self.kernel, "max")

    def redundancy(self, view: View) -> Tensor:
        """Return the softmax of each key's mean similarity to the other held keys, [L,E,H_kv,C]."""
        return column_similarity(view, self.threshold)
