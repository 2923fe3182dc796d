"""The artefact "fast-kvzip": a gate of low-rank sink attention per layer, trained on KVzip's scores."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from designspace.errors import CalibrationError
from designspace.models.calibration import Corpus
from designspace.models.loading import LoadedModel
from designspace.models.one_look import Effort, apart
from families.calibrations.future_attention import by_owner
from families.calibrations.repeated_text import STEPS, Examples, Weights, descended, effort, examples_of
from families.scoring.fast_kvzip import sink_attention

WIDTH, SINKS = 16, 16  # of queries and keys, and how many sinks compete with them, as released
N_TOKENS = 4096  # that are trained on
SEED = 0


def _effort(loaded: LoadedModel, corpus: Corpus) -> Effort:
    geometry, width = loaded.geometry, int(loaded.model.config.hidden_size)
    n_trained, heads = min(N_TOKENS, corpus.n_tokens), geometry.n_query_heads + geometry.n_kv_heads
    flops = 3 * 2 * STEPS * n_trained * geometry.n_layers * heads * WIDTH * (width + SINKS) * torch.get_num_threads()
    found = effort(loaded, corpus, flops, copies_of_inputs=1)
    return found._replace(n_bytes=found.n_bytes + 4 * geometry.n_layers * n_trained * (2 * width + 8 * heads * WIDTH))


@apart(_effort)
def measure(loaded: LoadedModel, corpus: Corpus) -> dict[str, Tensor]:
    """Return the weights of gates of the published form, [L,...] float32, by the names of the release (`sink_attention`).

    They are trained so that a token's score is KVzip's (`repeated_text`): binary cross-entropy, Adam, 300 steps on 4096 tokens
    drawn at random. The release [kim2026fastkvzip] trains on the same scores of far more tokens, by gradient descent with
    momentum, and an instruction stands between the two copies of a text.

    Raises:
        CalibrationError: no text is long enough, or the layers have no norm before attention.
    """
    try:
        examples = examples_of(loaded, corpus)
    except CalibrationError as error:
        raise CalibrationError(f"artefact 'fast-kvzip': {error}") from error
    random = torch.Generator().manual_seed(SEED)
    drawn = torch.randperm(examples.inputs.shape[1], generator=random)[:N_TOKENS]
    inputs, wanted = examples.inputs[:, drawn], examples.attention[..., drawn].clamp(max=1)
    return by_owner(descended(_start(loaded, examples, random), _loss, inputs, wanted), loaded)


def _loss(weights: Weights, inputs: Tensor, wanted: Tensor) -> Tensor:
    return functional.binary_cross_entropy(sink_attention(weights, inputs), wanted)


def _start(loaded: LoadedModel, examples: Examples, random: torch.Generator) -> Weights:
    geometry, n_read = loaded.geometry, examples.inputs.shape[-1]
    layers, heads, group = geometry.n_layers, geometry.n_kv_heads, geometry.group

    def drawn(*shape: int) -> Tensor:
        return torch.randn(layers, *shape, generator=random) * shape[-1] ** -0.5

    return {
        "q_proj.weight": drawn(heads * group * WIDTH, n_read),
        "q_proj.bias": torch.zeros(layers, heads * group * WIDTH),
        "k_proj.weight": drawn(heads * WIDTH, n_read),
        "q_norm.weight": torch.ones(layers, WIDTH),
        "k_norm.weight": torch.ones(layers, WIDTH),
        "k_base": drawn(heads, 1, SINKS, WIDTH),
        "b": torch.zeros(layers, heads, 1, group),
    }
