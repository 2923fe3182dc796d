"""Oracle: what the full cache's own text attends to later. No method of its own, but the ceiling of all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from designspace.axes import Needs, Scoring, Selector, View
from families.scoring.selectors.top_k import TopK


@dataclass(frozen=True)
class Oracle(Scoring):
    """Prefer tokens that later queries of the full cache's own text attend to.

    Before a text is decoded, the model writes the same text greedily with the full cache, and one causal pass over it shows
    what every query attends to. At an event the score of a token is the largest attention weight that any query still to
    come pays to it, over the query heads that share the KV head. What comes after the end of that text counts nothing.

    It knows the future, so it is no method but a ceiling: what a scoring could reach that keeps the same number of tokens.
    It is one for greedy decoding; where an arm samples, or has parted from the full cache's text, its knowledge is that of
    another text. Like Belady's rule for caches it need not be optimal, since it weighs tokens one by one.

    Attributes:
        selector: turns scores into the set of kept tokens; `top-k` by default.
        sinks: number of first tokens that are always kept; 0 by default.
        recent: number of newest tokens that are always kept; 0 by default.
        protect: "none" (the default), or "prompt": every head keeps the whole prompt too, within the budget.
    """

    kind: ClassVar[str] = "oracle"
    comparable: ClassVar[bool] = True

    selector: Selector = field(default=TopK())

    def needs(self) -> Needs:
        """Return the need to know what the full cache's text attends to."""
        return Needs(foresight=True)

    def score(self, view: View) -> Tensor:
        """Return the most that later queries pay to each held token, [L,E,H_kv,C]."""
        return view.foreseen
