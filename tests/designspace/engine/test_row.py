"""One row's state on the host: when it ends, when it is looked at, what a checkpoint brings back and costs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from designspace.axes import Action, Budget, Controller, Request
from designspace.axes.randomness import stream_key
from designspace.engine import Engine, RowState
from designspace.engine.ledger import RowAccount
from designspace.engine.survival import PromptSurvival
from designspace.registry import mechanism
from families.cadence.every_k import EveryK
from families.decoding.greedy import Greedy
from families.scoring.h2o import H2O
from tests.conftest import start, toy_model


class Silent(Controller):
    """Steers nothing."""

    def on_token(self, token: int, probability: float) -> Action:
        """Let the token stand."""
        return Action((token,))


def state_of(**changes: Any) -> RowState:
    """A row of three tokens with six to come, that is cut every four steps to a mean of 12 tokens."""
    plain = RowState(
        index=1,
        request=Request("p", (5, 6), stream_key(7, "p", 0)),
        limit=9,
        row_schedule=EveryK(k=4).schedule(Budget(12)).row_schedule(),
        account=RowAccount(n_heads_total=4, slot_tokens=4 * 10),
        controller=None,
        uniforms=np.array([0.25, 0.75]),
        started_s=0.0,
        tokens=[40, 41, 42],
    )
    return replace(plain, **changes)


def test_a_text_ends_with_an_end_token_or_at_its_limit() -> None:
    """An end token counts first."""
    assert state_of().reason_to_end({2}) is None
    assert state_of().reason_to_end({2, 42}) == "stop"
    assert state_of(limit=3).reason_to_end({2}) == "length"
    assert state_of(limit=3).reason_to_end({42}) == "stop"


def test_numbers_are_drawn_in_order_and_run_out() -> None:
    """Past the last one there is a number that nobody uses."""
    state = state_of()

    assert [state.draw() for _ in range(3)] == [0.25, 0.75, 0.0]
    assert state.n_draws == 2


def test_a_row_is_looked_at_when_it_can_be_due_or_full() -> None:
    """Every fourth step; a row with a controller after each step."""
    state = state_of()
    state.plan_check()
    full_earlier, steered = replace(state, limit=4), state_of(controller=Silent())
    steered.plan_check()

    assert (state.check_at, state.steps_until_look()) == (4, 4)
    assert full_earlier.steps_until_look() == 1
    assert (steered.check_at, steered.steps_until_look()) == (1, 1)


def test_steps_move_both_clocks_and_the_account() -> None:
    """The schedule's clock, which a rollback turns back, and the one that only grows."""
    state = state_of()
    state.add_steps(np.array([[44, 48], [1, 2], [3, 4], [5, 6]]))

    assert (state.step, state.n_steps, state.account.size) == (2, 2, 12)
    assert state.account.cache_tokens().tolist() == [11.0, 12.0]


def test_a_rollback_returns_slots_text_and_clock_but_not_the_account() -> None:
    """And while tokens of the checkpoint are in no slot, they are charged beside the slots."""
    arm = mechanism("h2o").override("h2o", scoring=H2O(recent=3), cadence=EveryK(k=4), decoding=Greedy())
    engine = Engine(toy_model(), arm, Budget(12), rows=1, max_new_tokens=30, max_prompt_tokens=16, burst=1)
    prompt = tuple(range(10, 26))
    with torch.inference_mode():
        start(engine, 0, Request("p", prompt, stream_key(7, "p", 0)))
        state = engine.in_flight[0]
        state.set_checkpoint(engine.cache)
        before, tokens, saved = engine.cache.positions.clone(), list(state.tokens), state.checkpoint
        assert saved is not None
        for _ in range(9):
            list(engine.decode_burst())
        in_slots = int(((engine.cache.positions >= 0) & (engine.cache.positions < len(prompt))).sum())
        spare, n_steps = state.account.spare_tokens, state.n_steps
        state.roll_back(saved, engine.cache)

    assert spare == saved.n_tokens - in_slots > 0
    assert state.account.spare_tokens == state.account.spare_bytes == 0
    assert (state.tokens, state.step, state.check_at) == (tokens, 0, 1)
    assert state.n_steps == n_steps == 9
    assert torch.equal(engine.cache.positions, before)


@pytest.mark.parametrize("asked_for", [True, False])
def test_a_generation_has_its_mean_log_probability_if_asked_for(asked_for: bool) -> None:
    """Of the tokens of its text."""
    generation = state_of(log_prob=-6.0 if asked_for else None).generation("length", PromptSurvival(1.0, 1.0))

    assert generation.mean_log_prob == (-2.0 if asked_for else None)
    assert (generation.n_new_tokens, generation.finish_reason, generation.n_prompt_tokens) == (3, "length", 2)
