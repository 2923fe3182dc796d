"""VATP: attention times the size of the value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from torch import Tensor

from designspace.axes import Scoring, View
from families.scoring.h2o import H2O
from families.scoring.wrapped_scoring import ValueWeighted


@dataclass(frozen=True)
class VATP(ValueWeighted):
    """The base's score times the norm of the value [guo2024vatp].

    Values belong to KV heads, so the base aggregates over the group first. The released code multiplies each step's
    increment of H2O's sum; the norm of a held value does not change, so the total is multiplied here.

    Attributes:
        scoring: an attention-like base; published with H2O and Scissorhands.
        norm: "l1" as published, or "l2".
        sinks: first tokens, always kept: they attract attention but have tiny values. 20 in the released code; give the
            unweighted arm as many for a fair comparison, and lower it where the budget is small.
        recent: as the base's if 0.
    """

    kind: ClassVar[str] = "vatp"
    citation: ClassVar[str | None] = "guo2024vatp"

    scoring: Scoring = field(default=H2O(), kw_only=True)
    norm: Literal["l1", "l2"] = "l1"
    sinks: int = field(default=20, kw_only=True)

    def score(self, view: View) -> Tensor:
        """Return the weighted scores, [L,E,H_kv,C]."""
        return self.base_scores(view) * view.values.float().norm(p=int(self.norm[1]), dim=-1)
