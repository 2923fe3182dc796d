"""What learned scores are trained on: texts, and the attention that later queries pay to each of their tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from designspace.axes import Geometry
from designspace.cache.attention import Pass
from designspace.cache.causal import causal_attention
from designspace.cache.layer_call import LayerCall
from designspace.errors import CalibrationError
from designspace.models.calibration import Corpus
from designspace.models.calibration_stages import stage
from designspace.models.loading import LoadedModel
from designspace.models.one_look import Effort
from families.calibrations.head_kv_calibration import attention_rows

PIECE = 512  # tokens: longer texts are cut, so no age is larger
N_TOKENS = 16_384  # of all pieces; the first ones are taken
N_EVENTS = 8  # per piece, evenly spaced
SHORTEST = 2 * (N_EVENTS + 1)
STEPS = 400
PIECES_PER_STEP = 8
LEARNING_RATE = 0.01  # of Adam, falling linearly to 0


class Piece(NamedTuple):
    """One text with what later queries pay to its tokens.

    keys, values: [L,H_kv,T,D], keys after RoPE. inputs: [L,T,hidden], what the layers' projections read; None where that
    cannot be told. events: [n], tokens seen at each. future: [L,H_kv,n,T], at each event the attention that queries from
    there on pay to the tokens before it: summed over queries and over layers that share the cache, mean over the group.
    """

    keys: Tensor
    values: Tensor
    inputs: Tensor | None
    events: Tensor
    future: Tensor


class FuturePass(Pass):
    """Plain causal attention over one text that keeps what a `Piece` holds."""

    def __init__(self, geometry: Geometry, n_tokens: int, owners: tuple[int, ...]) -> None:
        self.geometry, self.owners = geometry, owners
        self.events = torch.arange(1, N_EVENTS + 1) * n_tokens // (N_EVENTS + 1)
        heads = (geometry.n_layers, geometry.n_kv_heads)
        self.keys, self.values = torch.zeros(2, *heads, n_tokens, geometry.head_dim)
        self.future = torch.zeros(*heads, N_EVENTS, n_tokens)

    def attend(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Add one layer of a text [1,H_q,T,D] to the sums of the layer whose cache it reads, and attend."""
        owner = self.owners[call.layer]
        self.keys[owner], self.values[owner] = key[0].float().cpu(), value[0].float().cpu()
        for rows, weights in attention_rows(query, key, call):
            later = (rows[None].cpu() >= self.events[:, None]).float()  # [n,rows]
            of_heads = weights.unflatten(0, (-1, self.geometry.group)).mean(dim=1).cpu()
            self.future[owner] += torch.einsum("nr,hrt->hnt", later, of_heads)
        return causal_attention(query, key, value, call).transpose(1, 2)

    def piece(self, inputs: Tensor | None) -> Piece:
        """Return what has been seen; at an event the tokens from there on have no future yet."""
        ahead = torch.arange(self.future.shape[-1]) >= self.events[:, None]
        return Piece(self.keys, self.values, inputs, self.events, self.future.masked_fill(ahead, 0))


def pieces_of(loaded: LoadedModel, corpus: Corpus) -> list[Piece]:
    """Return the pieces of a corpus, each run once with the full cache.

    Raises:
        CalibrationError: no text is long enough.
    """
    owners = loaded.kv_owners or tuple(range(loaded.geometry.n_layers))
    readable, pieces = loaded.attention_inputs_error() is None, []
    with stage("reading", min(N_TOKENS, corpus.n_tokens), "tokens") as done:
        for ids in _cut(corpus):
            seen = FuturePass(loaded.geometry, len(ids), owners)
            output = loaded.forward(
                seen,
                input_ids=torch.tensor([ids], device=loaded.device),
                logits_to_keep=1,
                output_hidden_states=readable,
            )
            inputs = loaded.attention_inputs(output.hidden_states) if readable else None
            pieces.append(seen.piece(None if inputs is None else torch.stack([x[0].float().cpu() for x in inputs])))
            done(len(ids))
    if not pieces:
        raise CalibrationError(f"learning from future attention needs a text of at least {SHORTEST} tokens")
    return pieces


