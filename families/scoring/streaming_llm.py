"""StreamingLLM: the first few tokens and a sliding window."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from designspace.axes import Scoring, Selector, View
from families.scoring.selectors.top_k import TopK


@dataclass(frozen=True)
class StreamingLLM(Scoring):
    """Keep the first tokens (attention sinks) and the most recent ones [xiao2024streamingllm].

    Deviation: tokens keep their original positions, as in most re-implementations; the paper assigns contiguous
    positions within the cache.

    Attributes:
        selector: turns scores into the set of kept tokens; `top-k` by default.
        sinks: number of first tokens that are always kept; 4 by default.
        recent: number of newest tokens that are always kept; 0 by default, because the score prefers the newest anyway.
        protect: "none" (the default), or "prompt": every head keeps the whole prompt too, within the budget.
    """

    kind: ClassVar[str] = "streaming-llm"
    citation: ClassVar[str | None] = "xiao2024streamingllm"

    selector: Selector = field(default=TopK())
    sinks: int = field(default=4, kw_only=True)

    @property
    def one_ranking(self) -> bool:
        """True: positions rank alike in all layers and heads."""
        return True

    def score(self, view: View) -> Tensor:
        """Return the position as the score, so that the newest tokens win, [L,E,H_kv,C]."""
        return view.positions.float()
