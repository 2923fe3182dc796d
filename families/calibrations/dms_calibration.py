"""The artefact "dms-gate": a linear map per layer that says which tokens of a text a repetition of it can do without."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from designspace.errors import CalibrationError
from designspace.models.calibration import Corpus
from designspace.models.loading import LoadedModel
from designspace.models.one_look import Effort, apart
from families.calibrations.future_attention import by_owner
from families.calibrations.repeated_text import N_TOKENS, STEPS, Weights, descended, effort, examples_of

EVICTED = 0.75  # share of the tokens, over all layers and heads; 0.875 in the released checkpoint


def _effort(loaded: LoadedModel, corpus: Corpus) -> Effort:
    of_token = loaded.geometry.n_layers * loaded.geometry.n_kv_heads * int(loaded.model.config.hidden_size)
    flops = 3 * 2 * STEPS * min(N_TOKENS, corpus.n_tokens) * of_token * torch.get_num_threads()
    return effort(loaded, corpus, flops, copies_of_inputs=3)


@apart(_effort)
def measure(loaded: LoadedModel, corpus: Corpus) -> dict[str, Tensor]:
    """Return "weight" [L,H_kv,hidden] and "bias" [L,H_kv], float32: the logit that a token's successor gives to evicting it.

    This is not the published training [lancucki2025dms], which distils the whole model under soft decisions. Here it is a
    logistic regression (Adam, 300 steps): a token is to be evicted that is among the 75 % with the lowest scores of KVzip+,
    over all layers and heads (`repeated_text`).

    Raises:
        CalibrationError: no text is long enough, or the layers have no norm before attention.
    """
    try:
        examples = examples_of(loaded, corpus)
    except CalibrationError as error:
        raise CalibrationError(f"artefact 'dms-gate': {error}") from error
    n_layers, n_heads = examples.added.shape[:2]
    ordered = examples.added.flatten().sort().values
    least = ordered[min(int(EVICTED * len(ordered)), len(ordered) - 1)]
    has_successor = ~examples.begins[1:]
    evicted = (examples.added[..., :-1] < least).float()[..., has_successor]
    inputs = examples.inputs[:, 1:][:, has_successor]

    start = {"weight": torch.zeros(n_layers, n_heads, inputs.shape[-1]), "bias": torch.zeros(n_layers, n_heads)}
    return by_owner(descended(start, _loss, inputs, evicted), loaded)


def _loss(weights: Weights, inputs: Tensor, evicted: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(_logits(weights, inputs), evicted)


def _logits(weights: Weights, inputs: Tensor) -> Tensor:
    """Return logits [L,H_kv,N] of inputs [L,N,hidden]."""
    return torch.einsum("lnd,lhd->lhn", inputs, weights["weight"]) + weights["bias"][..., None]
