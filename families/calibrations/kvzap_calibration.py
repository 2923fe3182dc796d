"""The artefact "kvzap": a linear map per layer from what its projections read to the scores of KVzip+."""

from __future__ import annotations

import torch
from torch import Tensor

from designspace.errors import CalibrationError
from designspace.models.calibration import Corpus
from designspace.models.loading import LoadedModel
from designspace.models.one_look import Effort, apart
from families.calibrations.future_attention import by_owner
from families.calibrations.repeated_text import N_TOKENS, effort, examples_of

RIDGE = 1.0  # penalty on the square of the weights, as released; none on the bias
LEAST = 1e-9  # of a score: a token that no query sees has no logarithm


def _effort(loaded: LoadedModel, corpus: Corpus) -> Effort:
    width, n_tokens = int(loaded.model.config.hidden_size), min(N_TOKENS, corpus.n_tokens)
    flops = 4 * loaded.geometry.n_layers * width**2 * (n_tokens + width)
    found = effort(loaded, corpus, flops, copies_of_inputs=1)
    return found._replace(n_bytes=found.n_bytes + 8 * width * (2 * n_tokens + 2 * width))


@apart(_effort)
def measure(loaded: LoadedModel, corpus: Corpus) -> dict[str, Tensor]:
    """Return "weight" [L,H_kv,hidden] and "bias" [L,H_kv], float32: the linear form, fitted by ridge regression.

    The released networks [jegou2026kvzap] are fitted to the same scores on 1.2 million tokens of web texts, code and dialogues,
    the linear ones by the same regression. Here the texts are those that `designspace calibrate` is given, 16,384 tokens at
    most, without an instruction between the two copies (`repeated_text`).

    Raises:
        CalibrationError: no text is long enough, or the layers have no norm before attention.
    """
    try:
        examples = examples_of(loaded, corpus)
    except CalibrationError as error:
        raise CalibrationError(f"artefact 'kvzap': {error}") from error
    fitted = [_ridge(x, y) for x, y in zip(examples.inputs, examples.added.clamp(min=LEAST).log(), strict=True)]
    weight, bias = (torch.stack(parts) for parts in zip(*fitted, strict=True))
    return by_owner({"weight": weight, "bias": bias}, loaded)


def _ridge(inputs: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return weights [H_kv,hidden] and bias [H_kv] for inputs [N,hidden] and scores [H_kv,N]."""
    x, y = inputs.double(), scores.double().mT
    x_mean, y_mean = x.mean(dim=0), y.mean(dim=0)
    x, y = x - x_mean, y - y_mean
    penalty = RIDGE * torch.eye(x.shape[1], dtype=torch.float64)
    weight = torch.linalg.solve(x.mT @ x + penalty, x.mT @ y).mT
    return weight.float(), (y_mean - weight @ x_mean).float()
