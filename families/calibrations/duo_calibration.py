"""The artefact "duo-gate": how far back each head looks, judged by its mean query and key alone."""

from __future__ import annotations

import torch
from torch import Tensor

from designspace.axes import Geometry
from designspace.axes.rotary import as_bands, unrotate
from designspace.cache.attention import Pass
from designspace.cache.causal import causal_attention
from designspace.cache.layer_call import LayerCall
from designspace.errors import CalibrationError
from designspace.models.calibration import Corpus
from designspace.models.loading import LoadedModel

N_POSITIONS = 500  # as in kvpress


class MeanPass(Pass):
    """Plain causal attention that sums each head's pre-RoPE queries and keys over all tokens.

    If a model rotates only a part of the head dimension, the other components are kept beside the rotary bands.
    """

    def __init__(self, geometry: Geometry) -> None:
        self.geometry, self.n_rotated = geometry, 2 * geometry.inv_freq.numel()
        self.queries = self._empty(geometry.n_query_heads)
        self.keys = self._empty(geometry.n_kv_heads)
        self.scaling = torch.zeros(geometry.n_layers, dtype=torch.float64)
        self.n_tokens = 0

    def _empty(self, n_heads: int) -> tuple[Tensor, Tensor]:
        shape = (self.geometry.n_layers, n_heads)
        bands = torch.zeros(*shape, self.n_rotated // 2, dtype=torch.complex128)
        return bands, torch.zeros(*shape, self.geometry.head_dim - self.n_rotated, dtype=torch.float64)

    def attend(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Add one layer of a text [1,H_q,T,D] at positions 0 … T-1 to the sums, and attend."""
        positions = torch.arange(query.shape[2], device=query.device)
        for (bands, rest), x in ((self.queries, query), (self.keys, key)):
            rotated = unrotate(as_bands(x[0, ..., : self.n_rotated].float()), positions, self.geometry)
            bands[call.layer] += rotated.sum(dim=1).to(torch.complex128).cpu()
            rest[call.layer] += x[0, ..., self.n_rotated :].double().sum(dim=1).cpu()
        self.scaling[call.layer] = call.scaling
        return causal_attention(query, key, value, call).transpose(1, 2)

    def last_row_logits(self, n_positions: int) -> Tensor:
        """Return the logits [L,H_q,n] float64 of the mean query at position n-1 for the mean key at 0 … n-1."""
        geometry, group = self.geometry, self.geometry.group
        distance = torch.arange(n_positions - 1, -1, -1, dtype=torch.float64)
        angle = distance[:, None] * geometry.inv_freq.double().cpu()  # [n,F]
        query, rest = (x / self.n_tokens for x in self.queries)
        key, key_rest = (x.repeat_interleave(group, 1) / self.n_tokens for x in self.keys)
        turned = torch.einsum("lhf,nf->lhn", query * key.conj(), torch.polar(torch.ones_like(angle), angle)).real
        logits = geometry.attention_scaling**2 * turned + (rest * key_rest).sum(dim=-1, keepdim=True)
        return logits * self.scaling[:, None, None]


def gate_of(logits: Tensor, group: int) -> Tensor:
    """Return the mean cumulated softmax of logits [L,H_q,n], averaged over each group of query heads, [L,H_kv].

    Near 1: all mass is on the earliest positions. 1/n: all mass is on the newest one. (n + 1) / 2n: attention is even.
    """
    early = torch.softmax(logits, dim=-1).cumsum(dim=-1).mean(dim=-1)
    return early.unflatten(1, (-1, group)).mean(dim=-1)


def measure(loaded: LoadedModel, corpus: Corpus) -> dict[str, Tensor]:
    """Return "gate" [L,H_kv] float32 in (0, 1): how early the attention of a typical query lies.

    The mean pre-RoPE query and key of each head over all tokens of the texts (longer texts weigh more) are placed at
    500 positions, as in kvpress's on-the-fly gate. The published gate is trained [xiao2024duoattention].

    Raises:
        CalibrationError: layers of the model turn their keys in other ways.
    """
    if loaded.geometry.rotation_note:
        raise CalibrationError(
            f"artefact 'duo-gate' turns keys back in every layer, but in this model {loaded.geometry.rotation_note}"
        )
    seen = MeanPass(loaded.geometry)
    for ids in corpus.texts:
        tokens = torch.tensor([ids], device=loaded.device)
        loaded.forward(seen, input_ids=tokens, logits_to_keep=1)
        seen.n_tokens += tokens.shape[1]
    return {"gate": gate_of(seen.last_row_logits(N_POSITIONS), loaded.geometry.group).float()}
