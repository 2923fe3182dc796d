"""Bytes that a model's own forward passes need beside weights and cache, measured on a skeleton: nothing is computed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from designspace.axes import Arrival, Artefact, Gate, Needs, Request
from designspace.cache.attention import Pass
from designspace.cache.layer_call import LayerCall
from designspace.engine.prefill import Prefill, bucket, prompts_per_pass
from designspace.memory.live_bytes import LiveBytes, peak_bytes
from designspace.models.loading import LoadedModel

_META = torch.device("meta")
_TRACKER_COPIES = 4  # per layer, stacked, and two while one is being updated


class PromptBytes(NamedTuple):
    """encoding: the most bytes alive while prompts run. each: those of one encoded prompt that waits for a row."""

    encoding: int
    each: int


class _NoAttention(Pass):
    """A pass without attention."""

    def attend(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Return a tensor of the output's shape, [B,T,H_q,D], with no particular content."""
        return torch.empty_like(query.transpose(1, 2), memory_format=torch.contiguous_format)


@dataclass(frozen=True)
class _Silent(Gate):
    """A gate that needs no weights."""

    def open(self, weights: Artefact, arrival: Arrival) -> Tensor:
        """Return zeros, [B,H_kv,T]."""
        return arrival.keys.new_zeros(arrival.keys.shape[:-1], dtype=torch.float32)


@lru_cache(maxsize=256)
def decode_bytes(skeleton: LoadedModel, rows: int) -> int:
    """Return the bytes of one token of every row on its way through the model, attention apart, up to float32 logits."""

    def step() -> object:
        ids = torch.zeros(rows, 1, dtype=torch.long, device=_META)
        output = skeleton.forward(_NoAttention(), input_ids=ids, position_ids=ids)
        return output.logits[:, -1].float()

    return peak_bytes(step)


def stream_bytes(skeleton: LoadedModel, n_tokens: int) -> int:
    """Return the bytes of so many tokens' residual stream before each layer and after its norm: gates, sentences read it."""
    per_layer = n_tokens * skeleton.model.config.hidden_size * skeleton.dtype.itemsize
    return 2 * int(per_layer) * (skeleton.geometry.n_layers + 1)


@lru_cache(maxsize=256)
def prompt_bytes(
    skeleton: LoadedModel, needs: Needs, n_tokens: int, owners: tuple[int, ...] | None, chunk: int | None = None
) -> PromptBytes:
    """Return the bytes of encoding prompts of so many tokens, as many as run together, and of one of them.

    chunk: the most tokens of a prompt that go through the model at once, None: all.
    """
    # Trackers see the queries one by one, which takes long and changes nothing in the sizes; here they are counted.
    # Gates have no weights here: others, which say nothing, read the same.
    silent = {gate.artefact: Artefact(gate.artefact, {}) for gate in needs.gates}
    gates = tuple(_Silent(name) for name in silent)
    shown = replace(needs, trackers=(), gates=gates, accumulated=needs.weights, sentences=())
    projection = skeleton.output_projection() if needs.layer_cosine else None
    n_prompts, width = prompts_per_pass(bucket(n_tokens)), bucket(n_tokens)
    per_token = sum(tracker.channels * tracker.dtype.itemsize for tracker in needs.trackers)
    tracked = n_prompts * skeleton.geometry.n_heads_total * width * per_token
    read = stream_bytes(skeleton, n_prompts * width) if needs.sentences else 0
    queue = [Request(f"p{i}", (*[0] * (n_tokens - 1), i), b"") for i in range(n_prompts)]
    with torch.inference_mode(), LiveBytes() as live:
        prefill = Prefill(skeleton, shown, owners, projection, silent, chunk)
        prefill.announce(queue)
        prompt = prefill.pop_prompt(queue)
        alive = live.now
    del prompt
    return PromptBytes(live.peak + _TRACKER_COPIES * tracked + read, -(-(alive + tracked) // n_prompts))
