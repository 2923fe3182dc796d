"""What a row in flight is doing, and the generation that it becomes."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from designspace.axes import Controller, Generation, Request, RowSchedule
from designspace.cache.slots import RowSnapshot
from designspace.engine.ledger import RowAccount


@dataclass
class Row:
    """What a row in flight is doing. `step` is the cadence's clock, which a rollback turns back; `n_steps` never is.

    ask_at: the step at which its pacer is to be asked again whether the row is due.
    """

    request: Request
    uniforms: np.ndarray
    limit: int
    started_s: float
    row_schedule: RowSchedule
    controller: Controller | None
    tokens: list[int] = field(default_factory=list)
    forced: deque[int] = field(default_factory=deque)
    step: int = 0
    n_steps: int = 0
    ask_at: int = 0
    n_draws: int = 0
    hold: bool = False
    temperature_scale: float = 1.0
    checkpoint: Checkpoint | None = None
    log_prob: float = 0.0
    reencoded_bytes: int = 0

    def draw(self) -> float:
        """Return the row's next random number; past the last one the generation ends anyway."""
        if self.n_draws >= len(self.uniforms):
            return 0.0
        self.n_draws += 1
        return float(self.uniforms[self.n_draws - 1])


@dataclass(frozen=True)
class Checkpoint:
    """A row as it was, to be returned to. n_tokens, n_bytes: what its slots held, over all layers and heads."""

    cache: RowSnapshot
    tokens: tuple[int, ...]
    forced: tuple[int, ...]
    row_schedule: RowSchedule
    step: int
    hold: bool
    n_tokens: int
    n_bytes: int


def finished(state: Row, account: RowAccount, finish_reason: str, mean_log_prob: float | None) -> Generation:
    """Return the generation that a row has become."""
    sizes, (_, held, read, aux), n_new = account.cache_tokens(), account.columns(), len(state.tokens)
    return Generation(
        problem_id=state.request.problem_id,
        stream=state.request.stream,
        token_ids=tuple(state.tokens),
        finish_reason=finish_reason,
        n_prompt_tokens=len(state.request.prompt_ids),
        n_steps=state.n_steps,
        n_events=account.n_events,
        n_evicted=account.n_evicted,
        n_extra_tokens=state.n_steps - max(n_new - 1, 0) + account.n_reencoded,
        mean_cache_tokens=_mean(sizes),
        steady_mean_cache_tokens=account.steady_mean(),
        peak_cache_tokens=account.peak(),
        mean_cache_bytes=_mean(held),
        peak_cache_bytes=max(int(held.max(initial=0)), state.reencoded_bytes),
        mean_read_bytes=_mean(read),
        mean_aux_bytes=_mean(aux),
        cache_tokens_per_step=tuple(sizes.tolist()),
        wall_s=time.perf_counter() - state.started_s,
        mean_log_prob=mean_log_prob,
    )


def _mean(numbers: np.ndarray) -> float:
    return float(numbers.mean()) if len(numbers) else 0.0
