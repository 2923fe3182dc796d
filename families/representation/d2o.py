"""D2O: evicted tokens are merged if they resemble a kept token closely enough; the threshold follows the text."""

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
    """Merge an evicted token into its nearest kept token if their keys are close enough, else drop it [wan2025d2o].

    At event t of a (layer, head), the largest cosines of the evicted tokens have the mean s_t. The threshold is tau_1 =
    s_1 and tau_t = decay tau_{t-1} + (1 - decay) s_t. A token with cosine >= tau_t is merged: keys and values of its
    target become the plain mean of the target's own vector and of cos times the vectors that join it. An event that
    evicts nothing of a head leaves its tau unchanged. A single token evicted at a head's very first event equals its
    own mean, so it is merged.

    This is only the merging of the original. Its token selection is H2O with four sinks; it exempts some layers and
    sizes the others by the variance of their attention, which is head routing. Its first event is the first decode
    step, with a budget from the prompt's length. Deviation: the released code averages the cosines that decide over the
    heads, in the order of their evicted tokens; here every head decides.

    Attributes:
        decay: weight of the old threshold, in [0, 1); 0.5 by default.
    """

    kind: ClassVar[str] = "d2o"
    citation: ClassVar[str | None] = "wan2025d2o"
    memory_size: ClassVar[int] = 2  # the threshold, and whether there is one yet

    decay: Annotated[float, Ge(0), Lt(1)] = 0.5

    def merge_evicted(self, view: View, scores: Tensor, shares: Tensor, keep: Tensor) -> MergeResult:
        """Return the selector's choice with merged keys and values, and the thresholds for the next event.

        scores, keep: [L,E,H_kv,C]. shares: [L,E,H_kv].
        """
        near = nearest_kept(view, keep)
        memory = self._thresholds(view, near)
        # Equal cosines have their own value as mean, but for rounding.
        target = near.target.where(near.cosine >= memory[..., :1] - _ROUNDING, -1)
        return MergeResult(keep, _mean(view.keys, near, target), _mean(view.values, near, target), memory=memory)

    def _thresholds(self, view: View, near: Nearest) -> Tensor:
        """Return the memory after this event, [L,E,H_kv,2]: tau, and whether there is one yet."""
        evicted = near.target >= 0
        n_evicted = evicted.sum(dim=-1)
        mean = near.cosine.sum(dim=-1) / n_evicted.clamp(min=1)
        before = view.memory if view.memory is not None else mean.new_zeros(*mean.shape, 2)
        tau, known = before[..., 0], before[..., 1] > 0
        moved = torch.where(known, self.decay * tau + (1 - self.decay) * mean, mean)
        tau = torch.where(n_evicted > 0, moved, tau)
        return torch.stack([tau, (known | (n_evicted > 0)).float()], dim=-1)


def _mean(x: Tensor, near: Nearest, target: Tensor) -> Tensor:
    """Return x [L,E,H_kv,C,D] where targets hold the mean of their own vector and cos times the vectors that join."""
    joining = torch.cat([x.float() * near.cosine[..., None], torch.ones_like(near.cosine)[..., None]], dim=-1)
    sums = sums_at(joining, target)
    came, n_joined = sums[..., :-1], sums[..., -1:]
    return torch.where(n_joined > 0, ((x.float() + came) / (1 + n_joined)).to(x.dtype), x)
