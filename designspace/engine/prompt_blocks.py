"""Prompts that are cut block by block while they are read, so that no more is held than an event leaves and one block."""

from __future__ import annotations

from torch import Tensor

from designspace.cache.packing import Prompt, keep_all
from designspace.cache.slots import SlotCache
from designspace.engine.compressor import Compressor
from designspace.engine.prefill import Prefill
from designspace.engine.row import RowState


class PromptBlocks:
    """Reads one prompt after the other. What is kept of one may depend on the sample, so samples of a problem share nothing."""

    def __init__(self, prefill: Prefill, compressor: Compressor, cache: SlotCache, block: int) -> None:
        """`block`: tokens between two cuts."""
        self.prefill, self.compressor, self.cache, self.block = prefill, compressor, cache, block

    def read(self, state: RowState) -> tuple[Prompt, Tensor]:
        """Return what is held after a row's prompt, its last block not cut yet, and the logits [1,V] after it.

        The cuts are noted on the row's account, but not on its schedule: to that they are one event with the one to come.
        """
        ids = state.request.prompt_ids
        held, logits = self.prefill.encode_block(ids[: self.block])
        for start in range(self.block, len(ids), self.block):
            before = self._cut(state, self._dense(held))
            held, logits = self.prefill.encode_block(ids[start : start + self.block], before)
        return self._dense(held), logits

    def _dense(self, held: Prompt) -> Prompt:
        """Return the same with free slots behind the filled ones, as strategies and later blocks expect them."""
        return self.cache.packed(held, keep_all(held), is_cut=False)

    def _cut(self, state: RowState, held: Prompt) -> Prompt:
        """Cut what is held as if the prompt ended here."""
        target = state.row_schedule.target()
        if held.size <= target or not state.row_schedule.due(0, held.n_tokens, None):
            return held
        return self.cache.packed(held, self.compressor.cut_text(state, held, target), is_cut=True)
