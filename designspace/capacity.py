"""How many slots a head needs: fixed before a run, known from the declaration and the model's shape alone."""

from __future__ import annotations

from designspace.axes import Decoding, Mechanism
from designspace.geometry import Geometry
from designspace.schedule import Schedule


def needed_capacity(
    mechanism: Mechanism, schedule: Schedule, geometry: Geometry, *, max_prompt_tokens: int, max_new_tokens: int
) -> int:
    """Return slots per head: the largest mean size and what the largest share has above it, at most the longest text.

    geometry: that of the layers that own a cache.
    """
    longest, decoding = max_prompt_tokens + max_new_tokens, mechanism.decoding
    if decoding is not None and decoding.grows:
        return longest + 1
    peak = schedule.peak_bound(max_prompt_tokens, max_new_tokens)
    if not mechanism.budget_applies:
        return peak + 1
    protected = mechanism.scoring.sinks + mechanism.scoring.recent
    # A steered row may be cut anew at any size; others are cut to the after-event size alone.
    cut_to = peak if decoding is not None and type(decoding).controller is not Decoding.controller else schedule.high
    excess = mechanism.head_routing.largest_share(cut_to, geometry, protected) - cut_to
    return min(peak + excess, longest) + 1
