"""Random retention: the lower bound that every scoring must beat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from torch import Tensor

from designspace.axes import Scoring, Selector, View, Window
from designspace.axes.randomness import hash_uniform, slot_coordinates
from families.scoring.selectors.top_k import TopK


@dataclass(frozen=True)
class Random(Scoring):
    """Keep tokens by random priorities, drawn for each token, layer and head.

    This is the lower bound that every scoring must beat. The draw is a hash of the row's random stream, the layer, the
    head and the position. Drawn once, the tokens kept at any time are the ones of highest priority among all past tokens
    (reservoir sampling), whatever the cadence. Drawn anew at every event [randomattention2026], a token that competes for
    K places with r others survives n events with probability (K / (K + r))^n: a window without an edge.

    Attributes:
        draw: "once" (the default), or "per-event", where the draw also depends on the length of the text.
        selector: turns scores into the set of kept tokens; `top-k` by default.
        sinks: number of first tokens that are always kept; 0 by default.
        recent: number of newest tokens that are always kept; 8 by default, as in the scorings with an observation
            window, so that the comparison is fair.
        protect: "none" (the default), or "prompt": every head keeps the whole prompt too, within the budget.
    """

    kind: ClassVar[str] = "random"

    added: ClassVar[Mapping[str, Any]] = {"draw": "once"}

    selector: Selector = field(default=TopK())
    recent: Window = field(default=8, kw_only=True)
    draw: Literal["once", "per-event"] = field(default="once", kw_only=True)

    def score(self, view: View) -> Tensor:
        """Return priorities that are uniform in [0, 1), [L,E,H_kv,C]."""
        event = (view.next_position[None, :, None, None],) if self.draw == "per-event" else ()
        return hash_uniform(*slot_coordinates(view), *event)
