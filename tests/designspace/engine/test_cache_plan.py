"""What is known of an arm's cache before it runs, and that engine and memory predictor go by the same plan."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from designspace.axes import Budget, Mechanism
from designspace.engine import Engine
from designspace.engine.cache_plan import CachePlan
from designspace.memory.footprint import ArmMemory
from designspace.registry import mechanism
from families.decoding.greedy import Greedy
from families.decoding.refresh import Refresh
from tests.conftest import toy_model

LIMITS = {"max_prompt_tokens": 28, "max_new_tokens": 20}


def arm_of(name: str) -> Mechanism:
    """Return a named system, Ada-KV's with a window that leaves room for its shares at the budget of these tests."""
    arm = mechanism(name)
    return arm.override(name, scoring=replace(arm.scoring, recent=4)) if name == "ada-kv" else arm


def tensors_of(holder: object) -> list[torch.Tensor]:
    """Return the tensors that are attributes of an object."""
    return [value for value in vars(holder).values() if isinstance(value, torch.Tensor)]


@pytest.mark.parametrize("decoding", [Greedy(), Refresh(every=4, decoding=Greedy())], ids=["greedy", "refresh"])
@pytest.mark.parametrize("name", ["full", "h2o", "r-kv", "ada-kv", "d2o"])
def test_what_is_predicted_is_what_is_allocated(name: str, decoding: object) -> None:
    """Slots and bytes of the cache, with observers and the representation's memory."""
    arm = arm_of(name).override(name, decoding=decoding)
    budget = Budget(24) if arm.budget_applies else None
    engine = Engine(toy_model(), arm, budget, rows=3, **LIMITS)
    memory = ArmMemory(toy_model(), arm, budget, **LIMITS)
    cache = engine.cache
    allocated = cache.store.allocated_bytes() + sum(x.nbytes for x in tensors_of(cache) + tensors_of(cache.observers))

    assert memory.capacity == engine.capacity == cache.capacity
    assert memory.cache(3) == allocated


def test_a_steered_row_needs_slots_for_a_cut_at_any_size() -> None:
    """Where heads have different shares, a decoding that encodes a text anew cuts it at sizes above the schedule's."""
    plain = arm_of("ada-kv").override("plain", decoding=Greedy())
    steered = plain.override("steered", decoding=Refresh(every=4, decoding=Greedy()))
    capacities = [
        CachePlan.of(toy_model(), arm, Budget(24), artefacts={}, **LIMITS).capacity for arm in (plain, steered)
    ]

    assert capacities[0] <= capacities[1] <= 28 + 20 + 1


def test_a_capacity_of_ones_own() -> None:
    """It replaces what is needed, and nothing else changes."""
    arm = mechanism("h2o").override("h2o", decoding=Greedy())
    needed, given = (
        CachePlan.of(toy_model(), arm, Budget(24), artefacts={}, capacity=capacity, **LIMITS) for capacity in (None, 99)
    )

    assert (given.capacity, given.width, given.schedule) == (99, needed.width, needed.schedule)
    assert needed.capacity < given.width
