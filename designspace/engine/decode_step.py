"""The decode step: one token per row through the model, plain or compiled once and run for all arms.

The compiled step has every layer's attention as one opaque operator, which hands over to the pass in flight. So the graph
knows nothing of caches, representations or budgets: a model and a number of rows are compiled once, whatever the mechanism,
and nothing that an arm does can make it compile again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from types import FunctionType
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from designspace.cache.attention import DecodePass
from designspace.cache.layer_call import in_flight
from designspace.cache.region import Region, no_region
from designspace.cache.slots import SlotCache
from designspace.errors import DeclarationError, InvariantViolation
from designspace.models.loading import LoadedModel

StepKind = Literal["plain", "compiled"]
COMPILED_QUANTIZED = "step 'compiled' is not offered for quantised weights: use 'plain'"
STEP_KINDS: tuple[StepKind, ...] = ("plain", "compiled")
Forward = Callable[[Tensor, Tensor], Tensor]


class DecodeStep(Protocol):
    """One decode step of all rows."""

    def __call__(self, tokens: Tensor, region: Region = no_region) -> Tensor:
        """Feed tokens [B] at the cache's next positions and return logits [B,V] float32; `region` is entered for attention."""


def decode_step(loaded: LoadedModel, cache: SlotCache, kind: StepKind) -> DecodeStep:
    """Return the decode step of a model with a cache.

    `plain` runs the model's own modules one after the other. `compiled` runs them as one graph, and on CUDA devices replays
    a CUDA graph of it. Both write to the same cache; their logits agree up to the order of float additions.

    Raises:
        DeclarationError: no such kind, nothing to compile it with, gates or sentences that it cannot feed, or weights that
            are quantised.
    """
    if kind not in STEP_KINDS:
        raise DeclarationError(f"step must be one of {', '.join(STEP_KINDS)}, got step={kind!r}")
    needs = cache.observers.needs
    if kind == "compiled" and loaded.spec is not None and loaded.spec.quantization is not None:
        raise DeclarationError(COMPILED_QUANTIZED)
    if kind == "compiled" and needs.hidden_states:  # transformers hands the residual stream out through hooks
        what = "gates" if needs.gates else "sentences"
        raise DeclarationError(f"step 'compiled' does not hand out what {what} read, the residual stream: use 'plain'")
    if kind == "compiled" and loaded.device.type == "cpu" and not has_compiler():
        raise DeclarationError(
            "step 'compiled' needs a C++ compiler on a CPU (g++, or the one that CXX names): use 'plain'"
        )
    if kind == "plain":
        ends = torch.tensor(sorted(loaded.last_tokens(needs.sentences)), dtype=torch.long, device=loaded.device)
        return lambda tokens, region=no_region: _plain(loaded, tokens, cache, ends, region)
    forward = compiled_forward(loaded, cache.rows)
    if cache.positions.device.type == "cuda":
        return CapturedStep(forward, cache)
    return lambda tokens, region=no_region: _compiled_step(forward, tokens, cache, region)


def has_compiler() -> bool:
    """Return whether PyTorch finds a C++ compiler here for what it compiles for CPUs."""
    return shutil.which(os.environ.get("CXX", "g++")) is not None


def _plain(loaded: LoadedModel, tokens: Tensor, cache: SlotCache, ends: Tensor, region: Region) -> Tensor:
    """Run the model's own modules; ends: ids of tokens that end a sentence."""
    needs, decode = cache.observers.needs, DecodePass(cache, region)
    output = loaded.forward(
        decode,
        input_ids=tokens[:, None],
        position_ids=cache.next_position[:, None],
        output_hidden_states=needs.hidden_states,
    )
    if needs.gates:
        decode.record_gates(loaded.attention_inputs(output.hidden_states))
    if needs.sentences:
        cache.record_sentences(output.hidden_states[-1][:, 0], (tokens[:, None] == ends).any(dim=1))
    logits: Tensor = output.logits[:, -1].float()
    return logits


def _compiled_step(forward: Forward, tokens: Tensor, cache: SlotCache, region: Region = no_region) -> Tensor:
    if len(tokens) != cache.rows:  # the graph has no guards: another shape would be computed wrongly
        raise InvariantViolation(f"the step was compiled for {cache.rows} rows, got {len(tokens)}")
    with in_flight(DecodePass(cache, region)):
        return forward(tokens, cache.next_position)


def compiled_forward(loaded: LoadedModel, rows: int) -> Forward:
    """Return the model's forward pass of `rows` tokens as one graph; compiled at its first call, then shared by all arms."""
    graphs, threads = loaded.graphs, torch.get_num_threads()
    if (rows, threads) not in graphs:
        forward = forward_of(loaded.model)
        # Shapes, types and weights are fixed for the life of the model, so nothing is left for guards to find, and checking
        # them costs as much as a small layer. Graphs belong to code objects, and without guards a second model would be
        # given the first one's: so each has a copy of the code to itself.
        own = FunctionType(forward.__code__.replace(), forward.__globals__, closure=forward.__closure__)
        graphs[rows, threads] = torch.compile(
            own,
            fullgraph=True,
            dynamic=False,
            options={"guard_filter_fn": torch.compiler.skip_all_guards_unsafe, "size_asserts": False},
        )
    return graphs[rows, threads]


def forward_of(model: Any) -> Forward:
    """Return the model's forward pass of one token per row as a function that knows no cache: the pass in flight has it."""

    def forward(tokens: Tensor, positions: Tensor) -> Tensor:
        output = model(input_ids=tokens[:, None], position_ids=positions[:, None], use_cache=False, slots=None)
        logits: Tensor = output.logits[:, -1].float()
        return logits

    return forward


class CapturedStep:
    """A decode step recorded as a CUDA graph, bound to one cache: replaying it costs the host a single call."""

    def __init__(self, forward: Forward, cache: SlotCache) -> None:
        """Record it. The cache must be empty: the passes that warm up leave rubbish in free slots."""
        if bool(cache.active.any()):
            raise InvariantViolation("a step can be captured only before the first row is loaded")
        self._tokens = torch.zeros(cache.rows, dtype=torch.long, device=cache.positions.device)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side), torch.inference_mode():
            for _ in range(3):
                _compiled_step(forward, self._tokens, cache)
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph), torch.inference_mode():
            self._logits = _compiled_step(forward, self._tokens, cache)

    def __call__(self, tokens: Tensor, region: Region = no_region) -> Tensor:
        """Replay; the logits stay valid until the next call. Attention is part of the graph, so no region is entered."""
        self._tokens.copy_(tokens)
        self._graph.replay()
        return self._logits
