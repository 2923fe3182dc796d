"""The cache ledger: what every row kept and read at every decode step, in tokens and in bytes.

`m_t` is the attended size at decode step t: tokens present while attending, the new one included,
averaged over layers and KV heads. Nothing here is predicted; it is counted from the cache after each forward pass.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from designspace.cache.slots import SlotCache


@dataclass
class RowAccount:
    """Running totals of one row. Tokens are summed over layers and KV heads until they are asked for.

    slot_tokens: tokens in the slots now. spare_tokens, spare_bytes: what a checkpoint keeps beside the slots; each step is
    charged for both.
    """

    n_heads_total: int
    blocks: list[np.ndarray] = field(default_factory=list)
    n_events: int = 0
    n_evicted: int = 0
    first_event_step: int | None = None
    slot_tokens: int = 0
    spare_tokens: int = 0
    spare_bytes: int = 0
    n_reencoded: int = 0
    most_reencoded: int = 0
    errors: list[float] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Tokens per (layer, KV head) in the slots at the last step, rounded up where heads differ in their total."""
        return -(-self.slot_tokens // self.n_heads_total)

    def event(self, step: int, n_evicted: int, error: float | None = None) -> None:
        """Record an event after decode step `step` (0 = the prompt) that dropped `n_evicted` (layer, head) tokens.

        error: the expected relative error of attention if it drew what to keep.
        """
        if error is not None:
            self.errors.append(error)
        self.n_events += 1
        self.n_evicted += n_evicted
        self.slot_tokens -= n_evicted
        if self.first_event_step is None:
            self.first_event_step = step

    def steps(self, block: np.ndarray) -> None:
        """Record consecutive steps, [4,n] int64: tokens in the slots, their bytes, bytes read of them, auxiliary bytes."""
        self.slot_tokens = int(block[0, -1])
        if self.spare_tokens or self.spare_bytes:
            block = block + np.array([[self.spare_tokens], [self.spare_bytes], [0], [0]])
        self.blocks.append(block)

    def reencoded(self, n_tokens: int) -> None:
        """Record that a text of `n_tokens` was encoded anew, for a moment with a cache of its full length."""
        self.slot_tokens = n_tokens * self.n_heads_total
        self.n_reencoded += n_tokens
        self.most_reencoded = max(self.most_reencoded, n_tokens)

    def columns(self) -> np.ndarray:
        """Return [4,T] int64 for all steps: tokens, their bytes, bytes read of them, auxiliary bytes."""
        return np.concatenate([np.zeros((4, 0), dtype=np.int64), *self.blocks], axis=1)

    def cache_tokens(self) -> np.ndarray:
        """Return `m_1 … m_T`, float64."""
        sizes: np.ndarray = self.columns()[0] / self.n_heads_total
        return sizes

    def peak(self) -> float:
        """Return the largest size, whole texts during re-encoding included."""
        return float(max(self.cache_tokens().max(initial=0.0), self.most_reencoded))

    def sampling_error(self) -> float | None:
        """Return the root mean square over events of the error to expect of what was drawn, None where nothing was."""
        return None if not self.errors else float(np.sqrt(np.mean(np.square(self.errors))))

    def steady_mean(self) -> float | None:
        """Return the mean of `m_t` over the steps after the first event, None without an event or a step after it."""
        if self.first_event_step is None:
            return None
        after = self.columns()[0, self.first_event_step :]
        return float(after.mean()) / self.n_heads_total if len(after) else None


class Ledger:
    """Counts the cache of all rows after every decode step, and turns the counts into sizes and bytes in blocks."""

    def __init__(self, cache: SlotCache) -> None:
        self.cache, self._measure_now = cache, not cache.bytes_follow_counts
        self._counts: list[Tensor] = []
        self._measured: list[Tensor] = []

    def open_account(self, n_tokens: int) -> RowAccount:
        """Return the account of a row that starts with `n_tokens` in every head."""
        n_heads = self.cache.geometry.n_heads_total
        return RowAccount(n_heads, slot_tokens=n_tokens * n_heads)

    def record_step(self) -> None:
        """Record every row's cache size after this step's attention. Does not synchronise with the device."""
        self._counts.append(self.cache.counts.clone())
        if self._measure_now:
            self._measured.append(self._columns(self.cache.counts))

    def pop_block(self) -> np.ndarray:
        """Return the steps recorded since the last call, [B,4,n] int64: tokens, their bytes, bytes read, auxiliary bytes."""
        counts = torch.stack(self._counts, dim=1)  # [L,n,B,H]
        n_steps, n_rows = counts.shape[1:3]
        if self._measure_now:
            columns = torch.stack(self._measured, dim=1)
        else:  # the bytes follow from the counts, so that all steps are measured at once, as if they were rows
            columns = self._columns(counts.flatten(1, 2)).view(4, n_steps, n_rows)
        self._counts, self._measured = [], []
        block: np.ndarray = columns.permute(2, 0, 1).cpu().numpy()
        return block

    def _columns(self, counts: Tensor) -> Tensor:
        """Return [4,B] int64 for counts [L,B,H_kv]."""
        cache = self.cache
        tokens = counts.long().sum(dim=(0, 2))
        return torch.stack([tokens, cache.held_bytes(counts), cache.read_bytes(counts), cache.aux_bytes(counts)])
