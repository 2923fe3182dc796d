"""Batched generation with a compressed cache: prefill, decode, events, continuous refill of rows.

Two promises, both tested: with fixed `rows` and `capacity` a row's tokens and ledger do not depend on its batch-mates, on
their order, or on when it was refilled; and nothing of a sample is left when its row is retired.

Why it holds: a prompt runs alone, padded to a bucket that depends on it alone; a decode step and an event chunk always have
the same shapes; randomness is a hash of what it is for.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from designspace.attention import DecodePass, PrefillPass
from designspace.axes import Mechanism
from designspace.compress import Kept, compress
from designspace.errors import DeclarationError, InvariantViolation
from designspace.ledger import Ledger, RowAccount
from designspace.models.calibration import QueryStatistics
from designspace.models.loading import LoadedModel
from designspace.sampling import key_integer, step_uniforms
from designspace.schedule import Budget
from designspace.slots import Prompt, Protection, SlotCache
from designspace.view import View

ENGINE_VERSION = 1  # raised when the same declaration may give other tokens; part of a cell's identity
_BUCKET = 16  # prompts are padded to a multiple of this
_EVENT_ROWS = 16  # rows per event chunk where rows fall due at different steps


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

    `steady_mean_cache_tokens` is the mean over the steps after the first event, None where there was none.
    """

    problem_id: str
    token_ids: tuple[int, ...]
    finish_reason: str
    n_prompt_tokens: int
    n_steps: int
    n_events: int
    n_evicted: int
    mean_cache_tokens: float
    steady_mean_cache_tokens: float | None
    peak_cache_tokens: float
    mean_cache_bytes: float
    peak_cache_bytes: int
    mean_read_bytes: float
    mean_aux_bytes: float
    cache_tokens_per_step: tuple[float, ...]
    wall_s: float

    @property
    def n_new_tokens(self) -> int:
        """Tokens generated, the end-of-text token included."""
        return len(self.token_ids)


@dataclass
class _Row:
    """What a row in flight is doing."""

    request: Request
    uniforms: np.ndarray
    tokens: list[int]
    limit: int
    started_s: float
    n_steps: int = 0


