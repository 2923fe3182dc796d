"""D2O: merge what resembles a kept token closely enough, by a threshold that follows the text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Lt
from torch import Tensor

from designspace.axes import MergeResult, View
from families.representation.merging import Merging, Nearest, nearest_kept, sums_at

_ROUNDING = 1e-6


@dataclass(frozen=True)
class D2O(Merging):
    """Evicted tokens as similar as usual are merged into their nearest kept key, the others dropped [wan2025d2o].

    At event t of a (layer, head) the largest cosines of what is evicted have the mean s_t; the threshold is tau_1 = s_1,
    tau_t = decay tau_{t-1} + (1 - decay) s_t. A token with cosine >= tau_t is merged: keys and values of its target
    become the plain mean of the target's own and cos times those that join it. An event that evicts nothing of a head leaves
    its tau. One token evicted at a head's very first event equals its own mean, so it is merged.

    This is the original's merging alone; its token selection is H2O with four sinks, and it exempts some layers and sizes
    the others by their attention's variance, which is head routing. Deviation: the released code averages the decision
    over heads; here every head decides.

    Attributes:
        decay: weight of the old threshold.
    """

    kind: ClassVar[str] = "d2o"
    citation: ClassVar[str | None] = "wan2025d2o"
    memory_size: ClassVar[int] = 2  # the threshold, and whether there is one yet

    decay: Annotated[float, Ge(0), Lt(1)] = 0.5

    def merge_evicted(self, view: View, scores: Tensor, shares: Tensor, keep: Tensor) -> MergeResult:
        """Return the selector's choice with keys and values merged, and the thresholds for the next event."""
        near = nearest_kept(view, keep)
        memory = self._thresholds(view, near)
        # Equal cosines have their own value as mean, but for rounding.
        target = near.target.where(near.cosine >= memory[..., :1] - _ROUNDING, -1)
        return MergeResult(keep, _mean(view.keys, near, target), _mean(view.values, near, target), memory=memory)

    def _thresholds(self, view: View, near: Nearest) -> Tensor:
        """Return the memory [L,E,H_kv,2] after this event."""
        evicted = near.target >= 0
        n_evicted = evicted.sum(dim=-1)
        mean = near.cosine.sum(dim=-1) / n_evicted.clamp(min=1)
        before = view.memory if view.memory is not None else mean.new_zeros(*mean.shape, 2)
        tau, known = before[..., 0], before[..., 1] > 0
        moved = torch.where(known, self.decay * tau + (1 - self.decay) * mean, mean)
        tau = torch.where(n_evicted > 0, moved, tau)
        return torch.stack([tau, (known | (n_evicted > 0)).float()], dim=-1)


def _mean(x: Tensor, near: Nearest, target: Tensor) -> Tensor:
    """Return x [L,E,H_kv,C,D] where targets hold the mean of themselves and cos times what joins them."""
    joining = torch.cat([x.float() * near.cosine[..., None], torch.ones_like(near.cosine)[..., None]], dim=-1)
    sums = sums_at(joining, target)
    came, n_joined = sums[..., :-1], sums[..., -1:]
    return torch.where(n_joined > 0, ((x.float() + came) / (1 + n_joined)).to(x.dtype), x)
