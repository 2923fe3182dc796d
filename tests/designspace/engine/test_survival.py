"""Prompt survival, next to a count by hand, and that it is what a generation says."""

from __future__ import annotations

import pytest
import torch

from designspace.axes import Budget, Request
from designspace.axes.randomness import stream_key
from designspace.engine import Engine, EngineHook, RowState
from designspace.engine.survival import prompt_survival
from designspace.registry import mechanism
from families.decoding.greedy import Greedy
from tests.conftest import toy_model

N_PROMPT = 40


def test_two_layers_by_hand() -> None:
    """Layer 0 holds tokens 0, 1 in one head and 1, 2 in the other; layer 1 holds 3 in one head and none in the other."""
    free = -1
    positions = torch.tensor(
        [[[0, 1, 7, free], [1, 2, 5, 6]], [[3, 4, free, free], [8, 9, free, free]]], dtype=torch.int32
    )
    survival = prompt_survival(positions, n_prompt_tokens=4)
    assert survival.mean == pytest.approx((2 + 2 + 1 + 0) / (4 * 4))
    assert survival.union == pytest.approx((3 / 4 + 1 / 4) / 2)


class Slots(EngineHook):
    """Remembers the positions that rows hold after every burst."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.last = engine, {}

    def on_compressed(self, states: list[RowState]) -> None:
        """Copy the rows' positions."""
        for state in states:
            self.last[state.request.problem_id] = self.engine.cache.positions[:, state.index].clone()


@pytest.mark.parametrize("name", ["full", "random", "ada-kv", "streaming-llm"])
def test_a_generation_says_what_its_row_held(name: str) -> None:
    """Counted again from the slots, head by head."""
    arm = mechanism(name).override(name, decoding=Greedy())
    budget = Budget(48) if arm.budget_applies else None
    engine = Engine(toy_model(), arm, budget, rows=2, max_new_tokens=60, max_prompt_tokens=N_PROMPT, burst=1)
    engine.hook = slots = Slots(engine)
    prompt = tuple(range(3, 3 + N_PROMPT))
    requests = [Request(f"p{n}", prompt, stream_key(1, f"p{n}", 0)) for n in range(2)]
    for generation in engine.generate(requests):
        heads = [set(head.tolist()) & set(range(N_PROMPT)) for head in slots.last[generation.problem_id].flatten(0, 1)]
        shares = [len(held) / N_PROMPT for held in heads]
        n_heads = slots.last[generation.problem_id].shape[1]
        layers = [set().union(*heads[at : at + n_heads]) for at in range(0, len(heads), n_heads)]
        assert generation.prompt_survival_mean == pytest.approx(sum(shares) / len(shares))
        assert generation.prompt_survival_union == pytest.approx(sum(map(len, layers)) / N_PROMPT / len(layers))
        assert (generation.prompt_survival_mean == 1) == (name == "full")
