"""Budgets in bytes: as many tokens as fit, measured by the ledger of a real run."""

from __future__ import annotations

import pytest
import torch

from designspace.axes import Budget, Mechanism, Representation, Request
from designspace.axes.byte_budget import bytes_by_size
from designspace.engine import Engine
from designspace.errors import InfeasibleBudget
from designspace.models.loading import LoadedModel
from families.cadence.every_k import EveryK
from families.cadence.every_step import EveryStep
from families.cadence.prefill_only import PrefillOnly
from families.decoding.greedy import Greedy
from families.head_routing.uniform import Uniform
from families.representation.full import FullPrecision
from families.representation.kivi import Kivi
from families.scoring.streaming_llm import StreamingLLM

SMALL_KIVI = Kivi(bits=2, group=16, residual=16)


def mechanism(representation: Representation, cadence: object = EveryStep()) -> Mechanism:
    """Sinks and a window, in some representation."""
    return Mechanism("test", StreamingLLM(sinks=2), Uniform(), cadence, representation, Greedy())  # type: ignore[arg-type]


@pytest.mark.parametrize("cadence", [EveryStep(), EveryK(k=8)], ids=lambda c: c.kind)
def test_full_precision_holds_the_number_itself(toy_llama: LoadedModel, cadence: object) -> None:
    """B full tokens are b tokens."""
    geometry = toy_llama.geometry
    found = mechanism(FullPrecision(), cadence).in_tokens(Budget(40, "bytes"), geometry, torch.float32)

    assert found == Budget(40)


def test_two_bits_hold_more_tokens_in_the_same_bytes(toy_llama: LoadedModel) -> None:
    """The ledger: more tokens than b, and bytes just below those of b full tokens; one token more would be above."""
    arm, geometry = mechanism(SMALL_KIVI), toy_llama.geometry
    b = 40
    full_token = 2 * geometry.head_dim * 4 * geometry.n_heads_total
    tokens = arm.in_tokens(Budget(b, "bytes"), geometry, torch.float32).tokens
    engine = Engine(toy_llama, arm, Budget(b, "bytes"), rows=2, max_new_tokens=200, max_prompt_tokens=20)
    (done,) = engine.generate([Request("a", tuple(range(2, 22)), bytes(16))])

    assert tokens > 1.5 * b
    assert done.steady_mean_cache_tokens == tokens
    steady = done.cache_tokens_per_step.index(tokens)
    assert steady < 150
    held = bytes_by_size(SMALL_KIVI, geometry, tokens + 1, torch.float32)
    assert held[tokens] <= b * full_token < held[tokens + 1]
    assert done.peak_cache_bytes == int(held[: tokens + 1].max())


def test_growing_caches_and_impossible_sizes_are_refused(toy_llama: LoadedModel) -> None:
    """No steady mean, no mean in bytes; and a residual window of full tokens may be all that fits."""
    with pytest.raises(InfeasibleBudget, match="no steady mean"):
        mechanism(FullPrecision(), PrefillOnly()).in_tokens(Budget(40, "bytes"), toy_llama.geometry, torch.float32)
    with pytest.raises(InfeasibleBudget, match="no number of tokens"):
        mechanism(FullPrecision(), EveryK(k=64)).in_tokens(Budget(20, "bytes"), toy_llama.geometry, torch.float32)


def test_without_a_model_bytes_are_taken_for_full_tokens() -> None:
    """So that a declaration can be checked before a hub model's shape is known."""
    assert mechanism(SMALL_KIVI).bind(Budget(40, "bytes")) == mechanism(SMALL_KIVI).bind(Budget(40))
