"""The artefact "q-stats": centre and mean modulus of each query head's pre-RoPE bands."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from designspace.axes import Geometry
from designspace.axes.rotary import as_bands, unrotate, unrotation_error
from designspace.cache.layer_call import LayerCall
from designspace.errors import CalibrationError
from designspace.models.loading import LoadedModel
from designspace.models.one_look import Reading, one_pass, read


class QueryPass(Reading):
    """Sums each query head's pre-RoPE bands and their moduli over positions."""

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        shape = (geometry.n_layers, geometry.n_query_heads, geometry.head_dim // 2)
        self.total = torch.zeros(shape, dtype=torch.complex128)
        self.modulus = torch.zeros(shape, dtype=torch.float64)
        self.n_tokens = 0

    def see(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> None:
        """Add one layer's queries [1,H_q,T,D] at positions 0 … T-1 to the sums."""
        positions = torch.arange(query.shape[2], device=query.device)
        bands = unrotate(as_bands(query[0].float()), positions, self.geometry.of_layer(call.layer))  # [H_q,T,D/2]
        self.total[call.layer] += bands.sum(dim=1).to(torch.complex128).cpu()
        self.modulus[call.layer] += bands.abs().sum(dim=1).double().cpu()

    def ended(self, n_tokens: int) -> None:
        """Count the tokens."""
        self.n_tokens += n_tokens

    def tensors(self) -> dict[str, Tensor]:
        """Return q_mean_real, q_mean_imag and q_abs_mean, each [L,H_q,D/2] float32."""
        mean = (self.total / self.n_tokens).to(torch.complex64)
        modulus = (self.modulus / self.n_tokens).float()
        return {"q_mean_real": mean.real.contiguous(), "q_mean_imag": mean.imag.contiguous(), "q_abs_mean": modulus}


@one_pass()
def measure(loaded: LoadedModel) -> QueryPass:
    """Measure q_mean_real, q_mean_imag and q_abs_mean, each [L,H_q,D/2] float32 [triattention2026].

    Raises:
        CalibrationError: a model that rotates only part of its head dimension.
    """
    if reason := unrotation_error("the artefact of query statistics", loaded.geometry):
        raise CalibrationError(reason)
    return QueryPass(loaded.geometry)


def statistics_of(loaded: LoadedModel, texts: Iterable[tuple[int, ...]]) -> dict[str, Tensor]:
    """Return the statistics over token sequences.

    Raises:
        CalibrationError: as in `measure`.
    """
    seen = measure.begin(loaded)
    read(loaded, tuple(texts), [seen])
    return seen.tensors()