def _cut(corpus: Corpus) -> Iterator[tuple[int, ...]]:
    """Yield the pieces of all texts in order, up to N_TOKENS; ends that are too short for events are left out."""
    left = N_TOKENS
    for ids in corpus.texts:
        for start in range(0, len(ids), PIECE):
            piece = ids[start : start + min(PIECE, left)]
            if len(piece) >= SHORTEST:
                left -= len(piece)
                yield piece


def effort(loaded: LoadedModel, corpus: Corpus, multiplications: int, *, copies: int, copies_of_inputs: int) -> Effort:
    """Return what training on pieces takes.

    multiplications: per layer and token of the forward pass of the networks. copies: of keys, values and future attention
    that are alive at once, in float32. copies_of_inputs: of what the projections read.
    """
    geometry, n_tokens = loaded.geometry, min(N_TOKENS, corpus.n_tokens)
    of_token = geometry.n_kv_heads * (2 * geometry.head_dim + N_EVENTS) * copies
    of_token += copies_of_inputs * int(loaded.model.config.hidden_size)
    trained = STEPS * min(n_tokens, PIECE * PIECES_PER_STEP)
    flops = (
        3 * 2 * trained * geometry.n_layers * multiplications * torch.get_num_threads()
    )  # of which training uses one
    return Effort(2 * n_tokens, flops, 4 * geometry.n_layers * n_tokens * of_token)


Weights = dict[str, Tensor]
Score = Callable[[Weights, Piece], Tensor]  # scores at every event, [L,H_kv,n,T]


def fitted(weights: Weights, score: Score, pieces: list[Piece], seed: int) -> Weights:
    """Return the weights trained so that the softmax of scores is what share of the attention to come each token gets.

    The loss is the cross-entropy of the two at the events of a piece, mean over layers, heads and events, and over
    PIECES_PER_STEP pieces drawn anew at each of STEPS steps of Adam. One thread: the same numbers on every machine of a kind.
    """
    random = torch.Generator().manual_seed(seed)
    with training(), stage("training", STEPS, "steps") as done:
        own = {name: tensor.clone().requires_grad_() for name, tensor in weights.items()}
        taken = [_recordable(piece) for piece in pieces]
        optimiser = torch.optim.Adam(own.values(), lr=LEARNING_RATE)
        for step in range(STEPS):
            optimiser.param_groups[0]["lr"] = LEARNING_RATE * (1 - step / STEPS)
            drawn = torch.randint(len(taken), (min(PIECES_PER_STEP, len(taken)),), generator=random).tolist()
            loss = torch.stack([loss_of(score(own, taken[i]), taken[i]) for i in drawn]).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            done(1)
        return {name: tensor.detach() for name, tensor in own.items()}


def loss_of(scores: Tensor, piece: Piece) -> Tensor:
    """Return the cross-entropy of scores [L,H_kv,n,T] with the shares of the attention to come."""
    held = torch.arange(scores.shape[-1]) < piece.events[:, None]
    share = piece.future / piece.future.sum(dim=-1, keepdim=True).clamp(min=1e-30)
    log_share = scores.masked_fill(~held, torch.finfo(scores.dtype).min).log_softmax(dim=-1)
    return -(share * log_share.masked_fill(~held, 0)).sum(dim=-1).mean()


@contextmanager
def training() -> Iterator[None]:
    """Record gradients, which calibrations do not need otherwise, in one thread."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        torch.set_num_threads(n_threads)


def _recordable(piece: Piece) -> Piece:
    """Return a copy that gradients may pass through, unlike tensors that were made in inference mode."""
    return Piece(
        piece.keys.clone(),
        piece.values.clone(),
        None if piece.inputs is None else piece.inputs.clone(),
        piece.events.clone(),
        piece.future.clone(),
    )


def ages(piece: Piece) -> Tensor:
    """Return how many tokens have come since each token at each event, [n,T] float32, 0 for the newest; below 0: not there."""
    return (piece.events[:, None] - 1 - torch.arange(piece.future.shape[-1])).float()


def by_owner(weights: Weights, loaded: LoadedModel) -> Weights:
    """Return weights [L,...] in which layers that share a cache have those of the layer that owns it."""
    if loaded.kv_owners is None:
        return weights
    return {name: tensor[list(loaded.kv_owners)] for name, tensor in weights.items()}
