"""The artefact "route": which of two rules keeps more of the attention to come, for each head."""

from __future__ import annotations

import torch
from torch import Tensor

from designspace.axes import Geometry
from designspace.axes.ranking import rank_descending
from designspace.cache.layer_call import LayerCall
from designspace.errors import CalibrationError
from designspace.models.loading import LoadedModel
from designspace.models.one_look import Reading, one_pass
from families.calibrations.head_kv_calibration import attention_rows
from families.head_routing.static_route import evenly_spaced

WINDOW = 8  # newest queries whose attention is the score; both rules keep these tokens
SHORTEST = 4 * (WINDOW + 1)  # a quarter of a text must hold more than the window


class RoutePass(Reading):
    """Compresses the first half of each text by both rules.

    It sums the attention that the second half gives to the tokens each rule keeps.
    """

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self.uniform = torch.zeros(geometry.n_layers, geometry.n_kv_heads, dtype=torch.float64)
        self.attention = torch.zeros_like(self.uniform)
        self.n_texts = 0

    def takes(self, n_tokens: int) -> bool:
        """Return whether a quarter of the text holds more than the window."""
        return n_tokens >= SHORTEST

    def see(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> None:
        """Add one layer of a text [1,H_q,T,D] to the sums."""
        prefix = query.shape[2] // 2
        seen = torch.zeros(
            self.geometry.n_query_heads, prefix, device=query.device
        )  # what the newest queries attend to
        future = torch.zeros_like(seen)
        for rows, weights in attention_rows(query, key, call, first=prefix - WINDOW):
            seen += weights[:, rows < prefix, :prefix].sum(dim=1)
            future += weights[:, rows >= prefix, :prefix].sum(dim=1)
        seen, future = (x.unflatten(0, (-1, self.geometry.group)).mean(dim=1) for x in (seen, future))
        position = torch.arange(prefix, device=query.device)
        for captured, scores in ((self.uniform, evenly_spaced(position).expand_as(seen)), (self.attention, seen)):
            captured[call.layer] += (future * _kept(scores)).double().sum(dim=-1).cpu()

    def ended(self, n_tokens: int) -> None:
        """Count the texts."""
        self.n_texts += 1

    def tensors(self) -> dict[str, Tensor]:
        """Return the better rule of each head, and the mass of both.

        Raises:
            CalibrationError: no text was long enough.
        """
        if not self.n_texts:
            raise CalibrationError(f"routes need a text of at least {SHORTEST} tokens")
        return {
            "uniform": self.uniform > self.attention,
            "uniform_mass": self.uniform.float(),
            "attention_mass": self.attention.float(),
        }


def _kept(scores: Tensor) -> Tensor:
    """Return the mask of the better half of a prefix [H_kv,n]; the newest `WINDOW` tokens are always in it."""
    n = scores.shape[-1]
    old = (torch.arange(n, device=scores.device) < n - WINDOW).expand_as(scores)
    return ~old | (old & (rank_descending(scores, old) < n // 2 - WINDOW))


@one_pass(passes=0.5)
def measure(loaded: LoadedModel) -> RoutePass:
    """Measure "uniform" [L,H_kv] bool, the heads for which uniform spacing is better, and the mass of each rule.

    The first half of each text is compressed to half of its tokens: the newest 8, and of the others either evenly
    spaced ones or those that the newest 8 queries attend to most. The mass of a rule, "uniform_mass" and
    "attention_mass" [L,H_kv] float32, is the attention that the second half, run with the full cache, puts on the kept
    tokens, summed over all texts. Ties go to attention. Texts of fewer than 36 tokens are left out.

    Raises:
        CalibrationError: no text is long enough.
    """
    return RoutePass(loaded.geometry)
