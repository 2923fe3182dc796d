"""Events: what a broken strategy does is refused, never stored; packing, protection, alignment by position."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from designspace.axes import Needs, Selector, View
from designspace.axes.across_heads import gather_heads
from designspace.axes.randomness import hash_uniform, step_uniforms, stream_key
from designspace.axes.ranking import keep_protected
from designspace.engine.compress import compress
from designspace.errors import InvariantViolation
from designspace.registry import mechanism
from designspace.testing.views import view_of
from families.head_routing.uniform import Uniform
from families.scoring.knorm import KNorm


@dataclass(frozen=True)
class Broken(KNorm):
    """A scoring that returns what it is told to."""

    give: Callable[[View], Tensor] = lambda view: view.keys

    def score(self, view: View) -> Tensor:
        """Return the given scores."""
        return self.give(view)


@dataclass(frozen=True)
class Greedy(Uniform):
    """A routing that takes one token too many for its first head."""

    def allocate(self, view: View, scores: Tensor, target: Tensor) -> Tensor:
        """Return shares whose sum is off by one."""
        shares = super().allocate(view, scores, target).clone()
        shares[0, :, 0] += 1
        return shares


@dataclass(frozen=True)
class Oldest(Selector):
    """A selector that forgets protection."""

    kind = "oldest"

    def select(self, view: View, scores: Tensor, shares: Tensor) -> Tensor:
        """Keep the first slots."""
        return torch.arange(scores.shape[-1]) < shares[..., None]


@dataclass(frozen=True)
class Peeking(Selector):
    """A selector that reads keys, which the scoring beside it has declared and it has not."""

    kind = "peeking"

    def select(self, view: View, scores: Tensor, shares: Tensor) -> Tensor:
        """Read keys."""
        return view.keys.sum(dim=-1) > 0


def view() -> View:
    """Two layers, one row, two heads, ten tokens, the newest two protected, to be cut to five."""
    return view_of(torch.randn(2, 1, 2, 10, 4, generator=torch.Generator().manual_seed(0)), recent=2, target=5)


def nan_scores(shown: View) -> Tensor:
    """One NaN among the held tokens."""
    scores = torch.zeros(shown.positions.shape)
    scores[0, 0, 0, 3] = torch.nan
    return scores


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"scoring": Broken(give=nan_scores)}, "returned NaN for a held token"),
        ({"scoring": Broken(give=lambda v: v.keys)}, r"must return float32 scores \(2, 1, 2, 10\)"),
        ({"scoring": Broken(give=lambda v: v.positions)}, "got torch.int64"),
        ({"head_routing": Greedy()}, r"must conserve the total, got \[21\] tokens per row instead of \[20\]"),
        ({"scoring": KNorm(selector=Oldest())}, "dropped a protected token"),
        ({"scoring": Broken(give=lambda v: v.accumulated)}, "had not declared in needs"),
        ({"scoring": Broken(give=lambda v: v.queries)}, "had not declared in needs"),
        (
            {"scoring": Broken(give=lambda v: v.values)},
            r"^scoring 'knorm' read values, which it had not declared in needs\(\): add values=True to its Needs$",
        ),
        ({"scoring": KNorm(selector=Peeking())}, "^selector 'peeking' read keys, which it had not declared"),
    ],
)
def test_broken_strategies_raise(axes: dict[str, Any], message: str) -> None:
    """NaN, wrong shapes and types, wrong totals, lost protection, undeclared needs."""
    with pytest.raises(InvariantViolation, match=message):
        compress(mechanism("knorm").override("broken", **axes), view())


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 999), target=st.integers(3, 14), n=st.integers(4, 14), sinks=st.integers(0, 2))
def test_kept_slots_are_packed_in_position_order(seed: int, target: int, n: int, sinks: int) -> None:
    """Sorted positions, exact counts, protected tokens inside, identity where everything fits."""
    keys = torch.randn(2, 2, 2, n, 4, generator=torch.Generator().manual_seed(seed))
    shown = view_of(keys, sinks=sinks, recent=1, target=target)
    kept = compress(mechanism("knorm"), shown)
    k = min(target, n)

    assert bool((kept.counts == k).all())
    positions = shown.positions.gather(-1, kept.order)[..., :k]
    assert bool((positions.diff(dim=-1) > 0).all())
    assert bool((positions[..., -1] == n - 1).all())
    assert bool((positions[..., :sinks] == torch.arange(sinks)).all())
    if target >= n:
        assert torch.equal(kept.order, shown.positions)


def test_a_share_below_protection_keeps_sinks_first_then_the_newest() -> None:
    """Protected tokens count in the share."""
    shown = view_of(torch.zeros(1, 1, 1, 8, 2), sinks=2, recent=3)

    assert keep_protected(shown, torch.tensor([[[3]]]))[0, 0, 0].nonzero()[:, 0].tolist() == [0, 1, 7]
    assert keep_protected(shown, torch.tensor([[[1]]]))[0, 0, 0].nonzero()[:, 0].tolist() == [0]


@pytest.mark.parametrize("how", ["mean", "amax"])
@pytest.mark.parametrize("over", ["heads", "layers", "both"])
def test_alignment_by_position_against_loops(over: Any, how: Any) -> None:
    """Each slot gets the reduction over the heads that hold its token."""
    generator = torch.Generator().manual_seed(3)
    shape = (3, 2, 2, 5)
    positions = torch.stack([torch.randperm(9, generator=generator)[:5].sort().values for _ in range(12)]).view(shape)
    valid = torch.rand(shape, generator=generator) > 0.2
    x = torch.randn(shape, generator=generator)
    ours = gather_heads(x, positions, valid, 9, over=over, how=how)

    for layer, row, head, slot in torch.cartesian_prod(*(torch.arange(n) for n in shape)).tolist():
        if not valid[layer, row, head, slot]:
            assert ours[layer, row, head, slot] == 0
            continue
        same = [
            float(x[i, row, h, s])
            for i in range(3)
            for h in range(2)
            for s in range(5)
            if valid[i, row, h, s]
            and positions[i, row, h, s] == positions[layer, row, head, slot]
            and (over != "heads" or i == layer)
            and (over != "layers" or h == head)
        ]
        expected = max(same) if how == "amax" else sum(same) / len(same)
        assert float(ours[layer, row, head, slot]) == pytest.approx(expected, abs=1e-6)


def test_random_numbers_are_hashes_of_what_they_are_for() -> None:
    """Step t's number does not depend on how many are drawn; streams differ by seed, problem and replicate."""
    key = stream_key(7, "p", 0)
    assert step_uniforms(key, 5).tolist() == step_uniforms(key, 50)[:5].tolist()
    assert len({stream_key(s, p, r) for s in (7, 8) for p in ("p", "q") for r in (0, 1)}) == 8

    numbers = hash_uniform(torch.arange(20_000), torch.tensor(3))
    assert float(numbers.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(numbers.min()) >= 0 and float(numbers.max()) < 1
    assert numbers.unique().numel() > 19_900


@dataclass(frozen=True)
class Watching(Uniform):
    """A routing that wants a longer window of queries than the scoring beside it."""

    kind = "watching"

    def needs(self) -> Needs:
        """Return a long window."""
        return Needs(queries=12)


@pytest.mark.parametrize("name", ["snapkv", "r-kv", "expected-attention", "critical-kv"])
def test_a_strategy_sees_no_more_than_it_declared(name: str) -> None:
    """Another axis asking for a longer window changes no score."""
    generator = torch.Generator().manual_seed(0)
    keys, queries = torch.randn(2, 1, 2, 30, 8, generator=generator), torch.randn(2, 1, 4, 80, 8, generator=generator)
    plain = mechanism(name)
    scoring = plain.scoring
    views = [
        view_of(
            keys, queries=queries[:, :, :, -window:], recent=scoring.recent, sinks=scoring.sinks, target=16,
            output_projection=torch.randn(2, 4, 8, 16, generator=torch.Generator().manual_seed(1)),
        )
        for window in (scoring.needs().queries, 80)
    ]  # fmt: skip
    kept = [compress(plain.override("other", head_routing=Watching()), shown) for shown in views]

    assert torch.equal(kept[0].order, kept[1].order)
