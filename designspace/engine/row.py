"""The host's state of one row in flight, the checkpoints it may return to, and the generation that it becomes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Container
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from designspace.axes import Controller, Generation, Request, RowSchedule
from designspace.cache.slots import RowSnapshot, SlotCache
from designspace.engine.ledger import RowAccount
from designspace.engine.survival import PromptSurvival
from designspace.engine.token_scores import TokenScores


@dataclass(frozen=True)
class Checkpoint:
    """A row as it was, to be returned to. n_tokens, n_bytes: of its slots, over all layers and heads."""

    cache: RowSnapshot
    tokens: tuple[int, ...]
    forced: tuple[int, ...]
    row_schedule: RowSchedule
    step: int
    hold: bool
    n_tokens: int
    n_bytes: int


@dataclass
class RowState:
    """All that the host knows of one row, from its prompt to its end; the row's tensors are in `SlotCache`.

    Attributes:
        index: its row in the cache. limit: the most new tokens.
        row_schedule: when it is cut, and to what size. account: its cache, step by step. controller: None if nobody steers it.
        uniforms: its random numbers, of which `n_draws` are used. log_prob: of its text, None if nobody asks for it.
        scores: of each token of its text, None if nobody asks for them.
        tokens: its text so far. forced: tokens that come next, whatever is chosen.
        step: the clock of its schedule, which a rollback turns back. n_steps: decode steps in all, which only grow.
        check_at: the step at which its schedule is asked next whether the row is due.
        hold: whether cuts are suspended. temperature_scale: divides its logits.
        future: what later queries attend to, [L,H_kv,T+1,T] (`designspace.engine.foresight`), None if nobody asks for it.
        checkpoint: what a rollback returns to. reencoded_bytes: of the longest text that was encoded anew.
        hit_stop: whether a stop string ends its text with the last token.
    """

    index: int
    request: Request
    limit: int
    row_schedule: RowSchedule
    account: RowAccount
    controller: Controller | None
    uniforms: np.ndarray
    started_s: float
    log_prob: float | None = None
    scores: TokenScores | None = None
    n_draws: int = 0
    tokens: list[int] = field(default_factory=list)
    forced: deque[int] = field(default_factory=deque)
    step: int = 0
    n_steps: int = 0
    check_at: int = 0
    hold: bool = False
    temperature_scale: float = 1.0
    checkpoint: Checkpoint | None = None
    reencoded_bytes: int = 0
    hit_stop: bool = False
    future: Tensor | None = None

    def draw(self) -> float:
        """Return the row's next random number; past the last one the generation ends anyway."""
        if self.n_draws >= len(self.uniforms):
            return 0.0
        self.n_draws += 1
        return float(self.uniforms[self.n_draws - 1])

    def reason_to_end(self, eos_ids: Container[int]) -> str | None:
        """Return why the text ends with its last token: `stop`, `length`, or None if it does not."""
        if self.hit_stop or self.tokens[-1] in eos_ids:
            return "stop"
        return "length" if len(self.tokens) >= self.limit else None

    def steps_until_look(self) -> int:
        """Return how many steps the row can run before the host must look at it."""
        return 1 if self.controller is not None else min(self.check_at - self.step, self.limit - len(self.tokens))

    def plan_check(self) -> None:
        """Set the step of the next check: the earliest at which the row can be due, the next one if its size may be steered."""
        steps = 1
        if self.controller is None:
            horizon = max(self.limit - len(self.tokens), 1)
            steps = self.row_schedule.steps_until_due(self.step, self.account.size, horizon)
        self.check_at = self.step + steps

    def add_steps(self, block: np.ndarray) -> None:
        """Record decode steps, a block [4,n] of the ledger."""
        self.account.steps(block)
        self.step += block.shape[1]
        self.n_steps += block.shape[1]

    def set_checkpoint(self, cache: SlotCache) -> None:
        """Remember the row as it is now, its slots included."""
        self.checkpoint = Checkpoint(
            cache=cache.snapshot(self.index),
            tokens=tuple(self.tokens),
            forced=tuple(self.forced),
            row_schedule=self.row_schedule.copy(),
            step=self.step,
            hold=self.hold,
            n_tokens=int(cache.counts[:, self.index].sum()),
            n_bytes=int(cache.held_bytes(cache.counts)[self.index]),
        )
        self.account.spare_tokens = self.account.spare_bytes = 0

    def roll_back(self, saved: Checkpoint, cache: SlotCache) -> None:
        """Return to a checkpoint; the steps since then stay on the account."""
        cache.restore(self.index, saved.cache)
        self.tokens, self.forced = list(saved.tokens), deque(saved.forced)
        self.row_schedule, self.step, self.hold = saved.row_schedule.copy(), saved.step, saved.hold
        self.check_at = self.step + 1
        self.account.spare_tokens = self.account.spare_bytes = 0

    def charge_checkpoint(self, positions: Tensor) -> None:
        """Charge what the checkpoint keeps and the slots do not, at the mean bytes of its tokens; positions: [L,H_kv,C]."""
        if self.checkpoint is None:
            return
        saved, account = self.checkpoint, self.account
        in_slots = int(((positions >= 0) & (positions < saved.cache.next_position)).sum())
        account.spare_tokens = saved.n_tokens - in_slots
        account.spare_bytes = -(-saved.n_bytes * account.spare_tokens // max(saved.n_tokens, 1))

    def generation(self, finish_reason: str, survival: PromptSurvival) -> Generation:
        """Return the generation that the row has become; survival: of its prompt, at the end."""
        account, n_new = self.account, len(self.tokens)
        sizes, (_, held, read, aux) = account.cache_tokens(), account.columns()
        return Generation(
            problem_id=self.request.problem_id,
            stream=self.request.stream,
            token_ids=tuple(self.tokens),
            finish_reason=finish_reason,
            n_prompt_tokens=len(self.request.prompt_ids),
            n_steps=self.n_steps,
            n_events=account.n_events,
            n_evicted=account.n_evicted,
            n_extra_tokens=self.n_steps - max(n_new - 1, 0) + account.n_reencoded,
            mean_cache_tokens=_mean(sizes),
            steady_mean_cache_tokens=account.steady_mean(),
            peak_cache_tokens=account.peak(),
            mean_cache_bytes=_mean(held),
            peak_cache_bytes=max(int(held.max(initial=0)), self.reencoded_bytes),
            mean_read_bytes=_mean(read),
            mean_aux_bytes=_mean(aux),
            cache_tokens_per_step=tuple(sizes.tolist()),
            wall_s=time.perf_counter() - self.started_s,
            prompt_survival_union=survival.union,
            prompt_survival_mean=survival.mean,
            sampling_error=account.sampling_error(),
            mean_log_prob=None if self.log_prob is None else self.log_prob / n_new,
            token_log_probs=None if self.scores is None else tuple(self.scores.log_probs),
            token_agrees=None if self.scores is None else tuple(self.scores.agrees),
        )


def _mean(numbers: np.ndarray) -> float:
    return float(numbers.mean()) if len(numbers) else 0.0
