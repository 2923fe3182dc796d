"""What a decoding's controller does to a row: force, hold, pin, drop, encode anew, roll back.

Every extra cached token and every extra forward pass that it causes is charged to the row.
"""

from __future__ import annotations

from collections.abc import Container

import torch
from torch import Tensor

from designspace.axes import Action
from designspace.cache.packing import keep_all
from designspace.cache.slots import SlotCache
from designspace.engine.compressor import Compressor
from designspace.engine.ending import TextEnds
from designspace.engine.prefill import Prefill
from designspace.engine.row import RowState
from designspace.errors import InvariantViolation


class Steering:
    """Carries out the actions of controllers on the rows of one cache."""

    def __init__(
        self, cache: SlotCache, prefill: Prefill, compressor: Compressor, ends: TextEnds, eos_ids: Container[int]
    ) -> None:
        self.cache, self.prefill, self.compressor, self.ends = cache, prefill, compressor, ends
        self.eos_ids = eos_ids

    def append(self, state: RowState, token: int, logits: Tensor) -> None:
        """Show a chosen token to the row's controller and carry out its action; logits: [V]."""
        if state.controller is None:
            raise InvariantViolation("a row without a controller cannot be steered")
        action = state.controller.on_token(token, float(torch.softmax(logits.float(), dim=-1).amax()))
        if action.temperature_scale is not None:
            state.temperature_scale = action.temperature_scale
        if action.rollback:
            self._roll_back(state)
            return
        state.tokens.append(action.tokens[0])
        state.forced.extend(action.tokens[1:])
        state.hit_stop = self.ends.at_last(state)
        if state.reason_to_end(self.eos_ids) is None:  # a text that ends here needs its cache no more
            self._steer_cache(state, action)

    def _roll_back(self, state: RowState) -> None:
        if state.checkpoint is None:
            raise InvariantViolation(f"{type(state.controller).__name__} rolled back without a checkpoint")
        state.roll_back(state.checkpoint, self.cache)

    def _steer_cache(self, state: RowState, action: Action) -> None:
        start = len(state.request.prompt_ids)
        if action.hold is not None:
            state.hold = action.hold
        if action.pin is not None:
            self.cache.pinned[state.index, start + action.pin[0] : start + action.pin[1]] = True
        if action.drop is not None:
            self.compressor.drop(state, start + action.drop[0], start + action.drop[1])
        if action.refresh:
            self._refresh(state)
        if action.checkpoint:
            state.set_checkpoint(self.cache)

    def _refresh(self, state: RowState) -> None:
        """Encode prompt and text anew, up to the token that comes next, and cut it to the row's size.

        So the cadence goes on as if nothing had happened: its sizes, and the mean that its budget asks for, stay.
        """
        fed = (*state.request.prompt_ids, *state.tokens[:-1])
        text, _ = self.prefill.encode(fed)
        state.account.reencoded(len(fed))
        whole = text.keys[..., : text.n_tokens, :].nbytes + text.values[..., : text.n_tokens, :].nbytes
        state.reencoded_bytes = max(state.reencoded_bytes, whole)
        size = -(-int(self.cache.counts[:, state.index].sum()) // self.cache.geometry.n_heads_total)
        kept = keep_all(text) if size >= len(fed) else self.compressor.cut_text(state, text, size)
        self.cache.reload(state.index, text, kept)
