"""One scoring under cadences that are not a fixed block."""

from __future__ import annotations

from families.cadence.adaptive import Adaptive
from families.cadence.annealed import Annealed
from families.cadence.geometric import Geometric
from families.catalog.system import system
from families.scoring.triattention import TriAttention

SYSTEMS = (
    system("triattention-annealed", "TriAttention, cut less at first", None, TriAttention(), Annealed()),
    system("triattention-geometric", "TriAttention, cut at growing intervals", None, TriAttention(), Geometric()),
    system(
        "triattention-entropy",
        "TriAttention, cut when the model is sure",
        None,
        TriAttention(),
        Adaptive(trigger="entropy"),
    ),
    system(
        "triattention-shift",
        "TriAttention, cut when attention has moved on",
        None,
        TriAttention(),
        Adaptive(trigger="attention-shift"),
    ),
    system("triattention-newline", "TriAttention, cut at line ends", None, TriAttention(), Adaptive(trigger="newline")),
)
