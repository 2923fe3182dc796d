"""Cadences without a size: what an event of theirs keeps, and the company in which that means something.

Where a cadence has a `least_score`, an event keeps in every layer and KV head the protected tokens and those whose score is
at least that, however many they are. So there is no size to divide among heads, and nothing to choose from.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import Tensor

from designspace.axes.window import WindowShare

if TYPE_CHECKING:
    from designspace.axes.strategy import Composition
    from designspace.axes.view import View


def reaching(view: View, scores: Tensor, least: float) -> Tensor:
    """Return the slots that stay, [L,E,H_kv,C] bool: protected ones, and those whose score is at least `least`.

    scores: [L,E,H_kv,C].
    """
    return view.protected | (view.valid & (scores >= least))


def least_score_errors(mechanism: Composition) -> Iterator[str]:
    """Yield why a mechanism whose cadence has a least score would mean nothing, or the wrong thing."""
    cadence, scoring = f"cadence {mechanism.cadence.kind!r}", mechanism.scoring
    by_score = f"{cadence} keeps what reaches its score"
    if not mechanism.head_routing.works_without_events:
        yield f"{by_score} in each head, so head routing {mechanism.head_routing.kind!r} would have nothing to divide"
    if scoring.selector.kind != "top-k":
        yield f"{by_score}, so selector {scoring.selector.kind!r} would have nothing to choose"
    if scoring.follows_target:
        yield f"{cadence} cuts to no size, on which the scores of {scoring.kind!r} depend"
    if isinstance(scoring.recent, WindowShare):
        yield f"{cadence} cuts to no size, so recent must be a number of tokens, got {scoring.recent}"
    if not mechanism.representation.keeps_choice:
        yield f"{by_score}, but representation {mechanism.representation.kind!r} chooses slots itself"
