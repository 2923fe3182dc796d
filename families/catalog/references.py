"""References that all other systems are compared with: the full cache, random retention, and the ceiling."""

from __future__ import annotations

from families.cadence.every_k import EveryK
from families.cadence.every_step import EveryStep
from families.cadence.never import Never
from families.catalog.system import system
from families.scoring.full import Full
from families.scoring.oracle import Oracle
from families.scoring.random import Random

SYSTEMS = (
    system("full", "the whole cache in full precision, the reference for all others", None, Full(), Never()),
    system(
        "random",
        "random retention, the lower bound for every scoring",
        None,
        Random(),
        EveryStep(),
        choices=(
            "a token gets its priority once, on arrival; as many tokens are protected as in the scorings beside it (recent)",
        ),
    ),
    system(
        "oracle",
        "what the full cache's own text attends to later: a ceiling, no method",
        None,
        Oracle(),
        EveryK(k=8),
        choices=(
            "a token counts by the largest attention weight still to come, over the query heads of its group",
            "what is foreseen is the greedy text of the full cache, also where an arm samples",
        ),
    ),
)
