"""TriAttention with query statistics of the model's own reasoning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from families.scoring.triattention import TriAttention

ARTEFACT = "q-stats-reasoning"


@dataclass(frozen=True)
class QStats(TriAttention):
    """`triattention`, its statistics recalibrated on what the model writes with its whole cache [sun2026minimal].

    The source tests whether statistics of reasoning traces serve better than those of other text where the budget is tight,
    and gives no recipe; here the traces are greedy, of up to 512 new tokens, and their prompts count.
    Attributes are those of `triattention`.
    """

    kind: ClassVar[str] = "q-stats"
    citation: ClassVar[str | None] = "sun2026minimal"
    statistics: ClassVar[str] = ARTEFACT
