"""HeadKV against the budgets of KVCache-Factory's capacity table."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from designspace.axes import Artefact
from designspace.axes.shares import largest_remainder
from designspace.testing.views import view_of
from families.head_routing.head_kv import ARTEFACT, HeadKV, head_budgets
from tests.golden.cases import golden_files, read

WINDOW = 8


@pytest.mark.parametrize("file", golden_files("headkv"))
def test_budgets_of_query_heads(file: Path) -> None:
    """The exact real budgets and their largest-remainder rounding."""
    tensors, meta = read(file)
    p = meta["parameters"]
    real = head_budgets(p["budget_without_window"], tensors["head_scores"], p["beta"])
    total = torch.tensor(p["budget_without_window"] * p["layers"] * p["query_heads"])

    assert torch.allclose(real, tensors["budgets_real"], atol=meta["tolerance"]["budgets_real_abs"], rtol=0)
    assert torch.equal(
        largest_remainder(real.flatten(), total).view_as(real).int(), tensors["budgets_largest_remainder"]
    )


@pytest.mark.parametrize("file", golden_files("headkv"))
def test_shares_of_kv_heads(file: Path) -> None:
    """The group mean, the window on top.

    The reference moves budget from the pool to the base by rounding its size down, which at most moves a head by the pool's
    lost part times how far its importance lies from the mean, and rounds each head by itself.
    """
    tensors, meta = read(file)
    p = meta["parameters"]
    n_layers, n_query, budget = p["layers"], p["query_heads"], p["budget_without_window"]
    n_kv = n_query // p["group"]
    artefact = Artefact(ARTEFACT, {"importance": tensors["head_scores"].float()})
    view = view_of(
        torch.zeros(n_layers, 1, n_kv, 4 * budget, 2),
        n_query_heads=n_query,
        recent=WINDOW,
        artefacts={ARTEFACT: artefact},
    )
    target = torch.tensor([budget + WINDOW])
    shares = HeadKV(beta=p["beta"]).allocate(view, torch.zeros(view.positions.shape), target)[:, 0]
    mean = tensors["budgets_real"].unflatten(1, (n_kv, -1)).mean(dim=-1) + WINDOW

    assert int(shares.sum()) == int(target) * n_layers * n_kv
    assert float((shares - mean).abs().max()) < 1
    lost = budget / p["beta"] - budget // p["beta"]
    importance = tensors["head_scores"].unflatten(1, (n_kv, -1)).sum(dim=-1)
    moved = lost * (n_layers * n_kv * importance - 1).abs() + 2
    assert bool(((shares - tensors["kv_head_sizes_reference_plus_window8"]).abs() <= moved).all())
