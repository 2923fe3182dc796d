"""What a model's own forward pass needs beside weights and cache, found on a skeleton: nothing is computed."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from designspace.attention import Pass, PrefillPass
from designspace.axes import Needs
from designspace.live_bytes import peak_bytes
from designspace.models.loading import LoadedModel

_META = torch.device("meta")
_BUCKET = 16  # prompts are padded to a multiple of this, as the engine has it
_TRACKER_COPIES = 4  # per layer, stacked, and two while one is being updated


class _NoAttention(Pass):
    """Leaves attention out."""

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int | None
    ) -> Tensor:
        """Return something of the shape of the output, [B,T,H_q,D]."""
        return torch.empty_like(query.transpose(1, 2), memory_format=torch.contiguous_format)


def padded(n_tokens: int) -> int:
    """Return the length to which a prompt is padded."""
    return -(-n_tokens // _BUCKET) * _BUCKET


@lru_cache(maxsize=256)
def decode_bytes(skeleton: LoadedModel, rows: int) -> int:
    """Return the bytes of one token of every row on its way through the model, attention apart, up to float32 logits."""

    def step() -> object:
        ids = torch.zeros(rows, 1, dtype=torch.long, device=_META)
        output = skeleton.model(input_ids=ids, position_ids=ids, use_cache=False, slots=_NoAttention())
        return output.logits[:, -1].float()

    return peak_bytes(step)


@lru_cache(maxsize=256)
def prefill_bytes(skeleton: LoadedModel, needs: Needs, n_tokens: int, owners: tuple[int, ...] | None) -> int:
    """Return the bytes of encoding one text of so many tokens, with its keys, values and observations stacked."""
    # Trackers see the queries one by one, which takes long and changes nothing in the sizes; here they are counted.
    shown = replace(needs, trackers=(), accumulated=needs.weights)
    geometry, length = skeleton.geometry, padded(n_tokens)
    per_token = sum(tracker.channels * tracker.dtype.itemsize for tracker in needs.trackers)
    tracked = _TRACKER_COPIES * geometry.n_heads_total * length * per_token
    projection = skeleton.output_projection() if needs.layer_cosine else None

    def encode() -> object:
        prefill = PrefillPass(shown, geometry, n_tokens, owners)
        output = skeleton.model(
            input_ids=torch.zeros(1, length, dtype=torch.long, device=_META),
            position_ids=torch.arange(length, device=_META)[None],
            use_cache=False,
            logits_to_keep=torch.tensor([n_tokens - 1], device=_META),
            slots=prefill,
            output_hidden_states=needs.layer_cosine,
        )
        if projection is not None:
            prefill.note_residuals(output.hidden_states, projection)
        return prefill.prompt(), output

    return tracked + peak_bytes(encode)
