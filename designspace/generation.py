"""One generation: what is asked for, what a row in flight is doing, and what came of it with its cache account."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from designspace.control import Controller
from designspace.ledger import RowAccount
from designspace.schedule import Pacer
from designspace.slots import RowSnapshot


@dataclass(frozen=True)
class Request:
    """One generation to make. `stream` keys its random numbers (`designspace.sampling.stream_key`).

    `max_new_tokens` is a cap of its own below the engine's, e.g. where prompt and text together are limited.
    """

    problem_id: str
    prompt_ids: tuple[int, ...]
    stream: bytes
    max_new_tokens: int | None = None


@dataclass(frozen=True)
class Generation:
    """One finished generation and its cache account; sizes are per (layer, KV head), bytes are per row, over all layers.

    `stream` is the request's: where one engine runs replicates of a problem side by side it tells them apart.
    `steady_mean_cache_tokens` is the mean over the steps after the first event, None where there was none.
    `n_extra_tokens` are tokens forwarded beyond one for each that stands in the text: rolled back or encoded anew.
    `mean_log_prob` is the model's own of the tokens, whatever the temperature; known only where samples are compared by it.
    """

    problem_id: str
    stream: bytes
    token_ids: tuple[int, ...]
    finish_reason: str
    n_prompt_tokens: int
    n_steps: int
    n_events: int
    n_evicted: int
    n_extra_tokens: int
    mean_cache_tokens: float
    steady_mean_cache_tokens: float | None
    peak_cache_tokens: float
    mean_cache_bytes: float
    peak_cache_bytes: int
    mean_read_bytes: float
    mean_aux_bytes: float
    cache_tokens_per_step: tuple[float, ...]
    wall_s: float
    mean_log_prob: float | None = None

    @property
    def n_new_tokens(self) -> int:
        """Tokens generated, the end-of-text token included."""
        return len(self.token_ids)


@dataclass
class Row:
    """What a row in flight is doing. `step` is the cadence's clock, which a rollback turns back; `n_steps` never is.

    ask_at: the step at which its pacer is to be asked again whether the row is due.
    """

    request: Request
    uniforms: np.ndarray
    limit: int
    started_s: float
    pacer: Pacer
    controller: Controller | None
    tokens: list[int] = field(default_factory=list)
    forced: deque[int] = field(default_factory=deque)
    step: int = 0
    n_steps: int = 0
    ask_at: int = 0
    n_draws: int = 0
    hold: bool = False
    heat: float = 1.0
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
    pacer: Pacer
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