class Engine:
    """Runs one mechanism at one budget on one model, `rows` generations at a time."""

    def __init__(
        self,
        loaded: LoadedModel,
        mechanism: Mechanism,
        budget: Budget | None,
        *,
        rows: int,
        max_new_tokens: int,
        max_prompt_tokens: int,
        calibration: QueryStatistics | None = None,
        capacity: int | None = None,
    ) -> None:
        """Allocate the cache for the longest prompt and generation.

        Raises:
            DeclarationError: the mechanism cannot run here (budget, calibration, decoding or head dimension).
        """
        if mechanism.decoding is None:
            raise DeclarationError(f"mechanism {mechanism.name!r} has no decoding strategy")
        if mechanism.needs().calibration and calibration is None:
            raise DeclarationError(f"mechanism {mechanism.name!r} needs calibration {mechanism.needs().calibration!r}")
        refusal = mechanism.representation.refusal(loaded.geometry)
        if refusal:
            raise DeclarationError(f"mechanism {mechanism.name!r}: {refusal}")
        self.loaded, self.mechanism, self.decoding = loaded, mechanism, mechanism.decoding
        self.schedule = mechanism.bind(budget)
        self.rows, self.max_new_tokens, self.max_prompt_tokens = rows, max_new_tokens, max_prompt_tokens
        self.calibration = calibration
        self.protection = Protection(mechanism.scoring.sinks, mechanism.scoring.recent)
        # Fixed for the run, so that an event's shapes never depend on how many rows are due. A cadence that cuts at
        # every step cuts all rows together.
        self.event_rows = rows if self.schedule.slack == 1 else min(_EVENT_ROWS, rows)
        self.capacity = capacity or self._needed_capacity()
        self.cache = self._new_cache()
        self.ledger = Ledger(self.cache)
        self._in_flight: dict[int, _Row] = {}

    def _needed_capacity(self) -> int:
        """Slots per head: the largest mean size, and what the largest share has above it; at most the longest text."""
        schedule, longest = self.schedule, self.max_prompt_tokens + self.max_new_tokens
        peak = schedule.peak_bound(self.max_prompt_tokens, self.max_new_tokens)
        if not self.mechanism.budget_applies:
            return peak + 1
        routing, geometry = self.mechanism.head_routing, self.loaded.geometry
        excess = routing.largest_share(schedule.high, geometry, sum(self.protection)) - schedule.high
        return min(peak + excess, longest) + 1

    def _new_cache(self) -> SlotCache:
        return SlotCache(
            self.loaded.geometry,
            self.mechanism.representation,
            self.mechanism.needs(),
            rows=self.rows,
            capacity=self.capacity,
            dtype=self.loaded.dtype,
            device=self.loaded.device,
            width=self.max_prompt_tokens + self.max_new_tokens,
        )

    @torch.inference_mode()
    def generate(self, requests: Iterable[Request]) -> Iterator[Generation]:
        """Yield generations as they finish; the order of finishing, not of asking."""
        queue = deque(requests)
        try:
            while queue or self._in_flight:
                yield from self._refill(queue)
                if self._in_flight:
                    yield from self._step()
        finally:
            for row in list(self._in_flight):  # an abandoned iteration must leave no row behind
                self._retire(row)

    def _refill(self, queue: deque[Request]) -> Iterator[Generation]:
        """Give every free row the next prompt. A generation may end with its first token."""
        for row in range(self.rows):
            while queue and row not in self._in_flight:
                request = queue.popleft()
                self._start(row, request)
                yield from self._finish_if_done(row)

    def _start(self, row: int, request: Request) -> None:
        n_prompt = len(request.prompt_ids)
        if not 0 < n_prompt <= self.max_prompt_tokens:
            raise InvariantViolation(
                f"prompt of {request.problem_id!r} must have 1 to {self.max_prompt_tokens} tokens, got {n_prompt}"
            )
        started_s = time.perf_counter()
        prompt, logits = self._prefill(request.prompt_ids)
        account = self.ledger.open(row)
        kept = self._prompt_event(prompt, request, account)
        self.cache.load(row, prompt, kept, key_integer(request.stream))
        uniforms = step_uniforms(request.stream, self.max_new_tokens)
        first = self.decoding.choose(logits.float(), torch.tensor(uniforms[:1], device=logits.device))
        limit = min(request.max_new_tokens or self.max_new_tokens, self.max_new_tokens)
        self._in_flight[row] = _Row(request, uniforms, [int(first)], limit, started_s)

    def _prefill(self, prompt_ids: tuple[int, ...]) -> tuple[Prompt, Tensor]:
        """Run one prompt alone; return its cache content and the logits [1,V] after its last token."""
        n_prompt = len(prompt_ids)
        padded = -(-n_prompt // _BUCKET) * _BUCKET
        device = self.loaded.device
        ids = torch.zeros(1, padded, dtype=torch.long, device=device)
        ids[0, :n_prompt] = torch.tensor(prompt_ids, device=device)
        prefill = PrefillPass(self.mechanism.needs(), self.loaded.geometry, n_prompt)
        output = self.loaded.model(
            input_ids=ids,
            position_ids=torch.arange(padded, device=device)[None],
            use_cache=False,
            logits_to_keep=torch.tensor([n_prompt - 1], device=device),
            slots=prefill,
        )
        return prefill.prompt(), output.logits[:, 0]

    def _prompt_event(self, prompt: Prompt, request: Request, account: RowAccount) -> Kept:
        """Return what of the prompt is kept: everything, unless the cadence cuts right after prefill."""
        counts = (prompt.positions >= 0).sum(dim=-1)
        if not self.schedule.due(0, prompt.n_tokens, 0):
            slots = torch.arange(prompt.positions.shape[-1], device=counts.device)
            return Kept(slots.expand(prompt.positions.shape), counts)
        view = View(
            geometry=self.loaded.geometry,
            keys=prompt.keys,
            values=prompt.values,
            positions=prompt.positions,
            next_position=torch.tensor([prompt.n_tokens], device=counts.device),
            streams=torch.tensor([key_integer(request.stream)], device=counts.device),
            width=self.cache.width,
            observed=prompt.observed,
            calibration=self.calibration,
            sinks=self.protection.sinks,
            recent=self.protection.recent,
            comparable_scores=self.mechanism.scoring.comparable,
        )
        kept = compress(self.mechanism, view, torch.tensor([self.schedule.target(0)], device=counts.device))
        account.event(0, int(counts.sum() - kept.counts.sum()))
        return kept

    def _step(self) -> Iterator[Generation]:
        """Feed one token per row, attend, cut the rows that are due, choose the next tokens."""
        logits = self._forward()
        self.ledger.record()
        for state in self._in_flight.values():
            state.n_steps += 1
        self._compress_due()
        self._choose(logits)
        for row in list(self._in_flight):
            yield from self._finish_if_done(row)

    def _forward(self) -> Tensor:
        tokens = torch.zeros(self.rows, 1, dtype=torch.long)
        for row, state in self._in_flight.items():
            tokens[row, 0] = state.tokens[-1]
        self.cache.begin_step()
        output = self.loaded.model(
            input_ids=tokens.to(self.loaded.device),
            position_ids=self.cache.next_position[:, None],
            use_cache=False,
            slots=DecodePass(self.cache),
        )
        self.cache.end_step()
        logits: Tensor = output.logits[:, -1].float()
        return logits

    def _compress_due(self) -> None:
        """Cut every row that is due, in chunks of fixed shape."""
        due = []
        for row in self._in_flight:
            account, n_heads = self.ledger.accounts[row], self.loaded.geometry.n_heads_total
            size, rest = divmod(account.tokens_per_step[-1], n_heads)
            if rest:
                raise InvariantViolation(
                    f"a row holds {account.tokens_per_step[-1]} tokens, not a multiple of {n_heads} heads"
                )
            if self.schedule.due(self._in_flight[row].n_steps, size, account.n_events):
                due.append(row)
        for start in range(0, len(due), self.event_rows):
            self._event(due[start : start + self.event_rows])

    def _event(self, rows: list[int]) -> None:
        """Cut `rows`; the chunk is filled up by repeating the first row, whose extra copies are ignored."""
        device, n = self.loaded.device, len(rows)
        padded = torch.tensor(rows + rows[:1] * (self.event_rows - n), device=device)
        accounts = [self.ledger.accounts[row] for row in padded.tolist()]
        target = torch.tensor([self.schedule.target(a.n_events) for a in accounts], device=device)
        view = self.cache.view(padded, self.protection, self.calibration, comparable=self.mechanism.scoring.comparable)
        kept = compress(self.mechanism, view, target)
        evicted = (view.counts - kept.counts).sum(dim=(0, 2)).tolist()
        self.cache.compact(padded, view, kept)
        for row, account, n_evicted in zip(rows, accounts[:n], evicted[:n], strict=True):
            account.event(self._in_flight[row].n_steps, n_evicted)

    def _choose(self, logits: Tensor) -> None:
        uniforms = torch.zeros(self.rows, dtype=torch.float64)
        for row, state in self._in_flight.items():
            if len(state.tokens) < state.limit:
                uniforms[row] = state.uniforms[len(state.tokens)]
        chosen = self.decoding.choose(logits, uniforms.to(logits.device)).tolist()
        for row, state in self._in_flight.items():
            state.tokens.append(chosen[row])

    def _finish_if_done(self, row: int) -> Iterator[Generation]:
        state = self._in_flight[row]
        stopped = state.tokens[-1] in self.loaded.eos_ids
        if stopped or len(state.tokens) >= state.limit:
            account = self._retire(row)
            yield _generation(state, account, "stop" if stopped else "length")

    def _retire(self, row: int) -> RowAccount:
        del self._in_flight[row]
        self.cache.retire(row)
        return self.ledger.close(row)


def _generation(state: _Row, account: RowAccount, finish_reason: str) -> Generation:
    sizes = account.cache_tokens()
    return Generation(
        problem_id=state.request.problem_id,
        token_ids=tuple(state.tokens),
        finish_reason=finish_reason,
        n_prompt_tokens=len(state.request.prompt_ids),
        n_steps=state.n_steps,
        n_events=account.n_events,
        n_evicted=account.n_evicted,
        mean_cache_tokens=_mean(sizes),
        steady_mean_cache_tokens=account.steady_mean(),
        peak_cache_tokens=max(sizes, default=0.0),
        mean_cache_bytes=_mean(account.held_bytes),
        peak_cache_bytes=max(account.held_bytes, default=0),
        mean_read_bytes=_mean(account.read_bytes),
        mean_aux_bytes=_mean(account.aux_bytes),
        cache_tokens_per_step=tuple(sizes),
        wall_s=time.perf_counter() - state.started_s,
    )


def _mean(numbers: list[int] | list[float]) -> float:
    return sum(numbers) / len(numbers) if numbers else 0.0
