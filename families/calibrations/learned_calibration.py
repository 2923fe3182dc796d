"""The artefact "learned": a network for each layer and KV head that says what attention a token has to expect."""

from __future__ import annotations

import torch
from torch import Tensor

from designspace.axes.rotary import unrotate_slots, unrotation_error
from designspace.errors import CalibrationError
from designspace.models.calibration import Corpus
from designspace.models.loading import LoadedModel
from designspace.models.one_look import Effort, apart
from families.calibrations.future_attention import N_EVENTS, Piece, Weights, ages, by_owner, effort, fitted, pieces_of
from families.scoring.learned import expected, of_token

WIDTH = 16  # of the hidden layer
SEED = 0


def _effort(loaded: LoadedModel, corpus: Corpus) -> Effort:
    geometry = loaded.geometry
    multiplications = geometry.n_kv_heads * WIDTH * (2 * geometry.head_dim + 8 * N_EVENTS)
    return effort(loaded, corpus, multiplications, copies=4, copies_of_inputs=1)


@apart(_effort)
def measure(loaded: LoadedModel, corpus: Corpus) -> dict[str, Tensor]:
    """Return "key" and "value" [L,H_kv,D,16], and "position", "age", "bias" and "out" [L,H_kv,16], float32.

    The networks are trained so that the softmax of their outputs over the tokens before an event is the share of the
    attention to come that each token gets (`future_attention`: cross-entropy, Adam, 400 steps, one seed). During training
    keys and values have mean 0 and variance 1 in every component; afterwards the weights take up what that needs.

    Raises:
        CalibrationError: no text is long enough, or layers of the model turn their keys in other ways.
    """
    geometry = loaded.geometry
    error = unrotation_error("artefact 'learned'", geometry)
    if error is not None:
        raise CalibrationError(error)
    pieces = []
    for piece in pieces_of(loaded, corpus):
        positions = torch.arange(piece.keys.shape[2]).expand(piece.keys.shape[:3])
        keys = unrotate_slots(piece.keys[:, None], positions[:, None], geometry)[:, 0]
        pieces.append(piece._replace(keys=keys, inputs=None))
    moments = {name: _moments([getattr(piece, f"{name}s") for piece in pieces]) for name in ("key", "value")}
    scaled = [
        piece._replace(**{f"{name}s": (getattr(piece, f"{name}s") - mean) / sd for name, (mean, sd) in moments.items()})
        for piece in pieces
    ]
    found = fitted(_start(geometry.n_layers, geometry.n_kv_heads, geometry.head_dim), _score, scaled, SEED)
    for name, (mean, sd) in moments.items():
        found[name] = found[name] / sd.mT
        found["bias"] = found["bias"] - (mean @ found[name])[..., 0, :]
    return by_owner(found, loaded)


def _moments(tensors: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation [L,H_kv,1,D] over the tokens of all tensors [L,H_kv,T,D]."""
    every = torch.cat(tensors, dim=2).double()
    mean, sd = every.mean(dim=2, keepdim=True), every.std(dim=2, keepdim=True, unbiased=False)
    return mean.float(), sd.clamp(min=1e-6).float()


def _start(layers: int, heads: int, dim: int) -> Weights:
    """Return weights that give every hidden unit a variance of about one, and all tokens about the same score."""
    random = torch.Generator().manual_seed(SEED)

    def drawn(*shape: int, scale: float) -> Tensor:
        return torch.randn(layers, heads, *shape, generator=random) * scale

    return {
        "key": drawn(dim, WIDTH, scale=(2 * dim) ** -0.5),
        "value": drawn(dim, WIDTH, scale=(2 * dim) ** -0.5),
        "position": drawn(WIDTH, scale=0.1),
        "age": drawn(WIDTH, scale=0.1),
        "bias": torch.zeros(layers, heads, WIDTH),
        "out": drawn(WIDTH, scale=0.1),
    }


def _score(weights: Weights, piece: Piece) -> Tensor:
    """Return the networks' outputs at every event, [L,H_kv,n,T]; of tokens that are not there yet, as if they were new."""
    positions = torch.arange(piece.keys.shape[2])
    hidden = of_token(weights, piece.keys, piece.values, positions)
    aged = {name: weights[name][:, :, None] for name in ("age", "out")}
    return expected(aged, hidden[:, :, None], ages(piece).clamp(min=0))
