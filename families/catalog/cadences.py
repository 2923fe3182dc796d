"""One scoring under cadences whose intervals or sizes change over the text."""

from __future__ import annotations

from families.cadence.adaptive import Adaptive
from families.cadence.annealed import Annealed
from families.cadence.geometric import Geometric
from families.catalog.system import system
from families.scoring.triattention import TriAttention

SYSTEMS = (
    system(
        "triattention-annealed",
        "TriAttention with a cache that is large at first and small later",
        None,
        TriAttention(),
        Annealed(),
    ),
    system(
        "triattention-geometric",
        "TriAttention, compressed at intervals that grow within a cycle",
        None,
        TriAttention(),
        Geometric(),
    ),
    system(
        "triattention-entropy",
        "TriAttention, compressed when the model is sure of the next token",
        None,
        TriAttention(),
        Adaptive(trigger="entropy"),
    ),
    system(
        "triattention-shift",
        "TriAttention, compressed when attention has moved since the last event",
        None,
        TriAttention(),
        Adaptive(trigger="attention-shift"),
    ),
    system(
        "triattention-newline",
        "TriAttention, compressed at line ends",
        None,
        TriAttention(),
        Adaptive(trigger="newline"),
    ),
)
