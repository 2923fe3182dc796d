"""Compression at a moment that the text suggests; the mean budget is held by adjusting the after-event size."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, Lt, MinLen
from torch import Tensor

from designspace.axes import Budget, Cadence, IntOrTensor, Needs, RowSchedule, Schedule, StepSeen, Tracker
from designspace.errors import DeclarationError, InfeasibleBudget
from families.cadence.interval import after_event_size, resolve_interval

Trigger = Literal["entropy", "attention-shift", "newline"]
_THRESHOLDS: dict[Trigger, float] = {"entropy": 0.5, "attention-shift": 0.2, "newline": 0.5}


@dataclass(frozen=True)
class AdaptiveSchedule(Schedule):
    """Compress between `k_min` and `max_growth` steps after the last event, at the first step whose signal asks for it.

    Attributes:
        k_min: fewest steps between events; `max_growth` is the most.
        start: the first after-event size in tokens.
        set_point: mean attended size that the controller holds by moving the after-event size within [low, high]; None:
            no controller, every event cuts to `start`.
        eta: change of the after-event size at one event, per token that the running mean is off.
        threshold: value of the averaged signal beyond which a compression is asked for.
        asks_below: whether a signal below `threshold` asks, rather than one above it.
        smoothing: weight of the past in the average of the signal.
        prefill: whether the first event may come right after the prompt.
    """

    k_min: int
    start: int
    set_point: float | None
    eta: float
    threshold: float
    asks_below: bool
    smoothing: float
    prefill: bool

    @property
    def middle(self) -> int:
        """Steps between events if nothing is known of the signal, as in a simulation without a text."""
        return (self.k_min + self.max_growth) // 2

    @property
    def steady_peak(self) -> int:
        """The largest attended size between events: it is known even where the mean depends on the text."""
        return self.high + self.max_growth

    def due(self, step: IntOrTensor, size: IntOrTensor, n_events: IntOrTensor) -> IntOrTensor:
        """Return whether a row has no room left. Its row schedule, which alone sees the signal, cuts earlier."""
        due: IntOrTensor = size >= self.high + self.max_growth
        return due

    def target(self, n_events: IntOrTensor) -> IntOrTensor:
        """Return the size that the controller starts from."""
        return n_events * 0 + self.start

    def peak_bound(self, n_prompt: int, n_steps: int) -> int:
        """Return the largest attended size; an uncut prompt is attended with the first new token."""
        settled = self.high + self.max_growth
        return min(settled if self.prefill else max(settled, n_prompt + 1), n_prompt + n_steps)

    def row_schedule(self) -> AdaptiveRowSchedule:
        """Return a fresh schedule of one row."""
        return AdaptiveRowSchedule(self)


class AdaptiveRowSchedule(RowSchedule):
    """The schedule of one row: steps since its last event, the average of its signal, and the state of the controller.

    A row that does not hold more tokens than the target has nothing to evict, so it is not due, whatever its signal.
    Before its first event, the tokens above the target stand for the steps since the last event, so that the first
    interval is as long as any other. The running mean counts the steps after the first event.
    """

    def __init__(self, schedule: AdaptiveSchedule) -> None:
        super().__init__(schedule)
        self.plan = schedule
        self.size: float = schedule.start
        self.since = 0
        self.attended, self.n_steps = 0, 0
        self.average: float | None = None

    def due(self, step: int, size: int, signal: float | None) -> bool:
        """Return whether the row is compressed now; this must be asked once at every step."""
        if step == 0:
            return self.plan.prefill and size > self.target()
        self._note(size, signal)
        excess = size - self.target()
        if self.n_events == 0:
            self.since = max(excess, 0)
        return excess > 0 and self.since >= self._interval(signal)

    def _note(self, size: int, signal: float | None) -> None:
        self.since += 1
        if self.n_events:
            self.attended, self.n_steps = self.attended + size, self.n_steps + 1
        if signal is not None:
            weight = 0.0 if self.average is None else self.plan.smoothing
            self.average = weight * (self.average or 0.0) + (1 - weight) * signal

    def _interval(self, signal: float | None) -> int:
        """Return the fewest steps since the last event that allow one now."""
        plan, average = self.plan, self.average
        if signal is None or average is None:
            return plan.middle
        asks = average < plan.threshold if plan.asks_below else average > plan.threshold
        return plan.k_min if asks else plan.max_growth

    def target(self) -> int:
        """Return the size to compress to now: the nearest integer, halves upwards."""
        return floor(self._corrected() + 0.5)

    def _corrected(self) -> float:
        if self.plan.set_point is None or not self.n_steps:
            return self.size
        error = self.attended / self.n_steps - self.plan.set_point
        return min(max(self.size - self.plan.eta * error, self.plan.low), self.plan.high)

    def cut(self) -> None:
        """Record that the row has been compressed."""
        self.size, self.since = self._corrected(), 0
        self.n_events += 1


@dataclass(frozen=True)
class AttentionShift(Tracker):
    """Remember the recent distribution of attention (channel 0) and the distribution after the last event (channel 1).

    Channel 0 is a running mean of the attention, averaged over the query heads that share a KV head: the plain mean
    over the first `window` queries of a text, then one with weight 1/window for the newest query. A compression event
    scales it to a sum of 1 over the kept tokens and copies it to channel 1, the reference; later tokens have 0 there.
    The reference of a text that has not been compressed is zero.
    """

    window: int

    @property
    def channels(self) -> int:
        """Two numbers per slot: the distribution now, and at the last event."""
        return 2

    def observe(self, state: Tensor, weights: Tensor, positions: Tensor, now: Tensor) -> Tensor:
        """Update the running mean by the attention of one query."""
        mean = weights.unflatten(1, (positions.shape[1], -1)).mean(dim=2)  # [B,H_kv,C]
        share = 1.0 / (now + 1).clamp(1, self.window)[:, None, None]
        recent, reference = state.unbind(dim=-1)
        return torch.stack([recent + share * (mean - recent), reference], dim=-1)

    def on_compressed(self, state: Tensor) -> Tensor:
        """Make the present distribution over the kept slots the reference."""
        recent = state[..., 0]
        total = recent.sum(dim=-1, keepdim=True)
        scaled = recent / torch.where(total > 0, total, 1.0)
        return torch.stack([scaled, scaled], dim=-1)


@dataclass(frozen=True)
class Adaptive(Cadence):
    """Compress at a moment that the text suggests, k_min to k_max decode steps after the last compression.

    The moments that each trigger waits for:

    "entropy": the entropy of the next token in nats, averaged exponentially, is below `threshold`: the model is sure.

    "attention-shift": attention has moved by more than `threshold` since the last event. The shift is half of the L1
    distance between the distributions, averaged over layers and KV heads; attention on newer tokens counts as moved.
    Until a row has been compressed while decoding there is no reference, so that interval takes k_max steps.

    "newline": the token just fed contains `boundary`. A boundary that comes too early is ignored. If no token of the
    vocabulary contains it, every interval takes k_max steps.

    Intervals K of random length have the mean attended size c + 1/2 + E[K^2] / (2 E[K]), which depends on the text. So
    for a mean budget b a controller moves the after-event size c within [c_min, b - 1]: at each event by -eta * (M -
    b), where M is the mean attended size of the row since its first event. It starts from c = b - (k+1)/2, rounded
    down, with k the middle of k_min and k_max; plans that know no text use intervals of k. A short text may end before
    the mean is reached: intervals that are all k_min or all k_max start (k_max - k_min) / 4 tokens off. For a nominal
    budget, c = b at all times; for a peak budget, c = b - k_max. Neither has a controller, so neither has a known mean.

    Attributes:
        trigger: "entropy" (the default), "attention-shift" or "newline".
        threshold: entropy in nats, or shift in (0, 1), or "auto" (the default): 0.5 nats, a shift of 0.2. The trigger
            "newline" has none.
        k_min, k_max: fewest and most decode steps between events. "auto" (the default): k_max is chosen as k of
            `every-k`, and k_min is a quarter of k_max.
        longest: upper bound for an automatic k_max in decode steps; 128 by default.
        c_min: smallest after-event size in tokens under a mean budget, or "auto" (the default): b - k_max, at least 1.
            The tokens that the scoring protects must fit into it.
        eta: gain of the controller, above 0; 0.05 by default. 0.2 reaches the mean sooner if intervals are all short or
            all long.
        smoothing: weight of the past in the average entropy, in [0, 1); 0.9 by default.
        window: number of queries that the distribution of attention is averaged over; 16 by default.
        boundary: text that ends a step of reasoning; a line end by default.
        prefill: compress right after the prompt too, if it has more tokens than the after-event size; on by default.
    """

    kind: ClassVar[str] = "adaptive"

    trigger: Trigger = "entropy"
    threshold: Annotated[float, Gt(0)] | Literal["auto"] = "auto"
    k_min: Annotated[int, Ge(1)] | Literal["auto"] = "auto"
    k_max: Annotated[int, Ge(1)] | Literal["auto"] = "auto"
    longest: Annotated[int, Ge(1)] = 128
    c_min: Annotated[int, Ge(1)] | Literal["auto"] = "auto"
    eta: Annotated[float, Gt(0)] = 0.05
    smoothing: Annotated[float, Ge(0), Lt(1)] = 0.9
    window: Annotated[int, Ge(1)] = 16
    boundary: Annotated[str, MinLen(1)] = "\n"
    prefill: bool = True

    def __post_init__(self) -> None:
        """Check the order of the intervals, and the threshold against the trigger."""
        super().__post_init__()
        if self.k_min != "auto" and self.k_max != "auto" and self.k_min > self.k_max:
            raise DeclarationError(f"k_min must be at most k_max, got k_min={self.k_min}, k_max={self.k_max}")
        if self.threshold == "auto":
            return
        if self.trigger == "newline":
            raise DeclarationError(f"trigger 'newline' has no threshold, got threshold={self.threshold}")
        if self.trigger == "attention-shift" and self.threshold >= 1:
            raise DeclarationError(f"threshold of 'attention-shift' must be below 1, got threshold={self.threshold}")

    def needs(self) -> Needs:
        """Return the need for the distribution of attention, if the trigger uses it."""
        return Needs(trackers=(self._tracker,)) if self.trigger == "attention-shift" else Needs()

    def schedule(self, budget: Budget) -> AdaptiveSchedule:
        """Return the schedule.

        Raises:
            InfeasibleBudget: k_max leaves no room in the budget, k_min is above k_max, or c_min is too high for the
                mean.
        """
        k_max = resolve_interval(self.k_max, self.longest, budget)
        lowest = after_event_size(self.kind, "k_max", k_max, budget)
        k_min = max(1, k_max // 4) if self.k_min == "auto" else self.k_min
        if k_min > k_max:
            raise self._refusal(f"k_min={k_min}", budget, f"the largest feasible k_min is {k_max}")
        low, high, start, held = int(lowest), int(lowest), int(lowest), None
        if budget.of == "mean":
            low, high, held = self._smallest(budget, k_max, lowest), budget.tokens - 1, float(budget.tokens)
            start = max(floor(budget.tokens - ((k_min + k_max) // 2 + 1) / 2), low)
        return AdaptiveSchedule(
            low=low,
            high=high,
            max_growth=k_max,
            steady_mean=held,
            k_min=k_min,
            start=start,
            set_point=held,
            eta=self.eta,
            threshold=_THRESHOLDS[self.trigger] if self.threshold == "auto" else self.threshold,
            asks_below=self.trigger == "entropy",
            smoothing=self.smoothing if self.trigger == "entropy" else 0.0,
            prefill=self.prefill,
        )

    def _smallest(self, budget: Budget, k_max: int, lowest: float) -> int:
        """Return c_min. It must allow intervals that are all k_max; `lowest` is the size that they need."""
        if self.c_min == "auto":
            return max(1, budget.tokens - k_max)
        if self.c_min > lowest:
            raise self._refusal(f"c_min={self.c_min}", budget, f"the largest feasible c_min is {int(lowest)}")
        return self.c_min

    def _refusal(self, what: str, budget: Budget, hint: str) -> InfeasibleBudget:
        return InfeasibleBudget(
            f"cadence {self.kind!r} with {what} cannot hold a {budget.of} of {budget.tokens} tokens: {hint}"
        )

    def signal(self, seen: StepSeen) -> Tensor:
        """Return the signal of the trigger, one number per row, [B] float32."""
        if self.trigger == "entropy":
            return torch.special.entr(torch.softmax(seen.logits.float(), dim=-1)).sum(dim=-1)
        if self.trigger == "newline":
            ids = sorted(seen.text.ids_with(self.boundary))
            return torch.isin(seen.tokens, torch.tensor(ids, dtype=torch.long, device=seen.tokens.device)).float()
        recent, reference = seen.observed.tracked[self._tracker].unbind(dim=-1)  # [L,B,H_kv,C]
        held = seen.positions >= 0
        moved = (recent - reference).abs().masked_fill(~held, 0.0).sum(dim=-1) / 2
        known = reference.masked_fill(~held, 0.0).sum(dim=-1) > 0
        return moved.masked_fill(~known, 0.0).mean(dim=(0, 2))

    @property
    def _tracker(self) -> AttentionShift:
        return AttentionShift(self.window)
