"""The artefact "trim-gate": a retention gate per layer, trained on future attention."""

from __future__ import annotations

import torch
from torch import Tensor

from designspace.errors import CalibrationError
from designspace.models.calibration import Corpus
from designspace.models.loading import LoadedModel
from designspace.models.one_look import Effort, apart
from families.calibrations.future_attention import Piece, Weights, ages, by_owner, effort, fitted, pieces_of
from families.scoring.trim_kv import INPUTS, log_beta

WIDTH = 16  # of the network between its two layers; 512 in the published gates
BIAS = 4.0  # of the log-sigmoid at the start: a token loses half of its weight in 38 steps; published: 10
SEED = 0


def _effort(loaded: LoadedModel, corpus: Corpus) -> Effort:
    multiplications = WIDTH * (int(loaded.model.config.hidden_size) + loaded.geometry.n_kv_heads)
    return effort(loaded, corpus, multiplications, copies=2, copies_of_inputs=2)


@apart(_effort)
def measure(loaded: LoadedModel, corpus: Corpus) -> dict[str, Tensor]:
    """Return the weights of a gate of the published form that reads the inputs of each layer's projections.

    "inputs.linear1.weight" [L,16,hidden], "inputs.linear1.bias" [L,16], "inputs.linear2.weight" [L,H_kv,16] and
    "inputs.bias" [L,H_kv], float32. It is trained so that what is left of a token at an event, beta^age, is proportional to
    the attention that later queries pay to it (`future_attention`).

    This is not the published training [bui2025trimkv], which runs the whole model with attention that fades by the gates,
    and lets its own output and a penalty on memory decide. Here layers are trained alone, and no memory size is aimed at.

    Raises:
        CalibrationError: no text is long enough, or the layers have no norm before attention.
    """
    error = loaded.attention_inputs_error()
    if error is not None:
        raise CalibrationError(f"artefact 'trim-gate': {error}")
    pieces = pieces_of(loaded, corpus)
    found = fitted(_start(loaded), _score, pieces, SEED)
    return {f"{INPUTS}.{name}": tensor for name, tensor in by_owner(found, loaded).items()}


def _start(loaded: LoadedModel) -> Weights:
    geometry, n_read = loaded.geometry, loaded.model.config.hidden_size
    random = torch.Generator().manual_seed(SEED)
    layers = geometry.n_layers
    return {
        "linear1.weight": torch.randn(layers, WIDTH, n_read, generator=random) / n_read**0.5,
        "linear1.bias": torch.zeros(layers, WIDTH),
        "linear2.weight": torch.randn(layers, geometry.n_kv_heads, WIDTH, generator=random) / WIDTH**0.5,
        "bias": torch.full((layers, geometry.n_kv_heads), BIAS),
    }


def _score(weights: Weights, piece: Piece) -> Tensor:
    """Return age times log beta, [L,H_kv,n,T], by the ages of the scoring."""
    assert piece.inputs is not None
    return log_beta(weights, piece.inputs)[:, :, None] * (ages(piece) + 2)
