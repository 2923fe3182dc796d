"""The cache ledger: what every row held and read at every decode step, in tokens and in bytes.

`m_t` is the attended size at decode step t: tokens present while attending, the new one included,
averaged over layers and KV heads. Nothing here is predicted; it is counted from the cache after each forward pass.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from designspace.slots import SlotCache


@dataclass
class RowAccount:
    """Running totals of one row. Tokens are summed over layers and KV heads until `close` divides.

    spare_tokens, spare_bytes: what is kept outside the slots to be able to return to a checkpoint; counted as held.
    """

    n_heads_total: int
    tokens_per_step: list[int] = field(default_factory=list)
    held_bytes: list[int] = field(default_factory=list)
    read_bytes: list[int] = field(default_factory=list)
    aux_bytes: list[int] = field(default_factory=list)
    n_events: int = 0
    n_evicted: int = 0
    first_event_step: int | None = None
    slot_tokens: int = 0
    spare_tokens: int = 0
    spare_bytes: int = 0
    n_reencoded: int = 0
    most_reencoded: int = 0

    @property
    def size(self) -> int:
        """Tokens per (layer, KV head) in the slots at the last step, rounded up where heads differ in their total."""
        return -(-self.slot_tokens // self.n_heads_total)

    def event(self, step: int, n_evicted: int) -> None:
        """Note a compression after decode step `step` (0 = the prompt) that dropped `n_evicted` (layer, head) tokens."""
        self.n_events += 1
        self.n_evicted += n_evicted
        if self.first_event_step is None:
            self.first_event_step = step

    def reencoded(self, n_tokens: int) -> None:
        """Note that a text of `n_tokens` was encoded anew: it was held whole for a moment."""
        self.n_reencoded += n_tokens
        self.most_reencoded = max(self.most_reencoded, n_tokens)

    def cache_tokens(self) -> list[float]:
        """Return `m_1 … m_T`."""
        return [total / self.n_heads_total for total in self.tokens_per_step]

    def peak(self) -> float:
        """Return the largest size, whole texts during re-encoding included."""
        return max([*self.cache_tokens(), float(self.most_reencoded)], default=0.0)

    def steady_mean(self) -> float | None:
        """Return the mean of `m_t` over the steps after the first event, None without an event or a step after it."""
        if self.first_event_step is None:
            return None
        after = self.tokens_per_step[self.first_event_step :]
        return sum(after) / len(after) / self.n_heads_total if after else None


class Ledger:
    """One account per row, fed once per decode step."""

    def __init__(self, cache: SlotCache) -> None:
        self.cache = cache
        self.accounts: dict[int, RowAccount] = {}

    def open(self, row: int) -> RowAccount:
        """Start a new account for a row and return it."""
        self.accounts[row] = RowAccount(self.cache.geometry.n_heads_total)
        return self.accounts[row]

    def record(self) -> None:
        """Take down what each open row held and read in the step whose attention has just run."""
        cache = self.cache
        tokens = cache.counts.long().sum(dim=(0, 2))
        columns = torch.stack([tokens, cache.held_bytes(), cache.read_bytes(), cache.aux_bytes()]).tolist()
        for row, account in self.accounts.items():
            account.slot_tokens = columns[0][row]
            account.tokens_per_step.append(columns[0][row] + account.spare_tokens)
            account.held_bytes.append(columns[1][row] + account.spare_bytes)
            account.read_bytes.append(columns[2][row])
            account.aux_bytes.append(columns[3][row])

    def close(self, row: int) -> RowAccount:
        """End a row's account and return it."""
        return self.accounts.pop(row)
