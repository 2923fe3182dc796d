"""The artefact "route": which of two rules keeps more of the attention to come, for each head."""

from __future__ import annotations

import torch
from torch import Tensor

from designspace.axes import Geometry
from designspace.axes.ranking import rank_descending
from designspace.cache.attention import Pass
from designspace.cache.causal import causal_attention
from designspace.cache.layer_call import LayerCall
from designspace.errors import CalibrationError
from designspace.models.calibration import Corpus
from designspace.models.loading import LoadedModel
from families.calibrations.head_kv_calibration import attention_rows
from families.head_routing.static_route import evenly_spaced

WINDOW = 8  # newest queries whose attention is the score; both rules keep these tokens
SHORTEST = 4 * (WINDOW + 1)  # a quarter of a text must hold more than the window


class RoutePass(Pass):
    """Plain causal attention that compresses the first half of each text by both rules.

    It sums the attention that the second half gives to the tokens each rule keeps.
    """

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self.uniform = torch.zeros(geometry.n_layers, geometry.n_kv_heads, dtype=torch.float64)
        self.attention = torch.zeros_like(self.uniform)

    def attend(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Add one layer of a text [1,H_q,T,D] to the sums, and attend."""
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
        return causal_attention(query, key, value, call).transpose(1, 2)


def _kept(scores: Tensor) -> Tensor:
    """Return the mask of the better half of a prefix [H_kv,n]; the newest `WINDOW` tokens are always in it."""
    n = scores.shape[-1]
    old = (torch.arange(n, device=scores.device) < n - WINDOW).expand_as(scores)
    return ~old | (old & (rank_descending(scores, old) < n // 2 - WINDOW))


def measure(loaded: LoadedModel, corpus: Corpus) -> dict[str, Tensor]:
    """Return "uniform" [L,H_kv] bool, the heads for which uniform spacing is better, and the mass of each rule.

    The first half of each text is compressed to half of its tokens: the newest 8, and of the others either evenly
    spaced ones or those that the newest 8 queries attend to most. The mass of a rule, "uniform_mass" and
    "attention_mass" [L,H_kv] float32, is the attention that the second half, run with the full cache, puts on the kept
    tokens, summed over all texts. Ties go to attention. Texts of fewer than 36 tokens are left out.

    Raises:
        CalibrationError: no text is long enough.
    """
    seen = RoutePass(loaded.geometry)
    texts = [ids for ids in corpus.texts if len(ids) >= SHORTEST]
    if not texts:
        raise CalibrationError(f"routes need a text of at least {SHORTEST} tokens")
    for ids in texts:
        tokens = torch.tensor([ids], device=loaded.device)
        loaded.forward(seen, input_ids=tokens, logits_to_keep=1)
    return {
        "uniform": seen.uniform > seen.attention,
        "uniform_mass": seen.uniform.float(),
        "attention_mass": seen.attention.float(),
    }
