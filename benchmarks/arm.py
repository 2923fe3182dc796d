"""The mechanisms that are measured, all with the same cadence and decoding so that only the named axis differs."""

from __future__ import annotations

from designspace.axes import Mechanism
from designspace.registry import catalog
from families.cadence.every_k import EveryK
from families.decoding.greedy import Greedy
from families.scoring.knorm import KNorm
from families.scoring.snapkv import SnapKV

# Those that stand next to a press of kvpress score as that press does: SnapKV with its pooling and window.
_SCORINGS = {"knorm": KNorm(), "snapkv": SnapKV(recent=16, kernel=5, pool="avg")}


def arm(name: str, interval: int) -> Mechanism:
    """Return a system of the catalogue, greedy; cut every `interval` steps if it cuts at all."""
    found = catalog()[name]
    return found.override(
        name,
        scoring=_SCORINGS.get(name, found.scoring),
        cadence=EveryK(k=interval) if found.budget_applies else found.cadence,
        decoding=Greedy(),
    )
