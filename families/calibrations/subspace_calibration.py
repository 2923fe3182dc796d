"""The artefact "v-pca": mean and principal components of each head's values."""

from __future__ import annotations

import torch
from torch import Tensor

from designspace.axes import Geometry
from designspace.cache.layer_call import LayerCall
from designspace.models.loading import LoadedModel
from designspace.models.one_look import Reading, one_pass


class ValuePass(Reading):
    """Sums each head's values and their products over tokens."""

    def __init__(self, geometry: Geometry) -> None:
        shape = (geometry.n_layers, geometry.n_kv_heads, geometry.head_dim)
        self.total = torch.zeros(shape, dtype=torch.float64)
        self.products = torch.zeros(*shape, geometry.head_dim, dtype=torch.float64)
        self.n_tokens = 0

    def see(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> None:
        """Add the layer's values [1,H_kv,T,D] to the sums."""
        values = value[0].double().cpu()
        self.total[call.layer] += values.sum(dim=1)
        self.products[call.layer] += values.mT @ values

    def ended(self, n_tokens: int) -> None:
        """Count the tokens."""
        self.n_tokens += n_tokens

    def tensors(self) -> dict[str, Tensor]:
        """Return mean and basis, from the covariance of all tokens."""
        mean = self.total / self.n_tokens
        covariance = self.products / self.n_tokens - mean[..., :, None] * mean[..., None, :]
        basis = torch.linalg.eigh(covariance).eigenvectors.flip(-1)  # eigh sorts ascending
        largest = basis.gather(-2, basis.abs().argmax(dim=-2, keepdim=True))
        return {"mean": mean.float(), "basis": (basis * largest.sign()).float()}


@one_pass()
def measure(loaded: LoadedModel) -> ValuePass:
    """Measure "mean" [L,H_kv,D] and "basis" [L,H_kv,D,D] float32: components are columns, the largest variance first.

    All tokens of all texts have the same weight. The sign of a component is arbitrary; its largest entry is made
    positive.
    """
    return ValuePass(loaded.geometry)
