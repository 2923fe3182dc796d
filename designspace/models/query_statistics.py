"""The artefact "q-stats": centre and mean modulus of each query head's pre-RoPE bands."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from designspace.axes import Geometry
from designspace.axes.rotary import as_bands, unrotate, unrotation_error
from designspace.cache.attention import Pass
from designspace.cache.causal import causal_attention
from designspace.cache.layer_call import LayerCall
from designspace.errors import CalibrationError
from designspace.models.calibration import Corpus
from designspace.models.loading import LoadedModel


class QueryPass(Pass):
    """Plain causal attention that sums each query head's pre-RoPE bands and their moduli over positions."""

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        shape = (geometry.n_layers, geometry.n_query_heads, geometry.head_dim // 2)
        self.total = torch.zeros(shape, dtype=torch.complex128)
        self.modulus = torch.zeros(shape, dtype=torch.float64)
        self.n_tokens = 0

    def attend(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Take in the layer's queries [1,H_q,T,D] at positions 0 … T-1 and attend."""
        positions = torch.arange(query.shape[2], device=query.device)
        bands = unrotate(as_bands(query[0].float()), positions, self.geometry.of_layer(call.layer))  # [H_q,T,D/2]
        self.total[call.layer] += bands.sum(dim=1).to(torch.complex128).cpu()
        self.modulus[call.layer] += bands.abs().sum(dim=1).double().cpu()
        return causal_attention(query, key, value, call).transpose(1, 2)


def measure(loaded: LoadedModel, corpus: Corpus) -> dict[str, Tensor]:
    """Return q_mean_real, q_mean_imag and q_abs_mean, each [L,H_q,D/2] float32 [triattention2026].

    Raises:
        CalibrationError: a model that rotates only part of its head dimension.
    """
    return statistics_of(loaded, corpus.texts)


def statistics_of(loaded: LoadedModel, texts: Iterable[tuple[int, ...]]) -> dict[str, Tensor]:
    """Return the statistics over token sequences."""
    geometry = loaded.geometry
    if reason := unrotation_error("the artefact of query statistics", geometry):
        raise CalibrationError(reason)
    seen = QueryPass(geometry)
    for ids in texts:
        tokens = torch.tensor([ids], device=loaded.device)
        loaded.forward(seen, input_ids=tokens, logits_to_keep=1)
        seen.n_tokens += tokens.shape[1]
    mean = (seen.total / seen.n_tokens).to(torch.complex64)
    modulus = (seen.modulus / seen.n_tokens).float()
    return {"q_mean_real": mean.real.contiguous(), "q_mean_imag": mean.imag.contiguous(), "q_abs_mean": modulus}
