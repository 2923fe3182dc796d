"""What a text's cache held, step by step: recorded while the text is made, as the changes from one step to the next.

Steps are decode steps, counted from 1; step 0 is the prompt as its own cut left it. The query of step s stands at position
n_prompt_tokens + s - 1, unless the decoding rolled the text back. Layers are those that own a cache, L of them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from designspace.cache.slots import SlotCache
from designspace.engine.hook import EngineHook
from designspace.engine.row import RowState

STILL_HELD = -1
NEVER_HELD = -2

_Mask = NDArray[np.bool_]


class Change(NamedTuple):
    """One KV head at one step: positions that it holds no longer, and others than the newest that it holds anew."""

    step: int
    layer: int
    head: int
    gone: NDArray[np.int32]
    back: NDArray[np.int32]


@dataclass
class RetentionRecord:
    """What the cache of one text held.

    Attributes:
        stream: names the text, as its request does.
        n_prompt_tokens: positions of the prompt.
        at_start: [L,H_kv,n_prompt_tokens], what step 0 held.
        newest: the newest position at each step, from step 1 on; every head holds it.
        changes: all others, in the order of the steps.
    """

    stream: bytes
    n_prompt_tokens: int
    at_start: _Mask
    newest: list[int] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)

    @property
    def n_positions(self) -> int:
        """How many positions were ever held or could have been."""
        return max([self.n_prompt_tokens, *(position + 1 for position in self.newest)])

    def held(self, step: int) -> _Mask:
        """Return what the queries of a step attended to, [L,H_kv,n_positions]."""
        held = np.zeros((*self.at_start.shape[:2], self.n_positions), dtype=bool)
        held[..., : self.n_prompt_tokens] = self.at_start
        changes = iter([*self.changes, None])
        change = next(changes)
        for now, newest in enumerate(self.newest[:step], start=1):
            held[..., newest] = True
            while change is not None and change.step == now:
                held[change.layer, change.head, change.gone] = False
                held[change.layer, change.head, change.back] = True
                change = next(changes)
        return held

    def evicted_at(self) -> NDArray[np.int32]:
        """Return the first step at which each head holds a token no more, for good, [L,H_kv,n_positions].

        `STILL_HELD` for what is there at the end, `NEVER_HELD` for what never was; 0 for what the cut of the prompt evicted.
        """
        found = np.full((*self.at_start.shape[:2], self.n_positions), NEVER_HELD, dtype=np.int32)
        found[..., : self.n_prompt_tokens] = np.where(self.at_start, STILL_HELD, 0)
        found[..., self.newest] = STILL_HELD
        for change in self.changes:
            found[change.layer, change.head, change.gone] = change.step
            found[change.layer, change.head, change.back] = STILL_HELD
        return found


class RetentionRecorder(EngineHook):
    """Records what every text of an engine holds; set it as the engine's `hook` before texts are asked for.

    It looks at the positions of all slots at every step, so a run that it watches is slower, and no token is another.

    Attributes:
        records: of all texts so far, by their streams.
    """

    def __init__(self, cache: SlotCache) -> None:
        self.records: dict[bytes, RetentionRecord] = {}
        self._cache = cache
        self._before: dict[bytes, _Mask] = {}  # [L,H_kv,width] of texts in flight

    def on_start(self, state: RowState) -> None:
        """Begin a text's record with what is left of its prompt."""
        held, n_prompt = self._held(state.index), len(state.request.prompt_ids)
        stream = state.request.stream
        self.records[stream] = RetentionRecord(stream, n_prompt, held[..., :n_prompt].copy())
        self._before[stream] = held

    def on_step(self, states: Collection[RowState]) -> None:
        """Add to every text's record what its step attended to."""
        for state in states:
            self._add(self.records[state.request.stream], self._held(state.index))

    def _add(self, record: RetentionRecord, held: _Mask) -> None:
        before = self._before[record.stream]
        newest = int(np.flatnonzero(held.any(axis=(0, 1)))[-1])
        record.newest.append(newest)
        differs = held != before
        differs[..., newest] = ~held[..., newest]  # held by every head, or its absence is a change
        for layer, head in np.argwhere(differs.any(axis=-1)):
            at = np.flatnonzero(differs[layer, head]).astype(np.int32)
            now = held[layer, head, at]
            record.changes.append(Change(len(record.newest), int(layer), int(head), at[~now], at[now]))
        self._before[record.stream] = held

    def _held(self, row: int) -> _Mask:
        positions = self._cache.positions[:, row].cpu().numpy()  # [L,H_kv,C]
        held = np.zeros((*positions.shape[:2], self._cache.width + 1), dtype=bool)
        np.put_along_axis(held, positions, True, axis=-1)  # free slots, at -1, fall on the last place
        return held[..., :-1]
