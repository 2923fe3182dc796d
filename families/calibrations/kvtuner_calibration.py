"""The artefact "kv-tuner": the error of each layer's attention output for each pair of code widths."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from designspace.axes import Geometry
from designspace.cache.causal import causal_attention
from designspace.cache.layer_call import LayerCall
from designspace.models.loading import LoadedModel
from designspace.models.one_look import Reading, one_pass
from families.representation.kvtuner import WIDTHS
from families.representation.quantiser import dequantise, quantise

PAIRS = tuple(itertools.product(WIDTHS, WIDTHS))
_GROUP = 32


class SensitivityPass(Reading):
    """Computes attention again with quantised keys and values, once for each pair."""

    def __init__(self, geometry: Geometry) -> None:
        self.group = math.gcd(_GROUP, geometry.head_dim)
        self.off = torch.zeros(geometry.n_layers, len(PAIRS), dtype=torch.float64)
        self.size = torch.zeros(geometry.n_layers, dtype=torch.float64)

    def see(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> None:
        """Add the errors of one layer of a text, query [1,H_q,T,D], key and value [1,H_kv,T,D]."""
        q, k, v = query.float(), key.float(), value.float()
        exact = causal_attention(q, k, v, call)
        keys = {bits: coded_keys(k, bits, self.group) for bits in WIDTHS}
        values = {bits: coded_values(v, bits, self.group) for bits in WIDTHS}
        for index, (key_bits, value_bits) in enumerate(PAIRS):
            rough = causal_attention(q, keys[key_bits], values[value_bits], call)
            self.off[call.layer, index] += (rough - exact).double().square().sum().cpu()
        self.size[call.layer] += exact.double().square().sum().cpu()

    def tensors(self) -> dict[str, Tensor]:
        """Return the relative errors, and the pairs of widths that they belong to."""
        return {"error": (self.off / self.size[:, None]).sqrt().float(), "pairs": torch.tensor(PAIRS)}


def coded_keys(keys: Tensor, bits: int, group: int) -> Tensor:
    """Return keys [1,H,T,D] after coding per channel over `group` tokens; the T mod group newest stay exact."""
    n_coded = keys.shape[2] - keys.shape[2] % group
    blocks = keys[:, :, :n_coded].unflatten(2, (-1, group)).transpose(-1, -2)  # [1,H,T/g,D,g]
    return torch.cat([dequantise(*quantise(blocks, bits)).transpose(-1, -2).flatten(2, 3), keys[:, :, n_coded:]], dim=2)


def coded_values(values: Tensor, bits: int, group: int) -> Tensor:
    """Return values [1,H,T,D] after coding per token over `group` channels."""
    return dequantise(*quantise(values.unflatten(-1, (-1, group)), bits)).flatten(-2)


@one_pass(passes=5.0)
def measure(loaded: LoadedModel) -> SensitivityPass:
    """Measure "error" [L,9] float32, |o' - o| / |o| over all heads and tokens of the texts, and "pairs" [9,2] int64.

    o is the attention output of a layer before the output projection, and o' the same with encoded keys and values. All
    else is exact: an error does not reach later layers. Groups have 32 elements (or the largest common divisor of 32
    and the head dimension); there is no exact window.
    """
    return SensitivityPass(loaded.geometry)
