"""G-KV: attention that fades from event to event, and less worth for keys that are like many others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor

from designspace.axes import EventTracker, Needs, Scoring, Selector, View
from designspace.axes.view import masked_softmax_
from families.scoring.key_similarity import column_similarity, row_similarity
from families.scoring.selectors.top_k import TopK
from families.scoring.snapkv import check_kernel, pool_slots, window_logits

Smooth = Literal["max", "sum", "mean"]
Normalise = Literal["max", "none"]
_LEAST = torch.finfo(torch.float32).tiny  # of a token that was scored; 0 says that it never was
_SIMILARITIES = {"rows": row_similarity, "columns": column_similarity}


@dataclass(frozen=True)
class GlobalScore(EventTracker):
    """Remember the global score F of each token; an event makes a new one of it and of the newest queries' attention.

    A is the attention of the newest `window` queries to the tokens before them: causal over all that is held, the largest
    of the query heads that share a KV head, mean over the queries. With normalise "max" it is divided by the head's
    largest. F becomes max(alpha F, A), alpha F + (1 - alpha) A, or alpha F + A. A token that is scored for the first time has
    F = A before, and for "sum" F = 0. Tokens of the window have none.
    """

    window: int
    alpha: float
    smooth: Smooth
    normalise: Normalise

    @property
    def channels(self) -> int:
        """One number per slot."""
        return 1

    @property
    def queries(self) -> int:
        """The window."""
        return self.window

    @property
    def keys(self) -> bool:
        """The queries attend to them."""
        return True

    def at_event(self, view: View) -> Tensor:
        """Return the new global scores, [L,E,H_kv,C,1]."""
        past = _past(view, self.window)
        fresh = self._attention(view).masked_fill(~past, 0.0)
        if self.normalise == "max":
            fresh = fresh / fresh.amax(dim=-1, keepdim=True).clamp(min=_LEAST)
        before = view.tracked(self)[..., 0]
        before = torch.where(before > 0, before, torch.zeros_like(fresh) if self.smooth == "sum" else fresh)
        if self.smooth == "max":
            score = torch.maximum(self.alpha * before, fresh)
        else:
            score = self.alpha * before + (fresh if self.smooth == "sum" else (1 - self.alpha) * fresh)
        return score.clamp(min=_LEAST).masked_fill(~past, 0.0)[..., None]

    def _attention(self, view: View) -> Tensor:
        """Return the mean over queries of the group's largest attention, [L,E,H_kv,C]."""
        seen = view.query_positions  # [E,w]
        visible = view.valid[:, :, :, None] & (view.positions[:, :, :, None] <= seen[None, :, None, :, None])
        logits = window_logits(view)
        weights = masked_softmax_(logits, visible[:, :, :, None].expand_as(logits)).amax(dim=3)  # [L,E,H,w,C]
        return weights.sum(dim=3) / (seen >= 0).sum(dim=-1).clamp(min=1)[None, :, None, None]


def _past(view: View, window: int) -> Tensor:
    """Return which slots hold tokens before the window, [L,E,H_kv,C] bool."""
    return view.valid & (view.positions < (view.next_position - window)[None, :, None, None])


@dataclass(frozen=True)
class GKV(Scoring):
    """Prefer tokens that any recent event found attended to, and whose key is not like many others [liao2025gkv].

    The score is lam * F - (1 - lam) * similarity. F is the global score, which `GlobalScore` keeps from event to event, four
    bytes per slot. The similarity is a softmax over tokens, divided by its largest before the window.

    Deviations: an event that evicts nothing does not happen here, and F stays; the release updates F whenever the cache has
    reached the budget. The release can start "sum" from the sums of the prompt's attention, which makes it H2O; here it
    starts from 0, and `h2o` is a scoring of its own. With similarity "columns" the release spares slot 0 in rows that have
    no neighbour above the threshold; here such a row spares nothing, as in `r-kv`.

    Attributes:
        selector: turns scores into the set of kept tokens; `top-k` by default.
        lam: weight of the global score, in [0, 1]; 0.1 by default, as in the released class. The authors' script has 0.5
            for G-KV, and so does the system `g-kv`. With 1, keys are not compared.
        alpha: weight of what is remembered, in [0, 1]; 0.8 by default.
        smooth: "max" as published (the default), "mean" or "sum": how F and the new attention are put together.
        normalise: "max" (the default) divides attention and similarity by the head's largest; "none" does not.
        similarity: "rows" as released (the default): the row means that the release's kernel forms, see `row_similarity`.
            "columns": R-KV's column means.
        threshold: cosine above which two keys are duplicates, the last of which is spared; 0.5 by default.
        kernel: number of slots that F is max-pooled over in the score, an odd number; 1 by default, which switches
            pooling off.
        sinks: number of first tokens that are always kept; 0 by default.
        recent: length of the window in tokens, whose queries score the others; these newest tokens are always kept. 8 by
            default, as in the released class; the authors' script has 16.
        protect: "none" (the default), or "prompt": every head keeps the whole prompt too, within the budget.
    """

    kind: ClassVar[str] = "g-kv"
    citation: ClassVar[str | None] = "liao2025gkv"

    selector: Selector = field(default=TopK())
    lam: Annotated[float, Ge(0), Le(1)] = 0.1
    alpha: Annotated[float, Ge(0), Le(1)] = 0.8
    smooth: Smooth = "max"
    normalise: Normalise = "max"
    similarity: Literal["rows", "columns"] = "rows"
    threshold: float = 0.5
    kernel: Annotated[int, Ge(1)] = 1
    recent: Annotated[int, Ge(1)] = field(default=8, kw_only=True)

    def __post_init__(self) -> None:
        """Check the kernel."""
        super().__post_init__()
        check_kernel(self.kernel)

    def needs(self) -> Needs:
        """Return the need for the window's queries, the keys and what was remembered."""
        return Needs(queries=self.recent, keys=True, trackers=(self._tracker,))

    def score(self, view: View) -> Tensor:
        """Return the weighted difference for the tokens before the window, [L,E,H_kv,C]."""
        past = _past(view, self.recent)
        scores = pool_slots(self._tracker.at_event(view)[..., 0], past, self.kernel, "max")
        if self.lam == 1:
            return scores
        alike = _SIMILARITIES[self.similarity](view, self.threshold).masked_fill(~past, 0.0)
        if self.normalise == "max":
            alike = alike / alike.amax(dim=-1, keepdim=True).clamp(min=_LEAST)
        return self.lam * scores - (1 - self.lam) * alike

    @property
    def _tracker(self) -> GlobalScore:
        return GlobalScore(self.recent, self.alpha, self.smooth, self.normalise)
