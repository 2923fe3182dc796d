"""StreamingLLM: the first few tokens and a sliding window."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from designspace.axes import Scoring, Selector, View
from families.scoring.selectors.top_k import TopK


@dataclass(frozen=True)
class StreamingLLM(Scoring):
    """Attention sinks and the most recent tokens [xiao2024streamingllm].

    Deviation: original positions are kept (as most re-implementations do); the paper re-assigns contiguous ones.

    Attributes:
        sinks: number of first tokens that never leave.
    """

    kind: ClassVar[str] = "streaming-llm"
    citation: ClassVar[str | None] = "xiao2024streamingllm"

    selector: Selector = field(default=TopK())
    sinks: int = field(default=4, kw_only=True)

    @property
    def one_ranking(self) -> bool:
        """Positions rank alike everywhere."""
        return True

    def score(self, view: View) -> Tensor:
        """Return the position: the newest tokens win."""
        return view.positions.float()
