"""TriAttention with query statistics that were measured on the model's own reasoning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from families.scoring.triattention import TriAttention

ARTEFACT = "q-stats-reasoning"


@dataclass(frozen=True)
class QStats(TriAttention):
    """Rank tokens as `triattention` does, with query statistics of the model's own reasoning [sun2026minimal].

    The source asks whether statistics of reasoning traces serve better than those of other text under a small budget,
    and gives no recipe. Here the calibration "q-stats-reasoning" measures them on texts that the model writes with its
    full cache: greedy, up to 512 new tokens, prompts included.

    Attributes:
        scope, offset_max, aggregate, normalise, trig, norm, concentration, group, noise: as in `triattention`.
        selector, sinks, recent: as in `triattention`.
        protect: "none" (the default), or "prompt": every head keeps the whole prompt too, within the budget.
    """

    kind: ClassVar[str] = "q-stats"
    citation: ClassVar[str | None] = "sun2026minimal"
    statistics: ClassVar[str] = ARTEFACT
