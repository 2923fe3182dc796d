"""Trackers: per-slot numbers that a strategy keeps up to date from every row of attention.

A strategy asks for one in `Needs.trackers`; the cache allocates its state, feeds it each query's attention row, moves it
with the slots, forgets it with the sample, and counts its bytes. `designspace.axes.event_tracker` has those that events update.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from designspace.axes.renamed import TRACKER_METHODS, refuse_former_names


@dataclass(frozen=True)
class Tracker(ABC):
    """What to remember of each slot. A frozen dataclass, so that two strategies asking for the same share it.

    Class attributes: `channels` numbers of type `dtype` per slot; they start at zero when a token arrives.
    """

    dtype: ClassVar[torch.dtype] = torch.float32

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Refuse a subclass that overrides a method of the contract by its former name."""
        super().__init_subclass__(**keywords)
        refuse_former_names(cls, TRACKER_METHODS)

    @property
    @abstractmethod
    def channels(self) -> int:
        """Numbers kept per slot."""

    @property
    def observes(self) -> bool:
        """Whether it is fed every query, so that attention must be formed for it."""
        return True

    @property
    def queries(self) -> int:
        """Number of newest queries that it reads at an event; whoever asks for the tracker declares as many at least."""
        return 0

    @property
    def keys(self) -> bool:
        """Whether it reads keys at an event; whoever asks for the tracker declares them too."""
        return False

    @property
    def values(self) -> bool:
        """Whether it reads values at an event; whoever asks for the tracker declares them too."""
        return False

    @abstractmethod
    def observe(self, state: Tensor, weights: Tensor, positions: Tensor, now: Tensor) -> Tensor:
        """Return the state after one more query per row.

        state: [B,H_kv,C,channels]. weights: [B,H_q,C] float32, attention of the query at position `now` [B], zero at
        slots it does not see. positions: [B,H_kv,C], -1 = free slot; slots beyond `now` take no part.
        """

    def observe_prompt(self, state: Tensor, weights: Tensor, positions: Tensor, now: Tensor) -> Tensor:
        """Return the state after one more query of the prompt, whose queries come one by one; default: as any other query.

        Arguments as those of `observe`. A text that is encoded again is a prompt too.
        """
        return self.observe(state, weights, positions, now)

    def on_compressed(self, state: Tensor) -> Tensor:
        """Return the state [L,E,H_kv,C,channels] of rows that have just been cut; default: unchanged."""
        return state
