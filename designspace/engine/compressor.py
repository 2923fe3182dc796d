"""Compression events in a running cache: which rows are cut together, what is moved, and what is charged for it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from designspace.axes import Mechanism, RunContext, View
from designspace.axes.randomness import key_integer
from designspace.axes.ranking import packing_order
from designspace.cache.packing import CompressionResult, Prompt
from designspace.cache.slots import SlotCache
from designspace.engine.compress import compress
from designspace.engine.foresight import at_positions
from designspace.engine.row import RowState
from designspace.errors import InvariantViolation

_FEWEST_EVENT_ROWS, _MOST_EVENT_ROWS = 4, 8  # per chunk, where rows fall due at different steps


class Compressor:
    """Cuts the rows of one cache, and texts before they are loaded into one; charges the rows' accounts."""

    def __init__(self, mechanism: Mechanism, cache: SlotCache, context: RunContext, chunk_rows: int) -> None:
        """`chunk_rows`: how many rows are cut together."""
        self.mechanism, self.cache, self.context, self.chunk_rows = mechanism, cache, context, chunk_rows

    def cut(self, states: list[RowState]) -> None:
        """Cut rows to what their schedules say, in chunks of fixed shape."""
        for start in range(0, len(states), self.chunk_rows):
            self._cut_chunk(states[start : start + self.chunk_rows])

    def _cut_chunk(self, states: list[RowState]) -> None:
        """Cut the rows of one chunk; it is filled up by repeating the first row, whose extra copies are ignored."""
        n_copies = self.chunk_rows - len(states)
        targets = [state.row_schedule.target() for state in states]
        target = torch.tensor(targets + targets[:1] * n_copies, device=self.cache.positions.device)
        rows = self._indices(states + states[:1] * n_copies)
        view = self.cache.view(rows, self.context, target)
        self._foresee(view, states + states[:1] * n_copies)
        self._apply(states, rows, view, compress(self.mechanism, view))
        for state in states:
            state.row_schedule.cut()

    def cut_text(self, state: RowState, text: Prompt, target: int) -> CompressionResult:
        """Return which tokens of a freshly encoded text are kept when it is cut to `target`."""
        view = self.cache.text_view(
            state.index,
            text,
            self.context,
            target=target,
            stream=key_integer(state.request.stream),
            n_prompt_tokens=len(state.request.prompt_ids),
        )
        self._foresee(view, [state])
        kept = compress(self.mechanism, view)
        self._charge(state, int(view.counts.sum() - kept.counts.sum()), _errors(kept, 1)[0])
        return kept

    def _charge(self, state: RowState, n_evicted: int, error: float | None) -> None:
        """Note an event on a row's account. One at which every token reached the least score has cut nothing, and is none."""
        if n_evicted or self.mechanism.cadence.least_score is None:
            state.account.event(state.n_steps, n_evicted, error)

    def _foresee(self, view: View, states: Sequence[RowState]) -> None:
        """Show what the rows' tokens will still be attended to, if the mechanism asks for it."""
        if self.mechanism.needs().foresight:
            ends = view.next_position.tolist()
            futures = [
                at_positions(_known(state), end, view.positions[:, idx])
                for idx, (state, end) in enumerate(zip(states, ends, strict=True))
            ]
            view.observed.foreseen = torch.stack(futures, dim=1)

    def drop(self, state: RowState, start: int, stop: int) -> None:
        """Free the slots of positions start … stop-1 in one row, in whichever heads these are filled."""
        rows = self._indices([state])
        view = self.cache.view(rows, self.context, torch.zeros_like(rows))
        keep = view.valid & ((view.positions < start) | (view.positions >= stop))
        kept = CompressionResult(packing_order(keep), keep.sum(dim=-1), mass=view.mass, memory=view.memory)
        self._apply([state], rows, view, kept)

    def _apply(self, states: Sequence[RowState], rows: Tensor, view: View, kept: CompressionResult) -> None:
        """Carry out an event and charge it; what a checkpoint would bring back stays on its row's account."""
        evicted = (view.counts - kept.counts).sum(dim=(0, 2)).tolist()
        self.cache.compact(rows, len(states), view, kept)
        for state, n_evicted, error in zip(states, evicted, _errors(kept, len(evicted)), strict=False):
            self._charge(state, n_evicted, error)
            state.charge_checkpoint(self.cache.positions[:, state.index])

    def _indices(self, states: Sequence[RowState]) -> Tensor:
        return torch.tensor([state.index for state in states], device=self.cache.positions.device)


def _known(state: RowState) -> Tensor:
    if state.future is None:
        raise InvariantViolation(f"a row of {state.request.problem_id!r} has no foresight, which its mechanism needs")
    return state.future


def _errors(kept: CompressionResult, n_rows: int) -> Sequence[float | None]:
    """Return the certificate of each row, None where nothing was drawn."""
    return [None] * n_rows if kept.error is None else kept.error.tolist()


def event_rows(rows: int, max_growth: int, burst: int) -> int:
    """Return how many rows an event cuts together: about as many as fall due at once when their starts are spread.

    Fixed for a run, so that an event's shapes never depend on how many rows are due. A cadence that cuts at every step cuts
    all rows together.
    """
    if max_growth == 1:
        return rows
    expected = 2 ** math.ceil(math.log2(max(rows * burst / max(max_growth, 1), 1)))
    return min(rows, max(_FEWEST_EVENT_ROWS, min(_MOST_EVENT_ROWS, expected)))
