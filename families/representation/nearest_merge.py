"""Nearest-neighbour merging: the value of an evicted token is merged into the kept token with the most similar key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Le
from torch import Tensor

from designspace.axes import MergeResult, View
from families.representation.merging import Merging, Nearest, averaged, counts_at, nearest_kept


@dataclass(frozen=True)
class NearestMerge(Merging):
    """Merge the value of each evicted token into the kept token with the most similar key [wang2024kvmerger].

    v_j becomes (v_j + sum u_e v_e) / (1 + sum u_e) over the evicted tokens e whose nearest kept key is j. This is the
    nearest-neighbour form; the original clusters consecutive similar tokens, weights them by a Gaussian kernel, and
    merges keys in the same way. Any kept token may be a target, protected ones too. By default keys stay as they are,
    because they carry a position.

    Attributes:
        weighting: "cosine" (the default): u = (cos + 1) / 2. "norm": u = max(cos, 0) |v_e| / (|v_e| + |v_j|), as in
            kvpress.
        merge: "values" (the default), or "both": keys are averaged with the same weights, after rotation.
        threshold: evicted tokens whose largest cosine is below it are dropped, in [-1, 1]; -1 (the default) merges all.
    """

    kind: ClassVar[str] = "nearest-merge"
    citation: ClassVar[str | None] = "wang2024kvmerger"

    weighting: Literal["cosine", "norm"] = "cosine"
    merge: Literal["values", "both"] = "values"
    threshold: Annotated[float, Ge(-1), Le(1)] = -1.0

    def merge_evicted(self, view: View, scores: Tensor, shares: Tensor, keep: Tensor) -> MergeResult:
        """Return the selector's choice with averaged values (and keys).

        Numbers of tokens per slot, if they are counted, are added up. scores, keep: [L,E,H_kv,C]. shares: [L,E,H_kv].
        """
        near = nearest_kept(view, keep)
        target = near.target.where(near.cosine >= self.threshold, -1)
        weights = self._weights(view, near)
        own = weights.new_ones(weights.shape) if view.mass is None else view.mass.float()
        values = averaged(view.values, own, weights * own, target)
        keys = averaged(view.keys, own, weights * own, target) if self.merge == "both" else None
        mass = None if view.mass is None else view.mass + counts_at(view.mass, target)
        return MergeResult(keep, keys, values, mass)

    def _weights(self, view: View, near: Nearest) -> Tensor:
        """Return the weight u of each evicted token, [L,E,H_kv,C]."""
        if self.weighting == "cosine":
            return (near.cosine + 1) / 2
        norms = view.values.float().norm(dim=-1)
        both = norms + norms.gather(-1, near.target.clamp(min=0))
        return near.cosine.clamp(min=0) * norms / both.clamp(min=1e-12)


@dataclass(frozen=True)
class CountedMerge(NearestMerge):
    """Merge like `nearest-merge`, and add log n to the attention logit of a slot of n tokens [bolya2023tome].

    So a slot keeps the attention mass of the tokens merged into it, and identical tokens are merged without any loss.
    In averages, a slot counts as often as it stands for tokens. The counts take four bytes per slot.

    Attributes:
        weighting, merge, threshold: as in `nearest-merge`.
    """

    kind: ClassVar[str] = "counted-merge"
    citation: ClassVar[str | None] = "bolya2023tome"
    carries_mass: ClassVar[bool] = True
