"""What a decoding's controller does to a row: force, hold, pin, drop, encode anew, roll back.

Every extra cached token and every extra forward pass that it causes is charged to the row.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from designspace.axes import Action
from designspace.axes.ranking import packing_order
from designspace.cache.packing import CompressionResult, keep_all
from designspace.engine.row import Checkpoint, Row
from designspace.errors import InvariantViolation

if TYPE_CHECKING:
    from designspace.engine.engine import Engine


class Steering:
    """Carries out the actions of controllers on one engine's rows."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def take(self, row: int, state: Row, token: int, logits: Tensor) -> None:
        """Show a chosen token to the row's controller and do as it says; logits: [V]."""
        if state.controller is None:
            raise InvariantViolation("a row without a controller cannot be steered")
        action = state.controller.on_token(token, float(torch.softmax(logits.float(), dim=-1).amax()))
        if action.temperature_scale is not None:
            state.temperature_scale = action.temperature_scale
        if action.rollback:
            self._roll_back(row, state)
            return
        state.tokens.append(action.tokens[0])
        state.forced.extend(action.tokens[1:])
        if self.engine.reason_to_end(state) is None:  # a text that ends here needs its cache no more
            self._steer_cache(row, state, action)

    def charge_spare(self, row: int, state: Row) -> None:
        """Charge what a row's checkpoint holds and the slots no longer do, at the mean bytes of what it holds."""
        saved = state.checkpoint
        if saved is None:
            return
        positions, account = self.engine.cache.positions[:, row], self.engine.ledger.accounts[row]
        still_held = int(((positions >= 0) & (positions < saved.cache.next_position)).sum())
        account.spare_tokens = saved.n_tokens - still_held
        account.spare_bytes = -(-saved.n_bytes * account.spare_tokens // max(saved.n_tokens, 1))

    def _steer_cache(self, row: int, state: Row, action: Action) -> None:
        start = len(state.request.prompt_ids)
        if action.hold is not None:
            state.hold = action.hold
        if action.pin is not None:
            self.engine.cache.pinned[row, start + action.pin[0] : start + action.pin[1]] = True
        if action.drop is not None:
            self._drop(row, start + action.drop[0], start + action.drop[1])
        if action.refresh:
            self._refresh(row, state)
        if action.checkpoint:
            account = self.engine.ledger.accounts[row]
            account.spare_tokens = account.spare_bytes = 0
            state.checkpoint = self._checkpoint(row, state)

    def _checkpoint(self, row: int, state: Row) -> Checkpoint:
        cache = self.engine.cache
        return Checkpoint(
            cache=cache.snapshot(row),
            tokens=tuple(state.tokens),
            forced=tuple(state.forced),
            row_schedule=state.row_schedule.copy(),
            step=state.step,
            hold=state.hold,
            n_tokens=int(cache.counts[:, row].sum()),
            n_bytes=int(cache.held_bytes(cache.counts)[row]),
        )

    def _roll_back(self, row: int, state: Row) -> None:
        """Return to the last checkpoint; what was spent since stays on the account."""
        if state.checkpoint is None:
            raise InvariantViolation(f"decoding {self.engine.decoding.kind!r} rolled back without a checkpoint")
        saved, account = state.checkpoint, self.engine.ledger.accounts[row]
        self.engine.cache.restore(row, saved.cache)
        state.tokens, state.row_schedule, state.step = list(saved.tokens), saved.row_schedule.copy(), saved.step
        state.forced, state.hold = deque(saved.forced), saved.hold
        state.ask_at = state.step + 1
        account.spare_tokens = account.spare_bytes = 0

    def _drop(self, row: int, start: int, stop: int) -> None:
        """Free the slots of positions start … stop-1 in one row, in whatever heads hold them."""
        engine = self.engine
        rows = torch.tensor([row], device=engine.loaded.device)
        view = engine.cache.view(rows, engine.context, torch.zeros_like(rows))
        keep = view.valid & ((view.positions < start) | (view.positions >= stop))
        kept = CompressionResult(packing_order(keep), keep.sum(dim=-1), view.keys, view.values, view.mass, view.memory)
        engine.apply([row], rows, view, kept)

    def _refresh(self, row: int, state: Row) -> None:
        """Encode prompt and text anew, up to the token that comes next, and cut it to what the row holds now.

        So the cadence goes on as if nothing had happened: its sizes, and the mean that its budget asks for, stay.
        """
        engine = self.engine
        fed = (*state.request.prompt_ids, *state.tokens[:-1])
        text, _ = engine.prefill.encode(fed)
        engine.ledger.accounts[row].reencoded(len(fed))
        whole = text.keys[..., : text.n_tokens, :].nbytes + text.values[..., : text.n_tokens, :].nbytes
        state.reencoded_bytes = max(state.reencoded_bytes, whole)
        size = -(-int(engine.cache.counts[:, row].sum()) // engine.cache.geometry.n_heads_total)
        kept = keep_all(text) if size >= len(fed) else engine.cut_text(row, state, text, size)
        engine.cache.reload(row, text, kept)
