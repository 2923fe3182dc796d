"""VATP: attention multiplied by the norm of the value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from torch import Tensor

from designspace.axes import Scoring, View
from families.scoring.h2o import H2O
from families.scoring.wrapped_scoring import ValueWeighted


@dataclass(frozen=True)
class VATP(ValueWeighted):
    """Multiply the attention scores of another scoring by the norm of each token's value [guo2024vatp].

    Values belong to KV heads, so the base first averages over the query heads that share one. The released code
    multiplies each step's addition to H2O's sum; the norm of a held value does not change, so here the total is
    multiplied.

    Attributes:
        scoring: the base, whose scores must be attention probabilities up to a factor; `h2o` by default. Published with
            H2O and Scissorhands, whose scores here are a share of queries (normalise "rate").
        norm: "l1" as published (the default), or "l2".
        selector: turns scores into the set of kept tokens; `top-k` by default.
        sinks: number of first tokens that are always kept, because they attract attention but have tiny values; 20 by
            default, as in the released code. Give the arm without weights as many for a fair comparison; use fewer for
            small budgets.
        recent: number of newest tokens that are always kept; 0 (the default) takes over the number of the base.
        protect: "none" (the default), or "prompt": every head keeps the whole prompt too, within the budget.
    """

    kind: ClassVar[str] = "vatp"
    citation: ClassVar[str | None] = "guo2024vatp"

    scoring: Scoring = field(default=H2O(), kw_only=True)
    norm: Literal["l1", "l2"] = "l1"
    sinks: int = field(default=20, kw_only=True)

    def score(self, view: View) -> Tensor:
        """Return the weighted scores, [L,E,H_kv,C]."""
        return self.base_scores(view) * view.values.float().norm(p=int(self.norm[1]), dim=-1)
