"""What KVzip's scores are measured on: a text that is written twice, and what the second copy attends to in the first."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from designspace.axes import Geometry, Needs
from designspace.cache.attention import Pass
from designspace.cache.causal import causal_attention
from designspace.cache.layer_call import LayerCall
from designspace.cache.prefill_pass import PrefillPass
from designspace.errors import CalibrationError
from designspace.models.calibration import Corpus
from designspace.models.calibration_stages import stage
from designspace.models.loading import LoadedModel
from designspace.models.one_look import Effort
from families.calibrations.future_attention import training
from families.calibrations.head_kv_calibration import attention_rows

PIECE = 256  # tokens: longer texts are cut, so twice as many are read at once
N_TOKENS = 16_384  # of all pieces; the first ones are taken
SHORTEST = 16  # tokens of a piece
STEPS = 300
LEARNING_RATE = 0.02  # of Adam, falling linearly to 0


class Examples(NamedTuple):
    """Tokens of many texts, side by side.

    inputs: [L,N,hidden], what the layers' projections read. attention: [L,H_kv,N], the largest attention weight that a token
    gets from any query of the second copy and of the group, KVzip's score. added: the same with each weight times
    |v W| / |h|, v the token's value, W the head's output projection and h the query's input: KVzip+'s. begins: [N] bool, the
    first token of each text.
    """

    inputs: Tensor
    attention: Tensor
    added: Tensor
    begins: Tensor


class RepeatPass(Pass):
    """Plain causal attention over one text that stands there twice.

    owners: for each layer the layer whose cache it reads. Where layers share one, a token has the largest of its numbers.
    """

    def __init__(self, geometry: Geometry, n_tokens: int, owners: tuple[int, ...], inputs: Tensor, w: Tensor) -> None:
        """inputs: [L,2T,hidden], of this very text. w: [L,H_q,D,hidden], the output projections."""
        self.geometry, self.n, self.owners, self.inputs, self.w = geometry, n_tokens, owners, inputs, w
        self.attention, self.added = torch.zeros(2, geometry.n_layers, geometry.n_kv_heads, n_tokens)

    def attend(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Note the largest weights of one layer [1,H_q,2T,D], and attend."""
        layer, owner, group = call.layer, self.owners[call.layer], self.geometry.group
        moved = value[0, :, : self.n].float().repeat_interleave(group, 0) @ self.w[layer].float()  # [H_q,T,hidden]
        reach = moved.norm(dim=-1)[:, None]
        for rows, weights in attention_rows(query, key, call, first=self.n):
            first = weights[..., : self.n]  # [H_q,n,T]
            size = self.inputs[layer, rows].float().norm(dim=-1)[:, None]
            for kept, found in ((self.attention, first), (self.added, first * reach / size)):
                largest = found.unflatten(0, (-1, group)).amax(dim=(1, 2)).cpu()
                kept[owner] = torch.maximum(kept[owner], largest)
        return causal_attention(query, key, value, call).transpose(1, 2)


def examples_of(loaded: LoadedModel, corpus: Corpus) -> Examples:
    """Return the tokens of a corpus with their scores.

    In the sources an instruction to repeat the text stands between the copies; here the text just follows itself, as the
    bundled models know no instructions.

    Raises:
        CalibrationError: the layers have no norm before attention, or no text is long enough.
    """
    error = loaded.attention_inputs_error()
    if error is not None:
        raise CalibrationError(error)
    owners = loaded.kv_owners or tuple(range(loaded.geometry.n_layers))
    w, left, found = loaded.output_projection(), N_TOKENS, []
    with stage("reading", min(N_TOKENS, corpus.n_tokens), "tokens") as done:
        for text in corpus.texts:
            for start in range(0, len(text), PIECE):
                piece = text[start : start + min(PIECE, left)]
                if len(piece) >= SHORTEST:
                    left -= len(piece)
                    found.append(_examples(loaded, piece, owners, w))
                    done(len(piece))
    if not found:
        raise CalibrationError(f"scores of repeated texts need a text of at least {SHORTEST} tokens")
    return Examples(
        torch.cat([one.inputs for one in found], dim=1),
        *(torch.cat(parts, dim=-1) for parts in list(zip(*found, strict=True))[1:]),
    )


def _examples(loaded: LoadedModel, text: tuple[int, ...], owners: tuple[int, ...], w: Tensor) -> Examples:
    ids = torch.tensor([text + text], device=loaded.device)
    plain = PrefillPass(Needs(), loaded.geometry, ids.shape[1], loaded.kv_owners)
    output = loaded.forward(plain, input_ids=ids, logits_to_keep=1, output_hidden_states=True)
    inputs = torch.stack([x[0] for x in loaded.attention_inputs(output.hidden_states)])
    seen = RepeatPass(loaded.geometry, len(text), owners, inputs, w)
    loaded.forward(seen, input_ids=ids, logits_to_keep=1)
    return Examples(inputs[:, : len(text)].float().cpu(), seen.attention, seen.added, torch.arange(len(text)) == 0)


def effort(loaded: LoadedModel, corpus: Corpus, flops: int, *, copies_of_inputs: int) -> Effort:
    """Return what fitting to repeated texts takes; copies_of_inputs: of what the projections read, in float32, all layers."""
    n_tokens = min(N_TOKENS, corpus.n_tokens)
    of_token = copies_of_inputs * int(loaded.model.config.hidden_size) + 2 * loaded.geometry.n_kv_heads
    return Effort(6 * n_tokens, flops, 4 * loaded.geometry.n_layers * n_tokens * of_token)


Weights = dict[str, Tensor]


def descended(weights: Weights, loss_of: Callable[[Weights, Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> Weights:
    """Return weights after STEPS steps of Adam down a loss on all of x and y.

    One thread: the same numbers on every machine of a kind.
    """
    with training(), stage("training", STEPS, "steps") as done:
        own = {name: tensor.clone().requires_grad_() for name, tensor in weights.items()}
        x, y = x.clone(), y.clone()  # gradients pass through no tensor that was made in inference mode
        optimiser = torch.optim.Adam(own.values(), lr=LEARNING_RATE)
        for step in range(STEPS):
            optimiser.param_groups[0]["lr"] = LEARNING_RATE * (1 - step / STEPS)
            loss = loss_of(own, x, y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            done(1)
        return {name: tensor.detach() for name, tensor in own.items()}
