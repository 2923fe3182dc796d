"""The artefact "duo-gate": how far back each head looks, judged by its mean query and key alone."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from designspace.axes import Geometry
from designspace.axes.rotary import as_bands, unrotate
from designspace.cache.layer_call import LayerCall
from designspace.errors import CalibrationError
from designspace.models.loading import LoadedModel
from designspace.models.one_look import Reading, one_pass

N_POSITIONS = 500  # as in kvpress


class Means(NamedTuple):
    """Mean queries or keys of one text before rotation.

    bands: [L,H,F] complex128, the rotary bands. rest: [L,H,R] float64, the components that a model does not rotate.
    """

    bands: Tensor
    rest: Tensor


class MeanPass(Reading):
    """Averages each head's pre-RoPE queries and keys over the tokens of a text, and takes the gate of every text."""

    def __init__(self, geometry: Geometry) -> None:
        self.geometry, self.n_rotated = geometry, 2 * geometry.inv_freq.numel()
        self.queries = self._empty(geometry.n_query_heads)
        self.keys = self._empty(geometry.n_kv_heads)
        self.scaling = torch.zeros(geometry.n_layers, dtype=torch.float64)
        self.gates: list[Tensor] = []

    def _empty(self, n_heads: int) -> Means:
        shape = (self.geometry.n_layers, n_heads)
        bands = torch.zeros(*shape, self.n_rotated // 2, dtype=torch.complex128)
        return Means(bands, torch.zeros(*shape, self.geometry.head_dim - self.n_rotated, dtype=torch.float64))

    def see(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> None:
        """Average one layer of a text [1,H_q,T,D] at positions 0 … T-1."""
        positions = torch.arange(query.shape[2], device=query.device)
        for means, x in ((self.queries, query), (self.keys, key)):
            unrotated = unrotate(
                as_bands(x[0, ..., : self.n_rotated].float()), positions, self.geometry.of_layer(call.layer)
            )
            means.bands[call.layer] = unrotated.to(torch.complex128).mean(dim=1).cpu()
            means.rest[call.layer] = x[0, ..., self.n_rotated :].double().mean(dim=1).cpu()
        self.scaling[call.layer] = call.scaling

    def ended(self, n_tokens: int) -> None:
        """Take the gate of the text."""
        self.gates.append(self.gate())

    def tensors(self) -> dict[str, Tensor]:
        """Return the mean of all gates, each text counting the same."""
        return {"gate": torch.stack(self.gates).mean(dim=0).float()}

    def gate(self, n_positions: int = N_POSITIONS) -> Tensor:
        """Return the gate of the text that has been seen, [L,H_kv] float64."""
        logits = last_row_logits(self.queries, self.keys, self.geometry, n_positions) * self.scaling[:, None, None]
        return gate_of(logits, self.geometry.group)


def last_row_logits(queries: Means, keys: Means, geometry: Geometry, n_positions: int) -> Tensor:
    """Return the logits [L,H_q,n] of the mean query at position n-1 for the mean key at 0 … n-1, not yet scaled."""
    distance = torch.arange(n_positions - 1, -1, -1, dtype=torch.float64)
    angle = distance[:, None] * geometry.frequencies().cpu()[:, None]  # [L|1,n,F]
    bands, rest = (x.repeat_interleave(geometry.group, 1) for x in keys)
    turns = torch.polar(torch.ones_like(angle), angle)
    turned = torch.einsum("lhf,lnf->lhn", queries.bands * bands.conj(), turns.expand(len(bands), -1, -1)).real
    return geometry.scalings().cpu()[:, None, None] ** 2 * turned + (queries.rest * rest).sum(dim=-1, keepdim=True)


def gate_of(logits: Tensor, group: int) -> Tensor:
    """Return the mean cumulated softmax of logits [L,H_q,n], averaged over each group of query heads, [L,H_kv].

    Near 1: all mass is on the earliest positions. 1/n: all mass is on the newest one. (n + 1) / 2n: attention is even.
    """
    early = torch.softmax(logits, dim=-1).cumsum(dim=-1).mean(dim=-1)
    return early.unflatten(1, (-1, group)).mean(dim=-1)


@one_pass()
def measure(loaded: LoadedModel) -> MeanPass:
    """Measure "gate" [L,H_kv] float32 in (0, 1): how early the attention of a typical query lies.

    As kvpress does it on the fly: the mean pre-RoPE query and key of each head over the tokens of a text are placed at
    500 positions, the newest query attends, and the gates of all texts are averaged, each text counting the same. In
    models that normalise queries and keys before rotating them, the normalised ones are averaged; kvpress means to, but
    looks for these norms in the wrong module and leaves them out. The published gate is trained [xiao2024duoattention].

    Raises:
        CalibrationError: layers of the model turn their keys in other ways.
    """
    if loaded.geometry.rotation_note:
        raise CalibrationError(
            f"artefact 'duo-gate' turns keys back in every layer, but in this model {loaded.geometry.rotation_note}"
        )
    return MeanPass(loaded.geometry)
