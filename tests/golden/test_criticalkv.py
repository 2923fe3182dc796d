"""CriticalKV against kvpress: projected norms, first stage, kept sets."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from designspace.testing.views import view_of
from families.scoring.critical_kv import CriticalKV, projected_norm
from families.scoring.h2o import H2O
from families.scoring.selectors.top_k import TopK
from tests.golden.cases import golden_files, kept_slots, read


@pytest.mark.parametrize("file", golden_files("criticalkv"))
def test_critical_kv(file: Path) -> None:
    """The base's scores are given; half of the budget goes to its best, the rest to the largest (base + eps) * u."""
    tensors, meta = read(file)
    p = meta["parameters"]
    weights = tensors["o_proj_weight"].unflatten(1, (p["query_heads"], p["head_dim"]))  # [hidden,H_q,D]
    view = view_of(
        torch.zeros_like(tensors["values"])[None],
        tensors["values"][None],
        accumulated=tensors["base_scores"][None],
        output_projection=weights.permute(1, 2, 0)[None],
        target=p["budget"],
    )
    scoring = CriticalKV(scoring=H2O(recent=0), alpha=p["alpha"], epsilon=p["epsilon"])
    scores = scoring.score(view)

    norm = projected_norm(view)[0]
    assert torch.allclose(norm, tensors["projected_norm"], rtol=meta["tolerance"]["projected_norm_rel"], atol=0)
    assert scoring.first_places(view).unique().tolist() == [p["stage1_count"]]

    def keep(budget: int) -> torch.Tensor:
        return kept_slots(TopK().select(view, scores, torch.full(view.counts.shape, budget)))[0]

    assert torch.equal(keep(p["budget"]), tensors["kept"])
    # The base's window tokens are tied, and the reference takes arbitrary ones of them first: compare what they score.
    first, base = keep(p["stage1_count"]), tensors["base_scores"]
    ours, theirs = (base.gather(-1, x.long()).sort(dim=-1).values for x in (first, tensors["stage1_kept"]))
    assert torch.equal(ours, theirs)
    second = CriticalKV(scoring=H2O(recent=0), alpha=0.0, epsilon=p["epsilon"]).score(view)
    assert torch.allclose(second[0], tensors["stage2_scores"], rtol=1e-5, atol=0)
