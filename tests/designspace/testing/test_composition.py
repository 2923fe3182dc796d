"""Total composition: the whole product at declaration, a pairwise-covering sample through the real engine."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from designspace.axes import AXES, Representation, Scoring, Strategy
from designspace.models.loading import load_model
from designspace.models.model_spec import ModelSpec
from designspace.testing.composition import (
    PROTECT,
    SHORT,
    Product,
    candidates,
    declare,
    pairwise_sample,
    registered,
    run,
    single_sample,
)

SPEC = ModelSpec.bundled("pocket-llama")
TOKENS = 36
PARTS, IN_CI = 8, 3


@pytest.fixture(scope="module")
def keep_all() -> Product:
    """The product of all registered kinds: a million combinations, half a minute."""
    return declare(registered(), load_model(SPEC).geometry, TOKENS)


@pytest.fixture(scope="module")
def some() -> Product:
    """Those of its combinations that a sample is drawn from."""
    strategies = registered()
    return declare(strategies, load_model(SPEC).geometry, TOKENS, only=candidates(strategies))


@pytest.fixture(scope="module")
def sample(some: Product) -> np.ndarray:
    """Rows in which every pair of strategies of different axes occurs."""
    return pairwise_sample(some)


def pairs_of(rows: np.ndarray) -> set[tuple[int, int, int, int]]:
    """Every (axis, index, axis, index) that occurs together."""
    columns = combinations(range(len(AXES) + 1), 2)
    return {(a, i, b, j) for a, b in columns for i, j in np.unique(rows[:, [a, b]], axis=0).tolist()}


@pytest.mark.slow
def test_every_combination_runs_or_is_refused_with_a_reason(keep_all: Product) -> None:
    """Thousands of combinations, none left undecided; every strategy is part of a legal one."""
    n = len(PROTECT) * np.prod([len(keep_all.strategies[axis]) for axis in AXES])

    assert keep_all.n_combinations == n > 5000
    assert len({tuple(row) for row in keep_all.legal.tolist()}) == len(keep_all.legal)
    assert all(len(reason) > 20 for reason in keep_all.refused)
    for column, axis in enumerate(AXES):
        used = {int(i) for i in np.unique(keep_all.legal[:, column])}
        unused = [s.kind for i, s in enumerate(keep_all.strategies[axis]) if i not in used]
        assert not unused, f"{axis} never composes: {unused}"


@pytest.mark.slow
def test_no_pair_is_lost_among_the_candidates(keep_all: Product, some: Product) -> None:
    """Compared with all legal combinations, pair by pair."""
    assert pairs_of(some.legal) == pairs_of(keep_all.legal)


def test_the_sample_covers_every_pair_that_can_occur(some: Product, sample: np.ndarray) -> None:
    """With few rows; and every strategy is part of one."""
    assert pairs_of(sample) == pairs_of(some.legal)
    assert len(sample) < len(some.legal) / 20
    assert all(len(reason) > 20 for reason in some.refused)
    for column, axis in enumerate(AXES):
        assert len(np.unique(sample[:, column])) == len(some.strategies[axis])


@pytest.mark.parametrize(
    "part", [pytest.param(part, marks=[pytest.mark.slow] if part >= IN_CI else []) for part in range(PARTS)]
)
def test_the_sample_runs_with_every_invariant_on(some: Product, sample: np.ndarray, part: int) -> None:
    """Ledger = simulator, rows independent of the batch, protected tokens kept, nothing left behind.

    Three eighths of the combinations run in CI, the others in the slow suite.
    """
    broken = [
        f"{name}: {reason}" for name, reason in run(some, sample[part::PARTS], SPEC, TOKENS) if reason is not None
    ]

    assert not broken, "\n".join(broken)


BLOCKWISE = ("every-k", "every-step", "hysteresis", "prefill-only")
BASE = {
    "scoring": "snapkv", "head_routing": "uniform", "cadence": "every-k", "representation": "full", "decoding": "sampling"
}  # fmt: skip


@pytest.mark.parametrize("axis", AXES)
def test_every_strategy_that_can_keeps_a_budget_in_two_parts(axis: str) -> None:
    """In one composition each; the engine refuses an event in which a slot moves from one part to the other."""
    found = registered()
    near = {name: [s for s in of_axis if name == axis or s.kind == BASE[name]] for name, of_axis in found.items()}
    declared = declare(near, load_model(SPEC).geometry, TOKENS, ("none",), divided=True)
    broken = [
        f"{name}: {reason}"
        for name, reason in run(declared, declared.legal, SPEC, TOKENS, divided=True)
        if reason is not None
    ]

    assert not broken, "\n".join(broken)
    assert len(declared.legal) > 0
    assert all(len(reason) > 20 for reason in declared.refused)


def test_every_strategy_that_can_reads_prompts_block_by_block() -> None:
    """In one composition at least, with every cadence that cuts prompts so; the reasons of the others are told."""
    overrides = {**SHORT, **{("cadence", kind): {"prompt_block": 16} for kind in BLOCKWISE}}
    found = registered(overrides)
    found["cadence"] = [cadence for cadence in found["cadence"] if cadence.kind in BLOCKWISE]
    numbers = np.random.default_rng(0)
    drawn = zip(*(numbers.integers(0, len(found[axis]), 4000).tolist() for axis in AXES), [0] * 4000, strict=True)
    declared = declare(found, load_model(SPEC).geometry, TOKENS, ("none",), only=sorted({*drawn}))
    rows = single_sample(declared)
    broken = [f"{name}: {reason}" for name, reason in run(declared, rows, SPEC, TOKENS) if reason is not None]

    assert not broken, "\n".join(broken)
    for column, axis in enumerate(AXES):
        left_out = {s.kind for i, s in enumerate(found[axis]) if i not in rows[:, column]}
        assert left_out == {s.kind for s in found[axis] if cannot(s)}, axis


def cannot(one: Strategy) -> bool:
    """Whether a strategy means nothing where prompts are cut block by block, in whatever company."""
    if isinstance(one, Representation):
        return one.merges or one.carries_mass or not one.evicts
    return isinstance(one, Scoring) and one.keeps_everything
