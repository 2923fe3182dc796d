"""What everything else is compared with: the whole cache, and chance."""

from __future__ import annotations

from families.cadence.every_step import EveryStep
from families.cadence.never import Never
from families.catalog.system import system
from families.scoring.full import Full
from families.scoring.random import Random

SYSTEMS = (
    system("full", "the whole cache in full precision: the reference", None, Full(), Never()),
    system(
        "random",
        "random retention: the floor",
        None,
        Random(),
        EveryStep(),
        choices=(
            "a token draws its priority once, on arrival; protection as in the scorings it is compared with (recent)",
        ),
    ),
)
