"""The artefact "v-pca": mean and principal components of each head's values."""

from __future__ import annotations

import torch
from torch import Tensor

from designspace.axes import Geometry
from designspace.cache.attention import Pass
from designspace.cache.causal import causal_attention
from designspace.cache.layer_call import LayerCall
from designspace.models.calibration import Corpus
from designspace.models.loading import LoadedModel


class ValuePass(Pass):
    """Plain causal attention that sums each head's values and their products over tokens."""

    def __init__(self, geometry: Geometry) -> None:
        shape = (geometry.n_layers, geometry.n_kv_heads, geometry.head_dim)
        self.total = torch.zeros(shape, dtype=torch.float64)
        self.products = torch.zeros(*shape, geometry.head_dim, dtype=torch.float64)
        self.n_tokens = 0

    def attend(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Add the layer's values [1,H_kv,T,D] to the sums, and attend."""
        values = value[0].double().cpu()
        self.total[call.layer] += values.sum(dim=1)
        self.products[call.layer] += values.mT @ values
        return causal_attention(query, key, value, call).transpose(1, 2)


def measure(loaded: LoadedModel, corpus: Corpus) -> dict[str, Tensor]:
    """Return "mean" [L,H_kv,D] and "basis" [L,H_kv,D,D] float32: components are columns, the largest variance first.

    All tokens of all texts have the same weight. The sign of a component is arbitrary; its largest entry is made
    positive.
    """
    seen = ValuePass(loaded.geometry)
    for ids in corpus.texts:
        tokens = torch.tensor([ids], device=loaded.device)
        loaded.forward(seen, input_ids=tokens, logits_to_keep=1)
        seen.n_tokens += tokens.shape[1]
    mean = seen.total / seen.n_tokens
    covariance = seen.products / seen.n_tokens - mean[..., :, None] * mean[..., None, :]
    basis = torch.linalg.eigh(covariance).eigenvectors.flip(-1)  # eigh sorts ascending
    largest = basis.gather(-2, basis.abs().argmax(dim=-2, keepdim=True))
    return {"mean": mean.float(), "basis": (basis * largest.sign()).float()}
