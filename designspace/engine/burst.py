"""Bursts: consecutive decode steps of all rows that the device runs without a look of the host in between."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from designspace.axes import Decoding
from designspace.cache.slots import SlotCache
from designspace.engine.decode_step import StepKind, decode_step
from designspace.engine.ending import TextEnds
from designspace.engine.hook import EngineHook
from designspace.engine.ledger import Ledger
from designspace.engine.reference_text import given_tokens, with_given
from designspace.engine.repetition import Repetition
from designspace.engine.row import RowState
from designspace.engine.token_scores import exact_log_probs
from designspace.models.loading import LoadedModel

_LONGEST_BURST = 16  # steps; a row that ends within a burst idles to its end
_BURSTS_PER_TEXT = 128


class Burst(NamedTuple):
    """Some consecutive decode steps of all rows, as the host sees them afterwards.

    tokens: [B][n] ids, chosen or given. n_valid: [B], steps up to and with the end of a row's text. stopped: rows that a stop
    string ends there. log_probs: [B][n], empty if nobody asks for them. agrees: [B][n], whether a token is what was chosen,
    empty if nobody asks. fed: [B] and logits: [B,V], what went into the last step and what came out of it, on the device.
    """

    tokens: list[list[int]]
    n_valid: list[int]
    stopped: frozenset[int]
    log_probs: list[list[float]]
    agrees: list[list[bool]]
    fed: Tensor
    logits: Tensor


class BurstRunner:
    """Runs the decode steps of one engine: feed, attend, record, choose.

    next_tokens: [B], fed in the next step. n_steps: of the whole batch so far.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        decoding: Decoding,
        cache: SlotCache,
        ledger: Ledger,
        kind: StepKind,
        ends: TextEnds,
    ) -> None:
        self.decoding, self.cache, self.ledger, self.ends = decoding, cache, ledger, ends
        self.forward = decode_step(loaded, cache, kind)
        self.next_tokens = torch.zeros(cache.rows, dtype=torch.long, device=loaded.device)
        self.n_steps = 0
        penalty = decoding.repetition_penalty
        self.repetition = None if penalty == 1.0 else Repetition(penalty, cache.rows)

    def choose_first(self, state: RowState, logits: Tensor, hook: EngineHook) -> int:
        """Return the first token of a row's text; logits: [1,V], after its prompt."""
        uniform = torch.tensor([state.draw()], dtype=torch.float64, device=logits.device)
        early = self.ends.too_early([state], 1, self.cache.rows)
        choosable = logits.float()
        if self.repetition is not None:
            choosable = self.repetition.first(choosable, state)
        if early is not None:
            choosable = self.ends.without_ends(choosable, early[0, state.index, None])
        with hook.region("sampling"):
            chosen = self.decoding.choose(choosable, uniform)
        given = given_tokens([state], 1, self.cache.rows, logits.device)
        first = with_given(chosen, None if given is None else given[0, state.index, None])
        if state.log_prob is not None:
            state.log_prob += float(log_probs(logits.float(), first))
        if state.scores is not None:
            state.scores.add(exact_log_probs(logits.float(), first).tolist(), (first == chosen).tolist())
        return int(first)

    def run(self, states: Collection[RowState], n_steps: int, hook: EngineHook) -> Burst:
        """Run so many steps of all rows. The host waits for the device after the last one only."""
        self.cache.check_room(n_steps)
        uniforms, temperature_scales = self.uniforms(states, n_steps), self._temperature_scales(states)
        given = given_tokens(states, n_steps, self.cache.rows, self.next_tokens.device)
        early = self.ends.too_early(states, n_steps, self.cache.rows)
        written, likely, agrees = [], [], []
        for step in range(n_steps):
            fed, logits = self.next_tokens, self.step(states, hook)
            if self.repetition is not None and step == 0:
                self.repetition.begin(states, logits)
            with hook.region("sampling"):
                scaled = logits if self.repetition is None else self.repetition(logits)
                scaled = scaled if temperature_scales is None else scaled / temperature_scales
                if early is not None:
                    scaled = self.ends.without_ends(scaled, early[step])
                chosen = self.decoding.choose(scaled, uniforms[step])
            self.next_tokens = with_given(chosen, None if given is None else given[step])
            written.append(self.next_tokens)
            if self.repetition is not None:
                self.repetition.note(self.next_tokens)
            if self.decoding.samples > 1:
                likely.append(log_probs(logits, self.next_tokens))
            if self.decoding.scores_tokens:
                likely.append(exact_log_probs(logits, self.next_tokens))
                agrees.append(self.next_tokens == chosen)
        self.n_steps += n_steps
        tokens = torch.stack(written).cpu().numpy()  # [n,B]
        n_valid, stopped = self.ends.find(tokens, states)
        if self.repetition is not None:
            self.repetition.end(states, tokens[-1].tolist(), n_steps)
        return Burst(tokens.T.tolist(), n_valid, stopped, _by_row(likely), _by_row(agrees), fed, logits)

    def step(self, states: Collection[RowState], hook: EngineHook) -> Tensor:
        """Feed the next tokens, attend and record; return the logits [B,V]. Does not synchronise with the device."""
        self.cache.begin_step()
        with hook.region("model"):
            logits = self.forward(self.next_tokens, hook.region)
        self.cache.end_step()
        hook.on_step(states)
        self.ledger.record_step()
        return logits

    def uniforms(self, states: Collection[RowState], n_steps: int) -> Tensor:
        """Return the rows' next random numbers [n,B] float64; a forced token uses none."""
        numbers = np.zeros((n_steps, self.cache.rows))
        if self.decoding.draws(n_steps) > 0:
            for state in states:
                if len(state.uniforms) and not state.forced:
                    drawn = state.uniforms[state.n_draws : state.n_draws + n_steps]
                    numbers[: len(drawn), state.index] = drawn
        return torch.from_numpy(numbers).to(self.next_tokens.device)

    def _temperature_scales(self, states: Collection[RowState]) -> Tensor | None:
        """Return what divides the rows' logits, [B,1]; None if all are 1."""
        if all(state.temperature_scale == 1.0 for state in states):
            return None
        scales = torch.ones(self.cache.rows, 1)
        for state in states:
            scales[state.index] = state.temperature_scale
        return scales.to(self.next_tokens.device)


def _by_row(steps: list[Tensor]) -> list[list[Any]]:
    """Return what was noted of each step, [n] of [B], row by row; empty if nothing was."""
    return torch.stack(steps).T.tolist() if steps else []


def usual_burst(max_new_tokens: int) -> int:
    """Return the most decode steps between two looks of the host, for texts of this length."""
    return max(1, min(_LONGEST_BURST, max_new_tokens // _BURSTS_PER_TEXT))


def log_probs(logits: Tensor, tokens: Tensor) -> Tensor:
    """Return the model's own log-probabilities of tokens [B] under logits [B,V].

    In float64, as sums over a whole text are compared to the last bit.
    """
    return torch.softmax(logits.double(), dim=-1).gather(-1, tokens[:, None])[:, 0].log()
